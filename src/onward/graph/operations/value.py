"""What the compiler knows about a value of a graph."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..node import Operand, Signature
from ..plan.builder import Builder
from ..plan.view import CONSTANTS, DTYPES, View, name_of
from ..size import is_symbolic
from ..sized import as_numbers, dtype_of, has_sizes


class Value:
    """A value of a graph during planning.

    `content` is the array if the value is `known`, which means the same in every call with this signature,
    otherwise the signature; `array` is None then. The dtype of an array of sizes is int64. `view` locates the
    elements in a space of the plan, or is None if no space holds them. `used_once` tells whether the value
    has exactly one reader. `name` is unique among the values of a plan.
    """

    __slots__ = ("array", "content", "dtype", "known", "name", "shape", "used_once", "view")

    def __init__(
        self, content: Operand, view: View | None = None, used_once: bool = False, name: str = ""
    ) -> None:
        self.content, self.view, self.used_once, self.name = content, view, used_once, name
        self.shape: tuple[Any, ...]
        self.array: Any
        if type(content) is Signature:
            self.known, self.array = False, None
            self.shape, self.dtype = content
        else:
            self.known, self.array = True, content
            self.shape, self.dtype = content.shape, dtype_of(content)

    @classmethod
    def at(cls, signature: Signature, view: View | None) -> "Value":
        """Return the value at a view; one without elements is known, unless its shape varies."""
        shape, dtype = signature
        if 0 not in shape:
            return cls(signature, view)
        if is_symbolic(shape) and name_of(dtype) in DTYPES:
            return cls(signature, View.contiguous(CONSTANTS, 0, shape, name_of(dtype)))
        return cls(np.empty(tuple(map(int, shape)), dtype))

    def with_array(self, array: Any) -> "Value":
        """Return the value with the elements that it has in every call."""
        return Value(array, self.view, self.used_once, self.name)

    def with_view(self, view: View) -> "Value":
        """Return the value whose elements are in a space of the plan."""
        return Value(Signature.of(self.content), view, self.used_once, self.name)

    def in_numbers(self) -> "Value":
        """Return the value whose sizes, if it has any, are fixed to those of the first call."""
        return self.with_array(as_numbers(self.content)) if has_sizes(self.content) else self

    def read_again(self) -> "Value":
        """Return the value with more than one reader."""
        return Value(self.content, self.view, name=self.name)


def contents(values: Sequence[Value | None]) -> list[Operand | None]:
    """Return the array of each value that is known, and the signatures of the others."""
    return [None if v is None else v.content for v in values]


def known(value: Value | None) -> Any:
    """Return the array of a known value, or None."""
    return None if value is None else value.array


def view(b: Builder, value: Value | None) -> View | None:
    """Return the view of a float32 value, or None; known values become constants of the plan."""
    return typed_view(b, value) if value is not None and value.dtype == np.float32 else None


def typed_view(b: Builder, value: Value | None, dtypes: Collection[str] = DTYPES) -> View | None:
    """Return the view of a value of some dtypes of the core, or None; known values become constants."""
    if value is None or name_of(value.dtype) not in dtypes:
        return None
    return b.constant(value.array) if value.known else value.view
