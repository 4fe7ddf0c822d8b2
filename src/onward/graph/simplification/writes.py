"""Nodes that write one step of an array, in whatever operations exporters express them.

Between `with_writes` and `without_writes`, a node of the operation WRITE stands for them: its inputs are the
array and a value with an axis of size 1, and its attributes the axis, the step, the size of the axis if that
is known, and the nodes that it stands for.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..graph import Graph, checks, used_names
from ..node import Node, needed_nodes

WRITE = "Write"
END = 2**31 - 1  # the least end of a slice that keeps the last element


def with_writes(graph: Graph) -> list[Node]:
    """Return the nodes that the outputs depend on, without identities, and with each write as one node."""
    return _Writes(graph, _without_identities(graph)).nodes()


def without_writes(nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes with the original ones in the place of each write."""
    return [
        each for node in nodes for each in (node.attributes["nodes"] if node.operation == WRITE else [node])
    ]


def _without_identities(graph: Graph) -> list[Node]:
    names: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        if not names.keys().isdisjoint(node.inputs):
            node = node.with_inputs(*(names.get(name, name) for name in node.inputs))
        if node.operation == "Identity" and node.inputs[0]:
            names[node.outputs[0]] = node.inputs[0]
        nodes.append(node)
    return needed_nodes(nodes, {*graph.outputs}, checks)


class _Part(NamedTuple):
    """A slice of an array along an axis."""

    node: Node
    start: int
    end: int


class _Writes:
    """The nodes of a graph, and the shapes of the arrays that they write."""

    def __init__(self, graph: Graph, nodes: list[Node]) -> None:
        self._nodes, self._constants = nodes, graph.constants
        self._makers = {name: node for node in nodes for name in node.outputs}
        self._uses = Counter([*graph.outputs, *used_names(nodes)])
        self._shapes: dict[str, tuple[Any, ...]] = {d.name: d.axes for d in graph.inputs if d.axes}

    def nodes(self) -> list[Node]:
        """Return the nodes with each write as one node."""
        nodes, parts = list[Node](), set[str]()
        for node in self._nodes:
            write = None
            if node.operation == "ScatterElements":
                write = self._scattered(node)
            elif node.operation == "Concat" and len(node.inputs) in (2, 3):
                write = self._concatenated(node)
            elif node.operation == "ConstantOfShape" and node.inputs[0] in self._constants:
                self._shapes[node.outputs[0]] = tuple(self._constants[node.inputs[0]].tolist())
            if write is not None:
                self._shapes[node.outputs[0]] = self._shape(write.inputs[0])
                parts.update(other.outputs[0] for other in write.attributes["nodes"][:-1])
            nodes.append(write or node)
        return [node for node in nodes if parts.isdisjoint(node.outputs)] if parts else nodes

    def _shape(self, name: str) -> tuple[Any, ...]:
        return self._constants[name].shape if name in self._constants else self._shapes.get(name, ())

    def _write(self, x: str, value: str, axis: int, step: int, nodes: Sequence[Node]) -> Node:
        shape = self._shape(x)
        size = shape[axis] if shape and isinstance(shape[axis], int) else None
        last = nodes[-1]
        attributes = {"axis": axis, "step": step, "size": size, "nodes": nodes}
        return Node(WRITE, (x, value), last.outputs, attributes, last.name, last.source)

    def _scattered(self, node: Node) -> Node | None:
        """Return the write of a ScatterElements node if all elements of its indices are the same step."""
        x, index, value = node.inputs
        places, axis = self._constants.get(index), node.attributes.get("axis", 0)
        shape = list(self._shape(x))
        if (
            places is None
            or not places.size
            or not shape
            or node.attributes.get("reduction", "none") != "none"
        ):
            return None
        size, shape[axis], step = shape[axis], 1, int(places.flat[0])
        is_step = list(places.shape) == shape and bool((places == step).all())
        is_inside = isinstance(size, int) and 0 <= step < size
        return self._write(x, value, axis, step, [node]) if is_step and is_inside else None

    def _concatenated(self, node: Node) -> Node | None:
        """Return the write of a concatenation of the steps before, a value, and the steps after it."""
        axis = node.attributes["axis"]
        parts = [self._part(name, axis) for name in node.inputs]
        if axis < 0 or parts.count(None) != 1:
            return None
        place = parts.index(None)
        before, after = parts[:place], parts[place + 1 :]
        slices = [part for part in parts if part is not None]
        value, x = self._makers.get(node.inputs[place]), slices[0].node.inputs[0]
        if value is None or value.operation != "Unsqueeze" or slices[-1].node.inputs[0] != x:
            return None
        if self._integers(value.inputs[1]) != [axis]:
            return None
        step = slices[0].end if before else 0
        shape = self._shape(x)
        size = shape[axis] if shape and isinstance(shape[axis], int) else None
        rest = slices[-1].start if after else size
        if len(before) > 1 or len(after) > 1 or step < 0 or rest != step + 1 or (size and step >= size):
            return None
        if (before and slices[0].start) or (after and slices[-1].end < END):
            return None
        inner = [part.node for part in slices if self._uses[part.node.outputs[0]] == 1]
        return self._write(x, node.inputs[place], axis, step, [*inner, node])

    def _part(self, name: str, axis: int) -> _Part | None:
        """Return how a value is a slice along an axis, or None if it is none."""
        node = self._makers.get(name)
        if node is None or node.operation != "Slice":
            return None
        numbers = [self._integers(other) for other in node.inputs[1:]]
        if len(numbers) < 3 or numbers[2:] not in ([[axis]], [[axis], [1]]):
            return None
        start, end = numbers[:2]
        return _Part(node, start[0], end[0]) if start and end else None

    def _integers(self, name: str) -> list[int] | None:
        array = self._constants.get(name)
        return None if array is None or array.ndim != 1 else array.tolist()
