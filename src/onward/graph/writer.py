"""Add the operations on expressions to a graph."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..core import budget
from ..errors import ArgumentError, LimitError
from .graph import Graph
from .inference import outputs_of
from .node import AnyArray, described
from .operations import OPERATIONS

LARGE = 1024  # bytes of a constant in a file that is not compared with others


class Recorder:
    """Adds operations to a graph, and stores equal constants once. The names of values start with a prefix.

    `label` is the name and the kind of what a file calls the operations at hand.
    """

    def __init__(self, graph: Graph, prefix: str = "", label: tuple[str, str] = ("", "")) -> None:
        self.graph, self.label, self._prefix = graph, label, prefix
        self._stored: dict[Any, str] = {}

    def add(self, operation: str, *inputs: Any, **attributes: Any) -> str:
        """Add an operation with one output; inputs are names, lists of integers, or None if omitted."""
        return self.add_all(operation, inputs, 1, **attributes)[0]

    def add_all(
        self, operation: str, inputs: Sequence[Any], outputs: int, **attributes: Any
    ) -> tuple[str, ...]:
        """Add an operation with several outputs and return their names."""
        names, (name, source) = [self.named(x) for x in inputs], self.label
        made = [f"{self._prefix}{operation}_{len(self.graph.nodes)}"] * outputs
        return self.graph.add_all(operation, names, made, name=name, source=source, **attributes)

    def named(self, x: Any) -> str:
        """Return the name of an input."""
        return x if isinstance(x, str) else "" if x is None else self.cast(x, np.int64)

    def cast(self, value: Any, dtype: Any) -> str:
        """Return the name of a constant."""
        return self.stored(np.asarray(value).astype(dtype, order="C"))

    def stored(self, array: AnyArray) -> str:
        """Return the name of an array that never changes."""
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._stored:
            name = f"{self._prefix}constant_{len(self.graph.constants)}"
            self._stored[key] = self.graph.add_constant(array, name)
        return self._stored[key]


class Writer(Recorder):
    """A recorder for files, which computes operations on constants."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._dequantized: dict[str, AnyArray] = {}
        self._folded: dict[Any, tuple[str, ...]] = {}  # names of constants, by how they were computed

    def add_all(
        self, operation: str, inputs: Sequence[Any], outputs: int, **attributes: Any
    ) -> tuple[str, ...]:
        names = super().add_all(operation, inputs, outputs, **attributes)
        return self.fold() or names

    def stored(self, array: AnyArray) -> str:
        if array.nbytes <= LARGE:
            return super().stored(array)
        budget.take(array.nbytes)
        return self.graph.add_constant(array)

    def known(self, name: str) -> AnyArray | None:
        """Return the array of a constant, or None."""
        if name in self.graph.defaults:
            return None
        return self.graph.constants.get(name, self._dequantized.get(name))

    def fold(self) -> tuple[str, ...]:
        """Replace the last node by constants if all its inputs are, unless that takes much work.

        Return the names of equal constants that exist already. A node that dequantizes weights, or transposes
        these, stays, so that they are stored as integers.
        """
        node = self.graph.nodes[-1]
        values = {name: self.known(name) for name in node.inputs if name}
        known: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        if not values or len(known) < len(values) or not OPERATIONS[node.operation].is_pure:
            return ()
        text = described(node.attributes)
        key = node.operation, text, node.inputs, len(node.outputs)
        if key in self._folded:
            self.graph.nodes.pop()
            return self._folded[key]
        with suppress(ArgumentError, LimitError):  # the error belongs to the call, which names the node
            found = outputs_of(node, known)
            arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
            transposes = node.operation == "Transpose" and node.inputs[0] in self._dequantized
            if node.operation == "DequantizeLinear" or transposes:
                self._dequantized |= arrays
            elif arrays.keys() == set(node.outputs):
                self.graph.nodes.pop()
                self.graph.constants |= arrays
                if text:
                    self._folded[key] = node.outputs
        return ()
