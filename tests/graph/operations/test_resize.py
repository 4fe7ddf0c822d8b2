"""Interpolation in the core beside the sums of weighted neighbors, element by element."""

import math
from typing import Any

import numpy as np
import pytest
from support.evaluate import meaning

from onward.graph import Graph, Model

OPTIONS = [
    {"mode": "linear"},
    {"mode": "linear", "antialias": 1},
    {"mode": "cubic"},
    {"mode": "cubic", "exclude_outside": 1},
    {"mode": "cubic", "antialias": 1, "cubic_coeff_a": -0.5},
]


def cubic(d: float, a: float) -> float:
    """The weight of an element at a distance, as in the paper of Keys."""
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def resized(x: Any, scale: float, options: dict[str, Any]) -> Any:
    """Return a vector resized with half-pixel coordinates."""
    n, radius = len(x), 2 if options["mode"] == "cubic" else 1
    width = min(scale, 1.0) if options.get("antialias") else 1.0
    y = []
    for place in range(int(n * scale)):
        at = (place + 0.5) / scale - 0.5
        reach = math.ceil(radius / width)
        near = range(math.floor(at) - reach + 1, math.floor(at) + reach + 1)
        distances = [abs(at - i) * width for i in near]
        a = options.get("cubic_coeff_a", -0.75)
        weights = [cubic(d, a) if radius == 2 else max(1 - d, 0.0) for d in distances]
        if options.get("exclude_outside"):
            weights = [w if 0 <= i < n else 0.0 for i, w in zip(near, weights, strict=True)]
        total = sum(weights) if options.get("exclude_outside") or options.get("antialias") else 1.0
        values = [w / total * float(x[min(max(i, 0), n - 1)]) for i, w in zip(near, weights, strict=True)]
        y.append(sum(values))
    return np.array(y)


@pytest.mark.parametrize("scale", [0.5, 1.75, 3.0])
@pytest.mark.parametrize("options", OPTIONS)
def test_interpolation_runs_in_the_core(options: dict[str, Any], scale: float) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
    graph = Graph()
    scales = graph.add_constant(np.array([1, 1, scale], np.float32))
    graph.outputs = (graph.add("Resize", graph.add_input("x", np.float32, (2, 3, 8)), "", scales, **options),)
    model = Model(graph)
    expected = np.apply_along_axis(resized, 2, x, scale, options)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    assert not list(model.planner.in_numpy())


@pytest.mark.parametrize("options", OPTIONS)
def test_infinities_stay_where_they_are(options: dict[str, Any]) -> None:
    """As a product with the matrix of all weights, each element would be NaN."""
    graph = Graph()
    scales = graph.add_constant(np.array([2], np.float32))
    graph.outputs = (graph.add("Resize", graph.add_input("x", np.float32, (12,)), "", scales, **options),)
    x = np.ones(12, np.float32)
    x[0] = np.inf
    assert np.isfinite(Model(graph)(x)[6:]).all()


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.float64])
def test_numbers_of_other_dtypes_are_resized_in_the_core(mode: str, dtype: Any) -> None:
    """They ran in NumPy."""
    graph, rng = Graph(), np.random.default_rng(1)
    x = graph.add_input("x", dtype, (2, 7, "width"))
    scales = graph.add_constant(np.array([1, 1.7, 0.6], np.float32))
    graph.outputs = (graph.add("Resize", x, "", scales, mode=mode),)
    model = Model(graph)
    for width in (9, 14):
        array = (rng.standard_normal((2, 7, width)) * 100).astype(dtype)
        np.testing.assert_array_equal(model(array), meaning(model, array)[0], strict=True)
    assert not any(program.in_numpy for program in model.programs)
