"""Infer the values of a graph from the signatures of its inputs."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..core.budget import Limit
from ..errors import ArgumentError, LimitError
from .graph import Graph, bodies
from .node import Node, Signature, named, size_of
from .operations import OPERATIONS
from .operations.control import keeps_condition
from .operations.registry import Known

UNKNOWN = Signature((), np.dtype(object))
Values = dict[str, Known]


def infer(
    graph: Graph,
    inputs: Mapping[str, Known],
    limit: Limit | None = None,
    most: int | None = None,
    ignored: tuple[type[Exception], ...] = (),
) -> Values:
    """Return the array of each value that follows from constants and shapes, and the signatures of the rest.

    Values whose shapes depend on unknown values, and those after them, are missing, as are the outputs of
    nodes that raise `ignored` errors. Raises ArgumentError, which names the node, if the inputs do not fit
    the graph. Outputs of more than `most` bytes, or that the budget does not afford, are not computed;
    outside of a budget, that of a call within the `limit` holds.
    """
    values: Values = {**graph.constants, **inputs}
    with (limit or Limit.of(graph.constants.values())).entered():
        for node in graph.nodes:
            if all(not name or name in values for name in node.inputs):
                with suppress(*ignored):
                    values |= outputs_of(node, values, most)
    return values


def outputs_of(node: Node, values: Mapping[str, Known], most: int | None = None) -> Values:
    """Return the arrays or signatures of the outputs of a node, or nothing if they cannot be inferred.

    Outputs of more than `most` bytes, or that the current budget does not afford, are not computed.
    """
    operation = OPERATIONS[node.operation]
    inputs = [values[name] if name else None for name in node.inputs]
    known = all(value is None or isinstance(value, np.ndarray) for value in inputs)
    found: Any
    try:
        if node.operation in LOOPS:
            return dict(zip(node.outputs, LOOPS[node.operation](node, inputs), strict=False))
        if any(bodies(node)):
            return {}
        signatures = operation.signatures(inputs, node.attributes) if operation.has_rule else None
        computes = (known and operation.is_pure) or not operation.reads_values
        is_small = signatures is None or most is None or size_of(signatures) <= most
        made = (
            operation.run_if_affordable(inputs, node.attributes, signatures)
            if computes and is_small
            else None
        )
        if made is not None:
            found = [np.asarray(a) for a in made]
        else:
            found = signatures or operation.signatures(inputs, node.attributes) or ()
    except LimitError:
        raise
    except Exception as error:
        raise ArgumentError(named(node, error)) from error
    return {name: value for name, value in zip(node.outputs, found, strict=False) if name}


def scan_signatures(node: Node, inputs: Sequence[Known | None]) -> Sequence[Known]:
    """Return the signatures of the outputs of a Scan, or none if those of its body are unknown."""
    expand = OPERATIONS["Scan"].expand
    expansion = expand and expand(node, inputs)
    if not expansion:
        return []
    given = zip(node.inputs, inputs, strict=True)
    unrolled = Graph(nodes=expansion.nodes, constants=expansion.constants)
    values = infer(unrolled, {name: x for name, x in given if x is not None})
    return [values[name] for name in node.outputs] if values.keys() >= set(node.outputs) else []


def loop_signatures(node: Node, inputs: Sequence[Known | None]) -> Sequence[Known]:
    """Return the signatures of the outputs of a Loop, or none unless its length and its body tell them."""
    body, (count, condition, *values) = node.attributes["body"], inputs
    if not isinstance(count, np.ndarray) or condition is not None or not keeps_condition(body):
        return []
    carried = len(values) - node.captured
    states = [Signature.of(value) for value in values[:carried]]
    own = [Signature((), np.dtype(np.int64)), Signature((), np.dtype(np.bool_)), *states]
    results = _results(body, [*own, *values[carried:]])[1:]
    if results[:carried] != states:
        return []
    scanned = results[carried:]
    for place, axis in enumerate(node.attributes.get("scan_output_axes") or [0] * len(scanned)):
        shape, dtype = list(scanned[place].shape), scanned[place].dtype
        shape.insert(axis % (len(shape) + 1), max(0, int(count)))
        scanned[place] = Signature(tuple(shape), dtype)
    return [*states, *scanned]


def _results(body: Graph, inputs: Sequence[Any]) -> list[Signature]:
    """Return the signatures of the outputs of a body, or none if one of them is not known."""
    values = infer(body, {declared.name: value for declared, value in zip(body.inputs, inputs, strict=True)})
    known = all(name in values for name in body.outputs)
    return [Signature.of(values[name]) for name in body.outputs] if known else []


LOOPS = {"Loop": loop_signatures, "Scan": scan_signatures}


def flattened(graph: Graph, inputs: Mapping[str, Known]) -> Graph:
    """Return the graph with each If and loop replaced by its nodes if what decides about them is known."""
    values: Values = {**graph.constants, **inputs}
    constants, pending, nodes = dict(graph.constants), list(graph.nodes[::-1]), []
    while pending:
        node = pending.pop()
        expand = OPERATIONS[node.operation].expand
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
