"""The graph over one block of a sequence while it grows: its nodes, constants and carries."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..graph import Graph, Input
from ..node import Node, Operand, Signature
from ..plan.builder import inverse
from .streamed import Carry, TimeAndBatch
from .timing import TimeFollower


class BlockGraph(TimeFollower):
    """What rules over time add. The arguments are those of `TimeFollower`."""

    def __init__(
        self, graph: Graph, inputs: Mapping[str, Operand], axes: Mapping[str, int], rates: Mapping[str, int]
    ) -> None:
        super().__init__(graph, inputs, axes, rates)
        self._names: dict[str, str] = {"": ""}
        self.carries: list[Carry] = []
        self._after: dict[str, str] = {}
        self._stored: dict[str, tuple[str, list[int]]] = {}  # carries in another order of axes

    def graph(self, with_carries: bool) -> Graph:
        """Return the graph; its first inputs and, if `with_carries`, its first outputs are the carries."""
        outputs = [self._names.get(name, name) for name in self._source.outputs]
        # at the end, if the sizes of empty carries were known, NumPy would run nodes, and round differently
        inputs = [Input(c.name, c.initial.dtype, c.sizes if with_carries else None) for c in self.carries]
        return Graph(
            [*inputs, *self._source.inputs],
            (*([self._after[c.name] for c in self.carries] if with_carries else []), *outputs),
            (),
            self._nodes,
            self._constants,
        )

    def constant(self, array: ArrayLike) -> str:
        """Add a constant."""
        name = super().constant(array)
        for values in self._blocks:
            values[name] = self._constants[name]
        return name

    def _alias(self, value: str) -> str:
        """Return another name of a value, for a timing of its own."""
        name = self._new_name("alias")
        self._names[name] = self._names.get(value, value)
        self._whole[name] = self._whole[value]
        return name

    def slice(self, x: str, axis: int, start: int, end: int | None = None, step: int = 1) -> str:
        """Return a part of a value along an axis."""
        numbers = [start, np.iinfo(np.int64).max if end is None else end, axis, *([step] if step > 1 else [])]
        return self.add("Slice", x, *(self.constant(np.array([n])) for n in numbers))

    def carry(self, node: Node, initial: Any, axis: int | None, suffix: str = "", source: str = "") -> str:
        """Add a value that the next call takes from this one; its length may vary along a time axis.

        If `source` names a value of the graph, the carry starts at that value instead of at `initial`.
        Streams hold the axes after the rows in another order: steps first, and channels last. Raises
        ArgumentError if the time axis of an input does not hold the steps in order.
        """
        for x in filter(self.timing, node.inputs):
            self._timing_of(x)
        base = f"{node.name}.{suffix or node.operation.lower()}"
        name, number = base, 1
        while any(c.name == name for c in self.carries):
            number += 1
            name = f"{base}_{number}"
        value, order = name, list(range(len(initial.shape)))
        if axis is not None and axis > 1:  # each step as a whole, its channels side by side
            order = [0, axis, *(other for other in order[2:] if other != axis), 1]
            initial, axis = _transposed(initial, order), 1
        self.carries.append(Carry(name, initial, TimeAndBatch(axis), source=source))
        self._whole[name] = Signature.of(initial)
        if order != sorted(order):
            value = self.add("Transpose", name, perm=inverse(order))
            self._stored[value] = name, order
        return value

    def keep(self, carry: str, value: str) -> None:
        """Set what the next call takes as a carry."""
        value = self._names.get(value, value)
        if carry in self._stored:
            carry, order = self._stored[carry]
            value = self.add("Transpose", value, perm=order)
        self._after[carry] = value

    def _append(self, node: Node) -> None:
        self._nodes.append(node.with_inputs(*(self._names.get(name, name) for name in node.inputs)))


def _transposed(initial: Operand, order: Sequence[int]) -> Operand:
    """Return an initial value, or its signature, with its axes in another order."""
    if isinstance(initial, np.ndarray):
        return np.ascontiguousarray(initial.transpose(order))
    return Signature(tuple(initial.shape[axis] for axis in order), initial.dtype)
