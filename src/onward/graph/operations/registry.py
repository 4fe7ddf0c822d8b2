"""The functions that lower operations to steps of the core, and the values that they take."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..builder import Builder
from ..node import Node
from ..view import View


class Value(NamedTuple):
    """A value while its graph is traced.

    `array` is an example of it, `known` tells whether it is the same in every call of the signature, `view`
    is where its numbers are, or None if no space of the plan holds them, and `name` is the name that the
    node that makes it has for it.
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
    """Register a function that lowers these operations."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(operations, function))
        return function

    return register


def known(value: Value | None) -> Any:
    """The array of a value that is the same in every call, or None."""
    return value.array if value is not None and value.known else None


def view(b: Builder, value: Value | None) -> View | None:
    """Where the numbers of a value are; known values become constants of the plan."""
    if value is None or value.array.dtype != np.float32:
        return None
    return b.constant(value.array) if value.known else value.view
