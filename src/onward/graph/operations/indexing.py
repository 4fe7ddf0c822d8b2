"""Operations that read or write elements at indices: the families Gather and Scatter, OneHot and Compress."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ..node import AnyArray, Node, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .arguments import as_axis, as_indices
from .movement import along_axis, move
from .registry import EVERY_INPUT, Inputs, Known, along_time, like_first, lowering, operation, typed_view

ACCUMULATE = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _gather_signature(x: Known, indices: Known, *, axis: int = 0) -> Signature:
    axis = as_axis(axis, len(x.shape))
    return Signature((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)


@operation("Gather", signature=_gather_signature, takes_sizes=True)
def gather(x: AnyArray, indices: AnyArray, *, axis: int = 0) -> Any:
    axis = as_axis(axis, x.ndim)
    return np.take(x, as_indices(indices, x.shape[axis]), axis)


def _grid(indices: AnyArray, axis: int, size: int) -> tuple[AnyArray, ...]:
    """Return the positions of the elements of `indices`, which replace those along one axis."""
    grid: list[AnyArray] = list(np.indices(indices.shape, sparse=True))
    grid[axis] = as_indices(indices, size)
    return tuple(grid)


@operation(
    "GatherElements",
    signature=lambda x, indices, **_: Signature(indices.shape, x.dtype),
    combines=along_axis,
)
def gather_elements(x: AnyArray, indices: AnyArray, *, axis: int = 0) -> Any:
    """y[i, j, k] = x[indices[i, j, k], j, k] along axis 0, and likewise along the others."""
    axis = as_axis(axis, x.ndim)
    return x[_grid(indices, axis, x.shape[axis])]


def _gather_nd_signature(x: Known, indices: Known, *, batch_dims: int = 0) -> Signature:
    return Signature((*indices.shape[:-1], *x.shape[batch_dims + indices.shape[-1] :]), x.dtype)


def _positions(x: AnyArray, indices: AnyArray, batch_dims: int = 0) -> tuple[AnyArray, ...]:
    """Return the tuples of indices along the last axis as positions in x, after those of the batch axes."""
    depth = indices.shape[-1]
    if batch_dims + depth > x.ndim:
        raise ShapeError(f"indices of shape {indices.shape} have {depth} entries each, for {x.ndim} axes")
    batch = np.indices(indices.shape[:-1], sparse=True)[:batch_dims]
    return (*batch, *(as_indices(indices[..., i], x.shape[batch_dims + i]) for i in range(depth)))


@operation("GatherND", signature=_gather_nd_signature)
def gather_nd(x: AnyArray, indices: AnyArray, *, batch_dims: int = 0) -> Any:
    """y[i, j] = x[tuple(indices[i, j])], within the same entry of the batch axes."""
    return x[_positions(x, indices, batch_dims)]


lowering("GatherElements", "GatherND")(move)


@gather.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    if inputs[1] is not None and inputs[1].known:
        return move(b, node, inputs, shapes)
    x, indices = (typed_view(b, value) for value in inputs)
    if x is None or indices is None or indices.dtype not in ("int32", "int64"):
        return None
    axis, axes = node.attributes.get("axis", 0) % len(x.shape), range(len(x.shape))
    rows = x.permuted(axis, *(other for other in axes if other != axis))
    count = len(indices.shape)
    y = b.new(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :], dtype=x.dtype)
    index_axes = range(axis, axis + count)
    selected = y.permuted(*index_axes, *(other for other in range(len(y.shape)) if other not in index_axes))
    b.add("take", rows, indices, selected, str(node))
    return [y]


def _scatter(x: AnyArray, positions: tuple[AnyArray, ...], updates: AnyArray, reduction: str) -> AnyArray:
    y = x.copy()
    if reduction == "none":
        y[positions] = updates
    elif reduction in ACCUMULATE:
        ACCUMULATE[reduction].at(y, positions, updates)  # in the order of the indices
    else:
        raise ArgumentError(f"reduction={reduction!r}; expected none, {', '.join(ACCUMULATE)}")
    return y


@operation("ScatterElements", signature=like_first, widens=True)
def scatter_elements(
    x: AnyArray, indices: AnyArray, updates: AnyArray, *, axis: int = 0, reduction: str = "none"
) -> Any:
    """x with y[indices[i, j, k], j, k] = updates[i, j, k] along axis 0, and likewise along the others."""
    axis = as_axis(axis, x.ndim)
    return _scatter(x, _grid(indices, axis, x.shape[axis]), updates, reduction)


@operation("ScatterND", signature=like_first, widens=True)
def scatter_nd(x: AnyArray, indices: AnyArray, updates: AnyArray, *, reduction: str = "none") -> Any:
    """x with y[tuple(indices[i, j])] = updates[i, j]."""
    return _scatter(x, _positions(x, indices), updates, reduction)


@operation("TensorScatter", signature=like_first)
def tensor_scatter(
    past: AnyArray, update: AnyArray, starts: AnyArray | None = None, *, axis: int = -2, mode: str = "linear"
) -> Any:
    """A cache (B, ...) with consecutive entries along `axis` replaced, from one start for each row.

    Entries beyond the end continue at the beginning in mode circular, and are errors in mode linear.
    """
    if mode not in ("linear", "circular"):
        raise ArgumentError(f"mode={mode!r}; expected linear or circular")
    axis = as_axis(axis, past.ndim)
    size, rows = past.shape[axis], np.arange(len(past))[:, None]
    steps = np.arange(update.shape[axis]) + (0 if starts is None else starts[:, None])
    y = past.copy()
    places = steps % size if mode == "circular" else as_indices(steps, size)
    np.moveaxis(y, axis, 1)[rows, places] = np.moveaxis(update, axis, 1)
    return y


def _one_hot_signature(indices: Known, depth: AnyArray, values: Known, *, axis: int = -1) -> Signature:
    rank = len(indices.shape) + 1
    shape = list(indices.shape)
    shape.insert(as_axis(axis, rank), int(np.ravel(depth)[0]))
    return Signature(tuple(shape), values.dtype)


@operation("OneHot", signature=_one_hot_signature, shape_inputs=(1,))
def one_hot(indices: AnyArray, depth: AnyArray, values: AnyArray, *, axis: int = -1) -> Any:
    """values[1] at the indices along a new axis, values[0] elsewhere and for indices out of range."""
    axis, size = as_axis(axis, indices.ndim + 1), int(np.ravel(depth)[0])
    counted = np.where(indices < 0, indices + size, indices)
    places = np.arange(size).reshape(-1, *[1] * (indices.ndim - axis))
    return np.where(np.expand_dims(counted, axis) == places, values[1], values[0])


@operation("Compress", shape_inputs=EVERY_INPUT)
def compress(x: AnyArray, condition: AnyArray, *, axis: int | None = None) -> Any:
    """The slices along `axis`, or the elements of the flat array, for which the condition holds."""
    return np.compress(condition, x, None if axis is None else as_axis(axis, x.ndim))


@operation("NonZero", shape_inputs=EVERY_INPUT)
def non_zero(x: AnyArray) -> Any:
    """The indices of the elements that are not 0, (axes, count), in C order."""
    return np.ascontiguousarray(np.argwhere(x).T.astype(np.int64))


@gather.combining
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    return [*along_axis(node, inputs), ()]


@gather.over_time
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """Gather the last step for the steps so far."""
    x, indices = node.inputs
    places, last = time.value(indices), time.shape(x)[axis] - 1
    is_one = isinstance(places, np.ndarray) and places.ndim < 2 and places.size == 1
    if not is_one or places.item() not in (-1, last):
        time.refuse(node, "it takes other steps than the last one")
    time.summarize(node, time.latest(node, x), [] if time.shape(indices) else [axis])
