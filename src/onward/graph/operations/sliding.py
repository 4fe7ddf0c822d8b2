"""Sliding windows of convolutions and pooling in graphs: views, steps, and the rules over time."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...core.windows import Geometry, Sides, geometry
from ..node import Node, Operand
from ..plan.builder import Builder
from ..plan.view import View
from .reductions import bounds

# Copying fewer elements of a row of the batch, or lines that are shorter for their padding, takes as long as
# steps for their ends.
LARGE, LONG = 1 << 14, 32
FEW_COPIED = 16  # channels; copying more takes longer than computing the unused units of a vector

# The attributes of operations with windows, apart from the size of the kernel.
WINDOW = ("auto_pad", "dilations", "pads", "strides")


def has_adjacent_steps(x: View) -> bool:
    """Whether the elements of x (N, *in, C) are adjacent along the last middle axis, and not along C."""
    return bool(x.strides[-1] != 1 and x.strides[-2] == 1)


def with_adjacent_steps(b: Builder, x: View) -> View:
    """Return x (N, *in, C), or a copy, whose elements are adjacent along the last middle axis."""
    if has_adjacent_steps(x):
        return x
    N, *sizes, C = x.shape
    y = channels_last(b.new(N, C, *sizes, dtype=x.dtype))
    b.add("copy", x, y)
    return y


def is_worth_transposing(b: Builder, C: int, taps: int, outputs: int, windows: Any) -> bool:
    """Whether few outputs of windows with `taps` elements of C channels take less time from adjacent steps.

    Otherwise, a vector of units computes each window. This takes about taps C / 2 cycles, and 10 more; with
    adjacent windows, each output of a vector of them takes as many, and a copy about one for each element.
    """
    saves = C <= FEW_COPIED or taps * (3 * b.lanes - 4 * outputs) > 6 * b.lanes
    return saves and bool(windows >= b.lanes > 1)


def with_unit_stride(b: Builder, x: View, g: Geometry) -> tuple[View, Geometry]:
    """Return x (N, *in, C) with adjacent steps, and windows with the last stride s as windows with stride 1.

    The elements of s adjacent steps become C s channels; s divides the size of the kernel.
    """
    N, *sizes, T, C = x.shape
    step, (first, *others, last, channel) = g.strides[-1], x.strides
    parts = x.with_axes((N, step, C, *sizes, T // step), (first, last, channel, *others, step * last))
    y = b.new(*parts.shape, dtype=x.dtype)
    b.add("copy", parts, y)
    return channels_last(b.reshaped(y, N, step * C, *sizes, T // step)), g.with_unit_stride()


def pad_view(b: Builder, x: View, sides: Sides, value: View, has_channels_last: bool = True) -> View:
    """Pad the middle axes of x (N, *in, C) with a value, a view of one element.

    In memory, the channels of the result are the last axis or the second one.
    """
    if not any(map(any, sides)):
        return x
    N, *sizes, C = x.shape
    padded = [size + sum(side) for size, side in zip(sizes, sides, strict=True)]
    if has_channels_last:
        y = b.new(N, *padded, C, dtype=x.dtype)
    else:
        y = channels_last(b.new(N, C, *padded, dtype=x.dtype))
    low = [0, *(before for before, _ in sides), 0]
    high = [first + size for first, size in zip(low, x.shape, strict=True)]
    b.add("fill_border", value, y, low, high)
    b.add("copy", x, y.within(low, high))
    return y


def has_far_ends(x: View, g: Geometry) -> bool:
    """Whether padding a copy of x (N, C, T) takes longer than steps for the windows at its ends.

    That does not depend on N, so that one program runs batches of all sizes.
    """
    side = max(g.sides[0])
    far = LONG * side + g.spans[0]
    is_large = side > 0 and bool(math.prod(x.shape[1:]) >= LARGE)
    return is_large and bool(x.shape[2] >= far) and bool(g.out[0] >= far)


def ends_apart(
    b: Builder, x: View, g: Geometry, y: View, has_channels_last: bool = False
) -> list[tuple[View, Geometry, View]]:
    """Split windows with stride 1 over x (N, T, C) with adjacent steps, and their outputs y (N, out, M).

    Windows within x read it in place. Those at its ends read padded lines, along an axis of their own; in
    memory, the channels of the lines are their last axis or the second one.
    """
    (before, after), span, out = g.sides[0], g.spans[0], g.out[0]
    N, T, C = x.shape
    width = max(before, after)  # the outputs of a line
    ends = [(0, before, 0)] if before else []  # the first output of each line, and its padding
    ends += [(out - width, 0, after)] if after else []
    shape = (len(ends), width + span - 1)
    lines = b.new(N, *shape, C) if has_channels_last else channels_last(b.new(N, C, *shape))
    b.add("copy", b.scalar(0.0), lines)
    for number, (start, low, high) in enumerate(ends):
        first, size = start - before + low, width + span - 1 - low - high
        line = lines.sliced(1, number, number + 1).sliced(2, low, low + size)
        part = x.sliced(1, first, first + size)
        b.add("copy", part.with_axes(line.shape, (x.strides[0], 0, *x.strides[1:])), line)
    inner = Geometry(g.kernel, (1,), g.dilations, ((0, 0),), (T - span + 1,))
    outer = Geometry((1, *g.kernel), (1, 1), (1, *g.dilations), ((0, 0), (0, 0)), (len(ends), width))
    row, step, unit = y.strides
    outputs = y.with_axes(
        (N, len(ends), width, y.shape[-1]), (row, (out - width) * step, step, unit), ends[0][0] * step
    )
    return [(x, inner, y.sliced(1, before, before + T - span + 1)), (lines, outer, outputs)]


def channels_last(x: View) -> View:
    """Return x (N, C, *in) as (N, *in, C)."""
    return x.permuted(0, *range(2, len(x.shape)), 1)


def channels_first(x: View) -> View:
    """Return x (N, *in, C) as (N, C, *in)."""
    last = len(x.shape) - 1
    return x.permuted(0, last, *range(1, last))


def window_view(x: View, g: Geometry) -> View:
    """Return the windows (N, *out, *kernel, ..) of the padded x (N, *in, ..) as a view."""
    n = len(g.kernel)
    places = tuple(x.strides[1 + axis] * g.strides[axis] for axis in range(n))
    taps = tuple(x.strides[1 + axis] * g.dilations[axis] for axis in range(n))
    shape = (x.shape[0], *g.out, *g.kernel, *x.shape[1 + n :])
    return x.with_axes(shape, (x.strides[0], *places, *taps, *x.strides[1 + n :]))


def tap_view(windows: View, n: int, tap: Sequence[int]) -> View:
    """Return one element of each window (N, *out, C)."""
    part = windows
    for axis, place in enumerate(tap):
        part = part.sliced(1 + n + axis, place, place + 1)
    return part.with_axes((*part.shape[: 1 + n], part.shape[-1]), (*part.strides[: 1 + n], part.strides[-1]))


def window_step(
    b: Builder,
    operation: str,
    x: View,
    g: Geometry,
    weights: View | None = None,
    bias: View | None = None,
    y: View | None = None,
) -> View:
    """Combine the elements of each window of the padded x (N, *in, C); return y (N, *out, C)."""
    if operation == "weighted_sum" and has_adjacent_steps(x) and g.strides[-1] == 1:
        y = y or channels_last(b.new(x.shape[0], x.shape[-1], *g.out))
    else:
        x = b.contiguous(x) if x.strides[-1] != 1 and x.shape[-1] > 1 else x
        y = y or b.new(x.shape[0], *g.out, x.shape[-1])
    b.add("window", operation, window_view(x, g), weights, bias, y)
    return y


def pooled_product(b: Builder, x: View, g: Geometry) -> View | None:
    """Merge the last step, a product with output x (N, *in, C), with the maximum of windows that are apart.

    Returns y (N, *out, C), or None if the last step is not such a product. Nothing else may read x.
    """
    are_apart = all(step >= span for step, span in zip(g.strides, g.spans, strict=True))
    if b.lanes == 1 or not are_apart or (product := b.take_product(x)) is None:
        return None
    weights, rows, row_axes, function = product
    y = b.new(x.shape[0], *g.out, x.shape[-1])
    b.add("pooled_product", weights, window_view(rows, g), row_axes, len(g.kernel), function, y)
    return y


def kernel_size(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    """Return how many elements a window of a pooling has."""
    return int(math.prod(attributes["kernel_shape"]))


def filter_size(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Return how many elements each output of a convolution is computed from."""
    return math.prod(inputs[1].shape[1:])


