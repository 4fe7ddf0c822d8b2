"""Steps on integers at the ends of their ranges give the same numbers as NumPy."""

from typing import Any

import numpy as np
import pytest
from support.extremes import extremes, integer_extremes
from support.lowering import run_lowered

from onward.graph.operations import OPERATIONS

DTYPES = ("int8", "uint8", "int32", "int64")
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mod", "Equal", "Less", "GreaterOrEqual", "BitwiseXor")
EXPONENTS = (0, 1, 2, 3, 4, 5, -1, -2)


def check(operation: str, inputs: list[Any], known: tuple[int, ...] = (), **attributes: Any) -> bool:
    """Whether the operation has steps, which give the numbers of its meaning."""
    found = run_lowered(operation, inputs, attributes, known)
    (expected,) = OPERATIONS[operation].compute(inputs, attributes)
    if found is not None:
        np.testing.assert_array_equal(found[0], expected, strict=True)
    return found is not None


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic_at_the_ends_of_the_range_is_the_same(dtype: str) -> None:
    """Division and remainder by 0, and of the least integer by -1, among others."""
    a, b = (integer_extremes(dtype, 40, 30, seed=seed) for seed in (0, 1))
    results = [check(operation, [a, b]) for operation in BINARY]
    results += [check("Mod", [a, b], fmod=1), *(check(name, [a]) for name in ("Abs", "Neg", "Sign"))]
    results += [check("CumSum", [a, np.array(axis)], (1,), reverse=axis) for axis in (0, 1)]
    results += [check(f"Reduce{name}", [a, np.array([1])], (1,)) for name in ("Sum", "Max", "Min")]
    assert np.mean(results) > 0.9


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["float32", "float64", "int64"])
def test_constant_powers_of_integers_wrap_in_the_core_as_in_numpy(dtype: str, kind: str) -> None:
    x = integer_extremes(dtype, 40, 30)
    results = [check("Pow", [x, np.array(exponent, kind)], (1,)) for exponent in EXPONENTS]
    assert np.mean(results) >= 0.5
    for exponent in EXPONENTS:
        (y,) = OPERATIONS["Pow"].compute([x, np.array(exponent, kind)], {})
        bits = 8 * x.itemsize
        for base, power in list(zip(x.ravel().tolist(), y.ravel().tolist(), strict=True))[:100]:
            exact = base**exponent if exponent >= 0 else int(base**exponent) if abs(base) == 1 else 0
            assert (power - exact) % (1 << bits) == 0, (base, exponent)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("scale", [1, 0.5, 0, 1e-30, 1e30])
def test_nan_and_infinities_are_quantized_in_numpy_as_in_the_core(dtype: str, scale: float) -> None:
    x = extremes(np.float32, 40, 30)
    x[::2, ::3] = np.random.default_rng(0).integers(-300, 300, (20, 10)) / 2  # ties
    inputs = [x, np.array(scale, np.float32), np.array(3, dtype)]
    assert check("QuantizeLinear", inputs, (1, 2))
    (y,) = OPERATIONS["QuantizeLinear"].compute(inputs, {})
    assert (y[np.isnan(x)] == np.iinfo(dtype).min).all()
