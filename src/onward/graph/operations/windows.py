"""The rules over time of convolutions and pooling: windows that slide over the steps of a sequence."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..node import Node
from .registry import Known, combining, over_time
from .sliding import Geometry, geometry, whole_sides

# The index of the weights, which determine the size of the kernel.
KERNEL_IN_WEIGHTS = {"Conv": 1, "QuantizedConv": 1, "ConvInteger": 1, "QLinearConv": 3}


def _geometry(node: Node, inputs: Sequence[Known | None]) -> Geometry:
    index = KERNEL_IN_WEIGHTS.get(node.operation)
    weights = None if index is None else inputs[index]
    kernel = node.attributes["kernel_shape"] if weights is None else weights.shape[2:]
    return geometry(inputs[0].shape[2:], kernel, node.attributes)  # type: ignore[union-attr]  # x is not optional


# The index of the input that holds the zero point, which is the padding.
ZERO_POINTS = {"ConvInteger": 2, "QLinearConv": 2}


def windows_combine(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    """Return the channels that a convolution combines, and the axes along which windows overlap."""
    g = _geometry(node, inputs)
    axes = zip(g.kernel, g.strides, g.sides, strict=True)
    sliding = [2 + place for place, (k, s, sides) in enumerate(axes) if k > 1 or s > 1 or any(sides)]
    channels = [1] if node.operation in KERNEL_IN_WEIGHTS else []
    return [[*channels, *sliding], range(len(inputs[0].shape))]  # type: ignore[union-attr]  # as above


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
    whole = enumerate(whole_sides(time.shape(x)[2:], g))
    sides = [(0, 0) if other == place else side for other, side in whole]
    pads = [number for column in zip(*sides, strict=True) for number in column]
    kept = {name: attributes[name] for name in attributes.keys() - {"auto_pad", "ceil_mode"}} | {"pads": pads}
    inner = node._replace(attributes=kept)

    def over_windows(value: str, inner: Node, padding: Any) -> str:
        """Run a node over the windows of a sequence."""
        windows, span = value, g.spans[place]
        if (span, g.strides[place], before, after) != (1, 1, 0, 0):
            windows = time.windows(node, value, span, g.strides[place], before, after, padding)
        y = time.add("OverWindows", windows, *node.inputs[1:], node=inner, axis=axis, span=span)
        return str(time.define_new(y, time.timing(windows)))

    if _counts_vary(time, node, g, before, after):
        kept.pop("count_include_pad", None)
        sums = inner._replace(operation="SumPool", attributes=kept)
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
        dtype = time.dtype(node.inputs[0])
        return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min
    index = ZERO_POINTS.get(node.operation)
    name = "" if index is None or index >= len(node.inputs) else node.inputs[index]
    if not name:
        return 0
    value = time.known(name)
    if value is None or value.size != 1:
        time.refuse(node, "its zero point depends on the sequence")
    return value.item()


combining("Conv", "MaxPool", "AveragePool", "LpPool", "SumPool")(windows_combine)
over_time("Conv", "MaxPool", "AveragePool", "LpPool", "SumPool")(windows_over_time)
