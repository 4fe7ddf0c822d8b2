"""The gradients of operations that move elements: slices, joins, repetitions and look-ups."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .arguments import as_axes, as_axis, as_integers
from .creation import counted
from .expressions import where
from .gradients_elementwise import Rule
from .movement import NO_END


def zeros_like(x: Any) -> Any:
    """Return zeros in the shape of an array."""
    return x.constant(0).apply("Expand", x.apply("Shape").name)


def _moved(dy: Any, y: Any, x: Any, *others: Any, **attributes: Any) -> Iterator[Any]:
    yield dy.apply("Reshape", x.apply("Shape").name)


def _of_transpose(dy: Any, y: Any, x: Any, *, perm: Sequence[int] | None = None) -> Iterator[Any]:
    order = range(x.rank)[::-1] if perm is None else perm
    yield dy.apply("Transpose", perm=[int(n) for n in np.argsort([n % x.rank for n in order])])


def _of_split(
    dys: Sequence[Any], ys: Sequence[Any], x: Any, *others: Any, axis: int = 0, **attributes: Any
) -> Iterator[Any]:
    parts = x.apply_all("Split", *others, outputs=len(dys), axis=axis, **attributes)
    parts = [zeros_like(part) if dy is None else dy for dy, part in zip(dys, parts, strict=True)]
    yield parts[0].apply("Concat", *parts[1:], axis=axis)


def _of_concat(dy: Any, y: Any, *parts: Any, axis: int) -> Iterator[Any]:
    place = as_axis(axis, y.rank)
    first, *others = (x.apply("Shape", start=place, end=place + 1) for x in parts)
    sizes = first.apply("Concat", *others, axis=0)
    yield from dy.apply_all("Split", sizes, outputs=len(parts), axis=axis)


def _of_expand(dy: Any, y: Any, x: Any, shape: Any) -> Iterator[Any]:
    yield dy  # summed over the repetitions, as with any operation that broadcasts


def _of_tile(dy: Any, y: Any, x: Any, repeats: Any) -> Iterator[Any]:
    counts = as_integers(repeats.known)
    sizes = [n for pair in zip(counts, x.shape, strict=True) for n in pair]
    yield dy.apply("Reshape", sizes).reduce("ReduceSum", range(0, 2 * x.rank, 2))


def _scattered(dy: Any, x: Any, indices: Any, axis: int) -> Any:
    """Return zeros in the shape of x to which the slices of dy are added at indices along an axis."""
    order = [axis, *(n for n in range(x.rank) if n != axis)]
    count = indices.rank
    moved = range(axis, axis + count)
    rows = dy.apply("Transpose", perm=[*moved, *(n for n in range(dy.rank) if n not in moved)])
    zeros = zeros_like(x.apply("Transpose", perm=order))
    found = zeros.apply("ScatterND", indices.apply("Unsqueeze", [count]), rows, reduction="add")
    return found.apply("Transpose", perm=np.argsort(order).tolist())


def _of_gather(dy: Any, y: Any, x: Any, indices: Any, *, axis: int = 0) -> Iterator[Any]:
    yield _scattered(dy, x, indices, as_axis(axis, x.rank))


def _of_gather_elements(dy: Any, y: Any, x: Any, indices: Any, *, axis: int = 0) -> Iterator[Any]:
    yield zeros_like(x).apply("ScatterElements", indices, dy, axis=axis, reduction="add")


def _of_gather_nd(dy: Any, y: Any, x: Any, indices: Any, *, batch_dims: int = 0) -> Iterator[Any]:
    entries = indices.apply("Shape", end=-1).apply("Concat", [1], axis=0)
    places = [
        counted(x.t, x.apply("Shape").apply("Gather", axis), indices.rank - 1 - axis).apply("Expand", entries)
        for axis in range(batch_dims)
    ]
    tuples = [*(place.cast(indices.dtype) for place in places), indices]
    if places:
        indices = tuples[0].apply("Concat", *tuples[1:], axis=-1)
    yield zeros_like(x).apply("ScatterND", indices, dy, reduction="add")


def _of_slice(
    dy: Any, y: Any, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None
) -> Iterator[Any]:
    """Slice one axis after the other, and undo the slices in the opposite order."""
    count = starts.shape[0]
    places = range(count) if axes is None else as_axes(axes.known, x.rank)
    strides = [1] * count if steps is None else as_integers(steps.known)
    bounds = [[part.apply("Slice", [n], [n + 1]) for part in (starts, ends)] for n in range(count)]
    parts = list(zip(places, bounds, strides, strict=True))
    before = [x]
    for axis, (start, end), step in parts[:-1]:
        before.append(before[-1].apply("Slice", start, end, [axis], [step]))
    for (axis, (start, end), step), whole in zip(reversed(parts), reversed(before), strict=True):
        if step == 1 and dy.shape[axis] != 0:
            low, high = whole.apply("Slice", [0], start, [axis]), whole.apply("Slice", end, [NO_END], [axis])
            dy = zeros_like(low).apply("Concat", dy, zeros_like(high), axis=axis)
        else:
            indices = counted(x.t, whole.apply("Shape").apply("Gather", axis))
            dy = _scattered(dy, whole, indices.apply("Slice", start, end, [0], [step]), axis)
    yield dy


def _of_pad(
    dy: Any, y: Any, x: Any, pads: Any, value: Any = None, axes: Any = None, *, mode: str = "constant"
) -> Iterator[Any]:
    numbers = as_integers(pads.known)
    places = list(range(x.rank)) if axes is None else as_axes(axes.known, x.rank)
    if mode == "constant":
        yield dy.apply("Pad", [-n for n in numbers], None, places)
        return
    for axis, before, after in zip(places, numbers, numbers[len(places) :], strict=False):
        if before or after:  # the elements of the axis that the padding repeats
            indices = counted(x.t, x.apply("Shape").apply("Gather", axis))
            sizes = [dy.apply("Shape", end=axis), x.apply("Shape", start=axis, end=axis + 1)]
            sizes.append(dy.apply("Shape", start=axis + 1))
            like = dy.constant(0).apply("Expand", sizes[0].apply("Concat", *sizes[1:], axis=0))
            dy = _scattered(dy, like, indices.apply("Pad", [before, after], mode=mode), axis)
    yield dy


def _of_depth_to_space(dy: Any, y: Any, x: Any, **attributes: Any) -> Iterator[Any]:
    yield dy.apply("SpaceToDepth", **attributes)


def _of_space_to_depth(dy: Any, y: Any, x: Any, **attributes: Any) -> Iterator[Any]:
    yield dy.apply("DepthToSpace", **attributes)


def _of_last_step(dy: Any, y: Any, x: Any, lengths: Any = None, *, axis: int = 1) -> Iterator[Any]:
    size = x.apply("Shape").apply("Gather", axis)
    ends = size if lengths is None else lengths.cast(np.int64).apply("Unsqueeze", [axis])
    steps = counted(x.t, size).apply("Unsqueeze", [1 - axis])
    is_last = steps.equals(ends - 1)
    is_last = is_last.apply("Unsqueeze", range(2, x.rank)) if x.rank > 2 else is_last
    yield where(is_last, dy.apply("Unsqueeze", [axis]), 0)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _moved),
    "Transpose": _of_transpose,
    "Concat": _of_concat,
    "Expand": _of_expand,
    "Tile": _of_tile,
    "Gather": _of_gather,
    "GatherElements": _of_gather_elements,
    "GatherND": _of_gather_nd,
    "Slice": _of_slice,
    "Pad": _of_pad,
    "DepthToSpace": _of_depth_to_space,
    "SpaceToDepth": _of_space_to_depth,
    "LastStep": _of_last_step,
}
OF_SEVERAL: Mapping[str, Rule] = {"Split": _of_split}
