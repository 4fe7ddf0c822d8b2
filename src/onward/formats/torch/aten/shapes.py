"""ATen's operators that change a tensor's shape, axes or dtype: views, slices, splits and copies."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .registry import FLOAT32, INT64, PUTS, Operand, Symbol, Tensor, Translator, aten, bounded

WHOLE = np.iinfo(np.int64).max  # the end of a slice without an end
Sizes = Sequence[int | Symbol]


def reshaped(t: Translator, x: Tensor | str, sizes: Sizes, is_complex: bool = False) -> str:
    """Reshape to sizes; one of them may be -1."""
    sizes = [*sizes, 2] if is_complex else sizes
    return t.add("Reshape", x, t.vector(sizes), allowzero=1)


def _inverse_reshape(t: Translator, base: Tensor, value: str, *arguments: Any, **named: Any) -> str:
    return t.add("Reshape", value, t.shape(base), allowzero=1)


@aten("view", "_unsafe_view", "_reshape_alias", view=True)
def view(t: Translator, self: Tensor, size: Sizes, stride: Any = None) -> str:
    return reshaped(t, self, size, self.dtype.kind == "c")


@aten("view.dtype", view=True)
def view_dtype(t: Translator, self: Tensor, dtype: np.dtype[Any]) -> str:
    return t.add("BitCast", self, to=dtype)


@aten("reshape", "ravel", view=True)
def reshape(t: Translator, self: Tensor, shape: Sizes = (-1,)) -> str:
    return reshaped(t, self, shape, self.dtype.kind == "c")


@aten("view_as", "reshape_as", view=True)
def view_as(t: Translator, self: Tensor, other: Tensor) -> str:
    return reshaped(t, self, t.sizes(other), self.dtype.kind == "c")


@aten("flatten.using_ints", view=True)
def flatten(t: Translator, self: Tensor, start_dim: int = 0, end_dim: int = -1) -> str:
    first, last = self.axis(start_dim), self.axis(end_dim)
    if last == self.rank - 1 and self.dtype.kind != "c":
        return t.add("Reshape", self, t.constant([*[0] * first, -1]))  # also correct without elements
    sizes = t.sizes(self)
    return reshaped(t, self, [*sizes[:first], -1, *sizes[last + 1 :]], self.dtype.kind == "c")


@aten("unflatten.int", view=True)
def unflatten(t: Translator, self: Tensor, dim: int, sizes: Sizes) -> str:
    axis, whole = self.axis(dim), t.sizes(self)
    return reshaped(t, self, [*whole[:axis], *sizes, *whole[axis + 1 :]], self.dtype.kind == "c")


@aten("unsqueeze", view=True)
def unsqueeze(t: Translator, self: Tensor, dim: int) -> str:
    return t.add("Unsqueeze", self, t.constant([dim % (self.rank + 1)]))


@aten("squeeze.dim", "squeeze.dims", "squeeze", view=True)
def squeeze(t: Translator, self: Tensor, dim: Any = None) -> str:
    dims = range(self.rank) if dim is None else [dim] if isinstance(dim, int) else dim
    axes = [self.axis(axis) for axis in dims if self.rank and self.shape[self.axis(axis)] == 1]
    return t.add("Squeeze", self, t.constant(axes, np.int64)) if axes else t.add("Identity", self)


for _name in ("view", "_unsafe_view", "reshape", "view_as", "reshape_as", "unsqueeze", "squeeze"):
    PUTS[f"{_name}.default"] = _inverse_reshape
for _name in ("flatten.using_ints", "unflatten.int", "squeeze.dim", "squeeze.dims"):
    PUTS[_name] = _inverse_reshape


def permuted(t: Translator, x: Tensor, order: Sequence[int]) -> str:
    """Permute the axes of a tensor."""
    return t.add("Transpose", x, perm=[*order, x.rank] if x.dtype.kind == "c" else list(order))


@aten("permute", view=True)
def permute(t: Translator, self: Tensor, dims: Sequence[int]) -> str:
    return permuted(t, self, [self.axis(dim) for dim in dims])


@aten("transpose.int", "swapaxes", "swapdims", view=True)
def transpose(
    t: Translator, self: Tensor, dim0: int = 0, dim1: int = 1, axis0: int = 0, axis1: int = 0
) -> str:
    if axis0 != axis1:
        dim0, dim1 = axis0, axis1
    order = list(range(self.rank))
    if order:
        a, b = self.axis(dim0), self.axis(dim1)
        order[a], order[b] = order[b], order[a]
    return permuted(t, self, order)


@aten("t", "mT", view=True)
def matrix_transpose(t: Translator, self: Tensor) -> str:
    return permuted(t, self, [*range(self.rank - 2), *range(self.rank)[-2:][::-1]])


@aten("numpy_T", view=True)
def reversed_axes(t: Translator, self: Tensor) -> str:
    return permuted(t, self, range(self.rank)[::-1])


def transposed(t: Translator, like: Tensor, value: Any) -> str:
    """Transpose the last two axes of a value with the axes of a tensor."""
    rank = like.rank
    return t.add("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])


@aten("movedim.intlist", "movedim.int", view=True)
def movedim(t: Translator, self: Tensor, source: Any, destination: Any) -> str:
    sources, targets = ([d] if isinstance(d, int) else d for d in (source, destination))
    rest = [axis for axis in range(self.rank) if axis not in [self.axis(d) for d in sources]]
    for target, axis in sorted((self.axis(b), self.axis(a)) for a, b in zip(sources, targets, strict=True)):
        rest.insert(target, axis)
    return permuted(t, self, rest)


@aten("expand", "broadcast_to", view=True)
def expand(t: Translator, self: Tensor, size: Sizes, implicit: bool = False) -> str:
    added = len(size) - self.rank
    sizes = [
        t.size(self, axis - added) if isinstance(n, int) and n == -1 else n for axis, n in enumerate(size)
    ]
    return t.add("Expand", self, t.vector([*sizes, 2] if self.dtype.kind == "c" else sizes))


@aten("expand_as", view=True)
def expand_as(t: Translator, self: Tensor, other: Tensor) -> str:
    return t.add("Expand", self, t.shape(other))


def sliced(t: Translator, x: Any, axis: int, start: Any, end: Any, step: int = 1) -> str:
    """Return x[start:end:step] along an axis."""
    return t.add("Slice", x, t.vector([start]), t.vector([end]), t.constant([axis]), t.constant([step]))


@aten("slice.Tensor", view=True)
def slice_(
    t: Translator, self: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> str:
    if start in (None, 0) and (end is None or end == WHOLE) and step == 1:
        return t.add("Identity", self)
    return sliced(t, self, self.axis(dim), 0 if start is None else start, WHOLE if end is None else end, step)


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
    size = t.size(base, axis)
    steps = t.add("Range", t.constant(0), t.cast(size, INT64), t.constant(1))
    places = sliced(t, steps, 0, start, end, step)
    order = [axis, *(other for other in range(base.rank) if other != axis)]
    back = [order.index(other) for other in range(base.rank)]
    updated = t.add(
        "ScatterND",
        t.add("Transpose", base, perm=order),
        t.add("Unsqueeze", places, t.constant([-1])),
        t.add("Transpose", value, perm=order),
    )
    return t.add("Transpose", updated, perm=back)


PUTS["slice.Tensor"] = _put_slice


@aten("slice_scatter")
def slice_scatter(
    t: Translator, self: Tensor, src: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> str:
    return _put_slice(t, self, t.add("Expand", src, t.shape(src)), dim, start, end, step)


@aten("select.int", view=True)
def select(t: Translator, self: Tensor, dim: int, index: Any) -> str:
    return t.add("Gather", self, t.cast(index, INT64), axis=self.axis(dim))


def _put_selected(t: Translator, base: Tensor, value: str, dim: int, index: Any) -> str:
    axis, size = base.axis(dim), base.shape[base.axis(dim)]
    end: Any
    if isinstance(
        index, Symbol
    ):  # a mask, because the result has the shape of the base whatever the index is
        count = t.cast(t.size(base, dim), INT64)
        places = t.add("Range", t.constant(0), count, t.constant(1))
        mask = t.add("Equal", places, t.add("Mod", index, count))
        mask = t.add("Unsqueeze", mask, t.constant(list(range(1, base.rank - axis))))
        return t.add("Where", mask, t.add("Unsqueeze", value, t.constant([axis])), base)
    if index < 0 and size is None:
        whole = t.cast(t.size(base, dim), INT64)
        index, end = (Symbol(t.add("Add", whole, t.constant(index + n))) for n in (0, 1))
    else:
        index = index + (size or 0) if index < 0 else index
        end = index + 1
    return _put_slice(t, base, t.add("Unsqueeze", value, t.constant([axis])), axis, index, end)


PUTS["select.int"] = _put_selected


@aten("select_scatter")
def select_scatter(t: Translator, self: Tensor, src: Tensor, dim: int, index: Any) -> str:
    return _put_selected(t, self, t.add("Identity", src), dim, index)


@aten("narrow", view=True)
def narrow(t: Translator, self: Tensor, dim: int, start: Any, length: Any) -> str:
    if isinstance(start, int) and isinstance(length, int):
        end: Any = start + length
    else:
        end = Symbol(t.add("Add", t.cast(start, INT64), t.cast(length, INT64)))
    return sliced(t, self, self.axis(dim), start, end)


@aten("split_with_sizes", "split.sizes", "unsafe_split_with_sizes", view=True)
def split_with_sizes(
    t: Translator, self: Tensor, split_sizes: Any = None, dim: int = 0, split_size: Any = None
) -> Any:
    sizes = split_size if split_sizes is None else split_sizes
    return t.add_all("Split", (self, t.vector(sizes)), len(sizes), axis=self.axis(dim))


@aten("split.Tensor", "unsafe_split.Tensor", view=True)
def split(t: Translator, self: Tensor, split_size: int | Symbol, dim: int = 0) -> Any:
    count = _declared_count(t)
    if isinstance(split_size, int):
        limits: list[Any] = [i * split_size for i in range(count)]
    else:
        limits = [0, *(Symbol(t.add("Mul", split_size, t.constant(i))) for i in range(1, count))]
    ends = [*limits[1:], WHOLE]
    return [sliced(t, self, self.axis(dim), start, end) for start, end in zip(limits, ends, strict=True)]


def _declared_count(t: Translator) -> int:
    """Return the number of outputs that the node being translated has."""
    first = t.node.outputs[0]
    return len(first.value) if first.kind == "as_tensors" else len(t.node.outputs)


@aten("chunk", "unsafe_chunk", view=True)
def chunk(t: Translator, self: Tensor, chunks: int, dim: int = 0) -> Any:
    size = t.size(self, dim)
    if isinstance(size, int):
        return split(t, self, max(-(-size // chunks), 1), dim)
    rounded = t.add("Add", size, t.constant(chunks - 1))
    return split(t, self, Symbol(t.add("Div", rounded, t.constant(chunks))), dim)


SPLIT_AXES = {"hsplit": 1, "vsplit": 0, "dsplit": 2}


@aten(
    "tensor_split.sections",
    "tensor_split.indices",
    *(f"{name}.{kind}" for name in SPLIT_AXES for kind in ("int", "array")),
    view=True,
)
def tensor_split(t: Translator, self: Tensor, sections: Any = None, dim: int = 0, indices: Any = None) -> Any:
    """Split an axis into a number of parts, or at indices."""
    axis = self.axis(min(SPLIT_AXES.get(t.node.target.split(".")[-2], dim), self.rank - 1))
    size = self.shape[axis]
    if indices is None and size is None:
        raise ArgumentError("tensor_split of an axis of unknown size is not supported")
    if indices is None:
        count, rest = divmod(size or 0, sections)
        indices = [part * count + min(part, rest) for part in range(1, sections)]
    return [
        sliced(t, self, axis, start, end) for start, end in zip([0, *indices], [*indices, WHOLE], strict=True)
    ]


@aten("unbind.int", view=True)
def unbind(t: Translator, self: Tensor, dim: int = 0) -> Any:
    axis = self.axis(dim)
    return [t.add("Gather", self, t.constant(i), axis=axis) for i in range(_declared_count(t))]


@aten("as_strided")
def as_strided(
    t: Translator, self: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> str:
    """The elements of a tensor in C order at computed places."""
    if not self.is_contiguous or not all(isinstance(n, int) for n in (*size, *stride)):
        raise ArgumentError(
            "as_strided of unknown sizes, or of elements that are not in C order, is not supported"
        )
    bounded(math.prod(size))
    places = np.full((), storage_offset or 0)
    for n, step in zip(size, stride, strict=True):
        places = places[..., None] + np.arange(n) * step
    return t.add("Gather", t.add("Reshape", self, t.constant([-1])), t.constant(places, np.int64))


@aten("unfold", view=True)
def unfold(t: Translator, self: Tensor, dimension: int, size: int, step: int) -> str:
    """Windows of an axis, which become the last axis."""
    axis, length = self.axis(dimension), t.size(self, dimension)
    bounded(size)
    if isinstance(length, int):
        bounded(length)
        starts = t.constant(np.arange(0, length - size + 1, step), np.int64)
    else:
        limit = t.add("Sub", length, t.constant(size - 1))
        starts = t.add("Range", t.constant(0), limit, t.constant(step))
    places = t.add("Add", t.add("Unsqueeze", starts, t.constant([1])), t.constant(np.arange(size)[None]))
    windows = t.add("Gather", self, places, axis=axis)
    order = [*range(axis + 1), *range(axis + 2, self.rank + 1), axis + 1]
    return t.add("Transpose", windows, perm=order)


@aten(*("alias", "detach", "lift", "lift_fresh", "positive", "conj_physical"), view=True)
def alias(t: Translator, self: Tensor) -> Any:
    return t.add("Identity", self)


@aten("detach_", view=True)
def detach_(t: Translator, self: Tensor) -> Any:
    return t.add("Identity", self)


PUTS["alias.default"] = PUTS["detach.default"] = lambda t, base, value: value


@aten("clone", "resolve_conj", "resolve_neg")
def clone(t: Translator, self: Tensor) -> str:
    return t.add("Identity", self)


@aten("contiguous", view=True)
def contiguous(t: Translator, self: Tensor) -> Any:
    name = t.add("Identity", self)
    return name if self.is_contiguous else dataclasses.replace(self, name=name, base=None, is_contiguous=True)


PUTS["contiguous.default"] = PUTS["alias.default"]


@aten("to.dtype", "to.dtype_layout", "to.device", "_to_copy", "to.other", "type_as", view=True)
def to(
    t: Translator, self: Tensor, dtype: Any = None, other: Tensor | None = None, copy: bool = False
) -> Any:
    wanted = other.dtype if other is not None else self.dtype if dtype is None else dtype
    if wanted == self.dtype and not copy and t.node.target != "torch.ops.aten._to_copy.default":
        return t.add("Identity", self)
    return dataclasses.replace(self, name=t.cast(self, wanted), dtype=wanted, base=None, is_contiguous=True)


for _name in ("to.dtype", "to.dtype_layout", "to.device", "to.other", "type_as.default"):
    PUTS[_name] = PUTS["alias.default"]


def _define_cast(name: str, dtype: Any) -> None:
    @aten(name)
    def function(t: Translator, self: Tensor) -> str:
        return t.cast(self, dtype)


for _name, _dtype in {"float": FLOAT32, "double": np.float64, "long": INT64, "int": np.int32}.items():
    _define_cast(_name, _dtype)


@aten("copy")
def copy(t: Translator, self: Tensor, src: Tensor) -> str:
    return t.add("Expand", t.cast(src, self.dtype), t.shape(self))


@aten("fill.Scalar", "fill.Tensor")
def fill(t: Translator, self: Tensor, value: Operand) -> str:
    return t.add("Expand", t.cast(value, self.dtype), t.shape(self))


@aten("zero")
def zero(t: Translator, self: Tensor) -> str:
    return fill(t, self, 0)
