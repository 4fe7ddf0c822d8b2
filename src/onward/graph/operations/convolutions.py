"""Convolution and transposed convolution over any number of axes."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ShapeError
from ...layers.conv import Filters
from ..node import AnyArray, Node, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .arguments import as_integers
from .products import multiply, split_rows
from .registry import Inputs, Known, Value, is_known, known, operation, view
from .sliding import WINDOW, Geometry, geometry, pad_view, spans, window_step, window_view

CONVOLUTION = ("group", "kernel_shape", *WINDOW)


def conv_geometry(x: Known, W: Known, attributes: Any) -> Geometry:
    """Return the geometry of a convolution. Raises ShapeError if x and W do not match."""
    group = attributes.get("group", 1)
    channels = W.shape[1] * group if len(x.shape) == len(W.shape) >= 3 else None
    if x.shape[1:2] != (channels,) or W.shape[0] % group:
        raise ShapeError(f"x has shape {x.shape}, W {W.shape}; they do not match with group={group}")
    return geometry(x.shape[2:], W.shape[2:], attributes)


def pad_or_crop(x: AnyArray, sides: Sequence[tuple[int, int]], value: Any = 0) -> AnyArray:
    """Pad x (N, C, *in) with a value; negative padding removes elements."""
    kept = tuple(
        slice(max(0, -before), size - max(0, -after))
        for size, (before, after) in zip(x.shape[2:], sides, strict=True)
    )
    widths = [(max(0, before), max(0, after)) for before, after in sides]
    return np.pad(x[(slice(None), slice(None), *kept)], [(0, 0), (0, 0), *widths], constant_values=value)


def conv_signature(x: Known, W: Known, bias: Known | None = None, **attributes: Any) -> Signature:
    """The output (N, M, *out) of a convolution of x (N, C, *in) with W (M, C / group, *kernel)."""
    check_bias(bias, W.shape[0])
    return Signature((x.shape[0], W.shape[0], *conv_geometry(x, W, attributes).out), x.dtype)


def check_bias(bias: Known | None, channels: int) -> None:
    """Raise ShapeError if a bias does not have one number for each output channel."""
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(f"the bias has shape {bias.shape}; expected ({channels},)")


@operation("Conv", signature=conv_signature, attributes=CONVOLUTION, widens=True)
def conv(x: AnyArray, W: AnyArray, bias: AnyArray | None = None, **attributes: Any) -> AnyArray:
    """y[n, m, i] = bias[m] + the sum over c and k of W[m, c, k] x[n, c, strides i + dilations k - pads]."""
    g = conv_geometry(x, W, attributes)
    y = np.empty((x.shape[0], W.shape[0], *g.out), x.dtype)
    if y.size:
        filters = Filters(np.ascontiguousarray(W), bias, attributes.get("group", 1))
        y[...] = filters(pad_or_crop(x, g.sides), g.strides, [(0, 0)] * len(g.kernel), g.dilations)
    return y


@conv.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, W, bias = (*inputs, None)[:3]
    if not (is_known(W) and is_known(bias)) or known(W).dtype != np.float32:
        return None
    return filter_rows(b, node, x, known(W), known(bias))


def filter_rows(
    b: Builder,
    node: Node,
    x: Value | None,
    W: NDArray[Any],
    bias: NDArray[Any] | None,
    scale: NDArray[Any] | None = None,
) -> list[View] | None:
    """Lower to products, with the channels last, or to a sum over taps if each channel has its own kernel.

    W is float32, float16, or int8 with the scale of each filter; only float32 may have a kernel per channel.
    """
    source = view(b, x)
    if x is None or source is None or not 3 <= W.ndim <= 4:
        return None
    g = conv_geometry(x, W, node.attributes)  # type: ignore[arg-type]  # a value has shape and dtype
    N, C, M, n = x.shape[0], x.shape[1], W.shape[0], len(g.kernel)
    if any(min(side) < 0 for side in g.sides) or 0 in (*x.shape, *W.shape):
        return None
    groups = node.attributes.get("group", 1)
    last = pad_view(b, source.permuted(0, *range(2, 2 + n), 1), g.sides, b.scalar(0.0))  # (N, *in, C)
    if groups == C and M == C and groups > 1 and W.dtype == np.float32:
        y = depthwise(b, last, W, bias, g)
    else:
        y = b.new_rows(N * math.prod(g.out), M)
        for group, own, windows in windows_of_groups(last, g, groups, M):
            target = y if groups == 1 else b.new_rows(y.shape[0], M // groups)
            make = partial(_filters, W, bias, scale, own)
            packed = b.packed((W, bias, scale), ("filters", group), make)
            b.add("product", packed, windows, 1 + n, None, target)
            if groups > 1:
                b.add("copy", target, y.sliced(1, own.start, own.stop))
        y = split_rows(y, (N, *g.out))
    return [y.permuted(0, n + 1, *range(1, n + 1))]


def windows_of_groups(x: View, g: Geometry, groups: int, M: int) -> Iterator[tuple[int, slice, View]]:
    """Yield each group of channels, its slice of M filters, and its windows over the padded x (N, *in, C)."""
    axis, C = len(x.shape) - 1, x.shape[-1]
    for group in range(groups):
        own = slice(group * M // groups, (group + 1) * M // groups)
        yield group, own, window_view(x.sliced(axis, group * C // groups, (group + 1) * C // groups), g)


def _filters(
    W: NDArray[Any], bias: NDArray[Any] | None, scale: NDArray[Any] | None, own: slice
) -> tuple[NDArray[Any] | None, ...]:
    """Return the filters of one group as rows of a matrix, channels last, their bias and their scales."""
    filters = np.moveaxis(W[own], 1, -1)
    return filters.reshape(len(filters), -1), *(None if a is None else a[own] for a in (bias, scale))


def depthwise(b: Builder, x: View, W: NDArray[Any], bias: NDArray[Any] | None, g: Geometry) -> View:
    """Convolve each channel with its own kernel; y (N, *out, C) sums over the taps in order."""
    weights = b.constant(np.ascontiguousarray(W.reshape(len(W), -1).T))
    return window_step(b, "weighted_sum", x, g, weights, None if bias is None else b.constant(bias))


def transposed_sizes(x: Known, W: Known, attributes: Any) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the sizes before cropping and the elements to crop before and after each axis."""
    group = attributes.get("group", 1)
    if len(x.shape) != len(W.shape) or len(x.shape) < 3 or x.shape[1] != W.shape[0] or W.shape[0] % group:
        raise ShapeError(f"x has shape {x.shape}, W {W.shape}; they do not match with group={group}")
    sizes, kernel = x.shape[2:], W.shape[2:]
    n, auto_pad = len(kernel), attributes.get("auto_pad", "NOTSET")
    strides, dilations = (attributes.get(name) or [1] * n for name in ("strides", "dilations"))
    more, output_shape = attributes.get("output_padding") or [0] * n, attributes.get("output_shape")
    whole = [
        (size - 1) * step + span + extra
        for size, step, span, extra in zip(sizes, strides, spans(kernel, dilations), more, strict=True)
    ]
    if auto_pad in ("SAME_UPPER", "SAME_LOWER") and not output_shape:
        output_shape = [size * step for size, step in zip(sizes, strides, strict=True)]
    if output_shape:
        crops = []
        for size, out in zip(whole, output_shape[-n:], strict=True):
            total = size - out  # an output that is larger than the result ends with zeros
            before = max(0, total // 2 if auto_pad == "SAME_UPPER" else total - total // 2)
            crops.append((before, total - before))
        return whole, crops
    pads = list(attributes.get("pads") or [0] * 2 * n) if auto_pad == "NOTSET" else [0] * 2 * n
    return whole, list(zip(pads[:n], pads[n:], strict=True))


def _transposed_signature(x: Known, W: Known, bias: Known | None = None, **attributes: Any) -> Signature:
    whole, crops = transposed_sizes(x, W, attributes)
    check_bias(bias, W.shape[1] * attributes.get("group", 1))
    if min(whole) < 0:
        raise ShapeError(f"x has shape {x.shape}, which has an empty axis")
    out = (max(0, size - before - after) for size, (before, after) in zip(whole, crops, strict=True))
    return Signature((x.shape[0], W.shape[1] * attributes.get("group", 1), *out), x.dtype)


@operation(
    "ConvTranspose",
    signature=_transposed_signature,
    attributes=("output_padding", "output_shape", *CONVOLUTION),
    widens=True,
)
def conv_transpose(x: AnyArray, W: AnyArray, bias: AnyArray | None = None, **attributes: Any) -> AnyArray:
    """y[n, m, strides i + dilations k - pads] sums x[n, c, i] W[c, m, k] over the channels c of m's group.

    x (N, C, *in), W (C, M / group, *kernel) and bias (M,), which is added to y (N, M, *out).
    """
    whole, crops = transposed_sizes(x, W, attributes)
    kernel, n = W.shape[2:], W.ndim - 2
    steps, apart = (attributes.get(name) or [1] * n for name in ("strides", "dilations"))
    group = attributes.get("group", 1)
    channels, outputs = W.shape[0] // group, W.shape[1]
    y = np.zeros((len(x), outputs * group, *whole), x.dtype)
    for number, own_W in enumerate(np.split(W, group)):
        rows = np.moveaxis(x[:, number * channels : (number + 1) * channels], 1, -1)
        # each output channel at each place of the kernel
        parts = multiply(rows, own_W.reshape(channels, -1)).reshape(*rows.shape[:-1], outputs, *kernel)
        own = y[:, number * outputs : (number + 1) * outputs]
        _add_overlapping(own, np.moveaxis(parts, range(1, n + 1), range(-n, 0)), steps, apart)
    y = pad_or_crop(y, [(-before, -after) for before, after in crops])
    return y if bias is None else y + bias.reshape(-1, *[1] * n)


def _add_overlapping(y: AnyArray, parts: AnyArray, strides: Sequence[int], dilations: Sequence[int]) -> None:
    """Add parts (N, C, *kernel, *in) to y (N, C, *out) at strides in + dilations kernel, in kernel order."""
    kernel, counts = np.split(np.array(parts.shape[2:]), 2)
    for place in np.ndindex(*kernel):
        there = zip(place, dilations, counts, strides, strict=True)
        target = (slice(k * d, k * d + n * stride, stride) for k, d, n, stride in there)
        y[:, :, *target] += parts[:, :, *place]


def _col2im_signature(x: Known, image_shape: AnyArray, block_shape: AnyArray, **attributes: Any) -> Signature:
    channels = x.shape[1] // int(np.prod(as_integers(block_shape)))
    return Signature((x.shape[0], channels, *as_integers(image_shape)), x.dtype)


@operation("Col2Im", signature=_col2im_signature, shape_inputs=(1, 2), widens=True)
def col2im(
    x: AnyArray,
    image_shape: AnyArray,
    block_shape: AnyArray,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Any:
    """x (N, channels * block, blocks) to images (N, channels, *image_shape); blocks add up in block order."""
    image, block = as_integers(image_shape), as_integers(block_shape)
    rank = len(image)
    dilations, strides, pads = dilations or [1] * rank, strides or [1] * rank, pads or [0] * 2 * rank
    padded = [size + pads[i] + pads[i + rank] for i, size in enumerate(image)]
    counts = [
        (size - dilation * (width - 1) - 1) // stride + 1
        for size, width, dilation, stride in zip(padded, block, dilations, strides, strict=True)
    ]
    shape = _col2im_signature(x, image_shape, block_shape).shape
    try:
        columns = x.reshape(*shape[:2], *block, *counts)
    except ValueError as error:
        raise ShapeError(
            f"x has shape {x.shape}, which does not hold blocks of shape {block} at {counts} positions"
        ) from error
    canvas = np.zeros((*shape[:2], *padded), x.dtype)
    _add_overlapping(canvas, columns, strides, dilations)
    return canvas[:, :, *(slice(pads[i], pads[i] + size) for i, size in enumerate(image))]
