"""Compare the gradients of graphs with central differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from onward.graph import Graph
from onward.graph.gradients import with_gradients
from onward.graph.plan.planner import Planner


def declared(graph: Graph, arrays: Sequence[Any], sizes: Mapping[int, str] | None = None) -> list[str]:
    """Declare an input for each array; `sizes` are the names of open sizes."""
    axes = [tuple((sizes or {}).get(size, size) for size in x.shape) for x in arrays]
    return [graph.add_input(f"x{n}", x.dtype, axes[n]) for n, x in enumerate(arrays)]


def check(graph: Graph, arrays: Sequence[Any], rng: np.random.Generator) -> None:
    """Compare the gradients in float64 with central differences, and those in float32 with them."""
    run, back = Planner(graph), Planner(with_gradients(graph))
    outputs = [rng.standard_normal(y.shape) for y in run(*arrays)]
    found = iter(back(*arrays, *outputs))
    for x in arrays:
        if x.dtype.kind != "f":
            continue
        gradient, way, sides = next(found), rng.standard_normal(x.shape), []
        for size in (1e-6, -2e-6):
            x += size * way
            sides.append(sum((y * dy).sum() for y, dy in zip(run(*arrays), outputs, strict=True)))
        x += 1e-6 * way
        assert gradient.shape == x.shape
        assert (gradient * way).sum() == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-7)
    narrow = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in (*arrays, *outputs)]
    single = Graph([x.of_dtype(np.dtype(np.float32)) if x.dtype == np.float64 else x for x in graph.inputs])
    single = graph.replaced(inputs=single.inputs)
    results = Planner(with_gradients(single))(*narrow)
    for y, expected in zip(results, back(*arrays, *outputs), strict=True):
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
