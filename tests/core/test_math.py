"""The activation functions on every instruction set: accurate to a few ulp, and monotone where promised."""

from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from support.bits import assert_bitwise, both_dtypes, each_isa

from onward import _core

FUNCTIONS = ["exponential", "sigmoid", "tanh"]
# Arguments near which results become 0, 1 or infinite, or an implementation switches formulas.
EDGES = [
    88.7,
    87.3,
    103.9,
    745.1,
    709.7,
    708.3,
    16.6,
    9.0,
    19.1,
    36.7,
    0.6931471805599453,
    0.34657359027997264,
]

# The largest errors in ulp. Functions that multiply x by a factor in [0, 1] are 0 if it is subnormal.
OTHERS = {"elu": 2, "gelu": 6, "mish": 3, "silu": 3, "softplus": 3, "softsign": 2}
RIGHT: dict[str, Any] = {
    "elu": lambda x: mpmath.expm1(x) if x < 0 else x,
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
}

every_function = pytest.mark.parametrize("name", FUNCTIONS)


def evaluate(name: str, x: NDArray[Any]) -> NDArray[Any]:
    """The results, which have the same bits on all instruction sets."""
    answers = []
    for _ in each_isa():
        answers.append(np.empty_like(x))
        _core.activate((name, 1.0, 1.0), x, answers[-1])
    for answer in answers[1:]:
        assert_bitwise([answer], answers[:1])
    return answers[0]


def samples(dtype: str, count: int) -> NDArray[Any]:
    """Numbers of both signs: of all magnitudes, evenly spaced, and close to the arguments in EDGES."""
    limits = np.finfo(dtype)
    magnitudes = np.geomspace(float(limits.smallest_subnormal), 2000, count)
    even = np.linspace(0, 800 if dtype == "float64" else 110, count)
    edges = (np.array(EDGES)[:, None] * (1 + np.linspace(-1e-2, 1e-2, count // 20))).ravel()
    x = np.concatenate([[0.0], magnitudes, even, edges])
    return np.concatenate([x, -x]).astype(dtype)


def assert_accurate(name: str, x: NDArray[Any], expected: NDArray[Any], most: float, flushed: float) -> None:
    """Check that the largest error is `most` ulp; results up to `flushed` may be 0."""
    got, tiny = evaluate(name, x), np.finfo(x.dtype).smallest_normal
    with np.errstate(invalid="ignore"):  # inf - inf
        ulps = np.abs(got - expected) / np.spacing(np.maximum(np.abs(expected), tiny).astype(x.dtype))
    ulps[(np.abs(expected) <= flushed) & (got == 0) | (got == expected)] = 0
    worst = np.argmax(ulps)
    assert ulps[worst] <= most, f"{name}({x[worst]}) is {got[worst]}, should be {expected[worst]}"


def correctly_rounded(name: str, x: NDArray[Any]) -> NDArray[Any]:
    """The correctly rounded values, computed in float64 for float32 and with 40 digits for float64."""
    if x.dtype == np.float32:
        wide = x.astype(np.float64)
        with np.errstate(over="ignore"):
            values = {"exponential": np.exp, "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}[
                name
            ](wide)
            return np.asarray(values.astype(np.float32))
    with mpmath.workdps(40):
        function = {
            "exponential": mpmath.exp,
            "tanh": mpmath.tanh,
            "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        }[name]
        return np.array([float(function(mpmath.mpf(value))) for value in x.tolist()])


@every_function
@pytest.mark.parametrize(("dtype", "count"), [("float32", 200_000), ("float64", 8000)])
def test_within_2_ulp_of_the_correctly_rounded_value(name: str, dtype: str, count: int) -> None:
    x = samples(dtype, count)
    assert_accurate(name, x, correctly_rounded(name, x), 2, np.finfo(dtype).smallest_normal)


@both_dtypes
@pytest.mark.parametrize("name", OTHERS)
def test_other_functions_are_accurate(name: str, dtype: str) -> None:
    x = samples(dtype, 600)
    with mpmath.workdps(40):
        expected = np.array([float(RIGHT[name](mpmath.mpf(value))) for value in x.tolist()])
    assert_accurate(name, x, expected, OTHERS[name], 1000 * np.finfo(dtype).smallest_normal)


@every_function
@both_dtypes
def test_exp_sigmoid_and_tanh_are_monotone(name: str, dtype: str) -> None:
    for width in (1e-3, 1, 10, 100, 800):
        y = evaluate(name, np.linspace(-width, width, 100_001).astype(dtype))
        assert (y[1:] >= y[:-1]).all()


@both_dtypes
def test_zeros_infinities_and_nan_give_their_limits(dtype: str) -> None:
    x = np.array([-np.inf, -0.0, 0.0, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(evaluate("exponential", x), [0, 1, 1, np.inf, np.nan])
    np.testing.assert_array_equal(evaluate("sigmoid", x), [0, 0.5, 0.5, 1, np.nan])
    np.testing.assert_array_equal(evaluate("tanh", x), [-1, 0, 0, 1, np.nan])


@both_dtypes
def test_tanh_is_exactly_odd(dtype: str) -> None:
    x = samples(dtype, 5000)
    np.testing.assert_array_equal(evaluate("tanh", -x), -evaluate("tanh", x))


@every_function
@both_dtypes
def test_arrays_of_any_length_are_computed_completely_and_not_beyond(isa: str, name: str, dtype: str) -> None:
    x = np.linspace(-3, 3, 70).astype(dtype)
    whole = evaluate(name, x)
    for count in range(70):
        out = np.full(70, 9, dtype)
        _core.activate((name, 1.0, 1.0), x[:count], out[:count])
        np.testing.assert_array_equal(out, np.where(np.arange(70) < count, whole, 9))


@both_dtypes
def test_logarithms_of_negative_numbers_are_not_numbers(dtype: str) -> None:
    """The bits of small negative numbers overflow in a difference, which the undefined sanitizer reports."""
    x = np.array([-0.1, -1e-30, -1.0, -np.inf, np.nan, -0.0, 0.0, np.inf, 1.0], dtype)
    for _ in each_isa():
        y = np.empty_like(x)
        _core.unary("log", x, y)
        assert np.isnan(y[:5]).all() and y[5:].tolist() == [-np.inf, -np.inf, np.inf, 0]
