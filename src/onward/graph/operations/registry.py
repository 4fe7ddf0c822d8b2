"""The registry of lowering functions, and the values that they take."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..builder import Builder
from ..node import Node
from ..view import DTYPES, View


class Value(NamedTuple):
    """A value of a graph during tracing.

    `array` is its value in the first call. `known` tells whether it is the same in every call with this
    signature. `view` locates its elements, or is None if no space of the plan holds them. `name` is the name
    of the node output or input that defines it. `used_once` tells whether it has exactly one reader.
    """

    array: Any
    known: bool
    view: View | None
    name: str = ""
    used_once: bool = False


Inputs = Sequence[Value | None]
Lowering = Callable[[Builder, Node, Inputs, list[tuple[int, ...]]], list[View] | None]
LOWERINGS: dict[str, Lowering] = {}


def lowering(*operations: str) -> Callable[[Lowering], Lowering]:
    """Register a function as the lowering of these operations."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(operations, function))
        return function

    return register


def known(value: Value | None) -> Any:
    """Return the array of a known value, or None."""
    return value.array if value is not None and value.known else None


def view(b: Builder, value: Value | None) -> View | None:
    """Return the view of a float32 value, or None; known values become constants of the plan."""
    return typed_view(b, value) if value is not None and value.array.dtype == np.float32 else None


def typed_view(b: Builder, value: Value | None) -> View | None:
    """Return the view of a value of any dtype of the core, or None; known values become constants."""
    if value is None or value.array.dtype.name not in DTYPES:
        return None
    return b.constant(value.array) if value.known else value.view
