"""Operators that move, select, join and create elements of any type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.node import AnyArray
from ...graph.operations.expressions import where
from .registry import ANY, FLOATS, INT32, INT64, Call, Value, operator
from .schema import TYPES

LAST = np.iinfo(np.int64).max


def vector(x: Any) -> Any:
    """Return integers as int64."""
    return x.cast(np.int64)


def joined(parts: Sequence[Any], axis: int) -> Any:
    """Return arrays one behind the other along an axis."""
    return parts[0].apply("Concat", *parts[1:], axis=axis)


def _split(call: Call, x: Value, count: int, axis: int) -> list[Value]:
    if not 1 <= count == len(call.results):
        raise call.refuse(f"a split into {count} parts for {len(call.results)} outputs")
    return x.typed("Split", [x.dtype] * count, axis=axis, num_outputs=count)


ANY |= {
    "BROADCAST_TO": lambda call, x, shape: x.apply("Expand", vector(shape)),
    "EXPAND_DIMS": lambda call, x, axis: x.apply("Unsqueeze", call.numbers(axis, "axis")),
    "FILL": lambda call, shape, x: x.apply("Expand", vector(shape)),
    "GATHER_ND": lambda call, x, indices: x.apply("GatherND", vector(indices)),
    "PACK": lambda call, *parts: joined(
        [part.apply("Unsqueeze", [call.options.axis]) for part in parts], call.options.axis
    ),
    "RANGE": lambda call, start, limit, step: start.apply("Range", limit, step),
    "RANK": lambda call, x: call.constant(len(call.shape(0)), INT32),
    "REVERSE_SEQUENCE": lambda call, x, lengths: x.apply(
        "ReverseSequence",
        vector(lengths),
        batch_axis=call.options.batch_axis,
        time_axis=call.options.seq_axis,
    ),
    "SCATTER_ND": lambda call, indices, updates, shape: (
        updates.constant(0)
        .apply("Expand", vector(shape))
        .apply("ScatterND", vector(indices), updates, reduction="add")
    ),
    "SPLIT": lambda call, axis, x: _split(call, x, call.options.count, call.numbers(axis, "axis")[0]),
    "SQUEEZE": lambda call, x: x.apply("Squeeze", call.options.axes.tolist() or None),
    "TILE": lambda call, x, repeats: x.apply("Tile", vector(repeats)),
    "TRANSPOSE": lambda call, x, perm: x.permuted(*call.numbers(perm, "order of axes")),
    "UNPACK": lambda call, x: [
        part.apply("Squeeze", [call.options.axis])
        for part in _split(call, x, call.options.count, call.options.axis)
    ],
    "WHERE": lambda call, x: x.apply("NonZero", dtype=INT64).apply("Transpose", perm=[1, 0]),
    "ZEROS_LIKE": lambda call, x: x.constant(0).apply("Expand", x.apply("Shape", dtype=INT64)),
}


@operator(ANY, "RESHAPE")
def reshape(call: Call, x: Value, shape: Value | None = None) -> Any:
    wanted = shape.known if shape is not None else call.options.new_shape
    if wanted is not None:
        before, sizes = call.shape(0), [int(n) for n in np.ravel(wanted)]
        if sizes == [1, *before]:
            return x.apply("Unsqueeze", [0])
        perm = _order(before, sizes)
        return x.reshaped(*sizes) if perm is None else x.permuted(*perm)
    return x.apply("Reshape", vector(shape), allowzero=1)


def _order(before: list[int], after: list[int]) -> list[int] | None:
    """Return the order of axes if a shape is another one with axes of size 1 at other places."""
    if before == after or sorted(before) != sorted(after) or min(before) < 1:
        return None
    ones, others = (iter([k for k, n in enumerate(before) if (n == 1) == is_one]) for is_one in (True, False))
    perm = [next(ones if n == 1 else others) for n in after]
    return perm if [before[k] for k in perm] == after else None


@operator(ANY, "SPLIT_V")
def split_v(call: Call, x: Value, sizes: Value, axis: Value) -> Any:
    parts, place = call.numbers(sizes, "sizes"), call.numbers(axis, "axis")[0]
    if -1 in parts:
        parts[parts.index(-1)] = call.shape(0)[place] - sum(size for size in parts if size >= 0)
    return x.typed("Split", [x.dtype] * len(call.results), parts, axis=place)


@operator(ANY, "SLICE")
def slice_(call: Call, x: Value, begin: Value, size: Value) -> Any:
    starts, sizes = vector(begin), vector(size)
    return x.apply("Slice", starts, where(sizes < 0, LAST, starts + sizes), list(range(len(call.shape(0)))))


@operator(ANY, "STRIDED_SLICE")
def strided_slice(call: Call, x: Value, begin: Value, end: Value, strides: Value) -> Any:
    """A slice of some axes; others are new, or vanish behind one place, or stay whole at an ellipsis."""
    o, steps, sizes, axis = call.options, call.numbers(strides, "strides"), call.shape(0), 0
    if o.offset:
        raise call.refuse("an end that counts from the begin")
    axes, shrunk, new, starts, ends = list[int](), list[int](), list[int](), list[Any](), list[Any]()
    added = bin(o.new_axis_mask & ~o.ellipsis_mask & (1 << len(steps)) - 1).count("1")
    for place, step in enumerate(steps):
        if o.ellipsis_mask >> place & 1:
            axis += len(sizes) - (len(steps) - added - 1)
            continue
        if o.new_axis_mask >> place & 1:
            new.append(axis + len(new) - len(shrunk))
            continue
        far = [0, LAST] if step > 0 else [LAST, -LAST]
        first, last = (
            call.constant([bound], INT64) if mask >> place & 1 else vector(given).apply("Gather", [place])
            for given, mask, bound in zip((begin, end), (o.begin_mask, o.end_mask), far, strict=True)
        )
        if step < 0 <= sizes[axis]:  # from before the first element, there is nothing backwards
            last = where(first < -sizes[axis], LAST, last)
        if o.shrink_axis_mask >> place & 1:
            last, steps[place] = where(first.equals(-1), LAST, first + 1), 1
            shrunk.append(axis)
        starts, ends, axes, axis = [*starts, first], [*ends, last], [*axes, axis], axis + 1
    own = [step for place, step in enumerate(steps) if not (o.ellipsis_mask | o.new_axis_mask) >> place & 1]
    y: Any = x.apply("Slice", joined(starts, 0), joined(ends, 0), axes, own) if axes else x
    y = y.apply("Squeeze", shrunk) if shrunk else y
    return y.apply("Unsqueeze", new) if new else y


@operator(ANY, "REVERSE_V2")
def reverse(call: Call, x: Value, axes: Value) -> Any:
    places = call.numbers(axes, "axes")
    n = len(places)
    return x.apply("Slice", [-1] * n, [-LAST] * n, places, [-1] * n)


@operator(ANY, "GATHER")
def gather(call: Call, x: Value, indices: Value) -> Any:
    axis, batch = call.options.axis, call.options.batch_axes
    if not batch:
        return x.apply("Gather", indices, axis=axis)
    if axis % len(call.shape(0)) != batch:
        raise call.refuse(f"a gather along axis {axis} with {batch} batch axes")
    places = vector(indices).apply("Unsqueeze", [-1])
    return x.apply("GatherND", places, batch_dims=batch)


SEGMENTS = {"SUM": ("add", 0), "PROD": ("mul", 1), "MAX": ("max", "min"), "MIN": ("min", "max")}


@operator(FLOATS, " ".join(f"UNSORTED_SEGMENT_{name}" for name in SEGMENTS))
def reduce_segments(call: Call, x: Value, segments: Value, count: Value) -> Any:
    """Reduce the elements of each segment; those of negative segments go to a row that is cut off.

    A maximum and a minimum ignore NaN, as LiteRT's comparisons do.
    """
    reduction, start = SEGMENTS[call.operator.kind.rpartition("_")[2]]
    limits = np.finfo(x.dtype) if x.dtype.kind == "f" else np.iinfo(x.dtype)
    first = x.number(getattr(limits, start) if isinstance(start, str) else start, x.dtype)
    compares = x.dtype.kind == "f" and isinstance(start, str)
    numbers: Any = where(x.apply("IsNaN", dtype=np.dtype(bool)), first, x) if compares else x
    rest = x.apply("Shape", dtype=INT64).apply("Slice", [len(call.shape(1))], [LAST])
    rows = (vector(count) + 1).reshaped(1).apply("Concat", rest, axis=0)
    places = (vector(segments).apply("Max", -1) + 1).apply("Unsqueeze", [-1])
    found = first.apply("Expand", rows).apply("ScatterND", places, numbers, reduction=reduction)
    return found.apply("Slice", [1], [LAST], [0])


@operator(ANY, "DYNAMIC_UPDATE_SLICE")
def update_slice(call: Call, x: Value, update: Value, start: Value) -> Any:
    """x with a part replaced; the start is moved so that the part fits."""
    sizes, part = call.shape(0), call.shape(1)
    if min(sizes + part) < 0:
        raise call.refuse("an update of open sizes")
    room = call.constant([n - m for n, m in zip(sizes, part, strict=True)], INT64)
    first = vector(start).apply("Max", 0).apply("Min", room)
    places = np.stack(np.meshgrid(*map(np.arange, part), indexing="ij"), -1)
    return x.apply("ScatterND", call.constant(places, INT64) + first, update)


@operator(ANY, "SHAPE")
def shape_of(call: Call, x: Value) -> Any:
    if min(call.shape(0), default=0) >= 0:
        return call.constant(call.shape(0), TYPES[call.options.dtype])
    return x.apply("Shape", dtype=INT64).cast(TYPES[call.options.dtype])


@operator(ANY, "CAST")
def cast(call: Call, x: Value) -> Any:
    dtype = call.y.inner_dtype
    if x.dtype.kind == "c" or dtype.kind == "c":
        raise call.refuse("a conversion of complex numbers")
    return x.cast(dtype)


@operator(ANY, "ONE_HOT")
def one_hot(call: Call, indices: Value, depth: Value, on: Value, off: Value) -> Any:
    """Indices outside of the depth, and negative ones, give no hot element."""
    count = call.numbers(depth, "depth")[0]
    axis = call.options.axis if call.options.axis >= 0 else len(call.shape(0))
    places = call.constant(np.arange(count).reshape(-1, *[1] * (len(call.shape(0)) - axis)), indices.dtype)
    return where(indices.apply("Unsqueeze", [axis]).equals(places), on, off)


@operator(ANY, "TOPK_V2")
def top_k(call: Call, x: Value, k: Value) -> Any:
    values, indices = x.typed("TopK", [x.dtype, INT64], vector(k).reshaped(1))
    return [values, indices.cast(np.int32)]


@operator(ANY, "ARG_MAX ARG_MIN")
def arg_max(call: Call, x: Value, axis: Value) -> Any:
    name, place = {"ARG_MAX": "ArgMax", "ARG_MIN": "ArgMin"}, call.numbers(axis, "axis")[0]
    found = x.apply(name[call.operator.kind], dtype=INT64, axis=place, keepdims=0)
    return found.cast(TYPES[call.options.dtype])


@operator(ANY, "PAD PADV2 MIRROR_PAD")
def pad(call: Call, x: Value, widths: Value, value: Value | None = None) -> Any:
    """Widths (rank, 2)"""
    if call.operator.kind == "MIRROR_PAD":
        if call.options.mode:
            raise call.refuse("symmetric padding")
        return x.apply("Pad", call.array(widths, "widths").T.ravel().tolist(), mode="reflect")
    return _padded(call, x, call.array(widths, "widths"), value)


def _padded(call: Call, x: Value, widths: AnyArray, value: Value | None = None) -> Any:
    """Pad with a value, or with zeros; for integers that is the zero point."""
    tensor = call.tensor(0)
    zero = x.constant(tensor.zero_point if tensor.is_quantized else 0)
    return x.apply("Pad", widths.T.ravel().tolist(), zero if value is None else value.reshaped())


@operator(ANY, "SPACE_TO_BATCH_ND")
def space_to_batch(call: Call, x: Value, block: Value, pads: Value) -> Any:
    """Pad the spatial axes, and move their places within blocks to the batch axis."""
    sizes, widths, (N, *space) = call.numbers(block, "blocks"), call.array(pads, "padding"), call.shape(0)
    n, rest = len(sizes), space[len(sizes) :]
    padded = _padded(call, x, np.pad(widths, ((1, len(rest)), (0, 0))))
    outer = (np.array(space[:n]) + widths.sum(1)) // sizes
    split = padded.reshaped(N, *np.stack([outer, sizes], 1).ravel(), *rest)
    inside, whole, last = range(2, 2 * n + 1, 2), range(1, 2 * n, 2), range(2 * n + 1, 2 * n + 1 + len(rest))
    return split.permuted(*inside, 0, *whole, *last).reshaped(-1, *outer, *rest)


@operator(ANY, "BATCH_TO_SPACE_ND")
def batch_to_space(call: Call, x: Value, block: Value, crops: Value) -> Any:
    """The inverse of SPACE_TO_BATCH_ND, with crops instead of padding."""
    sizes, (_, *space) = call.numbers(block, "blocks"), call.shape(0)
    n, rest = len(sizes), space[len(sizes) :]
    pairs = [axis for i in range(n) for axis in (n + 1 + i, i)]
    split = x.reshaped(*sizes, -1, *space).permuted(n, *pairs, *range(2 * n + 1, 2 * n + 1 + len(rest)))
    whole, (before, after) = np.array(space[:n]) * sizes, call.array(crops, "crops").T
    y = split.reshaped(-1, *whole, *rest)
    return y.apply("Slice", before.tolist(), (whole - after).tolist(), list(range(1, n + 1)))
