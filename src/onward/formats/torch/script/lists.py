"""Lists whose length only a call knows: loops append to them, and a tensor holds the appended elements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ArgumentError
from ....graph.structure import leaves
from ..aten.registry import Symbol, Tensor
from . import layouts
from .values import Unknown, mapped, rebuilt

if TYPE_CHECKING:
    from .calls import Calls

MAX_SEGMENTS = 64  # elements and segments of a list that has segments


@dataclass(frozen=True)
class Column:
    """The elements of a segment, or what tuples among them have at one place, along the first axis."""

    tensor: Tensor
    is_number: bool


@dataclass(frozen=True, eq=False)
class Segment:
    """A part of a list: a column, or nested tuples of columns."""

    value: Any

    @property
    def first(self) -> Tensor:
        """A tensor that has an element for each one of the segment."""
        column: Column = next(leaves(self.value))
        return column.tensor

    def moved(self, function: Callable[[Tensor], Tensor]) -> Segment:
        """Return the segment with a function applied to each tensor."""
        return Segment(mapped(lambda c: Column(function(c.tensor), c.is_number), self.value))


@dataclass(frozen=True, eq=False)
class Hidden(Unknown):
    """Elements of a list whose number depends on the inputs: those of the iterations before, or parts of x.

    The first of these parts can be read; they have a length along an axis.
    """

    reason: str = "the code reads elements of a list whose number depends on the inputs"
    x: Tensor | None = None
    axis: int = 0
    length: int = 0


def kind_of(tensor: Tensor) -> type:
    """Return the type of the number in a tensor."""
    return {"b": bool, "f": float}.get(tensor.dtype.kind, int)


HIDDEN = Hidden()


def _has(values: Sequence[Any], *kinds: type) -> bool:
    return any(isinstance(value, kinds) for value in values)


def is_long(value: Any) -> bool:
    """Whether the length of a list depends on the inputs."""
    return isinstance(value, list) and len(value) <= MAX_SEGMENTS and _has(value, Segment, Hidden)


def apply(calls: Calls, name: str, values: list[Any], *arguments: Any, **keywords: Any) -> Any:
    """Apply an operator to a list whose length depends on the inputs."""
    if name not in OPERATORS and name not in SHARED:
        raise ArgumentError(f"the operator {name} takes no list whose length depends on the inputs")
    if _has(values, Hidden) and name not in CHANGES:
        raise ArgumentError(HIDDEN.reason)
    if len(values) == MAX_SEGMENTS:
        raise ArgumentError("a list whose length depends on the inputs has too many parts")
    if name in SHARED:
        return calls.apply_to_container(name, values, *arguments, **keywords)
    return OPERATORS[name](calls, values, *arguments, **keywords)


def element(calls: Calls, values: Sequence[Any], place: Any) -> Any:
    """Return an element of a list whose place or length depends on the inputs."""
    segment = None
    if isinstance(place, int):
        if not _has(values[: place + 1] if place >= 0 else values[place:], Segment, Hidden):
            return values[place]
        if place >= 0 and isinstance(parts := values[0], Hidden) and parts.x is not None:
            start, message = place * parts.length, f"an axis has no part {place}: it is too short"
            if place:  # an empty axis has a first part
                size = calls.size(parts.x, parts.axis)
                calls.require("LessOrEqual", start + 1, size, message)
            return calls.call("slice", parts.x, parts.axis, start, start + parts.length, 1)
        if _has(values, Hidden):
            raise ArgumentError(HIDDEN.reason)
        if place < 0 and isinstance(values[-1], Segment):
            segment = values[-1]

    def select(column: Column) -> Any:
        found = calls.call("select", column.tensor, 0, place)
        return calls.number(found, kind_of(found)) if column.is_number else found

    return mapped(select, (segment or whole(calls, values)).value)


def unpacked(calls: Calls, values: list[Any], count: int) -> Sequence[Any]:
    """Return the elements of a list whose length depends on the inputs, and which must be so many."""
    length = apply(calls, "len", values)
    calls.require("Equal", length, count, f"expected {count} values")
    return [element(calls, values, place) for place in range(count)]


def segment_of(calls: Calls, elements: Sequence[Any], operator: str = "stack") -> Segment:
    """Return elements or columns of equal structure as a segment; without an operator, a single one."""
    first = elements[0]
    if isinstance(first, tuple):
        parts = [segment_of(calls, each, operator).value for each in zip(*elements, strict=True)]
        return Segment(rebuilt(first, parts))
    if isinstance(first, Column):
        tensors = [each.tensor for each in elements]
    elif all(isinstance(each, Tensor | Symbol | int | float) for each in elements):
        is_complex = isinstance(first, Tensor) and first.dtype.kind == "c"
        tensors = [calls.tensor(calls.named(each), is_complex) for each in elements]
    else:
        raise ArgumentError(f"an element of a list is a {type(first).__name__}, whose place is not known")
    is_number = first.is_number if isinstance(first, Column) else not isinstance(first, Tensor)
    if not operator:
        return Segment(Column(tensors[0], is_number))
    tensor = calls.call(operator, tensors, 0)
    mark(tensor, [(each, [each.root]) for each in tensors])
    return Segment(Column(tensor, is_number))


def mark(tensor: Tensor, elements: Iterable[tuple[Tensor, Iterable[Tensor]]]) -> None:
    """Mark a tensor as elements of a list that have memory of their own, or that of other tensors."""
    for element, others in elements:
        tensor.aliases += [(other, other.version) for other in others]
        tensor.layout = tensor.layout if element.is_in_order else layouts.unknown
    tensor.is_ambiguous = bool(tensor.aliases)


def flat(calls: Calls, x: Tensor, prepended: int, appended: int) -> Tensor:
    """Return what the iterations of a loop added to a list; x has them along its first axis."""
    if prepended:
        x = calls.call("flip", x, [0])
    return x if prepended + appended == 1 else calls.call("flatten", x, 0, 1)


def whole(calls: Calls, values: Sequence[Any]) -> Segment:
    """Return a list as one segment."""
    parts = [each if isinstance(each, Segment) else segment_of(calls, [each]) for each in values]
    if not parts:
        raise ArgumentError("an empty list has no elements")
    return parts[0] if len(parts) == 1 else segment_of(calls, [part.value for part in parts], "cat")


def unbind(calls: Calls, x: Tensor, dim: int = 0) -> Any:
    """Return the slices of a tensor along an axis."""
    if x.shape[x.axis(dim)] is not None:
        return calls.call("unbind", x, dim)
    return calls.create([Segment(Column(calls.call("movedim", x, dim, 0), False))])


def split(name: str, calls: Calls, x: Tensor, length: Any, dim: int = 0) -> Any:
    """Return the parts of a length, or of several lengths, into which an operator splits an axis."""
    if type(length) is int and calls.has_open_axis(x, dim):
        return calls.create([Hidden(x=x, axis=dim, length=length)])
    return calls.call(name, x, length, dim)


def _length(calls: Calls, values: list[Any]) -> Any:
    length: Any = sum(not isinstance(value, Segment) for value in values)
    for value in values:
        if isinstance(value, Segment):
            length = calls.operate("add", length, calls.size(value.first, 0))
    return length


def _reverse(calls: Calls, values: list[Any]) -> None:
    calls.change_elements(values)
    values[:] = [
        each.moved(lambda x: flat(calls, x, 1, 0)) if isinstance(each, Segment) else each
        for each in values[::-1]
    ]


def _insert(calls: Calls, values: list[Any], place: Any, value: Any) -> None:
    if place != 0:
        raise ArgumentError("a value is inserted inside a list whose length depends on the inputs")
    calls.apply_to_container("insert", values, 0, value)


def _pop(calls: Calls, values: list[Any], place: Any = -1) -> Any:
    if place not in (0, -1) or _has([values[place]], Segment, Hidden):
        raise ArgumentError("an element is removed from the part of a list whose length is not known")
    return calls.apply_to_container("pop", values, place)


def _slice(calls: Calls, values: list[Any], start: Any = None, end: Any = None, step: int = 1) -> Any:
    if step < 0 and (start is not None or end is not None):
        raise ArgumentError("a list whose length depends on the inputs is sliced backwards between places")

    def sliced(x: Tensor) -> Any:
        x = flat(calls, x, 1, 0) if step < 0 else x
        return calls.call("slice", x, 0, start, end, abs(step))

    return calls.create([whole(calls, values).moved(sliced)])


def _cat(calls: Calls, values: list[Any], dim: Any = 0) -> Any:
    parts = []
    for value in values:
        if isinstance(value, Segment):
            axis = dim % (value.first.rank - 1)
            moved = calls.call("movedim", value.first, 0, axis)
            value = calls.call("flatten", moved, axis, axis + 1)
        parts.append(value)
    return calls.call("cat", parts, dim)


def _stack(calls: Calls, values: list[Any], dim: Any = 0) -> Any:
    stacked = whole(calls, values).first
    return _copied(calls, calls.call("movedim", stacked, 0, dim % stacked.rank))


def _copied(calls: Calls, x: Tensor) -> Tensor:
    """Return a tensor as one of memory of its own, in C order."""
    return calls.tensor(calls.named(x), x.dtype.kind == "c")


def _tensor(calls: Calls, values: list[Any], dtype: Any = None, **options: Any) -> Any:
    stacked = whole(calls, values).first
    if dtype is None and stacked.dtype == np.float64:
        dtype = 6  # the default
    return _copied(calls, stacked) if dtype is None else calls.operate("to", stacked, dtype=dtype)


SHARED = {"append", "add", "add_", "extend", "copy", "clear"}  # the same for other lists
CHANGES = {"append", "add", "add_", "extend", "copy", "insert", "pop"}  # also in the loop that appends
OPERATORS: dict[str, Callable[..., Any]] = {
    "insert": _insert, "pop": _pop, "len": _length, "reverse": _reverse, "slice": _slice,
    "select": element,
    "cat": _cat, "concat": _cat, "stack": _stack, "tensor": _tensor,
}  # fmt: skip
