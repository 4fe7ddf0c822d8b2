"""A summary of a graph: one row per node that holds parameters, including the nodes of bodies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ..core import budget
from ..core.identity import Identity
from ..errors import ArgumentError, LimitError
from ..layers.summary import Axes, Row
from .graph import Graph, bodies
from .inference import infer
from .node import Node, Signature

WORK = 10**7  # of computing the values that follow from shapes
Weights = dict[str, NDArray[Any]]
# Two sizes that stand for an open size: what differs between them depends on the input.
STAND_INS = (11, 13, 17, 19, 23, 29), (31, 37, 41, 43, 47, 53)


class Summary(NamedTuple):
    """The rows, the weights of each row by name, and the number of nodes without parameters or row."""

    rows: list[Row]
    weights: list[Weights]
    others: int


def summarize(graph: Graph) -> Summary:
    """Summarize a graph. A weight that several nodes share belongs to the first of them.

    Nodes of the same name are one row, whose output is that of the last of them.
    """
    rows: list[Row] = []
    weights: list[Weights] = []
    others, seen = 0, set()
    for inner, shapes in _graphs(graph):
        last = {_layer(node): next(filter(None, node.outputs), "") for node in inner.nodes}
        for node in inner.nodes:
            layer = node.attributes.get("layer")  # recurrent nodes have one, unless their weights are inputs
            held = {} if layer is None or Identity(layer) in seen else dict(layer.state_dict())
            seen.add(Identity(layer))
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
                rows[-1] = row._replace(parameters=parameters, bytes=size)
                weights[-1] |= held
            else:
                rows.append(row)
                weights.append(held)
    return Summary(rows, weights, others)


def _layer(node: Node) -> tuple[str, ...]:
    """Return what the nodes of a layer have in common."""
    name = node.name.partition(",")[0]
    return (name, node.source) if name and node.source else node.outputs


def _graphs(graph: Graph) -> Iterator[tuple[Graph, dict[str, Axes]]]:
    """Yield a graph and the bodies of its nodes, with the shapes of their values."""
    yield graph, shapes_of(graph)
    for node in graph.nodes:
        for body in bodies(node):
            yield from _graphs(body)


def signatures(graph: Graph) -> dict[str, Signature]:
    """Infer the signatures of values, as far as they follow from shapes; open sizes have arbitrary ones."""
    return _inferred(graph, dict(zip(_open_axes(graph), STAND_INS[0], strict=False)))


def _open_axes(graph: Graph) -> list[str]:
    axes = {axis for declared in graph.inputs for axis in declared.axes or () if isinstance(axis, str)}
    return sorted(axes - {""})


def shapes_of(graph: Graph) -> dict[str, Axes]:
    """Return the shapes of the values of a graph; open sizes have their declared names, or are "?"."""
    names = [dict(zip(sizes, _open_axes(graph), strict=False)) for sizes in STAND_INS]
    # an open size without a name is 1 at first, which broadcasts to any other
    first, second = (
        _inferred(graph, {axis: size for size, axis in stand_ins.items()} | {"": unnamed})
        for unnamed, stand_ins in enumerate(names, start=1)
    )
    shapes: dict[str, Axes] = {}
    for name, (shape, _) in first.items():
        other = second[name].shape if name in second else tuple(0 if size == 1 else size for size in shape)
        shapes[name] = tuple(
            m if m == n else names[0].get(m, "?") if names[0].get(m) == names[1].get(n) else "?"
            for m, n in zip(shape, other, strict=True)
        )
    return shapes


def _inferred(graph: Graph, sizes: Mapping[str, int]) -> dict[str, Signature]:
    """Infer signatures with sizes in place of the open ones, as far as they follow from shapes."""
    inputs = {}
    for declared in graph.inputs:
        if declared.name not in graph.constants and declared.axes is not None and declared.dtype is not None:
            shape = tuple(axis if isinstance(axis, int) else sizes.get(axis, 1) for axis in declared.axes)
            inputs[declared.name] = Signature(shape, declared.dtype)
    # the shapes are a convenience; a call reports the errors
    with budget.of_part(WORK):
        values = infer(graph, inputs, ignored=(ArgumentError, LimitError))
    return {name: Signature.of(value) for name, value in values.items()}
