"""The nodes of a graph, the signatures of the values between them, and the limit on their memory."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import MemoryLimitError
from .size import dtype_of, hint

AnyArray = NDArray[Any]

# The values may take this many times the memory of the inputs and weights, or FREE_MEMORY if that is more.
MEMORY_MULTIPLE, FREE_MEMORY = 1000, 1 << 26


class Signature(NamedTuple):
    """The shape and dtype of a value."""

    shape: tuple[Any, ...]  # of integers and sizes
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: Any) -> "Signature":
        """Return the signature of an array."""
        return cls(array.shape, dtype_of(array))


class Expansion(NamedTuple):
    """The nodes and constants that replace a node with bodies."""

    nodes: list["Node"]
    constants: dict[str, AnyArray]


class Node(NamedTuple):
    """One application of an operation to values.

    `operation` names an entry of `operations.OPERATIONS`. `inputs` and `outputs` are names of values; ""
    stands for an omitted input or an unused output. `name` and `source` are what the source file calls the
    node and its operator.
    """

    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    name: str
    source: str = ""

    @property
    def captured(self) -> int:
        """How many of the last inputs are values from around the bodies; all but the condition of an If."""
        default = len(self.inputs) - 1 if self.operation == "If" else 0
        captured: int = self.attributes.get("captured", default)
        return captured

    def __str__(self) -> str:
        """The node in errors."""
        return f"node {self.name} ({self.source or self.operation})"


class MemoryLimit:
    """The limit of a model; the inputs and weights of the whole model decide it, also for its bodies."""

    def __init__(self) -> None:
        self.bytes = FREE_MEMORY

    def allow(self, inputs: Iterable[Any], weights: int) -> None:
        """Raise the limit to what a call with these inputs, and weights of so many bytes, may use."""
        given = weights + sum(getattr(array, "nbytes", 0) for array in inputs)
        self.bytes = max(self.bytes, MEMORY_MULTIPLE * given)

    def check(self, needed: int) -> None:
        """Raise MemoryLimitError if values that take so many bytes exceed the limit."""
        if needed > self.bytes:
            raise MemoryLimitError(
                f"the values need {needed} bytes; a graph may use {MEMORY_MULTIPLE} times the memory of its "
                f"inputs and weights, here {self.bytes} bytes: pass shorter sequences or smaller batches"
            )


def size_of(signatures: Iterable[Signature]) -> int:
    """Return how many bytes values with these signatures take, in the first call if sizes are symbolic."""
    return sum(math.prod(map(hint, s.shape)) * s.dtype.itemsize for s in signatures)
