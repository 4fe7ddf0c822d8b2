"""Nodes that change nothing disappear, without any change of bits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.evaluate import evaluate

from onward.graph import Graph
from onward.graph.plan.planner import Planner
from onward.graph.simplification.simplify import simplify

RNG = np.random.default_rng(0)
Write = Callable[[Graph, str], str]


def integers(graph: Graph, *numbers: int) -> str:
    return graph.add_constant(np.array(numbers, np.int64))


def number(graph: Graph, value: float) -> str:
    return graph.add_constant(np.float32(value)[()] * np.ones((), np.float32))


def written(write: Write) -> Graph:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", "time", 4))
    graph.outputs = (write(graph, x),)
    return graph


FEWER: dict[str, tuple[Write, list[str]]] = {
    "inverse transposes": (
        lambda g, x: g.add("Neg", g.add("Transpose", g.add("Transpose", x, perm=[2, 0, 1]), perm=[1, 2, 0])),
        ["Neg"],
    ),
    "two transposes": (
        lambda g, x: g.add("Transpose", g.add("Transpose", x, perm=[2, 0, 1]), perm=[2, 0, 1]),
        ["Transpose"],
    ),
    "a transpose of nothing": (lambda g, x: g.add("Neg", g.add("Transpose", x, perm=[0, 1, 2])), ["Neg"]),
    "two reshapes": (
        lambda g, x: g.add("Reshape", g.add("Reshape", x, integers(g, 0, -1)), integers(g, 2, -1)),
        ["Reshape"],
    ),
    "a squeeze of what was added": (
        lambda g, x: g.add("Neg", g.add("Squeeze", g.add("Unsqueeze", x, integers(g, 1)), integers(g, 1))),
        ["Neg"],
    ),
    "the same cast twice": (
        lambda g, x: g.add("Cast", g.add("Cast", x, to=np.dtype(np.float64)), to=np.dtype(np.float64)),
        ["Cast"],
    ),
    "a concatenation of one": (lambda g, x: g.add("Neg", g.add("Concat", x, axis=1)), ["Neg"]),
    "a split into one": (lambda g, x: g.add("Neg", g.add("Split", x, axis=1, num_outputs=1)), ["Neg"]),
    "a slice of everything": (
        lambda g, x: g.add(
            "Neg", g.add("Slice", x, integers(g, 0), integers(g, 2**63 - 1), integers(g, 1), integers(g, 1))
        ),
        ["Neg"],
    ),
    "padding by nothing": (lambda g, x: g.add("Neg", g.add("Pad", x, integers(g, *[0] * 6))), ["Neg"]),
    "times 1": (lambda g, x: g.add("Neg", g.add("Mul", number(g, 1), x)), ["Neg"]),
    "divided by 1": (lambda g, x: g.add("Neg", g.add("Div", x, number(g, 1))), ["Neg"]),
    "plus -0": (lambda g, x: g.add("Neg", g.add("Add", x, number(g, -0.0))), ["Neg"]),
    "minus 0": (lambda g, x: g.add("Neg", g.add("Sub", x, number(g, 0.0))), ["Neg"]),
    "equal nodes": (
        lambda g, x: g.add("Sub", g.add("Exp", g.add("Neg", x)), g.add("Exp", g.add("Neg", x))),
        ["Neg", "Exp", "Sub"],
    ),
    "equal nodes with equal constants": (
        lambda g, x: g.add(
            "Sub", g.add("ReduceSum", x, integers(g, 1)), g.add("ReduceSum", x, integers(g, 1))
        ),
        ["ReduceSum", "Sub"],
    ),
}
KEPT: dict[str, Write] = {
    "a reshape that copies a size": lambda g, x: g.add(
        "Reshape", g.add("Reshape", x, integers(g, -1, 2)), integers(g, 0, 2)
    ),
    "a squeeze of another axis": lambda g, x: g.add(
        "Squeeze",
        g.add("Unsqueeze", g.add("Slice", x, integers(g, 0), integers(g, 1)), integers(g, 1)),
        integers(g, 0),
    ),
    "a slice of some": lambda g, x: g.add("Slice", x, integers(g, 1), integers(g, 2**63 - 1), integers(g, 1)),
    "a reversed slice": lambda g, x: g.add(
        "Slice", x, integers(g, -1), integers(g, -(2**63)), integers(g, 1), integers(g, -1)
    ),
    "plus 0, which turns -0 into 0": lambda g, x: g.add("Add", x, number(g, 0.0)),
    "minus -0, which turns -0 into 0": lambda g, x: g.add("Sub", x, number(g, -0.0)),
    "0 minus x": lambda g, x: g.add("Sub", number(g, 0.0), x),
    "1 divided by x": lambda g, x: g.add("Div", number(g, 1.0), x),
    "times ones that add an axis": lambda g, x: g.add("Mul", x, g.add_constant(np.ones((1, 1, 1, 1), "f4"))),
    "a cast to another dtype": lambda g, x: g.add(
        "Cast", g.add("Cast", x, to=np.dtype(np.float16)), to=np.dtype(np.float32)
    ),
    "equal nodes of different axes": lambda g, x: g.add(
        "Add", g.add("ReduceSum", x, integers(g, 1)), g.add("ReduceSum", x, integers(g, 2))
    ),
}


def signed_zeros() -> Any:
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    x[:, 1, ::2] = -0.0
    return x


def assert_same_bits(graph: Graph) -> None:
    x = signed_zeros()
    for simplified in (evaluate(simplify(graph), x), Planner(simplify(graph))(x)):
        for y, expected in zip(simplified, evaluate(graph, x), strict=True):
            assert y.dtype == expected.dtype and y.shape == expected.shape
            assert y.tobytes() == expected.tobytes()  # unlike ==, this distinguishes 0 and -0


@pytest.mark.parametrize("name", FEWER)
def test_nodes_that_change_nothing_disappear(name: str) -> None:
    write, operations = FEWER[name]
    graph = written(write)
    assert [node.operation for node in simplify(graph).nodes] == operations
    assert_same_bits(graph)


@pytest.mark.parametrize("name", KEPT)
def test_nodes_that_change_something_remain(name: str) -> None:
    graph = written(KEPT[name])
    assert len(simplify(graph).nodes) == len(graph.nodes)
    assert_same_bits(graph)


def test_a_python_function_is_called_once_for_each_node() -> None:
    calls = []

    def difference(g: Graph, x: str) -> str:
        first, second = (g.add("Python", x, function=lambda x: calls.append(x) or x) for _ in range(2))
        return g.add("Sub", first, second)

    Planner(simplify(written(difference)))(signed_zeros())
    assert len(calls) == 2


def branch(operation: str) -> Graph:
    body = Graph()
    body.outputs = (body.add(operation, body.add_input("outer")),)
    return body


@pytest.mark.parametrize(("condition", "operation"), [(True, "Neg"), (False, "Exp")])
def test_an_if_with_a_constant_condition_is_replaced_by_its_branch(condition: bool, operation: str) -> None:
    def choice(g: Graph, x: str) -> str:
        known = g.add_constant(np.array(condition))
        return g.add("If", known, x, then_branch=branch("Neg"), else_branch=branch("Exp"))

    graph = written(choice)
    assert [node.operation for node in simplify(graph).nodes] == [operation]
    assert_same_bits(graph)


def test_sizes_computed_from_a_shape_are_constants_of_each_plan() -> None:
    def flattened(g: Graph, x: str) -> str:
        shape = g.add("Shape", x)
        sizes = [g.add("Gather", shape, integers(g, place)) for place in (0, 1, 2)]
        rows = g.add("Mul", sizes[0], sizes[1])
        return g.add("Reshape", x, g.add("Concat", rows, sizes[2], axis=0))

    graph = written(flattened)
    planner = Planner(simplify(graph))
    for shape in ((2, 3, 4), (5, 1, 4)):
        x = RNG.standard_normal(shape).astype(np.float32)
        np.testing.assert_array_equal(planner(x)[0], evaluate(graph, x)[0])
        assert planner.find([x]).entry is not None  # type: ignore[union-attr]  # the plan exists
