"""A graph that knows the shape and dtype of each value while it is recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ....errors import ArgumentError, OnwardError
from ....graph import Graph, Input
from ....graph.node import AnyArray, Signature
from ....graph.operations import OPERATIONS

MAX_NODES = 200_000
MAX_FOLDED = 1 << 24  # bytes of an array that is computed from constants
MAX_KEY = 256  # bytes of an array that is compared by its content
Known = AnyArray | Signature


@dataclass
class Folded:
    """Arrays computed from the weights of a file, which every recording of its code shares."""

    lasting: set[int] = field(default_factory=set)  # the ids of the weights and of these arrays
    results: dict[Any, list[AnyArray]] = field(default_factory=dict)

    def key(self, operation: str, arrays: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        """Return the key of an operation on weights, or None if other large arrays are among its inputs."""
        parts: list[Any] = []
        for array in arrays:
            if array is None or id(array) in self.lasting:
                parts.append(id(array))
            elif array.nbytes <= MAX_KEY and array.dtype != object:
                parts.append((array.dtype.str, array.shape, array.tobytes()))
            else:
                return None
        uses_weights = any(type(part) is int for part in parts)
        return (operation, *parts, repr(sorted(attributes.items()))) if uses_weights else None


@dataclass
class Recording(Graph):
    """A graph under construction: it infers what it can about each value, and computes known ones at once.

    The recording of a branch uses values of the recordings around it; they become its inputs.
    """

    around: Recording | None = None
    folded: Folded = field(default_factory=Folded)
    captured: list[str] = field(default_factory=list)
    values: dict[str, Known | None] = field(default_factory=dict)  # None: the shape is unknown

    def inside(self) -> Recording:
        """Return the recording of a branch in this one."""
        return Recording(around=self, folded=self.folded, _names=self._names)

    def declare(self, name: str, value: Known) -> str:
        """Add an input with a known shape and dtype, or a known value."""
        name = self.add_input(name)
        self.values[name] = value
        return name

    def add_constant(self, array: AnyArray, name: str = "") -> str:
        """Add a constant and return its name."""
        name = super().add_constant(array, name)
        self.values[name] = array
        return name

    def known(self, name: str) -> Known | None:
        """Return the value, or its shape and dtype; None if they are unknown."""
        if name in self.values:
            return self.values[name]
        if self.around is None:
            raise ArgumentError(f"the value {name} belongs to another branch")
        return self.around.known(name)

    def find(self, name: str) -> str:
        """Make a value of a recording around this one available, and return its name."""
        if not name or name in self.values:
            return name
        value = self.known(name)
        self.values[name] = value
        if isinstance(value, np.ndarray):
            self.constants[name] = value
        else:
            self.inputs.append(Input(name))
            self.captured.append(name)
        return name

    def add_all(
        self,
        operation: str,
        inputs: Sequence[str],
        outputs: int | Sequence[str] = 1,
        *,
        name: str = "",
        source: str = "",
        **attributes: Any,
    ) -> tuple[str, ...]:
        """Add a node and infer its outputs. Raises ArgumentError, which names the node."""
        inputs = [self.find(value) for value in inputs]
        names = super().add_all(operation, inputs, outputs, name=name, source=source, **attributes)
        if len(self.nodes) > MAX_NODES:
            raise ArgumentError(f"the graph has more than {MAX_NODES} nodes")
        node = self.nodes[-1]
        known = [self.values[value] if value else None for value in inputs]
        is_complete = all(k is not None or not value for k, value in zip(known, inputs, strict=True))
        try:
            with np.errstate(all="ignore"):
                results = self._inferred(operation, known, attributes) if is_complete else None
        except OnwardError as error:
            raise type(error)(f"{node}: {error}") from error
        except Exception as error:  # NumPy's error for arrays that the operation does not accept
            raise ArgumentError(f"{node}: {error}") from error
        for place, output in enumerate(names):
            self.values[output] = results[place] if results and place < len(results) else None
        if results and all(isinstance(result, np.ndarray) for result in results):
            self.nodes.pop()
            self.constants.update(zip(names, results, strict=False))  # type: ignore[arg-type]
        return names

    def _inferred(
        self, operation: str, known: Sequence[Known | None], attributes: Mapping[str, Any]
    ) -> Sequence[Known] | None:
        """Return the arrays that a node computes if they are known, otherwise their signatures."""
        meaning = OPERATIONS[operation]
        is_known = not any(isinstance(value, Signature) for value in known)
        if meaning.is_pure and (is_known or not meaning.reads_values):
            key = self.folded.key(operation, known, attributes) if is_known else None
            if key in self.folded.results:
                return self.folded.results[key]
            signatures = (meaning.signatures(known, attributes) if meaning.has_rule else None) or ()
            if sum(math.prod(s.shape) * s.dtype.itemsize for s in signatures) <= MAX_FOLDED:
                results = [np.asarray(array) for array in meaning.compute(known, attributes)]
                if key is not None:
                    self.folded.results[key] = results
                    self.folded.lasting.update(map(id, results))
                return results
        return meaning.signatures(known, attributes)
