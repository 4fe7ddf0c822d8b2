"""Operations that extend or crop axes: Pad and CenterCropPad."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ...core.windows import pad_or_crop
from ...errors import ArgumentError, ShapeError
from ..node import AnyArray, Node, Operand, Signature, with_size
from ..plan.builder import Builder
from ..plan.view import DTYPES, View
from .arguments import as_axes, as_integers
from .compositions import DataDependent, composed
from .registry import along_axis, along_time, operation


def _widths(rank: int, pads: AnyArray, axes: AnyArray | None) -> list[tuple[int, int]]:
    """Return the numbers of elements before and after each axis."""
    places, numbers = as_axes(axes, rank), as_integers(pads)
    if len(numbers) != 2 * len(places):
        raise ShapeError(f"pads={numbers}; expected {2 * len(places)} numbers for {len(places)} axes")
    widths = [(0, 0)] * rank
    for axis, before, after in zip(places, numbers, numbers[len(places) :], strict=False):
        widths[axis] = before, after
    return widths


def _pad_signature(
    x: Operand, pads: AnyArray, constant_value: Operand | None = None, axes: AnyArray | None = None, *,
    mode: str = "constant",
) -> Signature:  # fmt: skip
    widths = _widths(len(x.shape), pads, axes)
    shape = tuple(size + sum(width) for size, width in zip(x.shape, widths, strict=True))
    if any(size < 0 for size in shape):
        raise ShapeError(f"pads={as_integers(pads)} remove more elements than an axis of {x.shape} has")
    return Signature(shape, x.dtype)


@operation("Pad", signature=_pad_signature, shape_inputs=(1, 3))
def pad(
    x: AnyArray, pads: AnyArray, constant_value: AnyArray | None = None, axes: AnyArray | None = None, *,
    mode: str = "constant",
) -> Any:  # fmt: skip
    """Negative numbers crop, before the others pad."""
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise ArgumentError(f"mode={mode!r}; expected constant, reflect, edge or wrap")
    value = 0 if constant_value is None else constant_value.reshape(())
    return pad_or_crop(x, _widths(x.ndim, pads, axes), value, mode)


@pad.steps(DTYPES, views=(0,))
def _(
    b: Builder, x: View, pads: AnyArray, value: Any = None, axes: Any = None, *, mode: str = "constant"
) -> View | None:
    widths = _widths(len(x.shape), pads, axes)
    if mode != "constant":
        found: View | None = x
        for axis, width in enumerate(widths):
            if found and any(width):
                found = _extended(b, found, axis, width, mode)
        return found
    shape = (size + sum(width) for size, width in zip(x.shape, widths, strict=True))
    y = inner = b.new(*shape, dtype=x.dtype)
    b.add("copy", b.scalar(0 if value is None else value.item(), y.dtype), y)
    for axis, (before, after) in enumerate(widths):
        x = x.sliced(axis, max(0, -before), x.shape[axis] - max(0, -after))
        inner = inner.sliced(axis, max(0, before), y.shape[axis] - max(0, after))
    if 0 in x.shape:
        return None
    b.add("copy", x, inner)
    return y


def _extended(b: Builder, x: View, axis: int, width: tuple[Any, Any], mode: str) -> View | None:
    """Extend or crop an axis by its own elements; None if it does not have enough of them."""
    before, after = width
    x = x.sliced(axis, max(0, -before), x.shape[axis] - max(0, -after))
    before, after, size = max(0, before), max(0, after), x.shape[axis]
    if before == 0 and after == 0:
        return x
    if size == 0 or (mode != "edge" and (before >= size or after >= size)):
        return None
    total = before + size + after
    shape = (*x.shape[:axis], total, *x.shape[axis + 1 :])
    y = b.new(*shape, dtype=x.dtype)
    b.add("copy", x, y.sliced(axis, before, before + size))
    sources = {
        "reflect": ((1, before + 1), (size - 1 - after, size - 1)),
        "edge": ((0, 1), (size - 1, size)),
        "wrap": ((size - before, size), (0, after)),
    }[mode]
    for (first, last), (start, stop) in zip(sources, ((0, before), (before + size, total)), strict=True):
        if stop != start:
            part, target = x.sliced(axis, first, last), y.sliced(axis, start, stop)
            b.add(
                "copy", (part.reversed(axis) if mode == "reflect" else part).broadcast(*target.shape), target
            )
    return y


@composed("CenterCropPad", shape_inputs=(1,))
def center_crop_pad(x: Any, shape: Any, *, axes: Sequence[int] | None = None) -> Any:
    """Crop or pad with zeros, equally at both sides; of an odd number, the larger half is at the end."""
    if isinstance(shape.known, Signature):
        raise DataDependent
    places = as_axes(axes, x.rank)
    missing = [n - x.shape[axis] for axis, n in zip(places, as_integers(shape.known), strict=True)]
    before = [int(n / 2) for n in missing]
    return x.apply("Pad", [*before, *(n - m for n, m in zip(missing, before, strict=True))], None, places)


@pad.combining
def _(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    x, sizes, *others = inputs
    rank = len(x.shape)
    if not isinstance(sizes, np.ndarray):
        return [range(rank), ()]
    widths = _widths(rank, sizes, (*others, None, None)[1])
    return [[axis for axis, width in enumerate(widths) if any(width)], ()]


@pad.over_time
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """The padding before the first step is a carry; the last block adds the padding after the last step."""
    x, pads, value, axes = (*node.inputs, "", "")[:4]
    widths = _widths(len(time.shape(x)), time.known(pads), time.known(axes) if axes else None)
    before, after = widths[axis]
    mode = node.attributes.get("mode", "constant")
    element = 0 if not value else time.known(value)
    if mode == "constant":
        y = time.padded(node, x, before, after, 0 if element is None else element)
    else:
        y = _mirrored(time, node, before, after, mode)
    widths[axis] = 0, 0
    if any(map(any, widths)):
        if mode != "constant":
            time.refuse(node, f"it pads time and another axis with mode={mode!r}")
        flat = time.constant(np.ravel(np.transpose(widths)))
        y = time.define_new(time.add("Pad", y, flat, value), time.timing(y))
    time.define(node.outputs[0], y, time.timing(y))


def _mirrored(time: Any, node: Node, before: int, after: int, mode: str) -> str:
    """Pad time with its own steps: hold back the first steps until they suffice, and keep the last ones."""
    if mode not in ("reflect", "edge") or min(before, after) < 0:
        time.refuse(node, f"it pads time with mode={mode!r}")
    x = node.inputs[0]
    timing, needed = time.timing(x), [count + 1 if mode == "reflect" else 1 for count in (before, after)]
    axis, empty, one = timing.axis, list(time.shape(x)), list(time.shape(x))
    empty[axis], one[axis] = 0, 1
    waiting = time.carry(node, time.filled(one, bool, True), axis, "waiting")
    held = time.carry(node, time.filled(empty, time.dtype(x)), axis, "held")
    recent = time.carry(node, time.filled(empty, time.dtype(x)), axis, "steps")
    attributes = {"axis": axis, "count": before, "needed": needed[0], "mode": mode}
    y, waiting_after, held_after = time.add_all("PadStart", (waiting, held, x), 3, **attributes)
    joined = time.add("Concat", recent, x, axis=axis)
    recent_after = time.slice(joined, axis, -needed[1])
    if time.at_end:
        attributes = {"axis": axis, "before": before, "after": after, "mode": mode}
        rest = time.add("PadEnd", waiting_after, held_after, recent_after, **attributes)
        y = time.add("Concat", y, rest, axis=axis)
    else:
        for carry, value in ((waiting, waiting_after), (held, held_after), (recent, recent_after)):
            time.keep(carry, value)
    complete = timing.complete.then(add=before, least=needed[0])
    length = timing.length.then(add=before + after, least=1)
    return str(time.define_new(y, timing.with_counts(complete, length)))


def _start_signature(
    waiting: Operand, held: Operand, x: Operand, *, axis: int, count: int, needed: int, mode: str
) -> list[Signature]:
    steps, waits = held.shape[axis] + x.shape[axis], waiting.shape[axis]
    if waits and steps < needed:
        sizes = 0, 1, steps
    else:
        sizes = steps + (count if waits else 0), 0, 0
    return [with_size(like, axis, size) for like, size in zip((x, waiting, x), sizes, strict=True)]


@operation("PadStart", signature=_start_signature, combines=along_axis())
def pad_start(
    waiting: AnyArray, held: AnyArray, x: AnyArray, *, axis: int, count: int, needed: int, mode: str
) -> tuple[Any, ...]:
    """Pad the start of a sequence as soon as there are enough steps; `waiting` has a step until then.

    Returns the steps, and the next `waiting` and `held`.
    """
    joined = np.concatenate([held, x], axis)
    none = (slice(None),) * axis + (slice(0, 0),)
    if waiting.shape[axis]:
        if joined.shape[axis] < needed:
            return joined[none], waiting, joined
        widths = [(count, 0) if other == axis else (0, 0) for other in range(x.ndim)]
        joined = np.pad(joined, widths, mode=mode)  # type: ignore[call-overload]  # one of NumPy's modes
    return joined, waiting[none], joined[none]


@pad_start.steps(DTYPES)
def _(b: Builder, waiting: View, held: View, x: View, *, axis: int, **options: Any) -> list[View] | None:
    """Pass on the steps after the padding; the padding itself runs in NumPy, once."""
    return None if waiting.shape[axis] else [x, waiting, held]


pad_start.lowers_empty = True


def _end_signature(
    waiting: Operand, held: Operand, recent: Operand, *, axis: int, before: int, after: int, mode: str
) -> Signature:
    size = before + held.shape[axis] + after if waiting.shape[axis] and held.shape[axis] else after
    if not held.shape[axis] and not recent.shape[axis]:
        size = 0
    return with_size(held, axis, size)


@operation("PadEnd", signature=_end_signature, combines=along_axis())
def pad_end(
    waiting: AnyArray, held: AnyArray, recent: AnyArray, *, axis: int, before: int, after: int, mode: str
) -> Any:
    """Return the padding after the last steps, or the whole padded sequence if its start is still waiting."""
    x = held if waiting.shape[axis] and held.shape[axis] else recent
    if not x.shape[axis]:
        return x
    sides = (before if x is held else 0, after)
    widths = [sides if other == axis else (0, 0) for other in range(x.ndim)]
    y = np.pad(x, widths, mode=mode)  # type: ignore[call-overload]  # one of NumPy's modes
    start = 0 if x is held else x.shape[axis]
    return y[(slice(None),) * axis + (slice(start, None),)]
