"""Operations that extend or crop axes: Pad and CenterCropPad."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ..builder import Builder
from ..node import AnyArray, Node, Signature
from ..view import View
from .arguments import as_axes, as_integers
from .movement import move
from .registry import Inputs, Known, combining, known, operation


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
    x: Known,
    pads: AnyArray,
    constant_value: Known | None = None,
    axes: AnyArray | None = None,
    *,
    mode: str = "constant",
) -> Signature:
    widths = _widths(len(x.shape), pads, axes)
    shape = tuple(size + sum(width) for size, width in zip(x.shape, widths, strict=True))
    if min(shape, default=0) < 0:
        raise ShapeError(f"pads={as_integers(pads)} remove more elements than an axis of {x.shape} has")
    return Signature(shape, x.dtype)


@operation("Pad", signature=_pad_signature, shape_inputs=(1, 3))
def pad(
    x: AnyArray,
    pads: AnyArray,
    constant_value: AnyArray | None = None,
    axes: AnyArray | None = None,
    *,
    mode: str = "constant",
) -> Any:
    """Negative numbers crop, before the others pad."""
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise ArgumentError(f"mode={mode!r}; expected constant, reflect, edge or wrap")
    widths = _widths(x.ndim, pads, axes)
    x = x[
        tuple(
            slice(max(0, -before), size - max(0, -after))
            for size, (before, after) in zip(x.shape, widths, strict=True)
        )
    ]
    widths = [(max(0, before), max(0, after)) for before, after in widths]
    if mode != "constant":
        return np.pad(x, widths, mode=mode)  # type: ignore[call-overload]  # one of NumPy's modes
    value = np.zeros((), x.dtype) if constant_value is None else constant_value.reshape(())
    y = np.full([size + sum(width) for size, width in zip(x.shape, widths, strict=True)], value, x.dtype)
    y[tuple(slice(before, before + size) for size, (before, _) in zip(x.shape, widths, strict=True))] = x
    return y


@pad.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    if node.attributes.get("mode", "constant") != "constant":
        return move(b, node, inputs, shapes)
    x, *others = inputs
    if x is None or x.view is None or any(o is not None and not o.known for o in others):
        return None
    # The source of each output element, counted from 1; the padding is 0.
    places = np.arange(1, math.prod(x.shape) + 1).reshape(x.shape)
    pads, value, *axes = [*map(known, others), None][: max(2, len(others))]
    (moved,) = pad.compute([places, pads, None, *axes], {})
    inside = np.argwhere(moved > 0)
    if not len(inside):
        return None
    low, high = inside.min(0), inside.max(0) + 1
    cropped = moved[tuple(map(slice, low, high))] - 1
    from_view = View.at(x.view.space, x.view.offsets().ravel()[cropped], x.view.dtype)
    if from_view is None:
        return None
    y = b.new(*shapes[0], dtype=x.view.dtype)
    b.fill(0 if value is None else value.item(), y)
    inner = y
    for axis, (start, stop) in enumerate(zip(low, high, strict=True)):
        inner = inner.sliced(axis, int(start), int(stop))
    b.add("copy", from_view, inner)
    return [y]


def _center_signature(x: Known, shape: AnyArray, *, axes: Sequence[int] | None = None) -> Signature:
    sizes = list(x.shape)
    for axis, size in zip(as_axes(axes, len(sizes)), as_integers(shape), strict=True):
        sizes[axis] = size
    return Signature(tuple(sizes), x.dtype)


@operation("CenterCropPad", signature=_center_signature, shape_inputs=(1,))
def center_crop_pad(x: AnyArray, shape: AnyArray, *, axes: Sequence[int] | None = None) -> Any:
    """Crop or pad with zeros, equally at both sides; of an odd number, the larger half is at the end."""
    y = np.zeros(_center_signature(x, shape, axes=axes).shape, x.dtype)

    def center(sizes: Sequence[int], others: Sequence[int]) -> tuple[slice, ...]:
        starts = [max(0, size - other) // 2 for size, other in zip(sizes, others, strict=True)]
        return tuple(
            slice(start, start + min(size, other))
            for start, size, other in zip(starts, sizes, others, strict=True)
        )

    y[center(y.shape, x.shape)] = x[center(x.shape, y.shape)]
    return y


@combining("Pad", "CenterCropPad")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    x, sizes, *others = inputs
    rank = len(x.shape)  # type: ignore[union-attr]  # x is not optional
    if node.operation == "CenterCropPad" or not isinstance(sizes, np.ndarray):
        return [range(rank), ()]
    widths = _widths(rank, sizes, (*others, None, None)[1])  # type: ignore[arg-type]  # the axes are known
    return [[axis for axis, width in enumerate(widths) if any(width)], ()]


@pad.over_time
def _(time: Any, node: Node) -> None:
    """The padding before the first step is a carry; the last block adds the padding after the last step."""
    x, pads, value, axes = (*node.inputs, "", "")[:4]
    axis = time.axis(x)
    if axis is None or axis not in time.combined(node)[0]:
        time.unchanged(node)
        return
    widths = _widths(len(time.shape(x)), time.known(pads), time.known(axes) if axes else None)
    before, after = widths[axis]
    if node.attributes.get("mode", "constant") != "constant":
        time.refuse(node, f"it pads time with mode={node.attributes['mode']!r}")
    element = 0 if not value else time.known(value)
    y = time.padded(node, x, before, after, 0 if element is None else element)
    widths[axis] = 0, 0
    if any(map(any, widths)):
        flat = [number for side in zip(*widths, strict=True) for number in side]
        inputs = (y, time.constant(np.array(flat)), value)
        timing = time.timing(y)
        y = time.define_new(time.add("Pad", *inputs), timing)
    time.define(node.outputs[0], y, time.timing(y))
