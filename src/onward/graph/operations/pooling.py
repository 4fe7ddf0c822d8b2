"""Pooling over sliding windows.

The elements of a window are combined position by position, in an order that does not depend on the batch.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from ...core import budget
from ...core.windows import Geometry, Sides, averaged, combined, geometry, windows
from ...errors import ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .compositions import composed
from .reductions import bounds, powers, root
from .registry import Inputs, allocating, lowering, operation, over_time, reading
from .sliding import (
    WINDOW,
    channels_first,
    channels_last,
    kernel_size,
    pad_view,
    padded_size,
    pooled_product,
    tap_view,
    window_step,
    window_view,
    windows_combine,
    windows_over_time,
)
from .value import typed_view, view

INT64: np.dtype[Any] = np.dtype(np.int64)
POOLING = ("ceil_mode", *WINDOW)
TAP = 32  # bytes of an element in a list of those of a window


def _signature(x: Operand, *, kernel_shape: Sequence[int], **attributes: Any) -> Signature:
    g = geometry(x.shape[2:], kernel_shape, attributes)
    return Signature((*x.shape[:2], *g.out), x.dtype)


@operation(
    "MaxPool",
    signature=lambda x, **options: [y := _signature(x, **options), y.of_dtype(INT64)],
    attributes=POOLING,
    combines=windows_combine,
    widens=True,
)
def max_pool(
    x: AnyArray, *, kernel_shape: Sequence[int], storage_order: int = 0, **attributes: Any
) -> tuple[AnyArray, AnyArray]:
    """The maximum of each window, and its index in the flattened x, column-major if `storage_order` is 1."""
    g = geometry(x.shape[2:], kernel_shape, attributes)
    seen = windows(x, g, bounds(x.dtype)[0])
    positions = np.arange(math.prod(x.shape[2:])).reshape(x.shape[2:], order="F" if storage_order else "C")
    places = windows(positions[None, None], g, -1)
    first: Any = (..., *[0] * len(g.kernel))
    y = seen[first].copy()
    indices = np.broadcast_to(places[first], y.shape)
    for tap in np.ndindex(*g.kernel):
        part, place = seen[(..., *tap)], places[(..., *tap)]
        better = (part > y) | ((indices < 0) & (place >= 0))
        indices = np.where(better, place, indices)
        np.maximum(y, part, out=y)
    offsets = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * len(g.kernel))
    return y + y.dtype.type(0), indices + offsets * positions.size  # a maximum may return -0 or 0: return 0


@operation("SumPool", signature=_signature, attributes=POOLING, combines=windows_combine, widens=True)
def sum_pool(x: AnyArray, *, kernel_shape: Sequence[int], **attributes: Any) -> AnyArray:
    """The sum of each window."""
    g = geometry(x.shape[2:], kernel_shape, attributes)
    return combined(np.add, windows(x, g), 0)


@operation("AveragePool", signature=_signature, attributes=POOLING, combines=windows_combine, widens=True)
def average_pool(
    x: AnyArray, *, kernel_shape: Sequence[int], count_include_pad: int = 0, **attributes: Any
) -> AnyArray:
    """The average of each window; padding counts only if `count_include_pad` is 1."""
    return averaged(x, geometry(x.shape[2:], kernel_shape, attributes), bool(count_include_pad))


@composed("LpPool", attributes=POOLING, widens=True)
def lp_pool(x: Any, *, kernel_shape: Sequence[int], p: int = 2, **attributes: Any) -> Any:
    """The p-norm of each window."""
    return root(powers(x, p).apply("SumPool", kernel_shape=kernel_shape, **attributes), p)


over_time("MaxPool", "AveragePool", "SumPool")(windows_over_time)
reading("MaxPool", "AveragePool", "SumPool")(kernel_size)


@allocating("MaxPool", "AveragePool", "SumPool")
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    """The padded x, the places of its elements, and the list of the elements of a window."""
    x = inputs[0]
    g = geometry(x.shape[2:], attributes["kernel_shape"], attributes)
    return padded_size(x, g) * int(x.dtype.itemsize + INT64.itemsize) + TAP * math.prod(g.kernel)


@lowering("MaxPool", "AveragePool", "SumPool")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> Any:
    is_maximum, attributes = node.operation == "MaxPool", node.attributes
    x = (typed_view if is_maximum else view)(b, inputs[0])
    if x is None or any(node.outputs[1:]):
        return None
    g = geometry(x.shape[2:], attributes["kernel_shape"], attributes)
    n, outside = len(g.kernel), bounds(np.dtype(x.dtype))[0] if is_maximum else 0.0
    sides = g.needed_sides(x.shape[2:])
    if any(min(side) < 0 for side in sides):
        return None
    last = pad_view(b, channels_last(x), sides, b.scalar(outside, x.dtype))
    if is_maximum:
        is_plain = not any(map(any, sides)) and inputs[0] is not None and inputs[0].used_once
        total = (pooled_product(b, last, g) if is_plain else None) or _maxima(b, last, g)
    else:
        total = window_step(b, "sum", last, g)
    if node.operation == "AveragePool":
        counted = g.sides if attributes.get("count_include_pad") else [(0, 0)] * n
        total = b.binary("divide", total, _counts(b, x.shape[2:], g, sides, counted))
    return [channels_first(total)]


def _maxima(b: Builder, x: View, g: Geometry) -> View:
    """Return the maximum of each window of the padded x (N, *in, C)."""
    if x.dtype == "float32":
        return window_step(b, "maximum", x, g)
    budget.spend(20 * budget.STEP * math.prod(g.kernel))
    seen = window_view(x, g)
    taps = [tap_view(seen, len(g.kernel), tap) for tap in np.ndindex(*g.kernel)]
    y = reduce(partial(b.binary, "maximum"), taps)
    return b.binary("add", y, b.scalar(0.0, x.dtype)) if x.dtype == "float64" else y  # turns -0 into 0


def _counts(b: Builder, sizes: Sequence[Any], g: Geometry, sides: Sides, counted: Sides) -> View:
    """Return how many elements each window has, of which only the padding on the sides `counted` counts."""
    if list(sides) == list(counted):  # each window counts all of its elements
        return b.scalar(float(math.prod(g.kernel)))
    padded = (size + sum(side) for size, side in zip(sizes, counted, strict=True))
    pairs = zip(sides, counted, strict=True)
    rest = [(before - first, after - last) for (before, after), (first, last) in pairs]
    ones = pad_view(b, b.scalar(1.0).broadcast(1, *padded, 1), rest, b.scalar(0.0))
    return window_step(b, "sum", ones, g)


def _unpooled_shape(
    shape: Sequence[int], kernel: Sequence[int], attributes: Mapping[str, Any]
) -> tuple[int, ...]:
    n = len(kernel)
    pads, strides = attributes.get("pads") or [0] * 2 * n, attributes.get("strides") or [1] * n
    axes = zip(shape[2:], kernel, strides, pads[:n], pads[n:], strict=True)
    return (*shape[:2], *((size - 1) * s - before - after + k for size, k, s, before, after in axes))


def _unpool_signature(
    x: Operand, indices: Operand, output_shape: Any = None, *, kernel_shape: Sequence[int], **attributes: Any
) -> Signature:
    if output_shape is not None:
        return Signature(tuple(map(int, output_shape)), x.dtype)
    return Signature(_unpooled_shape(x.shape, kernel_shape, attributes), x.dtype)


@operation("MaxUnpool", signature=_unpool_signature, shape_inputs=(2,), attributes=("pads", "strides"))
def max_unpool(
    x: AnyArray, indices: AnyArray, output_shape: Any = None, *, kernel_shape: Sequence[int], **attributes:
    Any,
) -> AnyArray:  # fmt: skip
    """x at its indices in the flattened input of MaxPool, zeros elsewhere and up to `output_shape`."""
    shape = _unpooled_shape(x.shape, kernel_shape, attributes)
    if indices.size and not (indices.min() >= 0 and indices.max() < math.prod(shape)):
        raise ShapeError(f"an index exceeds the output of shape {shape}")
    y = np.zeros(shape, x.dtype)
    y.reshape(-1)[indices.reshape(-1)] = x.reshape(-1)
    if output_shape is None:
        return y
    wanted = tuple(map(int, output_shape))
    if len(wanted) != y.ndim or any(a < b for a, b in zip(wanted, shape, strict=True)):
        raise ShapeError(f"output_shape is {wanted}; expected at least {shape}")
    return np.pad(y, [(0, a - b) for a, b in zip(wanted, shape, strict=True)])
