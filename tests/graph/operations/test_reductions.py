"""Products in the core: those over axes, and those up to each element."""

from typing import Any

import numpy as np
import pytest

from onward.graph import Graph, Model

SHAPES = [(3, 4, 5), (2, 1, 3), (6, 2)]


def run(operation: str, x: Any, numbers: Any, **attributes: Any) -> Any:
    """Return what a model of open sizes computes, which must not be in NumPy."""
    graph = Graph()
    name = graph.add_input("x", x.dtype, [f"n{axis}" for axis in range(x.ndim)])
    graph.outputs = (graph.add(operation, name, graph.add_constant(np.array(numbers)), **attributes),)
    model = Model(graph)
    y = model(x)
    assert not list(model.planner.in_numpy())
    return y


def drawn(shape: tuple[int, ...], dtype: str) -> Any:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) * 3).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_over_axes(shape: tuple[int, ...], dtype: str) -> None:
    x = drawn(shape, dtype)
    for axes in [[0], [1], [0, 1], [-1]]:
        moved = np.moveaxis(x, axes, range(len(axes)))
        rest = moved.shape[len(axes) :]
        expected = np.ones(rest, dtype)
        for step in moved.reshape(-1, *rest):
            expected = expected * step
        np.testing.assert_array_equal(run("ReduceProd", x, axes, keepdims=0), expected, strict=True)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_running_products(shape: tuple[int, ...], reverse: int, exclusive: int) -> None:
    x = drawn(shape, "float32")
    for axis in range(len(shape)):
        expected, product = np.empty_like(x), np.ones(np.delete(shape, axis), np.float32)
        for place in range(shape[axis])[:: -1 if reverse else 1]:
            before, product = product, product * x.take(place, axis)
            expected[(slice(None),) * axis + (place,)] = before if exclusive else product
        y = run("CumProd", x, axis, reverse=reverse, exclusive=exclusive)
        np.testing.assert_array_equal(y, expected, strict=True)
