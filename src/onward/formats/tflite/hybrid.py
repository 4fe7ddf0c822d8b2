"""Products and convolutions of real numbers; for integer weights, the inputs are quantized as they come."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph.node import AnyArray
from .products import product, rows
from .read import Tensor
from .registry import FLOATS, INT32, Call, Value, activated, operator
from .windows import FIRST, LAST, conv, filters, window_options


def quantized_rows(x: Any, is_asymmetric: bool) -> Any:
    """Return rows as int8, their scales (.., 1) in float32 and their zero points in int8."""
    if is_asymmetric:
        return x.typed("QuantizeRowsWithZero", [np.int8, np.float32, np.int8])
    return *x.typed("QuantizeRows", [np.int8, np.float32]), x.number(0, np.int8)


def hybrid_times(x: Any, W: AnyArray, scales: AnyArray, is_asymmetric: bool) -> Any:
    """x W with integers W (K, N) and their scales, and the rows of x quantized as they come."""
    q, scale, zero = quantized_rows(x, is_asymmetric)
    return q.typed(
        "RowProduct", [np.float32], x.number(W, np.int8), scale, zero, x.number(scales, np.float32)
    )[0]


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
    is_asymmetric = len(weights.scales) > 1 or call.operator.kind != "CONV_2D"
    flat, *numbers = quantized_rows(x.reshaped(sizes[0], -1), is_asymmetric)
    scale, zero = (number.apply("Reshape", [-1, 1, 1, 1]) for number in numbers)
    first = flat.apply("Reshape", sizes).apply("Transpose", perm=list(FIRST))
    if is_asymmetric and sizes[0] != 1:  # exact in float64
        centered = first.cast(np.float64) - zero.cast(np.float64)
        sums = centered.apply("Conv", call.constant(array, np.float64), **options)
    else:
        zero = zero.apply("Reshape", [1])
        sums = first.apply("ConvInteger", call.constant(array, W.dtype), zero, dtype=INT32, **options)
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
