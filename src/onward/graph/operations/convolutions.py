"""Convolution over any number of axes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.windows import Filters, Geometry, geometry
from ...errors import ShapeError
from ..node import AnyArray, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .products import new_rows, product_step
from .registry import allocating, operation, over_time, reading
from .sliding import (
    WINDOW,
    channels_first,
    channels_last,
    ends_apart,
    filter_size,
    has_adjacent_steps,
    has_far_ends,
    is_worth_transposing,
    pad_view,
    padded_size,
    window_step,
    window_view,
    windows_combine,
    windows_over_time,
    with_adjacent_steps,
    with_unit_stride,
)

# With so few channels, vectors may hold adjacent windows instead of outputs; the sums are the same.
FEW_CHANNELS, FEW_OF_GROUP = 4, 16

CONVOLUTION = ("group", "kernel_shape", *WINDOW)


def conv_geometry(x: Operand | View, W: Operand, attributes: Any) -> Geometry:
    """Return the geometry of a convolution. Raises ShapeError if x and W do not match."""
    group = attributes.get("group", 1)
    channels = W.shape[1] * group if len(x.shape) == len(W.shape) >= 3 else None
    if x.shape[1:2] != (channels,) or W.shape[0] % group:
        raise ShapeError(f"x has shape {x.shape}, W {W.shape}; they do not match with group={group}")
    return geometry(x.shape[2:], W.shape[2:], attributes)


def conv_signature(x: Operand, W: Operand, bias: Operand | None = None, **attributes: Any) -> Signature:
    """The output (N, M, *out) of a convolution of x (N, C, *in) with W (M, C / group, *kernel)."""
    check_bias(bias, W.shape[0])
    return Signature((x.shape[0], W.shape[0], *conv_geometry(x, W, attributes).out), x.dtype)


def check_bias(bias: Operand | None, channels: int) -> None:
    """Raise ShapeError if a bias does not have one number for each output channel."""
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(f"the bias has shape {bias.shape}; expected ({channels},)")


@operation("Conv", signature=conv_signature, attributes=CONVOLUTION, widens=True, combines=windows_combine)
def conv(x: AnyArray, W: AnyArray, bias: AnyArray | None = None, **attributes: Any) -> AnyArray:
    """y[n, m, i] = bias[m] + the sum over c and k of W[m, c, k] x[n, c, strides i + dilations k - pads]."""
    return convolve(x, W, bias, attributes)


def convolve(
    x: AnyArray, W: AnyArray, bias: AnyArray | None, attributes: Any, scale: AnyArray | None = None
) -> AnyArray:
    """Convolve x (N, C, *in) with W (M, C / group, *kernel) of floats, or of int8 with a scale (M,)."""
    g = conv_geometry(x, W, attributes)
    y = np.empty((x.shape[0], W.shape[0], *g.out), x.dtype)
    if y.size:
        filters = Filters(np.ascontiguousarray(W), bias, attributes.get("group", 1), scale)
        y[...] = filters(x, g)
    return y


@conv.steps(views=(0,))
def _(b: Builder, x: View, W: AnyArray, bias: AnyArray | None = None, **attributes: Any) -> View | None:
    return filter_rows(b, x, W, bias, None, attributes) if W.dtype == np.float32 else None


def _quantized_signature(
    x: Operand, W: Operand, scale: Operand | None = None, bias: Operand | None = None, **attributes: Any
) -> Signature:
    return conv_signature(x, W, bias, **attributes)


@operation("QuantizedConv", signature=_quantized_signature, attributes=CONVOLUTION, combines=windows_combine)
def quantized_conv(
    x: AnyArray, W: AnyArray, scale: AnyArray | None = None, bias: AnyArray | None = None, **attributes: Any
) -> AnyArray:
    """Conv with constant filters in float16, or in int8, which quantizes each window of x as well."""
    return convolve(x, W, bias, attributes, scale)


@quantized_conv.steps(views=(0,))
def _(b: Builder, x: View, W: AnyArray, *others: Any, **attributes: Any) -> View | None:
    scale, bias = (*others, None, None)[:2]
    return filter_rows(b, x, W, bias, scale, attributes)


over_time("Conv", "QuantizedConv")(windows_over_time)
reading("Conv", "QuantizedConv")(filter_size)


@allocating("Conv", "QuantizedConv")
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    x, W = inputs[:2]
    return padded_size(x, conv_geometry(x, W, attributes)) * int(x.dtype.itemsize)


def filter_rows(
    b: Builder,
    x: View,
    W: NDArray[Any],
    bias: NDArray[Any] | None,
    scale: NDArray[Any] | None,
    attributes: Any,
) -> View | None:
    """Lower to products, with the channels last, or to a sum over taps if each channel has its own kernel.

    W is float32, float16, or int8 with the scale of each filter; only float32 may have a kernel per channel.
    """
    if not 3 <= W.ndim <= 4:
        return None
    g = conv_geometry(x, W, attributes)
    N, C, M, n = x.shape[0], x.shape[1], W.shape[0], len(g.kernel)
    if any(min(side) < 0 for side in g.sides) or 0 in (*x.shape, *W.shape):
        return None
    groups, step = attributes.get("group", 1), g.strides[-1]
    first = channels_last(x)
    is_depthwise = groups == C == M > 1 and W.dtype == np.float32
    is_adjacent = has_adjacent_steps(first) and step == 1 and W.dtype == np.float32
    has_few = is_depthwise or M // groups <= (few_outputs(b) if groups == 1 else FEW_OF_GROUP)
    transposes = groups == 1 and has_few and not is_adjacent and can_transpose(b, W, g)
    keeps_order = is_adjacent and (has_few or C <= FEW_CHANNELS)
    in_order = has_few and (is_adjacent or transposes)
    if has_few and is_adjacent and n == 1 and has_far_ends(x, g):
        y = channels_last(b.new(N, M, *g.out))
        for part, windows, target in ends_apart(b, first, g, y, has_channels_last=is_depthwise):
            if is_depthwise and part is not first:  # vectors of channels suit few windows
                b.add("copy", depthwise(b, part, W, bias, windows), target)
            elif is_depthwise:
                depthwise(b, part, W, bias, windows, target)
            else:
                _add_filters(b, "filter", part, windows, (W, bias, scale), groups, target)
        return channels_first(y)
    last = pad_view(b, first, g.sides, b.scalar(0.0), not keeps_order and not (transposes and step == 1))
    if transposes:
        last, g = with_unit_stride(b, last, g) if step > 1 else (with_adjacent_steps(b, last), g)
    elif step > 1 and C > 1 and has_adjacent_steps(last):
        last = b.contiguous(last)  # the windows are not adjacent in any case
    if is_depthwise:
        return channels_first(depthwise(b, last, W, bias, g))
    y = channels_last(b.new(N, M, *g.out)) if in_order else new_rows(b, (N, *g.out), M)
    _add_filters(b, "filter" if in_order else "product", last, g, (W, bias, scale), groups, y)
    return channels_first(y)


def _add_filters(
    b: Builder, step: str, x: View, g: Geometry, weights: tuple[Any, Any, Any], groups: int, y: View
) -> None:
    """Multiply the windows over the padded x (N, *in, C) by the filters of each group: y (N, *out, M)."""
    n, M = len(g.kernel), y.shape[-1]
    for group, own, windows in windows_of_groups(x, g, groups, M):
        packed = b.packed(weights, ("filters", group), partial(_filters, *weights, own))
        target = y.sliced(1 + n, own.start, own.stop)
        if step == "filter" or groups == 1:
            b.add(step, packed, windows, 1 + n, None, target)
        else:
            b.add("copy", product_step(b, packed, windows, M // groups, 1 + n), target)


def few_outputs(b: Builder) -> int:
    """Return the most outputs with which vectors hold adjacent windows: half of the units of a panel."""
    return max(FEW_CHANNELS, int(b.lanes) // 2)


def can_transpose(b: Builder, W: NDArray[Any], g: Geometry) -> bool:
    """Whether a copy of x has adjacent steps, or runs of as many as the last stride, and saves time."""
    step = g.strides[-1]
    can = W.dtype == np.float32 and (step == 1 or (g.dilations[-1] == 1 and g.kernel[-1] % step == 0))
    taps = math.prod(g.kernel) // step
    return can and is_worth_transposing(b, W.shape[1] * step, taps, W.shape[0], g.out[-1])


def windows_of_groups(x: View, g: Geometry, groups: int, M: int) -> Iterator[tuple[int, slice, View]]:
    """Yield each group of channels, its slice of M filters, and its windows over the padded x (N, *in, C)."""
    axis, C = len(x.shape) - 1, x.shape[-1]
    for group in range(groups):
        filters = slice(group * M // groups, (group + 1) * M // groups)
        part = x if groups == 1 else x.sliced(axis, group * C // groups, (group + 1) * C // groups)
        yield group, filters, window_view(part, g)


def _filters(
    W: NDArray[Any], bias: NDArray[Any] | None, scale: NDArray[Any] | None, filters: slice
) -> tuple[NDArray[Any] | None, ...]:
    """Return the filters (M, C, taps) of one group, their bias and their scales."""
    return W[filters].reshape(filters.stop - filters.start, W.shape[1], -1), *(
        None if a is None else a[filters] for a in (bias, scale)
    )


def filter_matrix(W: NDArray[Any]) -> NDArray[Any]:
    """Return filters (M, C, *kernel) as rows of a matrix, channels last."""
    return W.transpose(0, *range(2, W.ndim), 1).reshape(len(W), -1)


def depthwise(
    b: Builder, x: View, W: NDArray[Any], bias: NDArray[Any] | None, g: Geometry, y: View | None = None
) -> View:
    """Convolve each channel with its own kernel; y (N, *out, C) sums over the taps in order."""
    weights = b.constant(np.ascontiguousarray(W.reshape(len(W), -1).T))
    return window_step(b, "weighted_sum", x, g, weights, None if bias is None else b.constant(bias), y)
