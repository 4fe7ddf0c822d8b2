"""Transposed convolution, and Col2Im, which adds up overlapping blocks.

With many output channels, each phase of the stride is a convolution of its own. With few, one product
computes what each input contributes to the outputs that it reaches, and these contributions add up.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.windows import geometry, pad_or_crop, spans
from ...errors import ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import View
from ..size import are_same
from .arguments import as_integers
from .convolutions import CONVOLUTION, check_bias
from .phases import FEW_OUTPUTS, Phase, Transposed, is_depthwise, padding_of, phase_by_phase, phases
from .products import multiply, product_step
from .registry import Inputs, along_time, operation
from .sliding import channels_first, channels_last
from .value import known, view

LONG = 256  # steps, so that adding whole lines takes less time than the additional steps
FEW_CHANNELS = 16  # a vector of AVX-512; on all machines, so that all give the same bits


def transposed_geometry(x: Any, W: Any, attributes: Mapping[str, Any]) -> Transposed:
    """Return the geometry for x and W, or their signatures. Raises ShapeError if they do not match."""
    group = attributes.get("group", 1)
    if len(x.shape) != len(W.shape) or len(x.shape) < 3 or x.shape[1] != W.shape[0] or W.shape[0] % group:
        raise ShapeError(f"x has shape {x.shape}, W {W.shape}; they do not match with group={group}")
    sizes, kernel = x.shape[2:], W.shape[2:]
    n, auto_pad = len(kernel), attributes.get("auto_pad", "NOTSET")
    strides, dilations = (attributes.get(name) or [1] * n for name in ("strides", "dilations"))
    more, output_shape = attributes.get("output_padding") or [0] * n, attributes.get("output_shape")
    uncropped = [
        (size - 1) * step + span + extra
        for size, step, span, extra in zip(sizes, strides, spans(kernel, dilations), more, strict=True)
    ]
    if auto_pad in ("SAME_UPPER", "SAME_LOWER") and not output_shape:
        output_shape = [size * step for size, step in zip(sizes, strides, strict=True)]
    pads = list(attributes.get("pads") or [0] * 2 * n) if auto_pad == "NOTSET" else [0] * 2 * n
    crops = list(zip(pads[:n], pads[n:], strict=True))
    if output_shape:
        crops = []
        for size, out in zip(uncropped, output_shape[-n:], strict=True):
            total = size - out  # an output that is larger than the result ends with zeros
            before = max(0, total // 2 if auto_pad == "SAME_UPPER" else total - total // 2)
            crops.append((before, total - before))
    return Transposed(group, strides, dilations, uncropped, crops)


def _signature(x: Operand, W: Operand, bias: Operand | None = None, **attributes: Any) -> Signature:
    g = transposed_geometry(x, W, attributes)
    channels = W.shape[1] * g.groups
    check_bias(bias, channels)
    if min(g.uncropped) < 0:
        raise ShapeError(f"x has shape {x.shape}, which has an empty axis")
    return Signature((x.shape[0], channels, *g.out), x.dtype)


@operation(
    "ConvTranspose",
    signature=_signature,
    attributes=("output_padding", "output_shape", *CONVOLUTION),
    widens=True,
    combines=lambda node, inputs: [range(1, len(inputs[0].shape)), range(len(inputs[0].shape))],
)
def conv_transpose(x: AnyArray, W: AnyArray, bias: AnyArray | None = None, **attributes: Any) -> AnyArray:
    """y[n, m, strides i + dilations k - pads] sums x[n, c, i] W[c, m, k] over the channels c of m's group.

    x (N, C, *in), W (C, M / group, *kernel) and bias (M,), which is added to y (N, M, *out).
    """
    g, kernel, n = transposed_geometry(x, W, attributes), W.shape[2:], W.ndim - 2
    channels, outputs = W.shape[0] // g.groups, W.shape[1]
    y = np.zeros((len(x), outputs * g.groups, *g.uncropped), x.dtype)
    for number, filters in enumerate(np.split(W, g.groups)):
        rows = np.moveaxis(x[:, number * channels : (number + 1) * channels], 1, -1)
        # each output channel at each place of the kernel
        parts = multiply(rows, filters.reshape(channels, math.prod(filters.shape[1:]))).reshape(
            *rows.shape[:-1], outputs, *kernel
        )
        group = y[:, number * outputs : (number + 1) * outputs]
        _add_overlapping(group, np.moveaxis(parts, range(1, n + 1), range(-n, 0)), g.strides, g.dilations)
    y = pad_or_crop(y, [(-before, -after) for before, after in g.crops])
    return y if bias is None else y + bias.reshape(-1, *[1] * n)


def _add_overlapping(y: AnyArray, parts: AnyArray, strides: Sequence[int], dilations: Sequence[int]) -> None:
    """Add parts (N, C, *kernel, *in) to y (N, C, *out) at strides in + dilations kernel, in kernel order."""
    kernel, counts = np.split(np.array(parts.shape[2:]), 2)
    for place in np.ndindex(*kernel):
        there = zip(place, dilations, counts, strides, strict=True)
        target = (slice(k * d, k * d + n * stride, stride) for k, d, n, stride in there)
        y[:, :, *target] += parts[:, :, *place]


def _col2im_signature(
    x: Operand, image_shape: AnyArray, block_shape: AnyArray, **attributes: Any
) -> Signature:
    channels = x.shape[1] // int(np.prod(as_integers(block_shape)))
    return Signature((x.shape[0], channels, *as_integers(image_shape)), x.dtype)


@operation(
    "Col2Im",
    signature=_col2im_signature,
    shape_inputs=(1, 2),
    attributes=("dilations", "pads", "strides"),
    widens=True,
    combines=lambda node, inputs: [[1, 2], ()],
)
def col2im(x: AnyArray, image_shape: AnyArray, block_shape: AnyArray, **attributes: Any) -> Any:
    """x (N, channels * block, blocks) to images (N, channels, *image_shape); blocks add up in block order."""
    image = as_integers(image_shape)
    g = geometry(image, as_integers(block_shape), attributes, "a block")
    shape = _col2im_signature(x, image_shape, block_shape).shape
    try:
        columns = x.reshape(*shape[:2], *g.kernel, *g.out)
    except ValueError as error:
        raise ShapeError(
            f"x has shape {x.shape}, which does not hold blocks of shape {g.kernel} at {g.out} positions"
        ) from error
    sizes = [size + sum(side) for size, side in zip(image, g.sides, strict=True)]
    canvas = np.zeros((*shape[:2], *sizes), x.dtype)
    _add_overlapping(canvas, columns, g.strides, g.dilations)
    inside = (slice(before, before + size) for size, (before, _) in zip(image, g.sides, strict=True))
    return canvas[:, :, *inside]


@col2im.over_time
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """Carry the last blocks, which overlap with later ones; blocks of zeros before the first add nothing."""
    x, image, block = node.inputs
    sizes, widths = as_integers(time.value(image)), time.known(block)
    if widths is None or axis != 2:
        time.refuse(node, "its blocks depend on the sequence, or are not along the steps")
    *others, span = map(int, widths)
    stride = (node.attributes.get("strides") or [1])[-1]
    changes = [*(node.attributes.get("pads") or []), *(d - 1 for d in node.attributes.get("dilations") or [])]
    length = (time.shape(x)[2] - 1) * stride + span
    if any(changes) or {*others, *sizes[:-1]} - {1} or stride > span or not are_same(sizes[-1], length):
        time.refuse(node, "its blocks do not overlap along the steps alone, or leave gaps")
    held = max(1, (span - 1) // stride)
    joined, _ = time.recent(node, x, held)
    steps = time.slice(time.add("Shape", joined), 0, 2, 3)
    size = time.add("Mul", steps, time.constant(np.array([stride])))
    size = time.add("Add", size, time.constant(np.array([span - stride])))
    target = time.add(
        "Concat", *([time.constant(np.ones(len(others), np.int64))] if others else []), size, axis=0
    )
    y = time.add("Col2Im", joined, target, block, **node.attributes)
    last = len(widths) + 1
    excess = 0 if time.at_end else span - stride
    y = time.slice(y, last, held * stride, -excess if excess else None)
    y = time.upsampled(x, y, stride, span - stride, last)
    time.define(node.outputs[0], y, time.timing(y))


@conv_transpose.reading
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    outputs, _, *kernel = inputs[1].shape
    return math.prod((outputs, *kernel))


@conv_transpose.allocating
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    """The products of each element of x with all elements of its filters."""
    x, W = inputs[:2]
    return math.prod((x.shape[0], *x.shape[2:], *W.shape[1:], x.dtype.itemsize))


@col2im.reading
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    block = inputs[2]
    return math.prod(as_integers(block)) if isinstance(block, np.ndarray) else 1


@col2im.steps(views=(0,))
def _(b: Builder, x: View, image_shape: AnyArray, block_shape: AnyArray, **attributes: Any) -> View | None:
    """Add the blocks, one after the other, to views of the images."""
    image = as_integers(image_shape)
    g = geometry(image, as_integers(block_shape), attributes)
    if math.prod(g.out) != x.shape[2]:
        return None
    sizes = [size + sum(side) for size, side in zip(image, g.sides, strict=True)]
    y = b.new(x.shape[0], x.shape[1] // math.prod(g.kernel), *sizes)
    b.add("copy", b.scalar(0.0), y)
    shape, places = (*y.shape[:2], *g.kernel, *g.out), y.strides[2:]
    reach = (*y.strides[:2], *_scaled(places, g.dilations), *_scaled(places, g.strides))
    target = y.with_axes(shape, reach)
    b.add("binary", "add", target, b.reshaped(x, *shape), target)
    for axis, (size, (before, _)) in enumerate(zip(image, g.sides, strict=True), start=2):
        y = y.sliced(axis, before, before + size)
    return y


@conv_transpose.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Map x (N, C, *in), W (C, M / group, *kernel) and a bias (M) to y (N, M, *out)."""
    x, W, bias = view(b, inputs[0]), known(inputs[1]), (*inputs, None)[2]
    start, added = known(bias), view(b, bias)
    if x is None or W is None or W.dtype != np.float32 or 0 in W.shape:
        return None
    if bias is not None and added is None:
        return None
    g = transposed_geometry(inputs[0], W, node.attributes)
    few = W.shape[1] < FEW_CHANNELS and min(g.before) >= 0
    overlaps = few and not is_depthwise(W, g) and (g.groups > 1 or W.shape[1] > FEW_OUTPUTS)
    last = channels_last(x)
    # With a larger dilation than stride, the overlapping additions do not follow the order of the inputs.
    if overlaps and W.ndim == 3 and g.strides[0] >= g.dilations[0] and x.shape[2] >= LONG:
        y = _adding_lines(b, last, W, start, g)
    else:
        y = (_overlapping if overlaps else phase_by_phase)(b, last, W, start, g)
    if added is not None and start is None:
        y = b.binary("add", y, added)
    return [channels_first(y)]


