"""Run a graph node by node in NumPy: the meaning of its operations, without plans."""

from functools import partial
from typing import Any

from onward.core.budget import Limit
from onward.graph import Graph, Model
from onward.graph.operations import OPERATIONS


def evaluate(graph: Graph, *inputs: Any) -> tuple[Any, ...]:
    """Return the outputs of a graph."""
    names = [declared.name for declared in graph.inputs]
    values = {"": None, **graph.constants, **dict(zip(names, inputs, strict=True))}
    pending = graph.nodes[::-1]
    while pending:
        node = pending.pop()
        if node.operation == "Scan":  # means a Loop
            expand = OPERATIONS[node.operation].expand
            expansion = expand and expand(node, [values[name] for name in node.inputs])
            assert expansion
            values |= expansion.constants
            pending += expansion.nodes[::-1]
            continue
        attributes = {
            name: _Body(value) if isinstance(value, Graph) else value
            for name, value in node.attributes.items()
        }
        results = OPERATIONS[node.operation].compute([values[name] for name in node.inputs], attributes)
        values |= {name: array for name, array in zip(node.outputs, results, strict=False) if name}
    return tuple(values[name] for name in graph.outputs)


def meaning(model: Model, *inputs: Any) -> tuple[Any, ...]:
    """Return the outputs of a model, from its graph as the file says it: before any simplification."""
    return evaluate(model.graph.with_defaults(), *inputs)


class _Body(partial[tuple[Any, ...]]):
    """The body of a node, as operations call it."""

    def __new__(cls, graph: Graph) -> "_Body":
        body = super().__new__(cls, evaluate, graph)
        body.graph, body.limit = graph, Limit()
        return body

    graph: Graph
    limit: Limit
    work = 0

    def repeat(self, *arguments: Any) -> None:
        """Leave each iteration to NumPy."""
