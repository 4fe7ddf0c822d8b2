"""Operations that read or write elements at indices: the families Gather and Scatter, OneHot and Compress."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ...core import budget
from ...errors import ArgumentError, ShapeError
from ..node import AnyArray, Node, Operand, Signature, with_size
from ..plan.builder import Builder
from ..plan.view import View
from ..size import are_same, is_symbolic
from ..sized import dtype_of
from .arguments import as_axis, as_indices, as_integers
from .compositions import composed
from .creation import counted
from .expressions import where
from .registry import EVERY_INPUT, Inputs, along_axis, along_time, lowering, operation
from .signatures import like_first
from .value import typed_view

MAX_OVERLAP = 16  # frames that share an element
ACCUMULATE = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
BINARY = {"add": "add", "mul": "multiply", "max": "maximum", "min": "minimum"}
LOGICAL = {"add": "maximum", "mul": "minimum", "max": "maximum", "min": "minimum"}  # of booleans
INDICES = ("int32", "int64")


def _gather_signature(x: Operand, indices: Operand, *, axis: int = 0) -> Signature:
    axis = as_axis(axis, len(x.shape))
    return Signature((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)


@operation("Gather", signature=_gather_signature, combines=along_axis(of_all=False), moves=True)
def gather(x: AnyArray, indices: AnyArray, *, axis: int = 0) -> Any:
    axis = as_axis(axis, x.ndim)
    return x.take(as_indices(indices, x.shape[axis]), axis)


def _grid(indices: AnyArray, axis: int, size: int) -> tuple[AnyArray, ...]:
    """Return the positions of the elements of `indices`, which replace those along one axis."""
    grid: list[AnyArray] = list(np.indices(indices.shape, sparse=True))
    grid[axis] = as_indices(indices, size)
    return tuple(grid)


@operation(
    "GatherElements",
    signature=lambda x, indices, **_: Signature(indices.shape, x.dtype),
    combines=along_axis(),
)
def gather_elements(x: AnyArray, indices: AnyArray, *, axis: int = 0) -> Any:
    """y[i, j, k] = x[indices[i, j, k], j, k] along axis 0, and likewise along the others."""
    axis = as_axis(axis, x.ndim)
    return x[_grid(indices, axis, x.shape[axis])]


def _gather_nd_signature(x: Operand, indices: Operand, *, batch_dims: int = 0) -> Signature:
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


for _operation in (gather, gather_elements, gather_nd):
    _operation.checks_indices = True


@lowering("Gather", "GatherElements", "GatherND")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Read at indices, which may differ from call to call."""
    x, indices = (typed_view(b, value) for value in inputs)
    if x is None or indices is None or indices.dtype not in INDICES:
        return None
    if node.operation == "Gather":
        return [gathered(b, x, indices, as_axis(node.attributes.get("axis", 0), len(x.shape)), str(node))]
    if node.operation == "GatherElements":
        chosen = _along_axis(x, indices, node.attributes.get("axis", 0))
    else:
        chosen = _at_tuples(x, indices, shapes[0], node.attributes.get("batch_dims", 0))
    if chosen is None:
        return None
    y = b.new(*shapes[0], dtype=x.dtype)
    b.add("take", *chosen, y, str(node))
    return [y]


def gathered(b: Builder, x: View, indices: View, axis: int, name: str) -> View:
    """Take the slices of x along an axis at indices of any shape, as Gather does."""
    before, after, count = x.shape[:axis], x.shape[axis + 1 :], len(indices.shape)
    y = b.new(*before, *indices.shape, *after, dtype=x.dtype)
    strides = (x.strides[axis], *x.strides[:axis], *[0] * count, *x.strides[axis + 1 :])
    rows = x.with_axes((x.shape[axis], *y.shape), strides)
    strides = (*[0] * axis, *indices.strides, *[0] * len(after), 1)
    b.add("take", rows, indices.with_axes((*y.shape, 1), strides), y, name)
    return y


# What the steps `take` and `put` need: an array, with the axes that indices select in front of those of the
# elements, and for each element its indices.
Chosen = tuple[View, View]


