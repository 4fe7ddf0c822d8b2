"""Transposed convolution.

With many output channels, each phase of the stride is a convolution of its own. With few, one product
computes what each input contributes to the outputs that it reaches, and these contributions add up.
"""

import itertools
import math
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..node import Node
from ..plan.builder import Builder
from ..plan.view import View
from .convolutions import conv_transpose, transposed_sizes
from .products import split_rows
from .registry import Inputs, Known, known, view
from .sliding import pad_view, spans

FEW_CHANNELS = 16  # a vector of AVX-512; on all machines, so that all give the same bits


class Phase(NamedTuple):
    """The outputs first, first + stride, .. of an axis: these taps of the kernel reach them.

    Output number q sums over tap number j times the input q + start + j step; the inputs ascend.
    """

    first: int
    size: int
    taps: list[int]
    start: int
    step: int


def phases(out: int, kernel: int, stride: int, dilation: int, before: int) -> list[Phase]:
    """Split the outputs of an axis, from which `before` elements were removed, into phases.

    >>> phases(out=5, kernel=3, stride=2, dilation=1, before=0)  # doctest: +NORMALIZE_WHITESPACE
    [Phase(first=0, size=3, taps=[2, 0], start=-1, step=1),
     Phase(first=1, size=2, taps=[1], start=0, step=1)]
    """
    found = []
    for first in range(min(stride, out)):
        taps = [tap for tap in reversed(range(kernel)) if (first + before - tap * dilation) % stride == 0]
        inputs = [(first + before - tap * dilation) // stride for tap in taps]
        step = inputs[1] - inputs[0] if len(inputs) > 1 else 1
        size = len(range(first, out, stride))
        found.append(Phase(first, size, taps, inputs[0] if inputs else 0, step))
    return found


@conv_transpose.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Map x (N, C, *in), W (C, M / group, *kernel) and a bias (M) to y (N, M, *out)."""
    x, W, bias = view(b, inputs[0]), known(inputs[1]), inputs[2] if len(inputs) > 2 else None
    start, added = known(bias), view(b, bias)
    if x is None or W is None or W.dtype != np.float32 or 0 in (*x.shape, *W.shape, *shapes[0]):
        return None
    if bias is not None and added is None:
        return None
    groups, n, out = node.attributes.get("group", 1), W.ndim - 2, shapes[0][2:]
    strides, dilations = (list(node.attributes.get(name) or [1] * n) for name in ("strides", "dilations"))
    _, crops = transposed_sizes(inputs[0], W, node.attributes)  # type: ignore[arg-type]  # it has a shape
    before = [crop for crop, _ in crops]
    last = x.permuted(0, *range(2, 2 + n), 1)  # (N, *in, C)
    if W.shape[1] < FEW_CHANNELS and min(before) >= 0:
        y = _overlapping(b, last, W, start, groups, strides, dilations, before, out)
    else:
        axes = zip(out, W.shape[2:], strides, dilations, before, strict=True)
        y = _phase_by_phase(b, last, W, start, groups, strides, [phases(*axis) for axis in axes], out)
    if added is not None and start is None:
        y = b.binary("add", y, added)
    return [y.permuted(0, n + 1, *range(1, n + 1))]


def _overlapping(
    b: Builder,
    x: View,
    W: NDArray[Any],
    bias: NDArray[Any] | None,
    groups: int,
    strides: list[int],
    dilations: list[int],
    before: list[int],
    out: tuple[int, ...],
) -> View:
    """Multiply x (N, *in, C) by all taps; add the products, input by input, to the outputs (N, *out, M).

    The target of the addition overlaps itself, so that the addition must follow the order of its views.
    """
    N, *sizes, C = x.shape
    kernel, n, M = W.shape[2:], len(sizes), W.shape[1]
    axes = zip(sizes, kernel, strides, dilations, before, out, strict=True)
    whole = [max((size - 1) * s + (k - 1) * d + 1, skip + m) for size, k, s, d, skip, m in axes]
    y = b.new(N, *whole, M * groups)
    b.add("copy", b.scalar(0.0) if bias is None else b.constant(bias), y)
    places = y.strides[1:-1]
    reach = (y.strides[0], *_scaled(places, strides), *_scaled(places, dilations), 1)
    for group in range(groups):
        part = x.sliced(n + 1, group * C // groups, (group + 1) * C // groups)
        own = W[group * C // groups : (group + 1) * C // groups]  # (C / groups, M / groups, *kernel)
        make = partial(_taps, own)
        packed = b.packed((W,), ("overlapping", group), make)
        product = b.new_rows(N * math.prod(sizes), M * math.prod(kernel))
        b.add("product", packed, part, n + 1, None, product)
        rows = split_rows(product, (N, *sizes))
        shape, taps = (N, *sizes, *kernel, M), View.contiguous(0, 0, (*kernel, M)).strides
        target = y._replace(offset=y.offset + group * M, shape=shape, strides=reach)
        b.add(
            "binary", "add", target, rows._replace(shape=shape, strides=(*rows.strides[:-1], *taps)), target
        )
    for axis, (skip, m) in enumerate(zip(before, out, strict=True), start=1):
        y = y.sliced(axis, skip, skip + m)
    return y


def _scaled(strides: Sequence[int], factors: Sequence[int]) -> list[int]:
    return [stride * factor for stride, factor in zip(strides, factors, strict=True)]


def _taps(W: NDArray[Any]) -> tuple[NDArray[Any], None]:
    """Return W (C, M, *kernel) as a matrix (kernel * M, C)."""
    return np.moveaxis(W, (0, 1), (-1, -2)).reshape(-1, len(W)), None


def _phase_by_phase(
    b: Builder,
    x: View,
    W: NDArray[Any],
    bias: NDArray[Any] | None,
    groups: int,
    strides: list[int],
    by_axis: list[list[Phase]],
    out: tuple[int, ...],
) -> View:
    """Convolve x (N, *in, C) with the taps of each phase; return y (N, *out, M)."""
    N, *sizes, C = x.shape
    n, M = len(sizes), W.shape[1] * groups
    pads = [_padding(axis, size) for axis, size in zip(by_axis, sizes, strict=True)]
    whole, y = pad_view(b, x, pads, b.scalar(0.0)), b.new(N, *out, M)
    for phase in itertools.product(*by_axis):
        target = y
        for axis, part in enumerate(phase, start=1):
            target = target.sliced(axis, part.first, out[axis - 1], strides[axis - 1])
        for group in range(groups):
            own = slice(group * M // groups, (group + 1) * M // groups)
            group_target = target.sliced(n + 1, own.start, own.stop)
            if not all(axis.taps for axis in phase):
                b.add("copy", b.scalar(0.0) if bias is None else b.constant(bias[own]), group_target)
                continue
            channels = whole.sliced(n + 1, group * C // groups, (group + 1) * C // groups)
            rows = _windows(channels, phase, [side[0] for side in pads])
            taps = tuple(tuple(axis.taps) for axis in phase)
            filters = partial(_filters, W, bias, group, groups, phase)
            packed = b.packed((W, bias), ("transposed", group, taps), filters)
            product = b.new_rows(math.prod(rows.shape[: n + 1]), M // groups)
            b.add("product", packed, rows, n + 1, None, product)
            b.add("copy", split_rows(product, rows.shape[: n + 1]), group_target)
    return y


def _padding(axis: list[Phase], size: int) -> tuple[int, int]:
    """Return the zeros that the windows of all phases need before and after an axis of the input."""
    ends = [p.start + (p.size - 1) + (len(p.taps) - 1) * p.step for p in axis if p.taps]
    return max(0, -min(p.start for p in axis)), max(0, max(ends, default=0) + 1 - size)


def _windows(x: View, phase: tuple[Phase, ...], before: list[int]) -> View:
    """Return the windows (N, *outputs, *taps, C) of x (N, *in, C), which is padded."""
    places = x.strides[1:-1]
    offset = sum((p.start + pad) * stride for p, pad, stride in zip(phase, before, places, strict=True))
    taps = [p.step * stride for p, stride in zip(phase, places, strict=True)]
    shape = (x.shape[0], *(p.size for p in phase), *(len(p.taps) for p in phase), x.shape[-1])
    strides = (x.strides[0], *places, *taps, x.strides[-1])
    return x._replace(offset=x.offset + offset, shape=shape, strides=strides)


def _filters(
    W: NDArray[Any], bias: NDArray[Any] | None, group: int, groups: int, phase: tuple[Phase, ...]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the taps of a phase as rows of a matrix, for the outputs of one group, and their bias."""
    C, M = W.shape[0] // groups, W.shape[1]
    own = np.moveaxis(W[group * C : (group + 1) * C], 0, -1)
    for axis, part in enumerate(phase, start=1):
        own = np.take(own, part.taps, axis)
    return own.reshape(M, -1), None if bias is None else bias[group * M : (group + 1) * M]


@conv_transpose.combining
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    return [range(1, len(inputs[0].shape)), range(len(inputs[0].shape))]  # type: ignore[union-attr]  # x is not optional


@conv_transpose.over_time
def _(time: Any, node: Node) -> None:
    """Carry the last steps that reach later outputs; zeros before the first step add nothing."""
    x, attributes, axis = node.inputs[0], node.attributes, time.axis(node.inputs[0])
    if axis in (None, 0):
        time.unchanged(node)
        return
    W = time.known(node.inputs[1])
    if axis == 1 or W is None or attributes.get("output_shape"):
        time.refuse(node, "its output has a fixed size, or its channels or weights are the steps")
    place, n = axis - 2, W.ndim - 2
    _, crops = transposed_sizes(time.signature(x), W, attributes)
    before, after = crops[place]
    stride = (attributes.get("strides") or [1] * n)[place]
    span = spans(W.shape[2:], attributes.get("dilations") or [1] * n)[place]
    held, extra = (span - 1) // stride, list(attributes.get("output_padding") or [0] * n)
    beyond = span - stride + extra[place]  # the outputs after the last step, or those that it lacks
    joined = x
    if held:
        sizes = list(time.shape(x))
        sizes[axis] = held
        recent = time.carry(node, np.zeros(sizes, time.dtype(x)), axis, "steps")
        joined = time.add("Concat", recent, x, axis=axis)
        time.keep(recent, time.slice(joined, axis, -held))
    # each step completes `stride` outputs, of which none is missing
    extra[place] = max(stride - span, extra[place] if time.at_end else 0)
    sides = [(0, 0) if other == place else crop for other, crop in enumerate(crops)]
    kept = {"strides", "dilations", "group"} & attributes.keys()
    y = time.add(
        "ConvTranspose",
        joined,
        *node.inputs[1:],
        **{name: attributes[name] for name in kept},
        pads=[number for column in zip(*sides, strict=True) for number in column],
        output_padding=extra,
    )
    excess = 0 if time.at_end else max(0, span - stride)
    y = time.slice(y, axis, held * stride, -excess if excess else None)
    y = time.upsampled(x, y, stride, max(0, beyond))
    if before or after or beyond < 0:
        y = time.padded(node, y, -before, -(after + max(0, -beyond)), 0)
    time.define(node.outputs[0], y, time.timing(y))