def _overlapping(b: Builder, x: View, W: NDArray[Any], bias: NDArray[Any] | None, g: Transposed) -> View:
    """Multiply x (N, *in, C) by all taps; add the products, input by input, to the outputs (N, *out, M).

    The target of the addition overlaps itself, so that the addition must follow the order of its views.
    """
    N, *sizes, C = x.shape
    kernel, n, M = W.shape[2:], len(sizes), W.shape[1]
    groups, out = g.groups, g.out
    axes = zip(sizes, kernel, g.strides, g.dilations, g.before, out, strict=True)
    uncropped = [max((size - 1) * s + (k - 1) * d + 1, skip + m) for size, k, s, d, skip, m in axes]
    y = b.new(N, *uncropped, M * groups)
    b.add("copy", b.scalar(0.0) if bias is None else b.constant(bias), y)
    places = y.strides[1:-1]
    reach = (y.strides[0], *_scaled(places, g.strides), *_scaled(places, g.dilations), 1)
    for group in range(groups):
        part = x.sliced(n + 1, group * C // groups, (group + 1) * C // groups)
        filters = W[group * C // groups : (group + 1) * C // groups]  # (C / groups, M / groups, *kernel)
        make = partial(_taps, filters)
        packed = b.packed((W,), ("overlapping", group), make)
        rows = product_step(b, packed, part, M * math.prod(kernel))
        shape, taps = (N, *sizes, *kernel, M), View.contiguous(0, 0, (*kernel, M)).strides
        target = y.with_axes(shape, reach, group * M)
        b.add("binary", "add", target, rows.with_axes(shape, (*rows.strides[:-1], *taps)), target)
    for axis, (skip, m) in enumerate(zip(g.before, out, strict=True), start=1):
        y = y.sliced(axis, skip, skip + m)
    return y


def _adding_lines(b: Builder, x: View, W: NDArray[Any], bias: NDArray[Any] | None, g: Transposed) -> View:
    """Do the same for long x (N, T, C): a phase of outputs adds lines of products (N, groups, taps, M, T).

    The lines begin and end with -0, which changes no sum.
    """
    N, T, C = x.shape
    groups, M, taps = g.groups, W.shape[1], W.shape[2]
    found = phases(g.out[0], taps, g.strides[0], g.dilations[0], g.before[0])
    before, after = padding_of(found, T)
    lines = b.new(N, groups * taps * M, before + T + after)
    low, high = [0, 0, before], [*lines.shape[:2], before + T]
    b.add("fill_border", b.scalar(-0.0), lines, low, high)
    for group, own in enumerate(np.split(W, groups)):
        part = x.sliced(2, group * C // groups, (group + 1) * C // groups)
        packed = b.packed((W,), ("overlapping", group), partial(_taps, own))
        products = channels_last(lines.within(low, high))
        products = products.sliced(2, group * taps * M, (group + 1) * taps * M)
        b.add("filter", packed, part, 2, None, products)
    parts = b.new(N, len(found), groups * M, found[0].size)  # each phase by itself
    start = b.scalar(0.0) if bias is None else b.constant(bias).with_axes((groups, M), (M, 1))
    row, line, step = lines.strides
    batch, phase_step, unit, place = parts.strides
    for index, phase in enumerate(found):
        shape, strides = (N, phase.size, groups, M), (batch, place, M * unit, unit)
        target = parts.with_axes(shape, strides, index * phase_step)
        total = start
        for number, tap in enumerate(phase.taps):
            skipped = tap * M * line + (before + phase.start + number * phase.step) * step
            term = lines.with_axes(target.shape, (row, step, taps * M * line, line), skipped)
            if number == len(phase.taps) - 1:
                b.add("binary", "add", total, term, target)
            else:
                total = b.binary("add", total, term)
        if not phase.taps:
            b.add("copy", start, target)
    return channels_last(_joined(b, parts.permuted(0, 2, 3, 1), g.out[0], found))


def _joined(b: Builder, parts: View, out: Any, found: list[Phase]) -> View:
    """Return the outputs (N, M, out) of phases, which are parts (N, M, size, phases)."""
    N, M, _, P = parts.shape
    y, complete = b.new(N, M, out), found[-1].size  # outputs of all phases
    batch, unit, place = y.strides
    larger = sum(not are_same(phase.size, complete) for phase in found)
    for first, last, count in ((0, complete, P), (complete, found[0].size, larger)):
        if count:
            part = parts.sliced(2, first, last).sliced(3, 0, count)
            b.add("copy", part, y.with_axes(part.shape, (batch, unit, P * place, place), first * P))
    return y


def _scaled(strides: Sequence[int], factors: Sequence[int]) -> list[int]:
    return [stride * factor for stride, factor in zip(strides, factors, strict=True)]


def _taps(W: NDArray[Any]) -> tuple[NDArray[Any], None]:
    """Return W (C, M, *kernel) as a matrix (kernel * M, C)."""
    return np.moveaxis(W, (0, 1), (-1, -2)).reshape(-1, len(W)), None


@conv_transpose.over_time
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """Carry the last steps that reach later outputs; zeros before the first step add nothing."""
    x, attributes = node.inputs[0], node.attributes
    W = time.known(node.inputs[1])
    if axis == 1 or W is None or attributes.get("output_shape"):
        time.refuse(node, "its output has a fixed size, or its channels or weights are the steps")
    place, n, g = axis - 2, W.ndim - 2, transposed_geometry(time.signature(x), W, attributes)
    (before, after), stride = g.crops[place], g.strides[place]
    span = spans(W.shape[2:], g.dilations)[place]
    held, extra = (span - 1) // stride, list(attributes.get("output_padding") or [0] * n)
    beyond = span - stride + extra[place]  # the outputs after the last step, or those that it lacks
    joined = time.recent(node, x, held)[0] if held else x
    # each step completes `stride` outputs, of which none is missing
    extra[place] = max(stride - span, extra[place] if time.at_end else 0)
    sides = [(0, 0) if other == place else crop for other, crop in enumerate(g.crops)]
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