def _along_axis(x: View, indices: View, axis: int) -> Chosen | None:
    """Select elements of x along an axis, as GatherElements does; None if indices exceed other axes."""
    rank, axis = len(x.shape), as_axis(axis, len(x.shape))
    sizes = zip(indices.shape, x.shape, strict=True)
    if any(place != axis and count > size for place, (count, size) in enumerate(sizes)):
        return None
    strides = (x.strides[axis], *(0 if place == axis else x.strides[place] for place in range(rank)))
    selected = x.with_axes((x.shape[axis], *indices.shape), strides)
    return selected, indices.with_axes((*indices.shape, 1), (*indices.strides, 1))


def _at_tuples(x: View, indices: View, shape: tuple[Any, ...], batch_dims: int = 0) -> Chosen | None:
    """Select the slices of x at tuples of indices, as GatherND does; `shape` is that of the elements."""
    *counts, depth = indices.shape
    end = batch_dims + depth
    if is_symbolic((depth,)) or end > len(x.shape) or tuple(counts[:batch_dims]) != x.shape[:batch_dims]:
        return None
    if shape != (*counts, *x.shape[end:]):
        return None
    strides = (*x.strides[:batch_dims], *[0] * (len(counts) - batch_dims), *x.strides[end:])
    selected = x.with_axes((*x.shape[batch_dims:end], *shape), (*x.strides[batch_dims:end], *strides))
    rest = [0] * (len(x.shape) - end)
    return selected, indices.with_axes((*shape, depth), (*indices.strides[:-1], *rest, indices.strides[-1]))


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


for _operation in (scatter_elements, scatter_nd):
    _operation.checks_indices = True


