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
from .node import AnyArray, Node
from .operations import OPERATIONS


class Writer:
    """Adds operations to a graph, stores equal constants once, and computes operations on constants."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.label = ("", "")  # the name and the kind of what the file calls the operations at hand
        self._constants: dict[Any, str] = {}
        self._dequantized: dict[str, AnyArray] = {}

    def add(self, operation: str, *inputs: Any, **attributes: Any) -> str:
        """Add an operation with one output; inputs are names, lists of integers, or None if omitted."""
        return self.add_all(operation, inputs, 1, **attributes)[0]

    def add_all(
        self, operation: str, inputs: Sequence[Any], outputs: int, **attributes: Any
    ) -> tuple[str, ...]:
        """Add an operation with several outputs and return their names."""
        names = [x if isinstance(x, str) else "" if x is None else self.cast(x, np.int64) for x in inputs]
        name, source = self.label
        found = self.graph.add_all(operation, names, outputs, name=name, source=source, **attributes)
        self._fold(self.graph.nodes[-1])
        return found

    def cast(self, value: Any, dtype: Any) -> str:
        """Return the name of a constant."""
        array: AnyArray = np.asarray(value).astype(dtype)
        if array.nbytes > 1024:
            budget.take(array.nbytes)
            return self.graph.add_constant(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.graph.add_constant(array)
        return self._constants[key]

    def known(self, name: str) -> AnyArray | None:
        """Return the array of a constant, or None."""
        if name in self.graph.defaults:
            return None
        return self.graph.constants.get(name, self._dequantized.get(name))

    def _fold(self, node: Node) -> None:
        """Replace the last node by constants if all its inputs are, unless that takes much work.

        One that dequantizes weights stays, so that they are stored as integers.
        """
        values = {name: self.known(name) for name in node.inputs if name}
        known: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        if not values or len(known) < len(values) or not OPERATIONS[node.operation].is_pure:
            return
        with suppress(ArgumentError, LimitError):  # the error belongs to the call, which names the node
            found = outputs_of(node, known)
            arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
            if node.operation == "DequantizeLinear":
                self._dequantized |= arrays
            elif arrays.keys() == set(node.outputs):
                self.graph.nodes.pop()
                self.graph.constants |= arrays