def padded_size(x: Operand, g: Geometry) -> int:
    """Return how many elements x (N, C, *in) has with its padding."""
    axes = zip(x.shape[2:], g.needed_sides(x.shape[2:]), strict=True)
    sizes = [max(0, size + sum(sides)) for size, sides in axes]
    return int(math.prod([*x.shape[:2], *sizes]))


# The operations whose weights, the second input, determine the size of the kernel.
KERNEL_IN_WEIGHTS = {"Conv", "QuantizedConv", "ConvInteger"}


def _geometry(node: Node, inputs: Sequence[Any]) -> Geometry:
    weights = inputs[1] if node.operation in KERNEL_IN_WEIGHTS else None
    kernel = node.attributes["kernel_shape"] if weights is None else weights.shape[2:]
    return geometry(inputs[0].shape[2:], kernel, node.attributes)


def windows_combine(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    """Return the channels that a convolution combines, and the axes along which windows overlap."""
    if any(node.outputs[1:]):  # they count all elements of the input
        return [range(len(inputs[0].shape))]
    g = _geometry(node, inputs)
    axes = zip(g.kernel, g.strides, g.sides, strict=True)
    sliding = [2 + place for place, (k, s, sides) in enumerate(axes) if k > 1 or s > 1 or any(sides)]
    channels = [1] if node.operation in KERNEL_IN_WEIGHTS else []
    return [[*channels, *sliding], range(len(inputs[0].shape))]


def windows_over_time(time: Any, node: Node) -> None:
    """Carry the steps that later windows need; the padding before the first step is the initial carry."""
    x, attributes = node.inputs[0], node.attributes
    axis = time.axis(x)
    if axis in (None, 0):
        time.unchanged(node)
        return
    if axis == 1 or any(node.outputs[1:]):
        time.refuse(node, "its channels are the steps" if axis == 1 else "it returns places in the sequence")
    g, place = _geometry(node, time.inputs(node)), axis - 2
    before, after = _sides(time, node, g, place)
    sizes = enumerate(time.shape(x)[2:])
    sides = [(0, 0) if other == place else g.needed_side(size, other) for other, size in sizes]
    pads = [number for column in zip(*sides, strict=True) for number in column]
    kept = {name: attributes[name] for name in attributes.keys() - {"auto_pad", "ceil_mode"}} | {"pads": pads}
    inner = node.with_attributes(kept)

    def over_windows(value: str, inner: Node, padding: Any) -> str:
        """Run a node over the windows of a sequence."""
        windows, span = value, g.spans[place]
        if (span, g.strides[place], before, after) != (1, 1, 0, 0):
            windows = time.windows(node, value, span, g.strides[place], before, after, padding)
        y = time.add("OverWindows", windows, *node.inputs[1:], node=inner, axis=axis, span=span)
        return str(time.define_new(y, time.timing(windows)))

    if _counts_vary(time, node, g, before, after):
        kept.pop("count_include_pad", None)
        sums = inner.with_operation("SumPool").with_attributes(kept)
        y = over_windows(x, sums, 0)
        counts = over_windows(time.ones_like_steps(x), sums, 0)
        y = time.define_new(time.add("Div", y, counts), time.timing(y))
    else:
        y = over_windows(x, inner, _padding(time, node))
    time.define(node.outputs[0], y, time.timing(y))


def _sides(time: Any, node: Node, g: Geometry, place: int) -> tuple[int, int]:
    """Return the padding before the first step and after the last one that makes the last window complete."""
    before, after = g.sides[place]
    span, stride, auto_pad = g.spans[place], g.strides[place], node.attributes.get("auto_pad", "NOTSET")
    if stride > 1 and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max(0, span - (rest or stride)) for rest in range(stride)]  # one for each remainder
        firsts = {total // 2 if auto_pad == "SAME_UPPER" else total - total // 2 for total in totals}
        if len(firsts) > 1:
            time.refuse(node, f"its padding depends on the length of the sequence ({auto_pad} with a stride)")
        before = firsts.pop()
        return before, span - 1 - before  # a window starts at each multiple of the stride
    if node.attributes.get("ceil_mode"):
        if after + stride > span:
            time.refuse(node, "its last window depends on the length of the sequence (ceil_mode)")
        return before, after + stride - 1
    return before, after


def _counts_vary(time: Any, node: Node, g: Geometry, before: int, after: int) -> bool:
    """Whether some windows average fewer elements than others."""
    if node.operation != "AveragePool":
        return False
    if node.attributes.get("ceil_mode"):
        if node.attributes.get("count_include_pad") and any(map(any, g.sides)):
            time.refuse(node, "its last window counts only a part of the padding (ceil_mode)")
        return True
    return bool(before + after and not node.attributes.get("count_include_pad"))


def _padding(time: Any, node: Node) -> Any:
    """Return the value of padded steps."""
    if node.operation == "MaxPool":
        return bounds(time.dtype(node.inputs[0]))[0]
    name = (*node.inputs, "", "")[2] if node.operation == "ConvInteger" else ""
    if not name:
        return 0
    value = time.known(name)
    if value is None or value.size != 1:
        time.refuse(node, "its zero point depends on the sequence")
    return value.item()
