"""What compiling costs, in bytecode instructions of Python, which do not depend on the machine's load."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onward.graph import Graph
from onward.graph.node import Node
from onward.graph.operations import evaluation
from onward.graph.plan import compiler
from onward.graph.plan.planner import Planner
from onward.graph.simplification.simplify import simplify


def instructions(call: Callable[[], Any]) -> int:
    """Return how many bytecode instructions a call takes."""
    count = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def chain(graph: Graph, x: str, count: int) -> tuple[str, ...]:
    for step in range(count):
        x = graph.add(("Tanh", "Neg", "Exp")[step % 3], x)
    return (x,)


def products(graph: Graph, x: str, count: int) -> tuple[str, ...]:
    for _ in range(count):
        x = graph.add("MatMul", x, graph.add_constant(np.eye(3, dtype=np.float32)))
    return (x,)


def joined(graph: Graph, x: str, count: int) -> tuple[str, ...]:
    factors = [graph.add_constant(np.float32(2 + place)) for place in range(count)]
    return (graph.add("Concat", *(graph.add("Tanh", graph.add("Mul", x, f)) for f in factors), axis=1),)


def read_again(graph: Graph, x: str, count: int) -> tuple[str, ...]:
    first = x = graph.add("Tanh", x)
    for _ in range(count):
        x = graph.add("Add", x, first)
    return (x,)


def returned(graph: Graph, x: str, count: int) -> tuple[str, ...]:
    return tuple(graph.add("Mul", x, graph.add_constant(np.float32(2 + place))) for place in range(count))


def growing(graph: Graph, x: str, count: int) -> tuple[str, ...]:
    y = x
    for _ in range(count):
        y = graph.add("Tanh", graph.add("Concat", y, x, axis=1))
    return (y,)


@pytest.mark.parametrize("made", [chain, products, joined, read_again, returned, growing])
def test_each_node_costs_the_same_in_a_graph_of_any_length(made: Any) -> None:
    per_node = []
    for count in (30, 180):
        graph = Graph()
        x = graph.add_input("x", np.float32, ("batch", 3))
        graph.outputs = made(graph, x, count)

        def compiled(graph: Graph = graph) -> None:
            Planner(simplify(graph))(np.ones((2, 3), np.float32))

        compiled()  # imports modules
        per_node.append(instructions(compiled) / len(graph.nodes))
    assert per_node[1] < 1.05 * per_node[0], per_node


def test_what_a_composition_makes_of_constants_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was computed as the nodes of the composition were found, and again as each of them was compiled."""
    graph, rng, evaluated = Graph(), np.random.default_rng(5), list[str]()
    x = graph.add_input("x", np.float32, ("batch", 3, "time"))
    numbers = [rng.uniform(0.5, 2, 3).astype(np.float32) for _ in range(4)]
    graph.outputs = (graph.add("BatchNormalization", x, *map(graph.add_constant, numbers)),)

    def evaluate(node: Node, inputs: Any) -> Any:
        evaluated.append(node.operation)
        return evaluation.evaluate(node, inputs)

    monkeypatch.setattr(compiler, "evaluate", evaluate)
    x = rng.standard_normal((2, 3, 5)).astype(np.float32)
    (y,) = Planner(graph)(x)
    assert not evaluated
    scale, bias, mean, variance = (array[:, None] for array in numbers)
    np.testing.assert_allclose(y, scale * (x - mean) / np.sqrt(variance + 1e-5) + bias, rtol=1e-5, atol=1e-6)


def activations(graph: Graph, x: str, slope: str) -> str:
    return graph.add("PRelu", x, slope)


def their_nodes(graph: Graph, x: str, slope: str) -> str:
    zero = graph.add_constant(np.float32(0))
    return graph.add("Add", graph.add("Max", x, zero), graph.add("Mul", graph.add("Min", x, zero), slope))


def test_a_composition_of_elements_costs_no_more_than_its_nodes() -> None:
    """It was recorded as nodes, which were inferred, renamed, inferred again and compiled.

    Its constants must not take the names of the graph's.
    """
    costs, outputs, numbers = [], [], np.random.default_rng(3).standard_normal((2, 3)).astype(np.float32)
    for made in (activations, their_nodes):
        graph = Graph()
        x = graph.add_input("x", np.float32, ("batch", 3))
        slope = graph.add_constant(np.full(3, 0.3, np.float32))
        for _ in range(20):
            x = made(graph, x, slope)
        graph.outputs = (x,)

        def compiled(graph: Graph = graph) -> None:
            outputs.append(Planner(graph)(numbers)[0])

        compiled()  # imports modules
        costs.append(instructions(compiled))
    assert costs[0] < 1.1 * costs[1], costs
    for y in outputs:
        np.testing.assert_array_equal(y, outputs[-1])
