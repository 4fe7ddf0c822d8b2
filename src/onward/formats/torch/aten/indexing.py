"""ATen's operators that read or write elements at indices."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .joins import broadcast_tensors
from .registry import BOOL, INT64, Operand, Tensor, Translator, aten
from .shapes import reshaped, sliced

REDUCTIONS = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min", "add": "add", "multiply": "mul"}


@aten("index.Tensor", "_unsafe_index.Tensor")
def index(t: Translator, self: Tensor, indices: Sequence[Tensor | None]) -> str:
    """Indices along several axes, which broadcast together; None keeps an axis."""
    if not all(x is None or x.dtype.kind in "iub" for x in indices):
        raise ArgumentError("the indices are neither integers nor booleans")
    if (
        len(indices) == 1
        and indices[0] is not None
        and indices[0].dtype.kind in "iu"
        and self.dtype.kind != "c"
    ):
        return t.add("Gather", self, t.cast(indices[0], INT64), axis=0)
    axes, places = _expanded(t, self, indices)
    if axes == [axes[0]] and self.dtype.kind != "c":
        return t.add("Gather", self, places[0], axis=axes[0])
    order = [*axes, *(axis for axis in range(self.rank) if axis not in axes)]
    joined, rank = _joined(t, places)
    moved = t.add("Transpose", self, perm=[*order, self.rank] if self.dtype.kind == "c" else order)
    found = t.add("GatherND", moved, joined)
    first, count = axes[0], self.rank - len(axes)
    if axes != list(range(first, first + len(axes))) or first == 0:
        return found
    # Indices along neighboring axes: theirs stay where these axes were.
    perm = [*range(rank, rank + first), *range(rank), *range(rank + first, rank + count)]
    return t.add("Transpose", found, perm=[*perm, rank + count] if self.dtype.kind == "c" else perm)


def _expanded(t: Translator, x: Tensor, indices: Sequence[Tensor | None]) -> tuple[list[int], list[Any]]:
    """Return the indexed axes and their indices; a mask becomes the indices of its true elements."""
    axes: list[int] = []
    places: list[Any] = []
    axis = 0
    for each in indices:
        if each is None:
            axis += 1
        elif each.dtype in (BOOL, np.uint8):
            found = t.add("NonZero", each)
            for row in range(each.rank):
                axes.append(axis)
                places.append(Tensor(t.add("Gather", found, t.constant(row)), INT64, (None,)))
                axis += 1
        else:
            axes.append(axis)
            places.append(Tensor(t.cast(each, INT64), INT64, each.shape))
            axis += 1
    return axes, places


def _joined(t: Translator, places: Sequence[Tensor]) -> tuple[str, int]:
    """Return the indices, broadcast together, as tuples along the last axis, and the rank without it."""
    rank = max(each.rank for each in places)
    if len(places) == 1:
        return t.add("Unsqueeze", places[0], t.constant([-1])), rank
    zeros: Any = None
    for each in places:
        nothing = t.add("Mul", each, t.constant(0))
        zeros = nothing if zeros is None else t.add("Add", zeros, nothing)
    parts = [t.add("Unsqueeze", t.add("Add", each, zeros), t.constant([-1])) for each in places]
    return t.add("Concat", *parts, axis=-1), rank


@aten("index_put", "_unsafe_index_put")
def index_put(
    t: Translator, self: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> str:
    masks = [each for each in indices if each is not None and each.dtype == BOOL]
    if len(indices) == 1 and masks and values.rank == 0 and not accumulate:
        mask = reshaped(t, masks[0], [*t.sizes(masks[0]), *[1] * (self.rank - masks[0].rank)])
        return t.add("Where", mask, t.cast(values, self.dtype), self)
    axes, places = _expanded(t, self, indices)
    rest = [axis for axis in range(self.rank) if axis not in axes]
    order = [*axes, *rest]
    joined, rank = _joined(t, places)
    moved = t.add("Transpose", self, perm=order)
    # The values broadcast to the shape of self[indices], in which indices along neighboring axes stay.
    found = t.add("Shape", t.add("GatherND", moved, joined))
    first = axes[0]
    stays = axes == list(range(first, first + len(axes))) and first > 0
    updates = t.cast(values, self.dtype)
    if stays:
        lead = list(range(rank, rank + first))
        perm = [*lead, *range(rank), *range(rank + first, rank + len(rest))]
        shape = t.add("Gather", found, t.constant(perm))
        updates = t.add(
            "Transpose", t.add("Expand", updates, shape), perm=[perm.index(i) for i in range(len(perm))]
        )
    else:
        updates = t.add("Expand", updates, found)
    result = t.add("ScatterND", moved, joined, updates, reduction="add" if accumulate else "none")
    return t.add("Transpose", result, perm=[order.index(axis) for axis in range(self.rank)])


@aten("index_select")
def index_select(t: Translator, self: Tensor, dim: int, index: Tensor) -> str:
    return t.add("Gather", self, t.cast(index, INT64), axis=self.axis(dim))


@aten("gather")
def gather(t: Translator, self: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> str:
    if not self.rank:
        return t.add("Expand", self, t.shape(index))
    return t.add("GatherElements", _as_large(t, self, index, dim), t.cast(index, INT64), axis=self.axis(dim))


def _as_large(t: Translator, x: Tensor, index: Tensor, dim: int) -> Any:
    """Crop the other axes to the sizes of the index, which may be smaller."""
    found: Any = x
    for axis in range(x.rank):
        if axis != x.axis(dim) and x.shape[axis] != index.shape[axis]:
            end = t.vector([t.size(index, axis)])
            found = t.add("Slice", found, t.constant([0]), end, t.constant([axis]))
    return found


@aten("take_along_dim")
def take_along_dim(t: Translator, self: Tensor, indices: Tensor, dim: int | None = None) -> str:
    return take(t, self, indices) if dim is None else gather(t, self, dim, indices)


@aten("take")
def take(t: Translator, self: Tensor, index: Tensor) -> str:
    return t.add("Gather", t.add("Reshape", self, t.constant([-1])), t.cast(index, INT64), axis=0)


@aten("put")
def put(t: Translator, self: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> str:
    flat = t.constant([-1])
    parts = [t.add("Reshape", x, flat) for x in (t.cast(self, self.dtype), t.cast(index, INT64), source)]
    updated = t.add("ScatterElements", *parts, axis=0, reduction="add" if accumulate else "none")
    return t.add("Reshape", updated, t.shape(self))


STARTS = {"add": 0, "mean": 0, "mul": 1, "max": -np.inf, "min": np.inf}  # initial values of reductions


@aten(*("scatter.src", "scatter.value", "scatter.reduce", "scatter.value_reduce", "scatter_reduce.two"))
@aten("scatter_add")
def scatter(
    t: Translator,
    self: Tensor,
    dim: int,
    index: Tensor,
    src: Any = None,
    value: Operand | None = None,
    reduce: str | None = None,
    include_self: bool = True,
) -> str:
    reduction = "add" if "scatter_add" in t.node.target else REDUCTIONS.get(reduce or "", reduce or "none")
    if isinstance(src, Tensor):
        updates: Any = src
        for axis in range(src.rank):
            if src.shape[axis] != index.shape[axis]:
                end = t.vector([t.size(index, axis)])
                updates = t.add("Slice", updates, t.constant([0]), end, t.constant([axis]))
    else:
        number = value if src is None else src
        updates = t.add("Expand", t.cast(number if number is not None else 0, self.dtype), t.shape(index))
    places = t.cast(index, INT64)

    def scattered(base: Any, updates: Any, reduction: str) -> str:
        return t.add("ScatterElements", base, places, updates, axis=self.axis(dim), reduction=reduction)

    def everywhere(number: float) -> str:
        return t.add("Expand", t.cast(number, self.dtype), t.shape(index))

    base = self if include_self else scattered(self, everywhere(STARTS[reduction]), "none")
    if reduction != "mean":
        return scattered(base, updates, reduction)
    counts: Any = t.add("Expand", t.cast(1, self.dtype), t.shape(self))
    counts = counts if include_self else scattered(counts, everywhere(0), "none")
    return t.add("Div", scattered(base, updates, "add"), scattered(counts, everywhere(1), "add"))


@aten("index_add", "index_copy", "index_fill.int_Scalar", "index_fill.int_Tensor")
def index_write(
    t: Translator, self: Tensor, dim: int, index: Tensor, source: Any = None, value: Any = 0, alpha: Any = 1
) -> str:
    axis = self.axis(dim)
    order = [axis, *(other for other in range(self.rank) if other != axis)]
    moved = t.add("Transpose", self, perm=order)
    places = t.add("Unsqueeze", t.cast(index, INT64), t.constant([-1]))
    if source is None:
        updates = t.add("Expand", t.cast(value, self.dtype), t.add("Shape", t.add("GatherND", moved, places)))
    else:
        updates = t.add("Transpose", source, perm=order)
        if alpha != 1:
            updates = t.add("Mul", updates, t.cast(alpha, self.dtype))
    reduction = "add" if "index_add" in t.node.target else "none"
    result = t.add("ScatterND", moved, places, updates, reduction=reduction)
    return t.add("Transpose", result, perm=[order.index(other) for other in range(self.rank)])


@aten("masked_select")
def masked_select(t: Translator, self: Tensor, mask: Tensor) -> str:
    x, m = (t.add("Reshape", each, t.constant([-1])) for each in broadcast_tensors(t, [self, mask]))
    return t.add("Compress", x, m, axis=0)


@aten("masked_scatter")
def masked_scatter(t: Translator, self: Tensor, mask: Tensor, source: Tensor) -> str:
    mask_ = t.add("Expand", mask, t.shape(self))
    places = t.add("Transpose", t.add("NonZero", mask_), perm=[1, 0])
    count = t.add("Shape", places, end=1)
    values = t.add("Slice", t.add("Reshape", source, t.constant([-1])), t.constant([0]), count)
    return t.add("ScatterND", self, places, values)


@aten("nonzero")
def nonzero(t: Translator, self: Tensor) -> str:
    return t.add("Transpose", t.add("NonZero", self), perm=[1, 0])


@aten("nonzero_numpy")
def nonzero_by_axis(t: Translator, self: Tensor) -> list[str]:
    found = t.add("NonZero", self)
    return [t.add("Gather", found, t.constant(axis), axis=0) for axis in range(self.rank)]


@aten("nonzero_static")
def nonzero_static(t: Translator, self: Tensor, size: int, fill_value: int = -1) -> str:
    """The first `size` places of nonzero elements, followed by a number where there are fewer."""
    widths, rows = t.constant([0, size]), t.constant([0])
    longer = t.add("Pad", nonzero(t, self), widths, t.constant(fill_value), rows)
    return t.add("Slice", longer, rows, t.constant([size]), rows)


@aten("embedding")
def embedding(
    t: Translator,
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> str:
    if indices.dtype.kind not in "iu":
        raise ArgumentError(f"the indices of an embedding have dtype {indices.dtype}; expected integers")
    return t.add("Gather", weight, t.cast(indices, INT64), axis=0)


@aten("one_hot")
def one_hot(t: Translator, self: Tensor, num_classes: int = -1) -> str:
    depth = t.constant([num_classes])
    if num_classes < 0:  # as many as the largest element asks for
        depth = t.add(
            "Add", t.add("ReduceMax", t.add("Reshape", self, depth), t.constant([0])), t.constant(1)
        )
    return t.add("OneHot", self, depth, t.constant([0, 1]))


@aten("embedding_bag.padding_idx", "embedding_bag", "_embedding_bag_forward_only", "_embedding_bag")
def embedding_bag(
    t: Translator,
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[str | None, ...]:
    """The sum, mean or maximum of the rows of each bag, which the offsets start."""
    starts = t.array(offsets)
    if starts is None or include_last_offset or padding_idx not in (None, -1) or indices.shape[0] is None:
        raise ArgumentError("bags whose sizes are not constants, or with padding, are not supported")
    ends = [*starts[1:].tolist(), indices.shape[0]]
    rows = t.add("Gather", weight, t.cast(indices, INT64), axis=0)
    if per_sample_weights is not None:
        rows = t.add("Mul", rows, t.add("Unsqueeze", per_sample_weights, t.constant([1])))
    operation = ("ReduceSum", "ReduceMean", "ReduceMax")[mode]
    bags = [
        t.add(operation, sliced(t, rows, 0, int(start), end), t.constant([0]), keepdims=1)
        for start, end in zip(starts.tolist(), ends, strict=True)
    ]
    return t.add("Concat", *bags, axis=0), None, None, None
