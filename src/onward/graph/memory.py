"""The limit on the memory of a model's values."""

import math
from collections.abc import Iterable
from typing import Any

from ..errors import MemoryLimitError
from .node import Signature

# The values may take this many times the memory of the inputs and weights, or FREE_MEMORY if that is more.
MEMORY_MULTIPLE, FREE_MEMORY = 1000, 1 << 26
WHOLE_MEMORY = 1 << 26  # bytes; calls whose values need more run block by block where that is possible


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
    """Return how many bytes values with these signatures take."""
    return sum(math.prod(s.shape) * s.dtype.itemsize for s in signatures)
