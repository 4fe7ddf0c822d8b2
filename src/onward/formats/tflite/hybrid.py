"""Products and convolutions of real numbers; for integer weights, the inputs are quantized as they come."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph.node import AnyArray
from ...graph.operations.expressions import where
from .integers import rounded
from .products import product, rows
from .read import Tensor
from .registry import FLOATS, INT32, Call, Value, activated, operator
from .windows import FIRST, LAST, conv, filters, window_options


def quantized_rows(x: Any) -> tuple[Any, Any]:
    """Return rows as int8 from -127 to 127, and their scales (.., 1)."""
    largest = abs(x).reduce("ReduceMax", [-1], True)
    is_zero = largest.equals(0)
    safe = where(is_zero, largest.constant(127), largest)
    steps = rounded(x * (safe.constant(127) / safe)).apply("Clip", -127, 127)
    return steps.cast(np.int8), safe / 127


def quantized_parts(x: Any, axes: list[int]) -> tuple[Any, Any, Any]:
    """Return parts over axes as int8, their scales in float32, and their zero points in int32."""
    low = (-(-x).reduce("ReduceMax", axes, True).apply("Max", 0.0)).cast(np.float64)
    high = x.reduce("ReduceMax", axes, True).apply("Max", 0.0).cast(np.float64)
    is_zero = low.equals(high)
    scale = where(is_zero, low.constant(1), (high - low) / 255)
    from_low, from_high = -128 - low / scale, 127 - high / scale
    is_low = 128 - low / scale < 127 + high / scale
    zero = where(is_low, from_low, from_high).apply("Clip", -128.0, 127.0)
    # rounded, ties away from zero
    zero = where(zero < 0, 0 - (0.5 - zero).cast(np.int32), (zero + 0.5).cast(np.int32))
    zero = where(is_zero, zero.constant(0), zero).cast(np.float32)
    scale = scale.cast(np.float32)
    steps = rounded(zero + x * (scale.constant(1) / scale)).apply("Clip", -128.0, 127.0)
    return steps.cast(np.int8), scale, zero.cast(np.int32)


def hybrid_times(x: Any, W: AnyArray, scales: AnyArray, is_asymmetric: bool) -> Any:
    """x W with integers W (K, N) and their scales, and the rows of x quantized as they come."""
    matrix = x.number(W, np.int8)
    if is_asymmetric:
        steps, scale, zero = quantized_parts(x, [-1])
        totals = zero.number(W.astype(np.int32).sum(0), INT32)
        sums = steps.apply("MatMulInteger", matrix, dtype=INT32) - zero * totals
    else:
        steps, scale = quantized_rows(x)
        sums = steps.apply("MatMulInteger", matrix, dtype=INT32)
    # rows before columns: onnxruntime fuses the other order into an operator of one scale
    return sums.cast(np.float32) * scale * x.number(scales, np.float32)


def hybrid_product(call: Call, x: Value, W: Value, bias: Value | None) -> Any:
    """x W^T + b, with the rows of x quantized as they come."""
    y = hybrid_times(x, call.array(W, "weights").T, _scales(call.tensor(1)), call.options.asymmetric)
    return y if bias is None else y + bias


def _scales(weights: Tensor) -> AnyArray:
    return weights.scales if len(weights.scales) > 1 else weights.scales.reshape(())


def hybrid_conv(call: Call, x: Value, W: Value, bias: Value | None) -> Any:
    """A convolution of real numbers, quantized as they come, with integer weights.

    Weights of one scale take images from -127 to 127, all others those with a zero point.
    """
    weights, sizes, options = call.tensor(1), call.shape(0), window_options(call)
    array, options["group"] = filters(call, W)
    if len(weights.scales) == 1 and call.operator.kind == "CONV_2D":
        flat, scale = quantized_rows(x.reshaped(sizes[0], -1))
        scale = scale.apply("Reshape", [-1, 1, 1, 1])
        first = flat.apply("Reshape", sizes).apply("Transpose", perm=list(FIRST))
        sums = first.apply("ConvInteger", call.constant(array, W.dtype), dtype=INT32, **options)
    else:
        steps, scale, zero = quantized_parts(x, [1, 2, 3])
        first = steps.apply("Transpose", perm=list(FIRST))
        if sizes[0] == 1:
            zero = zero.cast(np.int8).apply("Reshape", [1])
            sums = first.apply("ConvInteger", call.constant(array, W.dtype), zero, dtype=INT32, **options)
        else:  # exact in float64
            centered = (first.cast(np.int32) - zero).cast(np.float64)
            sums = centered.apply("Conv", call.constant(array, np.float64), **options)
    y = sums.cast(np.float32).apply("Transpose", perm=list(LAST)) * scale * call.constant(_scales(weights))
    return y if bias is None else y + bias


@operator(FLOATS, "FULLY_CONNECTED")
def fully_connected(call: Call, x: Value, W: Value, bias: Value | None = None) -> Any:
    if call.options.weights_format:
        raise call.refuse(f"the weights format {call.options.weights_format}")
    multiply = hybrid_product if call.tensor(1).is_quantized else product
    return activated(call, multiply(call, rows(call, x), W, bias))


@operator(FLOATS, "CONV_2D DEPTHWISE_CONV_2D")
def convolution(call: Call, x: Value, W: Value, bias: Value | None = None) -> Any:
    convolve = hybrid_conv if call.tensor(1).is_quantized else conv
    return activated(call, convolve(call, x, W, bias))