@gather_nd.combining
def _(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    """The indices choose along the first axes of x after those of the batch."""
    _, indices = inputs
    first = node.attributes.get("batch_dims", 0)
    return [range(first, first + indices.shape[-1]), [len(indices.shape) - 1]]


@scatter_nd.combining
def _(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    _, indices, _ = inputs
    axes = range(len(indices.shape))
    return [range(indices.shape[-1]), axes, axes[:-1]]


@scatter_elements.combining
def _(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    """The axis, and axes along which the indices write to a part of x."""
    x, indices, _ = inputs
    axis = as_axis(node.attributes.get("axis", 0), len(x.shape))
    partial = (i for i, (a, b) in enumerate(zip(x.shape, indices.shape, strict=True)) if a != b)
    return [[axis, *partial]]


@lowering("ScatterElements", "ScatterND")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Copy x and write to a view of the copy, or, if no strides describe the places, one by one."""
    x, indices, updates = (typed_view(b, value) for value in inputs)
    reduction = node.attributes.get("reduction", "none")
    if x is None or indices is None or updates is None or x.dtype != updates.dtype:
        return None
    if indices.dtype not in INDICES or reduction not in {"none", *ACCUMULATE}:
        return None
    y = b.new(*x.shape, dtype=x.dtype)
    if node.operation == "ScatterND":
        chosen = _at_tuples(y, indices, updates.shape)
    else:
        fits = updates.shape == indices.shape
        chosen = _along_axis(y, indices, node.attributes.get("axis", 0)) if fits else None
    if chosen is None:
        return None
    b.add("copy", x, y)
    function = None if reduction == "none" else (LOGICAL if x.dtype == "bool" else BINARY)[reduction]
    target = _target(b, *chosen)
    if 0 in updates.shape:
        return [y]
    frames = _frames(b, *chosen, updates) if target is None and function else None
    if frames is not None:
        for place, part in frames:
            b.add("binary", function, place, part, place)
    elif target is None:
        b.add("put", function, updates, chosen[1], chosen[0], str(node))
    elif function is None:
        b.add("copy", updates, target)
    else:
        b.add("binary", function, target, updates, target)
    return [y]


def _target(b: Builder, selected: View, indices: View) -> View | None:
    """Return the view of the elements at constant indices, or None.

    No strides may lead to them, or two of them may be the same.
    """
    numbers, depth = b.numbers(indices), indices.shape[-1]
    found = None if numbers is None or not numbers.size else as_steps(numbers)
    if numbers is None or found is None:
        return None
    first, steps = found[0].tolist(), [step.tolist() for step in found[1]]
    axes = zip(steps, selected.shape[depth:], selected.strides[depth:], strict=True)
    # along an axis of the elements that is none of the array, the places must differ
    new = [step for step, size, stride in axes if not are_same(size, 1) and are_same(stride, 0)]
    if new and not _are_independent(np.array(new)):
        return None
    skipped, strides = 0, list(selected.strides[depth:])
    for i, (size, stride) in enumerate(zip(selected.shape[:depth], selected.strides[:depth], strict=True)):
        reaches = [step[i] * (count - 1) for step, count in zip(steps, numbers.shape, strict=False)]
        low = first[i] + sum([reach for reach in reaches if reach < 0])
        high = low + sum(map(abs, reaches))
        if low < -size or high >= size or low < 0 <= high:
            return None
        skipped += (first[i] + (size if low < 0 else 0)) * stride
        strides = [own + step[i] * stride for own, step in zip(strides, steps, strict=True)]
    return selected.with_axes(selected.shape[depth:], strides, skipped)


def _are_independent(steps: AnyArray) -> bool:
    """Whether no step is a sum of multiples of the others."""
    moves = steps != 0
    if moves.sum(0).max() > 1:
        return int(np.linalg.matrix_rank(steps)) == len(steps)
    return bool(moves.any(1).all())


def _frames(b: Builder, selected: View, indices: View, updates: View) -> list[tuple[View, View]] | None:
    """Return views of different elements and their updates if constant indices are those of frames, or None.

    Frames overlap, as in an inverse STFT. Each view has a part of all frames, which is as long as the hop
    from one to the next. The last parts come first: an element gets its updates in the order of the frames.
    """
    numbers = b.numbers(indices)
    if numbers is None or numbers.shape[-1] != 1 or numbers.ndim < 2 or not numbers.size:
        return None
    (size, _, *rest), (stride, own, *strides) = selected.shape, selected.strides
    flat = numbers.reshape(len(numbers), -1)[:, 0]
    (ends,) = np.nonzero(np.diff(flat) != 1)
    width = int(ends[0]) + 1 if ends.size else len(flat)
    if own != 0 or len(flat) % width or len(flat) == width or flat.min() < 0 or flat.max() >= size:
        return None
    frames = flat.reshape(-1, width)
    hop = int(frames[1, 0] - frames[0, 0])
    is_regular = (
        as_steps(frames[..., None]) and (numbers == flat.reshape(-1, *[1] * (numbers.ndim - 1))).all()
    )
    if not is_regular or hop < 1 or width > MAX_OVERLAP * hop:
        return None
    rows, found = b.reshaped(updates, *frames.shape, *rest), list[tuple[View, View]]()
    for first in reversed(range(0, width, hop)):
        part = rows.sliced(1, first, min(first + hop, width))
        place = selected.with_axes(
            part.shape, (hop * stride, stride, *strides), (int(flat[0]) + first) * stride
        )
        found.append((place, part))
    return found


def as_steps(numbers: AnyArray) -> tuple[AnyArray, list[AnyArray]] | None:
    """Return the first of the tuples (.., D) and the step to the next one along each axis, or None."""
    *counts, depth = numbers.shape
    first = expected = numbers.reshape(-1, depth)[0]
    steps = [np.zeros(depth, numbers.dtype)] * len(counts)
    for axis, count in enumerate(counts):
        if count > 1:
            following = (0,) * axis + (1,) + (0,) * (len(counts) - axis - 1)
            steps[axis] = numbers[following] - first
            expected = expected[..., None, :] + np.arange(count)[:, None] * steps[axis]
    return (first, steps) if (expected == numbers.reshape(expected.shape)).all() else None


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


def _one_hot_signature(indices: Operand, depth: AnyArray, values: Operand, *, axis: int = -1) -> Signature:
    shape = list(indices.shape)
    shape.insert(as_axis(axis, len(shape) + 1), as_integers(depth)[0])
    return Signature(tuple(shape), values.dtype)


@composed("OneHot", signature=_one_hot_signature, shape_inputs=(1,))
def one_hot(indices: Any, depth: Any, values: Any, *, axis: int = -1) -> Any:
    """values[1] at the indices along a new axis, values[0] elsewhere and for indices out of range."""
    axis, integers = as_axis(axis, indices.rank + 1), indices.cast(np.int64)
    size = depth if depth.dtype.hasobject else depth.cast(np.int64)  # symbolic sizes are integers
    size = size.apply("Reshape", [])
    places = counted(indices.t, size, indices.rank - axis)
    found = where(integers < 0, integers + size, integers).apply("Unsqueeze", [axis]).equals(places)
    return where(found, *(values.apply("Gather", [place]) for place in (1, 0)))


@operation("Compress", shape_inputs=EVERY_INPUT)
def compress(x: AnyArray, condition: AnyArray, *, axis: int | None = None) -> Any:
    """The slices along `axis`, or the elements of the flat array, for which the condition holds."""
    return np.compress(condition, x, None if axis is None else as_axis(axis, x.ndim))


@compress.ranking
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Sequence[Signature]:
    return [with_open_size(inputs[0], attributes.get("axis"))]


def with_open_size(x: Operand, axis: int | None) -> Signature:
    """Return the signature of some slices of x along an axis, or of some elements of the flat x."""
    flat = Signature((None,), dtype_of(x))
    return flat if axis is None else with_size(x, as_axis(axis, len(x.shape)), None)


@operation("NonZero", shape_inputs=EVERY_INPUT)
def non_zero(x: AnyArray) -> Any:
    """The indices of the elements that are not 0, (axes, count), in C order."""
    return np.ascontiguousarray(np.argwhere(x).T.astype(np.int64))


@non_zero.ranking
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Sequence[Signature]:
    return [Signature((len(inputs[0].shape), None), np.dtype(np.int64))]


@gather.by_place
def _(time: Any, node: Node) -> bool:
    """Take windows of a sequence, or every n-th step: their places are affine functions of the indices."""
    (x, indices), axis = node.inputs, time.axis(node.inputs[0])
    places = time.places(indices)
    if places is None or axis != as_axis(node.attributes.get("axis", 0), len(time.shape(x))):
        return False
    frames = [place for place, size in enumerate(places.shape) if is_symbolic([size])]
    if len(frames) != 1 or 0 in places.shape or is_symbolic([places.offset, *places.strides]):
        return False
    frame, hop = frames[0], places.strides[frames[0]]
    taps = places.with_axes((*places.shape[:frame], 1, *places.shape[frame + 1 :]), places.strides)
    first, last = taps.extent()
    if hop < 1 or first < 0:
        return False
    budget.current().check(memory=8 * math.prod(taps.shape))
    x, span = time.padded(node, x, -first, 0, 0) if first else x, last - first + 1
    windows = time.windows(node, x, span, hop, 0, 0, 0)
    size = time.slice(time.add("Shape", windows), 0, axis, axis + 1)
    zero, *numbers = (time.constant(np.array([n])) for n in (0, span - 1, hop))
    starts = time.add("Range", zero, time.add("Sub", size, numbers[0]), numbers[1])
    others = [place for place in range(len(taps.shape)) if place != frame]
    starts = time.add("Unsqueeze", starts, time.constant(np.array(others, np.int64)))
    indices = time.add("Add", starts, time.constant(taps.offsets() - first))
    y = time.add("Gather", windows, indices, axis=axis)
    y = time.define_new(y, time.timing(windows).at(axis + frame))
    left = time.shape(y)[axis + frame] - places.shape[frame]
    if not is_symbolic([left]) and left > 0:
        y = time.without_last(node, y, left)
    time.define(node.outputs[0], y, time.timing(y))
    return True


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
