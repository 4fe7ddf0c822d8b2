"""Convolutions, pooling and resizing of real numbers; channels are the last axis of every array."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph.node import AnyArray
from ...graph.operations.expressions import sqrt
from .registry import FLOATS, Call, Value, activated, operator
from .schema import SAME

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # orders of axes: channels become the first or the last after N
PADDINGS = {0: "SAME_UPPER", 1: "VALID"}


def window_options(call: Call) -> dict[str, Any]:
    """Return the attributes of a convolution or pooling."""
    o = call.options
    if min(o.stride_h, o.stride_w) < 1 or o.padding not in PADDINGS:
        raise call.refuse(f"the stride ({o.stride_h}, {o.stride_w}) with padding {o.padding}")
    found = {"strides": [o.stride_h, o.stride_w], "auto_pad": PADDINGS[o.padding]}
    if hasattr(o, "dilation_h"):
        found["dilations"] = [o.dilation_h, o.dilation_w]
    return found


def filters(call: Call, W: Value) -> tuple[AnyArray, int]:
    """Return the filters (O, I, H, W) of a convolution, and the number of its groups."""
    array, channels = call.array(W, "weights"), call.shape(0)[-1]
    if array.ndim != 4 or channels < 1:
        raise call.refuse(f"a convolution of {channels} channels with weights of shape {array.shape}")
    if call.operator.kind == "DEPTHWISE_CONV_2D":
        return array.transpose(3, 0, 1, 2), channels
    if array.shape[3] < 1 or channels % array.shape[3]:
        raise call.refuse(f"a convolution of {channels} channels with weights of shape {array.shape}")
    return array.transpose(0, 3, 1, 2), channels // array.shape[3]


def conv(call: Call, x: Value, W: Value, bias: Value | None) -> Any:
    """x (N, H, W, C) with W (O, H, W, I), or (1, H, W, O) if each channel has its own filters."""
    array, group = filters(call, W)
    y = x.permuted(*FIRST).apply("Conv", call.constant(array), bias, group=group, **window_options(call))
    return y.permuted(*LAST)  # type: ignore[attr-defined]  # of the class of x


@operator(FLOATS, "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D")
def pool(call: Call, x: Value) -> Any:
    kind, first = call.operator.kind, x.permuted(*FIRST)
    options = window_options(call) | {"kernel_shape": [call.options.filter_h, call.options.filter_w]}
    if kind == "L2_POOL_2D":
        y: Any = sqrt((first * first).apply("AveragePool", **options))
    else:
        y = first.apply("AveragePool" if kind == "AVERAGE_POOL_2D" else "MaxPool", **options)
    return activated(call, y.permuted(*LAST))


@operator(FLOATS, "TRANSPOSE_CONV")
def transposed_conv(call: Call, shape: Value, W: Value, x: Value, bias: Value | None = None) -> Any:
    """W (O, H, W, I); the output shape is constant."""
    array = call.array(W, "weights")
    y = transposed(call, shape, x, call.constant(array.transpose(3, 0, 1, 2)), bias)
    return activated(call, y)


def transposed(call: Call, shape: Value, x: Value, W: Value, bias: Value | None) -> Any:
    """Return a transposed convolution with weights (I, O, H, W)."""
    o, kernel = call.options, W.known.shape[2:]  # type: ignore[union-attr]  # they are constant
    strides, wanted = [o.stride_h, o.stride_w], call.numbers(shape, "output shape")[1:3]
    before, more = [], []
    for n, k, stride, size in zip(call.shape(2)[1:3], kernel, strides, wanted, strict=True):
        if n < 1:
            raise call.refuse("a transposed convolution of open sizes")
        whole = (n - 1) * stride + k
        crop = max(0, whole - size) if o.padding == SAME else 0
        before.append(crop // 2)
        more.append(size - whole + crop // 2)  # what the end gains, or loses if negative
    pads = [*before, *(max(0, -gain) for gain in more)]
    options = {"strides": strides, "pads": pads, "output_padding": [max(0, gain) for gain in more]}
    y = x.permuted(*FIRST).apply("ConvTranspose", W, bias, **options)
    return y.permuted(*LAST)  # type: ignore[attr-defined]  # of the class of x


@operator(FLOATS, "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR")
def resize(call: Call, x: Value, sizes: Value) -> Any:
    o, is_linear = call.options, call.operator.kind == "RESIZE_BILINEAR"
    mode = "align_corners" if o.align_corners else "half_pixel" if o.half_pixel_centers else "asymmetric"
    if not is_linear and o.half_pixel_centers and not o.align_corners:
        mode = "tf_half_pixel_for_nn"
    nearest = "round_prefer_ceil" if o.align_corners else "floor"
    N, _, _, C = call.shape(0)
    wanted = [N, C, *call.numbers(sizes, "sizes")]
    if min(wanted) < 0:
        raise call.refuse("an image of open sizes")
    options = {"mode": "linear"} if is_linear else {"mode": "nearest", "nearest_mode": nearest}
    y = x.permuted(*FIRST).apply(
        "Resize", None, None, np.array(wanted), coordinate_transformation_mode=mode, **options
    )
    return y.permuted(*LAST)  # type: ignore[attr-defined]  # of the class of x
