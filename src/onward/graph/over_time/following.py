"""Follow an axis, such as time or the batch, through the nodes of a graph."""

from collections.abc import Collection
from typing import Any, ClassVar, NoReturn

import numpy as np

from ...errors import ArgumentError, OnwardError
from ..graph import Graph
from ..inference import Values
from ..node import Node
from ..operations import OPERATIONS


def varying_axes(first: tuple[int, ...], second: tuple[int, ...]) -> list[int]:
    """Return the axes in which two shapes differ."""
    return [axis for axis, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]


class Follower:
    """Follows an axis through a graph, whose values for two sizes of the axis are `first` and `second`.

    `others` are values for further sizes. The class attributes up to `otherwise` are parts of errors.
    """

    problem: ClassVar[str]  # what a node prevents
    name: ClassVar[str]  # of the axis
    elements: ClassVar[str]  # along the axis
    size: ClassVar[str]  # of the axis
    otherwise: ClassVar[str]  # why the size of an axis may change, apart from merged axes
    exempt: ClassVar[Collection[str]] = ()  # operations whose rules check sizes themselves

    def __init__(self, graph: Graph, first: Values, second: Values, *others: Values) -> None:
        self._source, self._first, self._second = graph, first, second
        self._values = [first, second, *others]
        self._nodes: list[Node] = []

    def follow(self) -> None:
        """Add all nodes. Raises ArgumentError, which names the node."""
        for node in self._source.nodes:
            try:
                self._add_node(node)
            except OnwardError as error:
                raise ArgumentError(f"{node}: {self.problem}: {error}") from error

    def _add_node(self, node: Node) -> None:
        raise NotImplementedError

    def axis(self, name: str) -> int | None:
        """Return the axis in a value, or None."""
        raise NotImplementedError

    def refuse(self, node: Node, reason: str) -> NoReturn:
        """Raise the error that a node does not permit what the graph is followed for."""
        raise ArgumentError(reason)

    def combined(self, node: Node) -> list[Collection[int]]:
        """Return the axes of each input along which a node combines elements."""
        combines = OPERATIONS[node.operation].combines
        if combines is None:
            self.refuse(node, f"Onward has no rule for {node.operation} over {self.name}")
        found = list(combines(node, [self._second[name] if name else None for name in node.inputs]))
        return (found + found[-1:] * len(node.inputs))[: len(node.inputs)]

    def _check_combined(self, node: Node) -> None:
        """Refuse a node that combines elements along the axis."""
        for name, combined in zip(node.inputs, self.combined(node), strict=True):
            if name and self.axis(name) in combined:
                self.refuse(node, f"it combines {self.elements}")

    def _check_sizes(self, node: Node) -> None:
        """Refuse a node that computes with the size of the axis or with the places of its elements."""
        deciding = OPERATIONS[node.operation].shape_inputs or ()
        for place, name in enumerate(node.inputs):
            if name and place not in deciding and self._differs(name) and self.axis(name) is None:
                if node.operation not in self.exempt:
                    self.refuse(node, f"it computes with {self.size}")

    def _differs(self, name: str) -> bool:
        """Whether the shape of a value, or a known value, depends on the size of the axis."""
        first, *others = (values[name] for values in self._values)
        if not isinstance(first, np.ndarray):
            return any(first.shape != other.shape for other in others)
        return any(not isinstance(other, np.ndarray) or not np.array_equal(first, other) for other in others)

    def _repeated_axis(self, name: str) -> int | None:
        """Return the only axis in which known arrays differ, if they hold the same elements along it."""
        arrays = [array for values in self._values if isinstance(array := values[name], np.ndarray)]
        shapes = [array.shape for array in arrays]
        if len(arrays) < len(self._values) or len({*map(len, shapes)}) > 1:
            return None
        axes = {axis for shape in shapes for axis in varying_axes(shapes[0], shape)}
        if len(axes) != 1:
            return None
        (axis,) = axes
        element = arrays[0].take([0], axis)
        return axis if all((array == element).all() for array in arrays) else None

    def _varying_axes(self, name: str) -> list[int]:
        return varying_axes(self._first[name].shape, self._second[name].shape)

    def _axis_after(self, node: Node, output: str) -> int:
        """Return the axis of an output. Raises ArgumentError if it is merged with another axis."""
        source = next(name for name in node.inputs if name and self.axis(name) is not None)
        axis: Any = self.axis(source)
        varying, before, after = (
            self._varying_axes(output),
            self._second[source].shape,
            self._second[output].shape,
        )
        if len(varying) != 1 or after[varying[0]] != before[axis]:
            self.refuse(node, f"it merges {self.name} with another axis, or {self.otherwise}")
        moves = node.operation in ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
        if moves and np.prod(before[:axis]) != np.prod(after[: varying[0]]):
            self.refuse(node, f"it merges {self.name} with another axis")
        return varying[0]
