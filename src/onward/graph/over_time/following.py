"""Follow an axis, such as time or the batch, through the nodes of a graph."""

import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from ...errors import ArgumentError, OnwardError
from ..graph import Graph
from ..inference import Values, outputs_of
from ..node import Node
from ..operations import OPERATIONS
from ..sized import has_sizes

REPEATING = ("ConstantOfShape", "Expand")  # operations that repeat elements along axes of given sizes


class Follower:
    """Follows an axis, whose size is symbolic, through a graph, and writes another one.

    `values` are those of the inputs. The class attributes up to `otherwise` are parts of errors.
    """

    problem: ClassVar[str]  # what a node prevents
    name: ClassVar[str]  # of the axis
    elements: ClassVar[str]  # along the axis
    size: ClassVar[str]  # of the axis
    otherwise: ClassVar[str]  # why the size of an axis may change, apart from merged axes
    exempt: ClassVar[Collection[str]] = ()  # operations whose rules check sizes themselves

    def __init__(self, graph: Graph, values: Values) -> None:
        self._source, self._whole = graph, {**graph.constants, **values}
        self._derived = set[str]()  # values that follow from the size of the axis
        self._nodes, self._constants = list[Node](), dict(graph.constants)
        self._node = Node("", (), (), {}, "")  # the node of the graph that is at hand
        self._added = set[str]()  # names of values that the graph does not have

    def follow(self) -> None:
        """Add all nodes. Raises ArgumentError, which names the node."""
        for node in self._source.nodes:
            self._node = node
            try:
                self._add_node(node)
            except OnwardError as error:
                raise ArgumentError(f"{node}: {self.problem}: {error}") from error

    def _add_node(self, node: Node) -> None:
        raise NotImplementedError

    def _append(self, node: Node) -> None:
        """Append a node whose inputs are values so far."""
        raise NotImplementedError

    def constant(self, array: ArrayLike) -> str:
        """Add a constant."""
        name = self._new_name("constant")
        self._whole[name] = self._constants[name] = np.asarray(array)
        return name

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output."""
        return self.add_all(operation, inputs, 1, **attributes)[0]

    def add_all(
        self, operation: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node, and return its outputs."""
        names = tuple(self._new_name(operation) for _ in range(outputs))
        node = Node(operation, tuple(inputs), names, attributes, self._node.name, self._node.source)
        self._whole |= outputs_of(node, self._whole)
        self._append(node)
        return names

    def _new_name(self, what: str) -> str:
        name = f"{next(filter(None, self._node.outputs), '')}/{what}:{len(self._added)}"
        self._added.add(name)
        return name

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
        found = list(combines(node, [self._whole[name] if name else None for name in node.inputs]))
        return (found + found[-1:] * len(node.inputs))[: len(node.inputs)]

    def _check_combined(self, node: Node) -> None:
        """Refuse a node that combines elements along the axis."""
        for name, combined in zip(node.inputs, self.combined(node), strict=True):
            if name and self.axis(name) in combined:
                self.refuse(node, f"it combines {self.elements}")

    def _check_sizes(self, node: Node) -> None:
        """Refuse a node that computes with the size of the axis or with the places of its elements."""
        if node.operation not in self.exempt and any(
            self.axis(name) is None for name in self._varying_inputs(node)
        ):
            self.refuse(node, f"it computes with {self.size}")

    def _varying_inputs(self, node: Node) -> list[str]:
        """Return the inputs that depend on the size of the axis, and do not only decide on shapes."""
        deciding = OPERATIONS[node.operation].shape_inputs or ()
        return [
            name
            for place, name in enumerate(node.inputs)
            if name and place not in deciding and self._differs(name)
        ]

    def _differs(self, name: str) -> bool:
        """Whether the shape of a value, or a value that follows from sizes, depends on that of the axis."""
        value = self._whole[name]
        if name in self._derived or any(map(self._varies, value.shape)):
            return True
        return isinstance(value, np.ndarray) and has_sizes(value) and any(map(self._varies, value.flat))

    def _varies(self, size: Any) -> bool:
        """Whether a size depends on that of the axis."""
        raise NotImplementedError

    def _derive(self, node: Node) -> dict[str, int | None]:
        """Return the outputs that follow from the size of the axis, and where they repeat elements."""
        if not any(name and self._differs(name) for name in node.inputs):
            return {}
        outputs = [name for name in node.outputs if name and not isinstance(self._whole[name], np.ndarray)]
        self._derived.update(outputs)
        return {name: self._repeated_axis(node, name) for name in outputs}

    def _repeated_axis(self, node: Node, output: str) -> int | None:
        """Return the axis along which an output that follows from its size holds the same elements."""
        axes, inputs = self._open_axes(output), self._varying_inputs(node)
        if len(axes) != 1 or (not inputs and node.operation not in REPEATING):
            return None
        if not inputs:
            return axes[0]
        with suppress(ArgumentError):
            self._check_sizes(node)
            self._check_combined(node)
            return self._axis_after(node, output)
        return None

    def _open_axes(self, name: str) -> list[int]:
        return [axis for axis, size in enumerate(self._whole[name].shape) if self._varies(size)]

    def _axis_after(self, node: Node, output: str) -> int:
        """Return the axis of an output. Raises ArgumentError if it is merged with another axis."""
        source = next(name for name in node.inputs if name and self.axis(name) is not None)
        axis, axes = self.axis(source), self._open_axes(output)
        before, after = self._whole[source].shape, self._whole[output].shape
        if axis is None or len(axes) != 1 or after[axes[0]] != before[axis]:
            self.refuse(node, f"it merges {self.name} with another axis, or {self.otherwise}")
        moves = node.operation in ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
        if moves and math.prod(before[:axis]) != math.prod(after[: axes[0]]):
            self.refuse(node, f"it merges {self.name} with another axis")
        return axes[0]
