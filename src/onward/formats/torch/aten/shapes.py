"""ATen's operators on shapes, axes and dtypes: views, slices, splits and copies."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .registry import INT64, Operator, Symbol, Tensor, aten, bounded, define
from .translator import Translator

WHOLE = np.iinfo(np.int64).max  # the end of a slice without an end
Sizes = Sequence[int | Symbol]


def reshaped(t: Translator, x: Tensor | str, sizes: Sizes, is_complex: bool = False) -> str:
    """Reshape to sizes; one of them may be -1."""
    return t.add("Reshape", x, [*sizes, 2] if is_complex else sizes, allowzero=1)


def _reshaped(t: Translator, x: Tensor, sizes: Sizes) -> str:
    return reshaped(t, x, sizes, x.dtype.kind == "c")


def increased(t: Translator, size: int | Symbol, more: int) -> int | Symbol:
    """Return the sum of a size and a number."""
    return size + more if isinstance(size, int) else Symbol(t.add("Add", size, more))


def product(t: Translator, sizes: Sizes) -> int | Symbol:
    """Return the product of sizes."""
    known = math.prod(size for size in sizes if isinstance(size, int))
    symbols = [size for size in sizes if isinstance(size, Symbol)]
    if not symbols or not known:
        return known
    whole = symbols[0]
    for size in [*symbols[1:], *[known] * (known != 1)]:
        whole = Symbol(t.add("Mul", whole, size))
    return whole


def regrouped(t: Translator, x: Tensor, first: int, last: int, sizes: Sizes) -> str:
    """Reshape the axes from first to last to sizes; one of them may be -1, also if x has no elements."""
    rest = [*x.shape[last + 1 :], *[2] * (x.dtype.kind == "c")]
    if all(isinstance(size, int) and size for size in [*sizes, *rest]):
        return t.add("Reshape", x, [*[0] * first, *sizes, *rest])  # 0 copies a size
    whole = t.sizes(x)
    total, others = product(t, whole[first : last + 1]), product(t, [size for size in sizes if size != -1])
    if isinstance(total, int) and isinstance(others, int):
        inferred: int | Symbol = total // max(others, 1)
    else:
        inferred = total if others == 1 else Symbol(t.add("Div", total, others))
    inferred_sizes = [inferred if size == -1 else size for size in sizes]
    return _reshaped(t, x, [*whole[:first], *inferred_sizes, *whole[last + 1 :]])


def _inverse_reshape(t: Translator, base: Tensor, value: str, *arguments: Any, **named: Any) -> str:
    return reshaped(t, value, t.sizes(base), base.dtype.kind == "c")


@aten("squeeze.dim squeeze.dims squeeze", put=_inverse_reshape, takes_complex=True)
def squeeze(t: Translator, self: Tensor, dim: Any = None) -> str:
    dims = range(self.rank) if dim is None else [dim] if isinstance(dim, int) else dim
    places = [self.axis(axis) for axis in dims if self.rank]
    axes = [axis for axis in places if self.shape[axis] == 1]
    declared = t.declared_rank()
    if declared is not None and declared != self.rank - len(axes):  # an axis of unknown size that has size 1
        axes = [axis for axis in places if self.shape[axis] in (1, None)]
        if declared != self.rank - len(axes):
            raise ArgumentError("the axes of unknown size that it removes are not known")
    for axis in places:
        if declared is None and self.shape[axis] is None:
            message = f"squeeze removes axis {axis} if its size is 1, which changes the shapes of the model"
            t.require("Equal", t.size(self, axis), 1, message, expected=False)
    return t.add("Squeeze", self, axes) if axes else t.add("Identity", self)


def lifts_scalars(function: Operator) -> Operator:
    """Let an operator along an axis take a tensor without axes, as torch does: as a vector of one element."""

    @functools.wraps(function)
    def lifted(t: Translator, self: Tensor, *arguments: Any, **named: Any) -> Any:
        if self.rank:
            return function(t, self, *arguments, **named)
        vector = Tensor(t.add("Reshape", self, [1]), self.dtype, (1,))
        found = function(t, vector, *arguments, **named)
        is_one = isinstance(found, str)
        results = tuple(t.add("Reshape", y, []) for y in ((found,) if is_one else found))
        return results[0] if is_one else results

    return lifted  # type: ignore[return-value]  # it has the signature of the function


def permuted(t: Translator, x: Tensor, order: Sequence[int]) -> str:
    """Permute the axes of a tensor."""
    return t.add("Transpose", x, perm=[*order, x.rank] if x.dtype.kind == "c" else list(order))


def _copied(t: Translator, self: Tensor, src: Tensor) -> str:
    """Broadcast a tensor to the shape of the tensor that it replaces."""
    for axis in range(-min(self.rank, src.rank), 0):
        if (n := src.shape[axis]) not in (1, None):
            message = f"{n} elements along an axis are copied into an axis of another size"
            t.require("Equal", n, t.size(self, axis), message)
    return t.add("Expand", t.cast(src, self.dtype), t.shape(self))


def transposed(t: Translator, like: Tensor, value: Any) -> str:
    """Transpose the last two axes of a value with the axes of a tensor."""
    return t.add("Transpose", value, perm=[*range(like.rank - 2), like.rank - 1, like.rank - 2])


def axes_first(x: Tensor, *axes: int) -> tuple[list[int], list[int]]:
    """Return the order of axes that starts with the given ones, and the order that restores the axes."""
    order = [*axes, *(axis for axis in range(x.rank) if axis not in axes)]
    return order, [order.index(axis) for axis in range(x.rank)]


def _exchanged(t: Translator, x: Tensor, *axes: int) -> str:
    a, b = map(x.axis, axes)
    return permuted(t, x, [{a: b, b: a}.get(axis, axis) for axis in range(x.rank)])


define({
    "transpose.int swapdims": lambda t, self, dim0, dim1: _exchanged(t, self, dim0, dim1),
    "swapaxes": lambda t, self, axis0, axis1: _exchanged(t, self, axis0, axis1),
}, view=True, takes_complex=True)  # fmt: skip


@aten("movedim.intlist movedim.int", view=True, takes_complex=True)
def movedim(t: Translator, self: Tensor, source: Any, destination: Any) -> str:
    sources, targets = ([d] if isinstance(d, int) else d for d in (source, destination))
    rest = [axis for axis in range(self.rank) if axis not in [self.axis(d) for d in sources]]
    for target, axis in sorted((self.axis(b), self.axis(a)) for a, b in zip(sources, targets, strict=True)):
        rest.insert(target, axis)
    return permuted(t, self, rest)


@aten("expand", "broadcast_to", view=True, takes_complex=True)
def expand(t: Translator, self: Tensor, size: Sizes, implicit: bool = False) -> str:
    added = len(size) - self.rank
    for axis, n in enumerate(size[added:]):
        if n == 1:  # Expand would keep the elements
            t.require("Equal", t.size(self, axis), 1, f"axis {axis} is expanded to 1, but is longer")
    sizes = [t.size(self, i - added) if isinstance(n, int) and n == -1 else n for i, n in enumerate(size)]
    return t.add("Expand", self, [*sizes, 2] if self.dtype.kind == "c" else sizes)


define({
    "reshape": lambda t, self, shape: _reshaped(t, self, shape),
    "reshape_as": lambda t, self, other: _reshaped(t, self, t.sizes(other)),
    "flatten.using_ints": lambda t, self, start_dim, end_dim: (
        regrouped(t, self, self.axis(start_dim), self.axis(end_dim), [-1])),
}, put=_inverse_reshape, copies=False, takes_complex=True)  # fmt: skip
define({
    "view _unsafe_view _reshape_alias": lambda t, self, size, stride=None: _reshaped(t, self, size),
    "unflatten.int": lambda t, self, dim, sizes: (
        regrouped(t, self, self.axis(dim), self.axis(dim), sizes)),
    "view_as": lambda t, self, other: _reshaped(t, self, t.sizes(other)),
    "unsqueeze": lambda t, self, dim: t.add("Unsqueeze", self, [dim % (self.rank + 1)]),
}, put=_inverse_reshape, takes_complex=True)  # fmt: skip
define({
    "alias detach lift lift_fresh positive detach_": lambda t, self: t.add("Identity", self),
}, put=lambda t, base, value: value, takes_complex=True)  # fmt: skip
aten("ravel", put=_inverse_reshape, copies=True, takes_complex=True)(lambda t, self: _reshaped(t, self, [-1]))
aten("contiguous", put=lambda t, base, value: value, copies=True, takes_complex=True)(
    lambda t, self: t.add("Identity", self)
)
aten("view.dtype", view=True)(lambda t, self, dtype: t.add("BitCast", self, to=dtype))
define({
    "permute": lambda t, self, dims: permuted(t, self, [self.axis(dim) for dim in dims]),
    "t mT": lambda t, self: permuted(t, self, [*range(self.rank - 2), *range(self.rank)[-2:][::-1]]),
    "numpy_T": lambda t, self: permuted(t, self, range(self.rank)[::-1]),
    "expand_as": lambda t, self, other: expand(t, self, t.sizes(other)),
}, view=True, takes_complex=True)  # fmt: skip
aten("clone resolve_conj resolve_neg", takes_complex=True)(lambda t, self: t.add("Identity", self))
define({
    "copy": lambda t, self, src: _copied(t, self, src),
    "copy.int copy.float copy.Tensor": lambda t, self, other: (
        t.add("Expand", t.cast(other, self.dtype), t.shape(self))),
    "fill.Scalar fill.Tensor": lambda t, self, value: (
        t.add("Expand", t.cast(value, self.dtype), t.shape(self))),
    "zero": lambda t, self: t.add("Expand", t.cast(0, self.dtype), t.shape(self)),
    "slice_scatter": lambda t, self, src, dim=0, start=None, end=None, step=1: (
        _put_slice(t, self, t.add("Expand", t.cast(src, self.dtype), t.shape(src)), dim, start, end, step)),
    "select_scatter": lambda t, self, src, dim, index: (
        _put_selected(t, self, t.add("Identity", t.cast(src, self.dtype)), dim, index)),
})  # fmt: skip


def sliced(t: Translator, x: Any, axis: int, start: Any, end: Any, step: int = 1) -> str:
    """Return x[start:end:step] along an axis."""
    return t.add("Slice", x, [start], [end], [axis], [step])


def _put_slice(
    t: Translator, base: Tensor, value: str, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> str:
    """Write the value between what precedes and follows the slice."""
    axis, size = base.axis(dim), base.shape[base.axis(dim)]
    start = 0 if start is None else start
    end = WHOLE if end is None else end
    if step != 1:
        return _put_at(t, base, value, axis, start, end, step)
    parts = [value]
    if start != 0:
        parts.insert(0, sliced(t, base, axis, 0, start))
    if end != WHOLE and not (isinstance(size, int) and isinstance(end, int) and end >= size):
        parts.append(sliced(t, base, axis, end, WHOLE))
    return t.add("Concat", *parts, axis=axis) if len(parts) > 1 else value


def _put_at(t: Translator, base: Tensor, value: str, axis: int, start: Any, end: Any, step: int) -> str:
    """Write the value at every `step`-th place of an axis."""
    places = sliced(t, t.add("Range", 0, t.cast(t.size(base, axis), INT64), 1), 0, start, end, step)
    order, back = axes_first(base, axis)
    moved, updates = (t.add("Transpose", each, perm=order) for each in (base, value))
    updated = t.add("ScatterND", moved, t.add("Unsqueeze", places, [-1]), updates)
    return t.add("Transpose", updated, perm=back)


@aten("slice.Tensor", put=_put_slice, takes_complex=True)
def slice_(
    t: Translator, self: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> str:
    if start in (None, 0) and (end is None or end == WHOLE) and step == 1:
        return t.add("Identity", self)
    return sliced(t, self, self.axis(dim), 0 if start is None else start, WHOLE if end is None else end, step)


def _put_selected(t: Translator, base: Tensor, value: str, dim: int, index: Any) -> str:
    axis, size = base.axis(dim), base.shape[base.axis(dim)]
    if isinstance(index, Symbol):  # a mask, because the result has the shape of the base for any index
        count = t.cast(t.size(base, dim), INT64)
        mask = t.add("Equal", t.add("Range", 0, count, 1), t.add("Mod", index, count))
        mask = t.add("Unsqueeze", mask, range(1, base.rank - axis))
        return t.add("Where", mask, t.add("Unsqueeze", value, [axis]), base)
    limits: list[Any] = [index, index + 1]
    if index < 0 and size is None:
        whole = t.cast(t.size(base, dim), INT64)
        limits = [Symbol(t.add("Add", whole, limit)) for limit in limits]
    elif index < 0:
        limits = [limit + (size or 0) for limit in limits]
    return _put_slice(t, base, t.add("Unsqueeze", value, [axis]), axis, *limits)


@aten("select.int", put=_put_selected, takes_complex=True)
def select(t: Translator, self: Tensor, dim: int, index: Any) -> str:
    return t.add("Gather", self, t.cast(index, INT64), axis=self.axis(dim))


@aten("narrow", view=True, takes_complex=True)
def narrow(t: Translator, self: Tensor, dim: int, start: Any, length: Any) -> str:
    message = f"narrow takes {length} steps from step {start} on; the axis is shorter"
    if isinstance(start, int) and isinstance(length, int):
        end: Any = start + length
        t.require("LessOrEqual", max(end, -start), t.size(self, dim), message)
        if start < 0:
            t.require("LessOrEqual", end, 0, message)
            end = end or WHOLE
    else:
        message = "narrow takes a computed number of steps, or from a computed one on; the axis is shorter"
        first, whole = t.cast(start, INT64), t.cast(t.size(self, dim), INT64)
        start = Symbol(t.add("Where", t.add("Less", first, 0), t.add("Add", first, whole), first))
        for number in (start, length):
            t.require("LessOrEqual", 0, number, message)
        end = Symbol(t.add("Add", start, t.cast(length, INT64)))
        t.require("LessOrEqual", end, t.size(self, dim), message)
    return sliced(t, self, self.axis(dim), start, end)


def _joined(t: Translator, base: Tensor, values: Sequence[str], dim: int = 0, **sizes: Any) -> str:
    return t.add("Concat", *values, axis=base.axis(dim))


@aten("split.Tensor", "unsafe_split.Tensor", put=_joined, takes_complex=True)
def split(t: Translator, self: Tensor, split_size: int, dim: int = 0) -> Any:
    """Split an axis into parts of a size, which may be a symbol."""
    count, size = max(t.parts(self, dim, split_size), 1), self.shape[self.axis(dim)]
    if isinstance(size, int) and isinstance(split_size, int):
        sizes = [min(split_size, size - i * split_size) for i in range(count)]
        return split_with_sizes(t, self, sizes, dim)
    limits: list[Any] = [
        i * split_size if isinstance(split_size, int) else Symbol(t.add("Mul", split_size, i))
        for i in range(1, count)
    ]
    pairs = zip([0, *limits], [*limits, WHOLE], strict=True)
    return [sliced(t, self, self.axis(dim), start, end) for start, end in pairs]


@aten("split_with_sizes split split.sizes unsafe_split_with_sizes", put=_joined, takes_complex=True)
def split_with_sizes(
    t: Translator, self: Tensor, split_sizes: Any = None, dim: int = 0, split_size: Any = None
) -> Any:
    sizes = split_size if split_sizes is None else split_sizes
    return list(t.add_all("Split", (self, sizes), len(sizes), axis=self.axis(dim)))


@aten("chunk", "unsafe_chunk", put=_joined, takes_complex=True)
def chunk(t: Translator, self: Tensor, chunks: int, dim: int = 0) -> Any:
    size: Any = t.size(self, dim)
    if size == 0:
        return split_with_sizes(t, self, [0] * chunks, dim)
    if isinstance(size, int):
        return split(t, self, -(-size // chunks), dim)
    size = Symbol(t.add("Div", t.add("Add", size, chunks - 1), chunks))
    return split(t, self, size, dim)


@aten("tensor_split.sections tensor_split.indices", view=True)
def tensor_split(t: Translator, self: Tensor, sections: Any = None, dim: int = 0, indices: Any = None) -> Any:
    """Split an axis into a number of parts, or at indices."""
    axis = self.axis(min(dim, self.rank - 1))
    size = self.shape[axis]
    if indices is None and size is None:
        raise ArgumentError("tensor_split of an axis of unknown size is not supported")
    if indices is None:
        count, rest = divmod(size or 0, sections)
        indices = [part * count + min(part, rest) for part in range(1, sections)]
    return [sliced(t, self, axis, *limits) for limits in zip([0, *indices], [*indices, WHOLE], strict=True)]


def _equal_split(t: Translator, self: Tensor, sections: int, dim: int) -> Any:
    message = f"an axis is split into {sections} equal parts, but its size is not a multiple of it"
    t.require_multiple(self, min(dim, self.rank - 1), sections, message)
    return tensor_split(t, self, sections, dim)


for _dim, _name in enumerate(("vsplit", "hsplit", "dsplit")):
    aten(f"{_name}.int", view=True)(functools.partial(_equal_split, dim=_dim))
    aten(f"{_name}.array", view=True)(functools.partial(tensor_split, dim=_dim))


@aten("unbind.int", view=True, takes_complex=True)
def unbind(t: Translator, self: Tensor, dim: int = 0) -> Any:
    return [t.add("Gather", self, i, axis=self.axis(dim)) for i in range(t.parts(self, dim, 1))]


@aten("as_strided", view=True)
def as_strided(t: Translator, self: Tensor, size: Sizes, stride: Sizes, storage_offset: Any = None) -> str:
    """The elements of a tensor in C order at computed places."""
    if self.base is not None or not self.is_in_order:
        raise ArgumentError("as_strided of a view, or of elements that are not in C order, is not supported")
    bounded(math.prod(n for n in size if isinstance(n, int)))
    places = t.cast(storage_offset or 0, INT64)
    for n, step in zip(size, stride, strict=True):
        t.require("LessOrEqual", 0, step, "as_strided takes no negative strides")
        steps = t.add("Mul", t.add("Range", 0, t.cast(n, INT64), 1), t.cast(step, INT64))
        places = t.add("Add", t.add("Unsqueeze", places, [-1]), steps)
    return t.add("Gather", t.add("Reshape", self, [-1]), places)


def windows(t: Translator, x: Any, axis: int, count: int | Symbol, size: int, step: int, gap: int = 1) -> str:
    """Windows of an axis, which becomes two: the windows and their elements.

    `count` is the number of windows in steps of 1, and `gap` the distance of the elements of a window.
    """
    bounded(size)
    if isinstance(count, int):
        bounded(len(range(0, count, step)) * size)
    starts = t.add("Unsqueeze", t.add("Range", 0, count, step), [1])
    return t.add("Gather", x, t.add("Add", starts, t.constant(np.arange(size) * gap)), axis=axis)


@aten("unfold", view=True)
def unfold(t: Translator, self: Tensor, dimension: int, size: int, step: int) -> str:
    """Windows of an axis, which become the last axis."""
    axis, length = self.axis(dimension), t.size(self, dimension)
    t.require("LessOrEqual", size, length, f"unfold makes windows of {size} elements; the axis is shorter")
    found = windows(t, self, axis, increased(t, length, 1 - size), size, step)
    order = [*range(axis + 1), *range(axis + 2, self.rank + 1), axis + 1]
    return t.add("Transpose", found, perm=order)


def to(
    t: Translator, self: Tensor, dtype: Any = None, other: Tensor | None = None, copy: bool = False
) -> Any:
    """Return a tensor, or a view of it if nothing changes, in another dtype."""
    wanted = other.dtype if other is not None else self.dtype if dtype is None else dtype
    if wanted == self.dtype and not copy:
        return t.add("Identity", self)
    return dataclasses.replace(self, name=t.cast(self, wanted), dtype=wanted, base=None, is_copy=None)


aten(
    "to.dtype to.dtype_layout to.device to.other type_as",
    put=lambda t, base, value, **others: value,
    takes_complex=True,
)(to)
aten("_to_copy", view=True, takes_complex=True)(functools.partial(to, copy=True))
