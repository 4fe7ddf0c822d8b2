"""Convolutions, pooling and resizing of real numbers; channels are the last axis of every array."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph.operations.expressions import sqrt
from .products import quantized_rows
from .registry import ANY, FLOATS, INT32, Call, Value, activated, operator
from .schema import SAME

PADDINGS = {0: "SAME_UPPER", 1: "VALID"}


def channels_first(x: Any, operation: str, *others: Any, dtype: Any = None, **attributes: Any) -> Any:
    """Apply an operation on arrays whose channels are the second axis."""
    y = x.permuted(0, 3, 1, 2).apply(operation, *others, dtype=dtype, **attributes)
    return y.permuted(0, 2, 3, 1)


ANY |= {  # blocks of pixels for channels
    name: lambda call, x, operation=operation: channels_first(x, operation, blocksize=call.options.block_size)
    for name, operation in {"DEPTH_TO_SPACE": "DepthToSpace", "SPACE_TO_DEPTH": "SpaceToDepth"}.items()
}


def window_options(call: Call) -> dict[str, Any]:
    """Return the attributes of a convolution or pooling."""
    o = call.options
    if min(o.stride_h, o.stride_w) < 1 or o.padding not in PADDINGS:
        raise call.refuse(f"the stride ({o.stride_h}, {o.stride_w}) with padding {o.padding}")
    found = {"strides": [o.stride_h, o.stride_w], "auto_pad": PADDINGS[o.padding]}
    if hasattr(o, "dilation_h"):
        found["dilations"] = [o.dilation_h, o.dilation_w]
    if hasattr(o, "filter_h"):
        found["kernel_shape"] = [o.filter_h, o.filter_w]
    return found


def filters(call: Call, W: Value) -> tuple[Value, dict[str, Any]]:
    """Return the filters (O, I, H, W) of a convolution and its attributes.

    In files, they are (O, H, W, I), or (1, H, W, O) if each channel has its own filters.
    """
    array, channels, options = call.array(W, "weights"), call.shape(0)[-1], window_options(call)
    is_depthwise = call.operator.kind == "DEPTHWISE_CONV_2D"
    size = 1 if is_depthwise else array.shape[-1]
    if array.ndim != 4 or channels < 1 or size < 1 or channels % size:
        raise call.refuse(f"a convolution of {channels} channels with weights of shape {array.shape}")
    options["group"] = channels // size
    return W.permuted(*(3, 0, 1, 2) if is_depthwise else (0, 3, 1, 2)), options


@operator(FLOATS, "CONV_2D DEPTHWISE_CONV_2D")
def convolution(call: Call, x: Value, W: Value, bias: Value | None = None) -> Any:
    """A convolution with x (N, H, W, C); for integer weights, each image is quantized as it comes."""
    if call.tensor(1).is_quantized:
        y = _hybrid(call, x, W)
        return activated(call, y if bias is None else y + bias)
    F, options = filters(call, W)
    return activated(call, channels_first(x, "Conv", F, bias, **options))


def _hybrid(call: Call, x: Value, W: Value) -> Any:
    """Weights of one scale take images from -127 to 127, all others those with a zero point."""
    weights, sizes, (F, options) = call.tensor(1), call.shape(0), filters(call, W)
    is_asymmetric = len(weights.scales) > 1 or call.operator.kind != "CONV_2D"
    flat, *numbers = quantized_rows(x.reshaped(sizes[0], -1), is_asymmetric)
    scale, zero = (number.apply("Reshape", [-1, 1, 1, 1]) for number in numbers)
    first = flat.apply("Reshape", sizes)
    if is_asymmetric and sizes[0] != 1:  # exact in float64
        centered = first.cast(np.float64) - zero.cast(np.float64)
        sums = channels_first(centered, "Conv", F.cast(np.float64), **options)
    else:
        sums = channels_first(first, "ConvInteger", F, zero.apply("Reshape", [1]), dtype=INT32, **options)
    return sums.cast(np.float32) * scale * call.constant(weights.per_channel)


@operator(FLOATS, "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D")
def pool(call: Call, x: Value) -> Any:
    kind, options = call.operator.kind, window_options(call)
    if kind == "L2_POOL_2D":
        y: Any = sqrt(channels_first(x * x, "AveragePool", **options))
    else:
        y = channels_first(x, "AveragePool" if kind == "AVERAGE_POOL_2D" else "MaxPool", **options)
    return activated(call, y)


@operator(FLOATS, "TRANSPOSE_CONV")
def transposed_conv(call: Call, shape: Value, W: Value, x: Value, bias: Value | None = None) -> Any:
    """W (O, H, W, I); the output shape is constant."""
    return activated(call, transposed(call, shape, x, W.permuted(3, 0, 1, 2), bias))


def transposed(call: Call, shape: Value, x: Any, W: Value, bias: Value | None) -> Any:
    """Return a transposed convolution with weights (I, O, H, W)."""
    o, kernel = call.options, call.array(W, "weights").shape[2:]
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
    return channels_first(x, "ConvTranspose", W, bias, **options)


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
    options["coordinate_transformation_mode"] = mode
    return channels_first(x, "Resize", None, None, np.array(wanted), **options)
