"""Functions that the core computes from others: two units in the last place of NumPy in float64."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.extremes import bits
from support.in_numpy import in_numpy

from onward.graph import Graph, Model
from onward.graph.operations import OPERATIONS
from onward.graph.operations.elementwise import POWERS

FUNCTIONS = ("tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "arcsinh", "arccosh", "arctanh")
LARGEST = np.finfo(np.float32).max
SPECIAL = np.array(
    [
        0,
        -0.0,
        1,
        -1,
        np.inf,
        -np.inf,
        np.nan,
        1e-30,
        -1e-30,
        1e30,
        -1e30,
        0.5,
        -0.5,
        2,
        -2,
        3,
        -3,
        88.9,
        -88.9,
        LARGEST,
        -LARGEST,
        np.finfo(np.float32).tiny,
        LARGEST / 3,
        1.8e19,
        -1.9e19,
        9e-20,
    ],
    np.float32,
)


def run(operation: str, *inputs: NDArray[Any], **attributes: Any) -> NDArray[Any]:
    """Run an operation whose inputs have open sizes, in the core alone."""
    graph = Graph()
    names = [
        graph.add_input(f"x{i}", x.dtype, tuple(f"size {i} {axis}" for axis in range(x.ndim)))
        for i, x in enumerate(inputs)
    ]
    graph.outputs = (graph.add(operation, *names, **attributes),)
    model = Model(graph)
    assert in_numpy(model, inputs) == set()
    y: NDArray[Any] = model(*inputs)
    return y


def assert_close(y: NDArray[Any], expected: NDArray[Any]) -> None:
    """Compare with results in float64, and with their signs, infinities and NaNs."""
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float32)
        unit = np.spacing(abs(rounded))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_array_equal(np.signbit(y[~np.isnan(y)]), np.signbit(expected[~np.isnan(y)]))
    np.testing.assert_array_equal(np.isinf(y), np.isinf(rounded))
    normal = np.isfinite(rounded) & (abs(rounded) > np.finfo(np.float32).tiny)
    unit[abs(rounded) == LARGEST] = LARGEST - np.nextafter(LARGEST, np.float32(0))
    assert (abs(y[normal] - expected[normal]) <= 2 * unit[normal]).all()
    assert (abs(y[np.isfinite(y) & ~normal]) <= np.finfo(np.float32).tiny).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_trigonometric_and_hyperbolic_functions_run_in_the_core(name: str) -> None:
    rng = np.random.default_rng(0)
    drawn = [rng.normal(0, scale, 2000) for scale in (1e-6, 1e-3, 0.3, 1, 30)]
    x = np.concatenate([*drawn, SPECIAL]).astype(np.float32)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x.astype(np.float64))
    assert_close(run(name.replace("arc", "a").capitalize(), x), expected)


def test_powers_of_any_exponent_run_in_the_core() -> None:
    rng = np.random.default_rng(1)
    x, p = rng.normal(0, 2, 8000), np.concatenate([rng.normal(0, 3, 4000), rng.integers(-5, 6, 4000)])
    x, p = (
        np.concatenate(pair)
        for pair in zip((x, p), map(np.ravel, np.meshgrid(SPECIAL, SPECIAL)), strict=True)
    )
    x, p = x.astype(np.float32), p.astype(np.float32)
    with np.errstate(all="ignore"):
        expected = np.power(x.astype(np.float64), p.astype(np.float64))
    assert_close(run("Pow", x, p), expected)


@pytest.mark.parametrize("p", [1, 2, 3, 4, 0.5, -1, -0.5, -2, 5, -3, 0.25])
def test_constant_powers_are_right_at_the_ends_of_the_range(p: float) -> None:
    ends = np.exp(np.random.default_rng(2).uniform(-87, 88.7, 4000))
    x, graph = np.concatenate([SPECIAL, ends, -ends]).astype(np.float32), Graph()
    exponent = np.array(p, np.float32)
    graph.outputs = (
        graph.add("Pow", graph.add_input("x", np.float32, ("n",)), graph.add_constant(exponent)),
    )
    with np.errstate(all="ignore"):
        expected = np.power(x.astype(np.float64), p)
        if abs(p) == 0.5:  # as in torch, also of -0 and -infinity
            expected = np.sqrt(x.astype(np.float64)) ** np.sign(p)
    y, (meaning,) = Model(graph)(x), OPERATIONS["Pow"].compute([x, exponent], {})
    assert_close(y, expected)
    assert_close(meaning, expected)
    if p in POWERS:
        assert bits(y) == bits(meaning)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bi,oij,bj->bo", [(7, 3), (4, 3, 5), (7, 5)]),
        ("...ti,oi,...to,t->...o", [(2, 7, 3), (4, 3), (2, 7, 4), (7,)]),
        ("ij,jk,kl,lm", [(2, 3), (3, 4), (4, 5), (5, 6)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_products_of_several_arrays_run_in_the_core(equation: str, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(2)
    inputs = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    y = run("Einsum", *inputs, equation=equation)
    expected = np.einsum(equation, *(x.astype(np.float64) for x in inputs))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("p", [3, 5])
@pytest.mark.parametrize("operation", ["LpPool", "GlobalLpPool"])
def test_a_power_that_ends_another_composition_keeps_its_exponent(operation: str, p: int) -> None:
    graph, x = Graph(), np.random.default_rng(0).standard_normal((2, 3, 7)).astype(np.float32)
    options = {"kernel_shape": [2]} if operation == "LpPool" else {}
    graph.outputs = (graph.add(operation, graph.add_input("x", np.float32, x.shape), p=p, **options),)
    windows = np.lib.stride_tricks.sliding_window_view(x, 2, 2) if options else x[:, :, None]
    np.testing.assert_allclose(Model(graph)(x), (np.abs(windows) ** p).sum(axis=3) ** (1 / p), rtol=1e-5)
