"""A summary of a graph: one row per node that holds parameters, including the nodes of bodies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ..core import budget
from ..core.identity import Identity
from ..core.summary import NamedShape, Row, table
from ..errors import ArgumentError, LimitError
from .graph import Graph, bodies
from .inference import infer, open_signatures
from .node import Node, Signature
from .size import Size

LONGEST = 20  # characters of a size
WORK = 10**7  # of computing the values that follow from shapes
Parameters = dict[str, NDArray[Any]]


class Summary(NamedTuple):
    """The rows, the weights of each row by name, and the number of nodes without parameters or row."""

    rows: list[Row]
    weights: list[Parameters]
    others: int


def summarize(graph: Graph) -> Summary:
    """Summarize a graph. A weight that several nodes share belongs to the first of them.

    Nodes of the same name are one row, whose output is that of the last of them.
    """
    rows: list[Row] = []
    weights: list[Parameters] = []
    others, seen = 0, set()
    for inner, shapes in _graphs(graph):
        last = {_layer(node): next(filter(None, node.outputs), "") for node in inner.nodes}
        for node in inner.nodes:
            cell = node.attributes.get("cell")  # recurrent nodes have one, unless their weights are inputs
            held = {} if cell is None or Identity(cell) in seen else dict(cell.weights)
            seen.add(Identity(cell))
            held |= {name: inner.constants[name] for name in node.inputs if name in inner.constants}
            held = {
                name: array
                for name, array in held.items()
                # single numbers are constants of the node, such as an exponent
                if (array.dtype.kind == "f" or array.ndim > 1) and array.ndim and Identity(array) not in seen
            }
            seen |= set(map(Identity, held.values()))
            if not held:
                others += 1
                continue
            sizes = sum(w.size for w in held.values()), sum(w.nbytes for w in held.values())
            name, kind = node.name.partition(",")[0], node.source or node.operation
            row = Row(name, kind, shapes.get(last[_layer(node)]), *sizes)
            if rows and rows[-1][:2] == row[:2]:  # a layer of several nodes
                parameters, size = rows[-1].parameters + row.parameters, rows[-1].bytes + row.bytes
                rows[-1] = Row(row.name, row.kind, row.output_shape, parameters, size)
                weights[-1] |= held
            else:
                rows.append(row)
                weights.append(held)
    return Summary(rows, weights, others)


def described(graph: Graph) -> str:
    """Return the summary of a graph as text."""
    summary = summarize(graph)
    others = f"\n{summary.others} nodes without parameters" if summary.others else ""
    return table(summary.rows) + others


def _layer(node: Node) -> tuple[str, ...]:
    """Return what the nodes of a layer have in common."""
    name = node.name.partition(",")[0]
    return (name, node.source) if name and node.source else node.outputs


def _graphs(graph: Graph) -> Iterator[tuple[Graph, dict[str, NamedShape]]]:
    """Yield a graph and the bodies of its nodes, with the shapes of their values."""
    yield graph, shapes_of(graph)
    for node in graph.nodes:
        for body in bodies(node):
            yield from _graphs(body)


def signatures(graph: Graph) -> dict[str, Signature]:
    """Infer the signatures of values, as far as they follow from shapes; open sizes are symbolic."""
    inputs = open_signatures(each for each in graph.inputs if each.name not in graph.constants)
    # the shapes are a convenience; a call reports the errors
    with budget.of_part(WORK):
        values = infer(graph, inputs, ignored=(ArgumentError, LimitError))
    return {name: Signature.of(value) for name, value in values.items()}


def shapes_of(graph: Graph) -> dict[str, NamedShape]:
    """Return the shapes of the values of a graph; open sizes are what `names_of` makes of them."""
    return {name: names_of(shape) for name, (shape, _) in signatures(graph).items()}


def names_of(shape: Iterable[Any]) -> NamedShape:
    """Return sizes as numbers, names of axes, short expressions of them such as "2*time", or "?"."""
    return tuple(_name(size) if type(size) is Size else size for size in shape)


def _name(size: Size) -> str:
    text = str(size)
    return text if size.is_known and "?" not in size.names and len(text) <= LONGEST else "?"
