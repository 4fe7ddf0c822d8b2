"""The nodes of a graph, and the signatures of the values between them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

AnyArray = NDArray[Any]


class Signature(NamedTuple):
    """The shape and dtype of a value."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: Any) -> "Signature":
        """Return the signature of an array."""
        return cls(array.shape, array.dtype)


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

    def __str__(self) -> str:
        """The node in errors."""
        return f"node {self.name} ({self.source or self.operation})"
