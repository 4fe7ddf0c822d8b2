"""Operations that only move elements, as views if strides can express the result, otherwise as copies."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ...core import budget
from ...errors import ArgumentError, ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import DTYPES, View
from ..size import are_same, hint, is_symbolic
from ..sized import broadcast_shape, dtype_of
from .arguments import NEGATIVE, as_axes, as_axis, as_integers
from .compositions import composed, composing
from .creation import counted
from .expressions import where
from .registry import Inputs, along_axis, elementwise, operation
from .signatures import common_dtype, like_first
from .value import typed_view

# Operations without a signature rule return views (`Strided`), which have the shape of the result. Operations
# that merge axes count as elementwise: a merged axis has no counterpart in the output.


@operation("Identity", signature=like_first, combines=elementwise, moves=True)
def identity(x: Any) -> Any:
    return x


@operation("Reshape", shape_inputs=(1,), combines=elementwise, moves=True)
def reshape(x: AnyArray, shape: AnyArray, *, allowzero: int = 0) -> Any:
    """0 copies the size of the input, unless `allowzero`; -1 is inferred."""
    sizes = as_integers(shape)
    copied = [] if allowzero else [i for i, size in enumerate(sizes) if size == 0]
    if copied and copied[-1] >= x.ndim:
        raise ShapeError(f"shape {sizes} copies a size that the input of shape {x.shape} does not have")
    if sizes.count(-1) == 1:
        # the elements of each copied index, even if there are no indices
        total = math.prod([size for i, size in enumerate(x.shape) if i not in copied])
        rest = math.prod([size for i, size in enumerate(sizes) if i not in copied and size != -1])
        if rest > 0 and total % rest == 0:
            sizes[sizes.index(-1)] = total // rest
        elif rest == total == 0:
            raise ShapeError(f"an array of shape {x.shape} has no elements from which to infer -1 in {sizes}")
    for i in copied:
        sizes[i] = x.shape[i]
    if any([size < 0 for size in sizes]) or math.prod(tuple(sizes)) != math.prod(x.shape):
        raise ShapeError(f"an array of shape {x.shape} cannot be reshaped to {sizes}")
    return x.reshape(sizes)


@operation("Squeeze", shape_inputs=(1,), combines=elementwise, moves=True)
def squeeze(x: AnyArray, axes: AnyArray | None = None) -> Any:
    removed = [i for i, size in enumerate(x.shape) if size == 1] if axes is None else as_axes(axes, x.ndim)
    if any(x.shape[axis] != 1 for axis in removed):
        raise ShapeError(f"the axes {removed} of an array of shape {x.shape} do not all have size 1")
    return x.reshape([size for i, size in enumerate(x.shape) if i not in removed])


@operation("Unsqueeze", shape_inputs=(1,), combines=elementwise, moves=True)
def unsqueeze(x: AnyArray, axes: AnyArray) -> Any:
    """The axes are those of the output."""
    numbers, sizes = as_integers(axes), iter(x.shape)
    rank = len(x.shape) + len(numbers)
    new = as_axes(numbers, rank)
    if len(new) > 1 and len({*new}) < len(new):
        raise ArgumentError(f"axes={new}; expected different ones")
    return x.reshape([1 if axis in new else next(sizes) for axis in range(rank)])


@operation("Flatten", combines=elementwise, moves=True)
def flatten(x: AnyArray, *, axis: int = 1) -> Any:
    axis = x.ndim if axis == x.ndim else as_axis(axis, x.ndim)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operation("Transpose", combines=elementwise, moves=True)
def transpose(x: AnyArray, *, perm: Sequence[int] | None = None) -> Any:
    return x.transpose(*([] if perm is None else [perm]))


@operation(
    "Slice",
    shape_inputs=(1, 2, 3, 4),
    combines=lambda node, inputs: [list(_parts(*inputs)), ()],
    moves=True,
)
def slice_axes(
    x: AnyArray, starts: AnyArray, ends: AnyArray, axes: AnyArray | None = None, steps: AnyArray | None =
    None,
) -> Any:  # fmt: skip
    """x[start:end:step] along each of the axes; starts and ends beyond the axis are clipped."""
    chosen = [slice(None)] * x.ndim
    for axis, part in _parts(x, starts, ends, axes, steps).items():
        chosen[axis] = part
    return x[tuple(chosen)]


def _parts(x: Operand, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> dict[int, slice]:
    """Return the slice of a Slice along each axis of which it may leave out elements."""
    parts = {}
    for axis, (start, end, step) in _listed_parts(x, starts, ends, axes, steps).items():
        part = _clipped(start, end, step, x.shape[axis])
        if not _takes_all(part, x.shape[axis]):
            parts[axis] = part
    return parts


def _takes_all(taken: slice, size: int) -> bool:
    """Whether a slice has all elements, for all sizes."""
    return taken.step == 1 and are_same(taken.start, 0) and are_same(taken.stop, size)


def _listed_parts(
    x: Operand, starts: Any, ends: Any, axes: Any = None, steps: Any = None
) -> dict[int, tuple[int, int, int]]:
    """Return the start, end and step of a Slice along each axis that it lists."""
    places = as_axes(range(np.size(starts)) if axes is None else axes, len(x.shape))
    strides = [1] * len(places) if steps is None else as_integers(steps)
    if 0 in strides:
        raise ArgumentError(f"steps={strides}; expected no 0")
    found = zip(places, as_integers(starts), as_integers(ends), strides, strict=True)
    return {axis: (start, end, step) for axis, start, end, step in found}


NO_END = 2**31 - 1  # what files write for the end of an axis, or more


def _clipped(start: int, end: int, step: int, size: int) -> slice:
    """Return a slice as ONNX defines it: unlike Python, it clips the start of a negative step to 0."""
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    end = min(end, size - 1)
    return slice(min(max(start, 0), size - 1), None if end < 0 else end, step)


@operation("Split", shape_inputs=(1,), combines=along_axis(), moves=True)
def split(
    x: AnyArray, sizes: AnyArray | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[Any, ...]:
    """Split into parts of the given sizes, or into `num_outputs` equal parts; the last may be smaller."""
    axis = as_axis(axis, x.ndim)
    total = x.shape[axis]
    if sizes is not None:
        parts = as_integers(sizes)
    elif num_outputs is not None:
        if num_outputs < 1:
            raise ArgumentError(f"num_outputs={num_outputs}; expected at least 1")
        budget.spend(num_outputs)
        size = -(-total // num_outputs)
        parts = [max(0, min(size, total - i * size)) for i in range(num_outputs)]
    else:
        raise ArgumentError("Split has neither sizes nor num_outputs; expected one of them")
    if sum(parts) != total or any(part < 0 for part in parts):
        raise ShapeError(f"the sizes {parts} do not add up to {total}, the size of axis {axis}")
    before = (slice(None),) * axis
    return tuple(x[(*before, slice(*ends))] for ends in pairwise([0, *accumulate(parts)]))


@operation(
    "Dropout",
    signature=lambda x, *others, **seed: [Signature.of(x), Signature(x.shape, np.dtype(bool))],
    combines=elementwise,
)
def dropout(
    x: AnyArray, ratio: AnyArray | None = None, training_mode: AnyArray | None = None, *, seed: int = 0
) -> tuple[Any, ...]:
    """The input and a mask of ones: graphs run in inference mode."""
    is_active = training_mode is not None and training_mode.item() and (ratio is None or ratio.item() > 0)
    if is_active:
        raise ArgumentError("Dropout in training mode is not supported; export the model in inference mode")
    return x, np.broadcast_to(True, x.shape)


@dropout.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = typed_view(b, inputs[0])
    return None if x is None or any(node.outputs[1:]) else [x]


def _expand_signature(x: Operand, shape: AnyArray) -> Signature:
    return Signature(broadcast_shape(x.shape, tuple(as_integers(shape))), dtype_of(x))


@operation("Expand", signature=_expand_signature, shape_inputs=(1,), combines=elementwise, moves=True)
def expand(x: AnyArray, shape: AnyArray) -> Any:
    return np.broadcast_to(x, _expand_signature(x, shape).shape)


def _tile_signature(x: Operand, repeats: AnyArray) -> Signature:
    times = as_integers(repeats)
    if len(times) != len(x.shape) or min(times, default=0) < 0:
        raise ShapeError(f"repeats={times}; expected {len(x.shape)} numbers that are not negative")
    return Signature(tuple(size * n for size, n in zip(x.shape, times, strict=True)), dtype_of(x))


@operation(
    "Tile",
    signature=_tile_signature,
    shape_inputs=(1,),
    combines=lambda node, inputs: [[i for i, n in enumerate(as_integers(inputs[1])) if n != 1], ()],
    moves=True,
)
def tile(x: AnyArray, repeats: AnyArray) -> Any:
    """Repeat new axes in front of each axis, and join them."""
    times = as_integers(repeats)
    ones, many = (sum(zip(n, x.shape, strict=True), ()) for n in ([1] * len(times), times))
    return np.broadcast_to(x.reshape(ones), many).reshape(_tile_signature(x, repeats).shape)


# The order of the axes (N, C, height, block, width, block) before the blocks become channels.
SPACE_TO_DEPTH = {"DCR": (0, 3, 5, 1, 2, 4), "CRD": (0, 1, 3, 5, 2, 4)}


def _axes_of_blocks(mode: str) -> tuple[int, ...]:
    if mode not in SPACE_TO_DEPTH:
        raise ArgumentError(f"mode={mode!r}; expected DCR or CRD")
    return SPACE_TO_DEPTH[mode]


@operation("DepthToSpace", combines=lambda node, inputs: [(1, 2, 3)], moves=True)
def depth_to_space(x: AnyArray, *, blocksize: int, mode: str = "DCR") -> Any:
    """Move blocks of channels to blocks of pixels; in mode DCR, the channels are ordered by block first."""
    n, channels, height, width = x.shape
    if channels % blocksize**2:
        raise ShapeError(f"{channels} channels are not a multiple of {blocksize**2}, the square of blocksize")
    axes = _axes_of_blocks(mode)
    sizes = (n, channels // blocksize**2, height, blocksize, width, blocksize)
    blocks = x.reshape([sizes[axis] for axis in axes]).transpose(np.argsort(axes))
    return blocks.reshape(n, sizes[1], height * blocksize, width * blocksize)


@operation("SpaceToDepth", combines=lambda node, inputs: [(1, 2, 3)], moves=True)
def space_to_depth(x: AnyArray, *, blocksize: int, mode: str = "DCR") -> Any:
    """The inverse of DepthToSpace."""
    n, channels, height, width = x.shape
    if height % blocksize or width % blocksize:
        raise ShapeError(f"height {height} and width {width} are not multiples of blocksize={blocksize}")
    rows, columns = height // blocksize, width // blocksize
    blocks = x.reshape(n, channels, rows, blocksize, columns, blocksize).transpose(_axes_of_blocks(mode))
    return blocks.reshape(n, channels * blocksize**2, rows, columns)


@composed(
    "ReverseSequence",
    signature=like_first,
    combines=lambda node, inputs: [[node.attributes.get("time_axis", 0)], ()],
)
def reverse_sequence(x: Any, lengths: Any, *, batch_axis: int = 1, time_axis: int = 0) -> Any:
    """Reverse the first steps of each sequence of a batch, as many as its length."""
    T, known = x.shape[time_axis], lengths.known
    if isinstance(known, np.ndarray) and all(are_same(n, T) for n in known.flat):
        return x.apply("Slice", [-1], [NEGATIVE], [time_axis], [-1])
    is_known = isinstance(known, np.ndarray) and not is_symbolic([T, *known.flat])
    if is_known and not ((known >= 0) & (known <= T)).all():
        raise ArgumentError(f"lengths={known.tolist()}; expected 0 to {T}, the size of time_axis")
    n = lengths.cast(np.int64).apply("Unsqueeze", [1])
    steps = counted(x.t, x.apply("Shape", start=time_axis, end=time_axis + 1))
    places = where(n < 0, NEGATIVE, where(steps < n, n - 1 - steps, steps))
    order = [batch_axis, time_axis, *(axis for axis in range(x.rank) if axis not in (batch_axis, time_axis))]
    y = x.apply("Transpose", perm=order).apply("GatherND", places.apply("Unsqueeze", [2]), batch_dims=1)
    return y.apply("Transpose", perm=np.argsort(order).tolist())


@expand.steps(DTYPES, views=(0,))
def _(b: Builder, x: View, shape: AnyArray) -> View:
    """Repeat elements, also constants, as often as a call decides."""
    return x.broadcast(*broadcast_shape(x.shape, tuple(as_integers(shape))))


def _concat_signature(*arrays: Operand, axis: int) -> Signature:
    first, *others = (x.shape for x in arrays)
    axis = as_axis(axis, len(first))
    if any((*x[:axis], *x[axis + 1 :]) != (*first[:axis], *first[axis + 1 :]) for x in others):
        raise ShapeError(f"arrays of shapes {[x.shape for x in arrays]} cannot be joined along axis {axis}")
    total = sum(x.shape[axis] for x in arrays)
    return Signature((*first[:axis], total, *first[axis + 1 :]), common_dtype(*arrays))


@operation("Concat", signature=_concat_signature, combines=along_axis(), takes_sizes=True)
def concat(*arrays: AnyArray, axis: int) -> Any:
    return np.concatenate(arrays, axis)


@concat.steps(DTYPES)
def joined(b: Builder, *parts: View, axis: int) -> View:
    """Copy views one behind the other along an axis, in the memory order of the longest one."""
    shape, start, axis = list(parts[0].shape), 0, axis % len(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    longest = max(parts, key=lambda part: hint(part.shape[axis]))
    if hint(longest.shape[axis]) > 1 and 0 not in longest.strides:
        y = b.like(View(longest.space, 0, tuple(shape), longest.strides, longest.dtype))
    else:  # the strides tell no order
        y = b.new(*shape, dtype=longest.dtype)
    for part in parts:
        stop = start + part.shape[axis]
        if part.shape[axis]:
            b.add("copy", part, y.sliced(axis, start, stop))
        start = stop
    return y


concat.lowers_empty = True


@slice_axes.over_time
def _(time: Any, node: Node) -> None:
    """Skip the first steps, hold back the last ones, take every n-th step, or take the last step so far."""
    x, axis = node.inputs[0], time.axis(node.inputs[0])
    parts, size = _listed_parts(*time.inputs(node)), time.shape(x)[axis]
    if axis not in parts:
        time.unchanged(node)
        return
    start, end, step = parts.pop(axis)
    if any(map(is_symbolic, [*parts.values(), [step]])) or step < 0:
        time.refuse(node, "it takes steps whose place depends on the length of the sequence")
    if type(end) is int and 0 <= end < NO_END:
        time.refuse(node, f"it takes steps up to step {end} alone")
    if parts:
        columns = zip(*((*parts[other], other) for other in parts), strict=True)
        first, last, steps, axes = (time.constant(np.array(numbers)) for numbers in columns)
        x = time.define_new(time.add("Slice", x, first, last, axes, steps), time.timing(x))
    taken = _clipped(start, end, step, size)
    if taken.start == size - 1 and taken.stop == size:
        time.summarize(node, time.latest(node, x), [])
        return
    if is_symbolic([taken.start]):
        time.refuse(node, "the first step that it takes depends on the length of the sequence")
    x = _without_end(time, node, x, taken.stop, size)
    x = time.padded(node, x, -taken.start, 0, 0) if taken.start else x
    x = time.every(node, x, step) if step > 1 else x
    time.define(node.outputs[0], x, time.timing(x))


def _without_end(time: Any, node: Node, x: str, stop: Any, size: Any) -> str:
    """Leave out the last steps: a fixed number of them, or those that another value does not have."""
    if not is_symbolic([size - stop]):
        return str(time.without_last(node, x, size - stop)) if size - stop else x
    other, longer = time.of_length(stop) if is_symbolic([stop]) else (None, 0)
    if other is None:
        time.refuse(node, "the last step that it takes depends on the length of the sequence")
    return str(time.as_long_as(x, time.without_last(node, other, longer) if longer else other))


def _reads_table(inputs: Sequence[Operand]) -> bool:
    """Whether a Slice takes entries from the start of a constant, as many as the sequence has steps."""
    if not all(isinstance(x, np.ndarray) for x in inputs):
        return False
    open_parts = [part for part in _listed_parts(*inputs).values() if is_symbolic(part)]
    fixed = [not is_symbolic([start, step]) and start >= 0 < step for start, _, step in open_parts]
    return bool(fixed) and all(fixed)


@composing(slice_axes, _reads_table, over_time=True)
def _(table: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    """Look the entries up: a long sequence, which stands for all lengths, is longer than any table."""
    numbers = [part and part.known for part in (starts, ends, axes, steps)]
    for place, (axis, (start, end, step)) in enumerate(_listed_parts(table, *numbers).items()):
        if is_symbolic([end]):
            places = table.t.constant_of(start, np.int64).apply("Range", ends.apply("Gather", place), step)
            table = table.apply("Gather", places, axis=axis)
        else:
            table = table.apply("Slice", [start], [end], [axis], [step])
    return table


@concat.over_time
def _(time: Any, node: Node) -> None:
    """Steps before the first one or after the last one that are known are added as padding is."""
    (x, *more) = (name for name in node.inputs if time.timing(name))
    axis, place = time.axis(x), node.inputs.index(x)
    if axis != as_axis(node.attributes["axis"], len(time.shape(x))):
        time.unchanged(node)
        return
    others = [time.initial(name) for name in node.inputs if name != x]
    if more or any(array is None for array in others):
        time.refuse(node, "it joins sequences along time")
    shape = list(time.shape(x))
    shape[axis] = 0
    none = time.filled(shape, time.dtype(x))
    before, after = (time.joined([none, *part], axis) for part in (others[:place], others[place:]))
    y = time.windows(node, x, 1, 1, before, after, 0)
    time.define(node.outputs[0], y, time.timing(y))
