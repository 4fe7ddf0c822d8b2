"""Operations on sliding windows: convolution and pooling."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..builder import Builder
from ..node import Node
from ..view import View
from .products import split_rows
from .registry import Inputs, known, lowering, view


@lowering("Conv")
def conv(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Convolve X (N, C, *in) with W (M, C / groups, *kernel); internally, the channels are last."""
    x, W, bias = view(b, inputs[0]), known(inputs[1]), None
    if len(inputs) > 2 and inputs[2] is not None:
        bias = known(inputs[2])
        if bias is None:
            return None
    if x is None or W is None or not 3 <= W.ndim <= 4:
        return None
    groups, kernel = node.attributes.get("group", 1), W.shape[2:]
    axes = len(kernel)
    strides, dilations, pads = window(node, x.shape[2:], kernel)
    if pads is None:
        return None
    N, C, M, out = x.shape[0], x.shape[1], W.shape[0], shapes[0][2:]
    last = padded(b, x.permuted(0, *range(2, 2 + axes), 1), pads, b.scalar(0.0))  # (N, *in, C)
    if groups == C and M == C and groups > 1:
        y = depthwise(b, last, W, bias, strides, dilations, out)
    else:
        y = b.new_rows(N * math.prod(out), M)
        for group in range(groups):
            own = slice(group * M // groups, (group + 1) * M // groups)
            part = last.sliced(axes + 1, group * C // groups, (group + 1) * C // groups)
            rows = windows(part, kernel, strides, dilations, out)
            target = y if groups == 1 else b.new_rows(y.shape[0], M // groups)
            packed = b.packed((W, bias), ("filters", group), partial(_filters, W, bias, own))
            b.add("product", packed, rows, 1 + axes, None, target)
            if groups > 1:
                b.add("copy", target, y.sliced(1, own.start, own.stop))
        y = split_rows(y, (N, *out))
    return [y.permuted(0, axes + 1, *range(1, axes + 1))]


def _filters(
    W: NDArray[Any], bias: NDArray[Any] | None, own: slice
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the filters of one group as rows of a matrix, channels last, and their bias."""
    filters = np.moveaxis(W[own], 1, -1)
    return filters.reshape(len(filters), -1), None if bias is None else bias[own]


def window(
    node: Node, sizes: tuple[int, ...], kernel: tuple[int, ...]
) -> tuple[list[int], list[int], list[tuple[int, int]] | None]:
    """Return strides, dilations and the padding before and after each axis (None if any is negative)."""
    n = len(kernel)
    strides = list(node.attributes.get("strides") or [1] * n)
    dilations = list(node.attributes.get("dilations") or [1] * n)
    mode, pads = node.attributes.get("auto_pad", "NOTSET"), list(node.attributes.get("pads") or [0] * 2 * n)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        sides = []
        for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size)
            less, more = total // 2, total - total // 2
            sides.append((less, more) if mode == "SAME_UPPER" else (more, less))
        return strides, dilations, sides
    if mode == "VALID":
        pads = [0] * 2 * n
    if min(pads) < 0:
        return strides, dilations, None
    return strides, dilations, list(zip(pads[:n], pads[n:], strict=True))


def padded(b: Builder, x: View, pads: list[tuple[int, int]], value: View) -> View:
    """Pad the middle axes of x (N, *in, C) with a value, a view of one element."""
    if not any(map(any, pads)):
        return x
    N, *sizes, C = x.shape
    shape = (N, *(size + sum(side) for size, side in zip(sizes, pads, strict=True)), C)
    whole = b.new(*shape, dtype=x.dtype)
    b.add("copy", value, whole)
    inner = whole
    for axis, (size, (before, _)) in enumerate(zip(sizes, pads, strict=True), start=1):
        inner = inner.sliced(axis, before, before + size)
    b.add("copy", x, inner)
    return whole


def windows(
    x: View, kernel: Sequence[int], strides: list[int], dilations: list[int], out: Sequence[int]
) -> View:
    """Return the windows (N, *out, *kernel, C) of x (N, *in, C) as a view."""
    N, n = x.shape[0], len(kernel)
    places = tuple(x.strides[1 + axis] * strides[axis] for axis in range(n))
    taps = tuple(x.strides[1 + axis] * dilations[axis] for axis in range(n))
    shape = (N, *out, *kernel, x.shape[-1])
    return x._replace(shape=shape, strides=(x.strides[0], *places, *taps, x.strides[-1]))


def depthwise(
    b: Builder,
    x: View,
    W: NDArray[Any],
    bias: NDArray[Any] | None,
    strides: list[int],
    dilations: list[int],
    out: Sequence[int],
) -> View:
    """Convolve each channel with its own kernel; y (N, *out, C) sums over the taps in order."""
    kernel, n = W.shape[2:], len(out)
    y = b.new(x.shape[0], *out, x.shape[-1])
    if bias is None:
        b.fill(0.0, y)
    else:
        b.add("copy", b.constant(bias.reshape([1] * (n + 1) + [-1])), y)
    all_windows = windows(x, kernel, strides, dilations, out)
    for tap in np.ndindex(*kernel):
        part = all_windows
        for axis, place in enumerate(tap):
            part = part.sliced(1 + n + axis, place, place + 1)
        part = part._replace(
            shape=(*part.shape[: 1 + n], x.shape[-1]), strides=(*part.strides[: 1 + n], x.strides[-1])
        )
        weights = np.ascontiguousarray(W[(slice(None), 0, *tap)]).reshape([1] * (n + 1) + [-1])
        b.add("multiply_add", part, b.constant(weights), y)
    return y


@lowering("MaxPool", "AveragePool")
def pool(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, kernel = view(b, inputs[0]), tuple(node.attributes["kernel_shape"])
    if (
        x is None
        or len(shapes) != 1
        or node.attributes.get("ceil_mode")
        or node.attributes.get("storage_order")
    ):
        return None
    strides, dilations, pads = window(node, x.shape[2:], kernel)
    is_maximum, n, out = node.operation == "MaxPool", len(kernel), shapes[0][2:]
    if pads is None or (
        not is_maximum and any(map(any, pads)) and not node.attributes.get("count_include_pad")
    ):
        return None
    last = padded(b, x.permuted(0, *range(2, 2 + n), 1), pads, b.scalar(-np.inf if is_maximum else 0.0))
    all_windows = windows(last, kernel, strides, dilations, out)
    total = None
    for tap in np.ndindex(*kernel):
        part = all_windows
        for axis, place in enumerate(tap):
            part = part.sliced(1 + n + axis, place, place + 1)
        part = part._replace(
            shape=(*part.shape[: 1 + n], x.shape[1]), strides=(*part.strides[: 1 + n], last.strides[-1])
        )
        if total is None:
            total = part
        else:
            total = b.binary("maximum" if is_maximum else "add", total, part)
    assert total is not None
    total = b.binary("add", total, b.scalar(0.0))  # turns -0 into 0; a maximum may return either
    if not is_maximum:
        total = b.binary("divide", total, b.scalar(math.prod(kernel)))
    return [total.permuted(0, n + 1, *range(1, n + 1))]
