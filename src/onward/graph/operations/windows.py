"""The rules over time of convolutions and pooling: windows that slide over the steps of a sequence."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..node import Node
from .registry import Known, combining, over_time
from .sliding import Geometry, geometry

KERNEL_IN_WEIGHTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}  # the index of the weights


def _geometry(node: Node, inputs: Sequence[Known | None]) -> Geometry:
    index = KERNEL_IN_WEIGHTS.get(node.operation)
    weights = None if index is None else inputs[index]
    kernel = node.attributes["kernel_shape"] if weights is None else weights.shape[2:]
    return geometry(inputs[0].shape[2:], kernel, node.attributes)  # type: ignore[union-attr]  # x is not optional


@combining("Conv", "MaxPool", "AveragePool", "LpPool")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    g = _geometry(node, inputs)
    axes = zip(g.kernel, g.strides, g.sides, strict=True)
    sliding = [2 + place for place, (k, s, sides) in enumerate(axes) if k > 1 or s > 1 or any(sides)]
    channels = [1] if node.operation in KERNEL_IN_WEIGHTS else []
    return [[*channels, *sliding], range(len(inputs[0].shape))]  # type: ignore[union-attr]  # as above


@over_time("Conv", "MaxPool", "AveragePool", "LpPool")
def _(time: Any, node: Node) -> None:
    """Carry the steps that later windows need; the padding before the first step is the initial carry."""
    x, attributes = node.inputs[0], node.attributes
    axis = time.axis(x)
    if axis in (None, 0):
        time.unchanged(node)
        return
    if axis == 1 or any(node.outputs[1:]):
        time.refuse(node, "its channels are the steps" if axis == 1 else "it returns places in the sequence")
    g, place = _geometry(node, time.inputs(node)), axis - 2
    before, after = g.sides[place]
    stride = g.strides[place]
    if stride > 1 and attributes.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        time.refuse(node, "its padding depends on the length of the sequence (auto_pad with a stride)")
    if attributes.get("ceil_mode"):
        time.refuse(node, "its last window depends on the length of the sequence (ceil_mode)")
    if node.operation == "AveragePool" and before + after and not attributes.get("count_include_pad"):
        time.refuse(node, "it averages fewer steps at the ends (count_include_pad=0)")
    sides = [(0, 0) if other == place else side for other, side in enumerate(g.sides)]
    pads = [number for column in zip(*sides, strict=True) for number in column]
    kept = {name: value for name, value in attributes.items() if name != "auto_pad"} | {"pads": pads}
    inner = node._replace(attributes=kept)
    padding = _lowest(time.dtype(x)) if node.operation == "MaxPool" else 0
    windows = x
    if (g.spans[place], stride, before, after) != (1, 1, 0, 0):
        windows = time.windows(node, x, g.spans[place], stride, before, after, padding)
    y = time.add("OverWindows", windows, *node.inputs[1:], node=inner, axis=axis, span=g.spans[place])
    time.define(node.outputs[0], y, time.timing(windows))


def _lowest(dtype: Any) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min
