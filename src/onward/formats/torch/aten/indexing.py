"""ATen's operators that read or write elements at indices."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from ....graph.operations.arguments import NEGATIVE
from .elementwise import div_mode
from .joins import broadcast_tensors
from .reductions import require_elements
from .registry import BOOL, INT64, Number, Operand, Tensor, aten, bounded, define
from .shapes import axes_first, permuted, reshaped, sliced
from .translator import Translator

REDUCTIONS = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min", "add": "add", "multiply": "mul"}


def from_first(t: Translator, index: Tensor) -> Any:
    """Return indices that only count from the first element: negative ones are out of range."""
    known = t.array(index)
    if known is not None and known.min(initial=0) >= 0:
        return t.cast(index, INT64)
    places = t.cast(index, INT64)
    return t.add("Where", t.add("Less", places, 0), NEGATIVE, places)


@aten("index.Tensor", "_unsafe_index.Tensor", takes_complex=True)
def index(t: Translator, self: Tensor, indices: Sequence[Tensor | None]) -> str:
    """Indices along several axes, which broadcast together; None keeps an axis."""
    if not all(x is None or x.dtype.kind in "iub" for x in indices):
        raise ArgumentError("the indices are neither integers nor booleans")
    only = indices[0] if len(indices) == 1 and self.dtype.kind != "c" else None
    if only is not None and only.dtype.kind in "iu":
        return t.add("Gather", self, t.cast(only, INT64), axis=0)
    axes, places = _expanded(t, self, indices)
    if axes == [axes[0]] and self.dtype.kind != "c":
        return t.add("Gather", self, places[0], axis=axes[0])
    joined, rank = _joined(t, places)
    found = t.add("GatherND", permuted(t, self, axes_first(self, *axes)[0]), joined)
    perm = _result_axes(axes, rank, self.rank)
    return permuted(t, Tensor(found, self.dtype, (None,) * len(perm)), perm) if perm else found


def _result_axes(axes: Sequence[int], rank: int, full: int) -> list[int]:
    """Return the order of a result's axes if they do not start with those of the indices.

    Those of indices along neighboring axes stay where these axes were.
    """
    first, count = axes[0], full - len(axes)
    if list(axes) != list(range(first, first + len(axes))) or first == 0:
        return []
    return [*range(rank, rank + first), *range(rank), *range(rank + first, rank + count)]


def _require_mask(t: Translator, x: Tensor, mask: Tensor, axis: int) -> None:
    """Raise ArgumentError, now or in a call, unless a mask has the sizes of the axes from one on."""
    for place in range(mask.rank):
        message = f"axis {place} of a mask does not have the size of axis {axis + place}"
        t.require("Equal", t.size(mask, place), t.size(x, axis + place), message)


def _expanded(t: Translator, x: Tensor, indices: Sequence[Tensor | None]) -> tuple[list[int], list[Any]]:
    """Return the indexed axes and their indices; a mask becomes the indices of its true elements."""
    axes: list[int] = []
    places: list[Any] = []
    axis = 0
    for each in indices:
        count = 1
        if each is not None and each.dtype in (BOOL, np.uint8):
            _require_mask(t, x, each, axis)
            count, found = each.rank, t.add("NonZero", each)
            places += [Tensor(row, INT64, (None,)) for row in _rows(t, found, count)]
        elif each is not None:
            places.append(Tensor(t.cast(each, INT64), INT64, each.shape))
        axes += range(axis, axis + count) if each is not None else ()
        axis += count
    return axes, places


def _rows(t: Translator, matrix: str, count: int) -> list[str]:
    return [t.add("Gather", matrix, row, axis=0) for row in range(count)]


def _joined(t: Translator, places: Sequence[Tensor]) -> tuple[str, int]:
    """Return the indices, broadcast together, as tuples along the last axis, and the rank without it."""
    rank = max(each.rank for each in places)
    if len(places) == 1:
        return t.add("Unsqueeze", places[0], [-1]), rank
    zeros = functools.reduce(lambda a, b: t.add("Add", a, b), [t.add("Mul", each, 0) for each in places])
    parts = [t.add("Unsqueeze", t.add("Add", each, zeros), [-1]) for each in places]
    return t.add("Concat", *parts, axis=-1), rank


@aten("index_put", "_unsafe_index_put")
def index_put(
    t: Translator, self: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> str:
    masks = [each for each in indices if each is not None and each.dtype == BOOL]
    if len(indices) == 1 and masks and values.rank == 0 and not accumulate:
        _require_mask(t, self, masks[0], 0)
        mask = reshaped(t, masks[0], [*t.sizes(masks[0]), *[1] * (self.rank - masks[0].rank)])
        return t.add("Where", mask, t.cast(values, self.dtype), self)
    axes, places = _expanded(t, self, indices)
    order, back = axes_first(self, *axes)
    joined, rank = _joined(t, places)
    moved = t.add("Transpose", self, perm=order)
    # The values broadcast to the shape of self[indices].
    shape = t.add("Shape", t.add("GatherND", moved, joined))
    updates, perm = t.cast(values, self.dtype), _result_axes(axes, rank, self.rank)
    updates = t.add("Expand", updates, t.add("Gather", shape, perm) if perm else shape)
    if perm:
        updates = t.add("Transpose", updates, perm=[perm.index(i) for i in range(len(perm))])
    result = t.add("ScatterND", moved, joined, updates, reduction="add" if accumulate else "none")
    return t.add("Transpose", result, perm=back)


@aten("gather")
def gather(t: Translator, self: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> str:
    if not self.rank:
        return t.add("Expand", self, t.shape(index))
    return _elements(t, self, dim, index, from_first(t, index))


def _elements(t: Translator, x: Tensor, dim: int, index: Tensor, places: Any) -> str:
    """The elements along an axis at indices of the shape of `index`."""
    cropped = _as_large(t, x, index, [axis for axis in range(x.rank) if axis != x.axis(dim)])
    return t.add("GatherElements", cropped, places, axis=x.axis(dim))


def _as_large(t: Translator, x: Tensor, index: Tensor, axes: Sequence[int]) -> Any:
    """Crop axes to the sizes of the index, which may be smaller."""
    found: Any = x
    for axis in axes:
        if x.shape[axis] != index.shape[axis]:
            found = t.add("Slice", found, [0], [t.size(index, axis)], [axis])
    return found


def _taken(t: Translator, x: Tensor, index: Tensor) -> str:
    return t.add("Gather", t.add("Reshape", x, [-1]), t.cast(index, INT64), axis=0)


@aten("put")
def put(t: Translator, self: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> str:
    parts = [t.add("Reshape", x, [-1]) for x in (t.cast(self, self.dtype), t.cast(index, INT64), source)]
    updated = t.add("ScatterElements", *parts, axis=0, reduction="add" if accumulate else "none")
    return t.add("Reshape", updated, t.shape(self), allowzero=1)


def _start(reduction: str, dtype: np.dtype[Any]) -> Number:
    """Return the initial value of a reduction."""
    if reduction in ("max", "min"):
        limits: Any = np.iinfo(dtype) if dtype.kind in "iu" else None
        unlimited = (False, True) if dtype == BOOL else (-np.inf, np.inf)
        low, high = (limits.min, limits.max) if limits else unlimited
        return low if reduction == "max" else high
    return 1 if reduction == "mul" else 0


@aten("scatter.src scatter.value scatter.reduce scatter.value_reduce scatter_reduce.two")
def scatter(
    t: Translator, self: Tensor, dim: int, index: Tensor, src: Any = None, value: Operand | None = None,
    reduce: str | None = None, include_self: bool = True,
) -> str:  # fmt: skip
    reduction = REDUCTIONS.get(reduce or "", reduce or "none")
    places = from_first(t, index)

    def everywhere(number: Operand) -> str:
        return t.add("Expand", t.cast(number, self.dtype), t.shape(index))

    def scattered(base: Any, updates: Any, reduction: str) -> str:
        return t.add("ScatterElements", base, places, updates, axis=self.axis(dim), reduction=reduction)

    if isinstance(src, Tensor):
        updates = _as_large(t, src, index, range(src.rank))
    else:
        number = value if src is None else src
        updates = everywhere(0 if number is None else number)
    base = self if include_self else scattered(self, everywhere(_start(reduction, self.dtype)), "none")
    if reduction != "mean":
        return scattered(base, updates, reduction)
    counts = t.add("Expand", t.cast(1, self.dtype), t.shape(self))
    counts = counts if include_self else scattered(counts, everywhere(0), "none")
    total = Tensor(scattered(base, updates, "add"), self.dtype, self.shape)
    count = Tensor(scattered(counts, everywhere(1), "add"), self.dtype, self.shape)
    return div_mode(t, total, count, None if self.dtype.kind == "f" else "floor")


@aten("index_fill.int_Scalar index_fill.int_Tensor")
def index_write(
    t: Translator, self: Tensor, dim: int, index: Tensor, source: Any = None, value: Any = 0, alpha: Any = 1,
    *, reduction: str = "none",
) -> str:  # fmt: skip
    order, back = axes_first(self, self.axis(dim))
    moved = t.add("Transpose", self, perm=order)
    places = t.add("Unsqueeze", t.cast(index, INT64) if source is None else from_first(t, index), [-1])
    if source is None:
        updates = t.add("Expand", t.cast(value, self.dtype), t.add("Shape", t.add("GatherND", moved, places)))
    else:
        updates = t.add("Transpose", source, perm=order)
        updates = updates if alpha == 1 else t.add("Mul", updates, t.cast(alpha, self.dtype))
    return t.add("Transpose", t.add("ScatterND", moved, places, updates, reduction=reduction), perm=back)


@aten("masked_select")
def masked_select(t: Translator, self: Tensor, mask: Tensor) -> str:
    x, m = (t.add("Reshape", each, [-1]) for each in broadcast_tensors(t, [self, mask]))
    return t.add("Compress", x, m, axis=0)


@aten("take_along_dim")
def take_along_dim(t: Translator, self: Tensor, indices: Tensor, dim: int | None = None) -> str:
    """The elements at indices along an axis; the other axes broadcast together."""
    if dim is None:
        return t.add("Reshape", _taken(t, self, indices), [-1])
    axis, pair = self.axis(dim), (self, indices)
    common: list[Any] = [t.size(self, place) for place in range(self.rank)]
    for place, n in enumerate(common):
        if n == 1:
            common[place] = t.size(indices, place)
    expanded = []
    for x in pair:
        sizes = [t.size(x, place) if place == axis else n for place, n in enumerate(common)]
        shape = tuple(n if isinstance(n, int) else None for n in sizes)
        expanded.append(dataclasses.replace(x, name=t.add("Expand", x, sizes), shape=shape, base=None))
    return _elements(t, expanded[0], axis, expanded[1], t.cast(expanded[1], INT64))


def _places(t: Translator, x: Any) -> str:
    """Return the places (count, axes) of the nonzero elements."""
    return t.add("Transpose", t.add("NonZero", x), perm=[1, 0])


@aten("masked_scatter")
def masked_scatter(t: Translator, self: Tensor, mask: Tensor, source: Tensor) -> str:
    places = _places(t, t.add("Expand", mask, t.shape(self)))
    values = t.add("Slice", t.add("Reshape", source, [-1]), [0], t.add("Shape", places, end=1))
    return t.add("ScatterND", self, places, values)


@aten("index_select", takes_complex=True)
def index_select(t: Translator, self: Tensor, dim: int, index: Tensor) -> str:
    if not self.rank:
        return t.add("Identity", self)
    return t.add("Gather", self, from_first(t, index), axis=self.axis(dim))


define({
    "scatter_add": lambda t, self, dim, index, src: scatter(t, self, dim, index, src, reduce="add"),
    "index_copy": index_write,
    "index_add": functools.partial(index_write, reduction="add"),
    "take": lambda t, self, index: _taken(t, self, index),
    "nonzero": lambda t, self: _places(t, self),
    "nonzero_numpy": lambda t, self: _rows(t, t.add("NonZero", self), self.rank),
    # the first `size` places, followed by a number where there are fewer
    "nonzero_static": lambda t, self, size, fill_value=-1: (
        t.add("Slice", t.add("Pad", _places(t, self), [0, size], fill_value, [0]), [0], [size], [0])),
})  # fmt: skip


@aten("embedding")
def embedding(
    t: Translator, weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> str:  # fmt: skip
    if indices.dtype.kind not in "iu":
        raise ArgumentError(f"the indices of an embedding have dtype {indices.dtype}; expected integers")
    return t.add("Gather", weight, from_first(t, indices), axis=0)


@aten("one_hot")
def one_hot(t: Translator, self: Tensor, num_classes: int = -1) -> str:
    if num_classes < 0:  # as many as the largest element asks for
        require_elements(t, self, None)
        flat = t.add("Reshape", self, [-1])
        least = t.add("ReduceMin", flat, [0], keepdims=0)
        t.check(t.add("LessOrEqual", 0, least), "one_hot takes no negative classes")
        return t.add("OneHot", self, t.add("Add", t.add("ReduceMax", flat, [0]), 1), [0, 1])
    bounded(num_classes)
    classes = t.constant(np.arange(num_classes), INT64)
    # the numbers themselves, or an error if one is no class
    return t.add("OneHot", t.add("Gather", classes, from_first(t, self), axis=0), [num_classes], [0, 1])


@aten("embedding_bag.padding_idx embedding_bag _embedding_bag_forward_only _embedding_bag")
def embedding_bag(
    t: Translator, weight: Tensor, indices: Tensor, offsets: Tensor, scale_grad_by_freq: bool = False,
    mode: int = 0, sparse: bool = False, per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False, padding_idx: int | None = None,
) -> tuple[str | None, ...]:  # fmt: skip
    """The sum, mean or maximum of the rows of each bag, which the offsets start."""
    starts = t.array(offsets)
    if starts is None or include_last_offset or padding_idx not in (None, -1) or indices.shape[0] is None:
        raise ArgumentError("bags whose sizes are not constants, or with padding, are not supported")
    ends = [*starts[1:].tolist(), indices.shape[0]]
    rows = t.add("Gather", weight, from_first(t, indices), axis=0)
    if per_sample_weights is not None:
        rows = t.add("Mul", rows, t.add("Unsqueeze", per_sample_weights, [1]))
    operation = ("ReduceSum", "ReduceMean", "ReduceMax")[mode]
    bags = [  # those without elements are zeros
        t.add(operation if start < end else "ReduceSum", sliced(t, rows, 0, start, end), [0], keepdims=1)
        for start, end in zip(starts.tolist(), ends, strict=True)
    ]
    return t.add("Concat", *bags, axis=0), None, None, None
