"""A graph that knows the shape and dtype of each value while it is recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ....errors import ArgumentError, OnwardError
from ....graph import Graph, Input
from ....graph.node import AnyArray, Signature
from ....graph.operations import OPERATIONS

MAX_NODES = 20_000
MAX_FOLDED = 1 << 24  # bytes of an array that is computed from constants
MAX_CLAIMED = 1 << 27  # bytes of all such arrays of one recording
MAX_KEY = 256  # bytes of an array that is compared by its content


class Open(NamedTuple):
    """The shape and dtype of a value; sizes that depend on the values of the inputs are None."""

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


Known = AnyArray | Signature | Open


@dataclass
class Folded:
    """Arrays computed from the weights of a file, which every recording of its code shares."""

    lasting: set[int] = field(default_factory=set)  # the ids of the weights and of these arrays
    results: dict[Any, list[AnyArray]] = field(default_factory=dict)
    claimed: int = 0  # bytes of all arrays that the current recording computed

    def claim(self, size: int) -> bool:
        """Return whether a recording may compute an array of so many bytes."""
        self.claimed += size
        return self.claimed <= MAX_CLAIMED

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


class Recording(Graph):
    """A graph under construction: it infers what it can about each value, and computes known ones at once.

    The recording of a branch uses values of the recordings around it; they become its inputs.
    """

    def __init__(self, around: Recording | None = None, folded: Folded | None = None) -> None:
        super().__init__()
        self.around, self.folded = around, folded or Folded()
        self.captured: list[str] = []
        self.values: dict[str, Known | None] = {}  # None: the shape is unknown
        if around is not None:
            self._names = around._names

    def inside(self) -> Recording:
        """Return the recording of a branch in this one."""
        return Recording(self, self.folded)

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
        self, operation: str, known: Sequence[Any], attributes: Mapping[str, Any]
    ) -> Sequence[Known] | None:
        """Return the arrays that a node computes if they are known, otherwise their signatures."""
        if any(isinstance(value, Open) for value in known):
            return _opened(operation, known, attributes)
        meaning = OPERATIONS[operation]
        is_known = not any(isinstance(value, Signature) for value in known)
        if meaning.is_pure and (is_known or not meaning.reads_values):
            key = self.folded.key(operation, known, attributes) if is_known else None
            if key in self.folded.results:
                return self.folded.results[key]
            results_of_rule = (meaning.signatures(known, attributes) if meaning.has_rule else None) or ()
            size = sum(math.prod(s.shape) * s.dtype.itemsize for s in results_of_rule)
            if size <= MAX_FOLDED and self.folded.claim(size):
                results = [np.asarray(array) for array in meaning.compute(known, attributes)]
                if key is not None:
                    self.folded.results[key] = results
                    self.folded.lasting.update(map(id, results))
                return results
        signatures = meaning.signatures(known, attributes)
        return _opened(operation, known, attributes) if signatures is None else signatures


def _opened(
    operation: str, known: Sequence[Known | None], attributes: Mapping[str, Any]
) -> Sequence[Known] | None:
    """Return the outputs with the sizes that two examples of the unknown sizes and values share."""
    first, second = (_example(operation, known, attributes, *example) for example in ((4, 1), (3, 0)))
    if first is None or second is None:
        return None
    return [
        Open(tuple(n if n == m else None for n, m in zip(a.shape, b.shape, strict=True)), a.dtype)
        for a, b in zip(first, second, strict=True)
    ]


def _example(
    operation: str, known: Sequence[Known | None], attributes: Mapping[str, Any], size: int, value: int
) -> tuple[AnyArray, ...] | None:
    """Return the outputs of a node if all unknown sizes and all unknown values are the same, or None."""
    meaning = OPERATIONS[operation]
    inputs = [
        np.broadcast_to(np.full((), value, k.dtype), [size if n is None else n for n in k.shape])
        if isinstance(k, Signature | Open)
        else k
        for k in known
    ]
    if not meaning.is_pure or sum(a.nbytes for a in inputs if a is not None) > MAX_FOLDED:
        return None
    try:
        return meaning.compute(inputs, attributes)
    except Exception:  # the example does not fit; the error of the call names the node
        return None
