"""Infer the values of a graph from the signatures of its inputs."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

import numpy as np

from ..core.budget import Limit
from ..errors import ArgumentError, LimitError, OnwardError
from .graph import Graph, Input
from .node import Naming, Node, Operand, Signature
from .operations import OPERATIONS
from .operations.evaluation import evaluate
from .size import Axes, Size

UNKNOWN = Signature((), np.dtype(object))
Values = dict[str, Operand]


def open_signatures(inputs: Iterable[Input]) -> dict[str, Signature]:
    """Return the signatures of inputs of which dtypes and axes are declared; open sizes are symbolic.

    Axes of one declared name have one size, as have all axes without a name.
    """
    axes, sizes, found = Axes(is_open=True), dict[int | str, Size](), dict[str, Signature]()
    for declared in inputs:
        if declared.axes is not None and declared.dtype is not None:
            for name in declared.axes:
                if isinstance(name, str) and name not in sizes:
                    sizes[name] = axes.add(name or "?")
            found[declared.name] = Signature(tuple(sizes.get(n, n) for n in declared.axes), declared.dtype)
    return found


def infer(
    graph: Graph,
    inputs: Mapping[str, Operand],
    limit: Limit | None = None,
    ignored: tuple[type[Exception], ...] = (),
) -> Values:
    """Return the array of each value that follows from constants and shapes, and the signatures of the rest.

    Values whose shapes depend on unknown values, and those after them, are missing, as are the outputs of
    nodes that raise `ignored` errors. Raises ArgumentError, which names the node, if the inputs do not fit
    the graph. Outside of a budget, that of a call within the `limit` holds.
    """
    values: Values = {**graph.constants, **inputs}
    with (limit or Limit.of(graph.constants.values())).entered():
        for node in graph.nodes:
            if all(not name or name in values for name in node.inputs):
                with suppress(*ignored):
                    values |= outputs_of(node, values)
    return values


def outputs_of(node: Node, values: Mapping[str, Operand]) -> Values:
    """Return what `evaluate` finds for the outputs of a node, by name; nothing if they cannot be inferred.

    Raises ArgumentError, which names the node, if it does not accept its inputs, and LimitError.
    """
    try:
        with Naming(node):
            found = evaluate(node, [values[name] if name else None for name in node.inputs])
    except LimitError:
        raise
    except OnwardError as error:
        raise ArgumentError(str(error)) from error
    return {name: value for name, value in zip(node.outputs, found or (), strict=False) if name}


def flattened(graph: Graph, inputs: Mapping[str, Operand]) -> Graph:
    """Return the graph with each If and loop replaced by its nodes if what decides about them is known."""
    values: Values = {**graph.constants, **inputs}
    constants, pending, nodes = dict(graph.constants), list(graph.nodes[::-1]), []
    while pending:
        node = pending.pop()
        expand = OPERATIONS[node.operation].expand_over_time
        expansion = expand and expand(
            node, [values.get(name, UNKNOWN) if name else None for name in node.inputs]
        )
        if expansion:
            constants |= expansion.constants
            values |= expansion.constants
            pending += expansion.nodes[::-1]
            continue
        if all(not name or name in values for name in node.inputs):
            values |= outputs_of(node, values)
        nodes.append(node)
    return graph.replaced(nodes=nodes, constants=constants)
