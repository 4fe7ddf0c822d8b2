"""Sizes that a graph casts to int32 and back to int64, as TensorFlow does, stay known as sizes."""

import numpy as np
import pytest
from support.evaluate import evaluate

from onward.graph import Graph
from onward.graph.inference import infer
from onward.graph.node import Signature
from onward.graph.plan.planner import Planner
from onward.graph.simplification.simplify import simplify
from onward.graph.size import Axes

INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)


def integers(g: Graph, *numbers: int, dtype: np.dtype = INT64) -> str:
    return g.add_constant(np.array(numbers, dtype))


def first_size(g: Graph, sizes: str) -> str:
    return g.add("Slice", sizes, integers(g, 0), integers(g, 1), integers(g, 0))


def gathered(g: Graph, sizes: str) -> str:
    one = g.add("Gather", sizes, g.add_constant(np.array(0)), axis=0)
    return g.add("Reshape", g.add("Unsqueeze", one, integers(g, 0)), integers(g, 1))


def reordered(g: Graph, sizes: str) -> str:
    return g.add("Gather", sizes, integers(g, 0, 2, 1), axis=0)


def joined_again(g: Graph, sizes: str) -> str:
    return g.add("Concat", first_size(g, sizes), integers(g, 9), axis=0)


@pytest.mark.parametrize("part", [first_size, gathered])
@pytest.mark.parametrize("before", [None, reordered, joined_again, first_size])
def test_sizes_that_are_cast_to_int32_and_back_are_inferred(before, part) -> None:
    g = Graph()
    x = g.add_input("x", np.float32, ("batch", "time", 3))
    sizes = g.add("Shape", x)
    size = part(g, g.add("Cast", before(g, sizes) if before else sizes, to=INT32))
    joined = g.add("Concat", size, integers(g, 4, dtype=INT32), size, axis=0)
    zeros = g.add("Expand", g.add_constant(np.float32(2)), g.add("Cast", joined, to=INT64))
    g.outputs = (zeros, joined)
    simple, rows = simplify(g), Axes(is_open=True).add("batch")
    values = infer(simple, {"x": Signature((rows, 7, 3), np.dtype(np.float32))})
    assert values[simple.outputs[0]].shape == (rows, 4, rows)
    array = np.zeros((5, 2, 3), np.float32)
    for found, expected in zip(Planner(simple)(array), evaluate(g, array), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("to", ["int8", "float32"])
def test_sizes_in_types_that_cannot_hold_them_stay_casts(to: str) -> None:
    g = Graph()
    x = g.add_input("x", np.float32, ("batch", 300))
    g.outputs = (g.add("Cast", g.add("Cast", g.add("Shape", x), to=np.dtype(to)), to=INT64),)
    array = np.zeros((5, 300), np.float32)
    np.testing.assert_array_equal(Planner(simplify(g))(array)[0], evaluate(g, array)[0])


def reversed_pads(g: Graph, sizes: str) -> str:
    """Return sizes in the order and with the zeros that PyTorch computes for Pad, last axis first."""
    last = g.add("Sub", first_size(g, sizes), integers(g, 1))
    zeros = g.add("ConstantOfShape", integers(g, 3), value=np.zeros(1, np.int64))
    pairs = g.add("Reshape", g.add("Concat", last, zeros, axis=0), integers(g, -1, 2))
    flipped = g.add("Slice", pairs, integers(g, -1), integers(g, -(2**62)), integers(g, 0), integers(g, -1))
    return g.add("Reshape", g.add("Transpose", flipped, perm=[1, 0]), integers(g, -1))


def negative(g: Graph, sizes: str) -> str:
    return g.add("Abs", g.add("Neg", first_size(g, sizes)))


@pytest.mark.parametrize(("part", "count"), [(reversed_pads, 4), (negative, 1)])
def test_casts_of_what_is_computed_from_sizes_keep_them_known(part, count: int) -> None:
    g = Graph()
    x = g.add_input("x", np.float32, ("batch", "time"))
    pads = g.add("Cast", part(g, g.add("Shape", x)), to=INT64)
    zero, one = (g.add_constant(np.array(number)) for number in range(2))
    g.outputs = (g.add("Pad", x, pads) if count == 4 else g.add("Range", zero, g.add("Squeeze", pads), one),)
    simple = simplify(g)
    assert "Cast" not in [node.operation for node in simple.nodes]
    planner, array = Planner(simple), np.ones((5, 3), np.float32)
    np.testing.assert_array_equal(planner(array)[0], evaluate(g, array)[0])
    assert not list(planner.in_numpy())


def test_sums_of_a_value_with_itself_take_no_exponential_time() -> None:
    g = Graph()
    value = g.add("Shape", g.add_input("x", np.float32, ("T",)))
    for _ in range(40):
        value = g.add("Add", value, value)
    g.outputs = (g.add("Cast", value, to=INT64),)
    np.testing.assert_array_equal(Planner(simplify(g))(np.zeros(3, np.float32))[0], [3 << 40])
