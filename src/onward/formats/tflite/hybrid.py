"""Products and convolutions of real numbers with integer weights: the inputs are quantized as they come."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph.node import AnyArray
from ...graph.operations.expressions import where
from .integers import rounded
from .read import Tensor
from .registry import INT32, Call, Value
from .windows import FIRST, LAST, filters, window_options


def quantized_rows(x: Any) -> tuple[Any, Any]:
    """Return rows as int8 from -127 to 127, and their scales (.., 1)."""
    largest = abs(x).reduce("ReduceMax", [-1], True)
    is_zero = largest.equals(0)
    safe = where(is_zero, largest.constant(127), largest)
    steps = rounded(x * (safe.constant(127) / safe)).apply("Clip", -127, 127)
    return steps.cast(np.int8), safe / 127


def hybrid_product(call: Call, x: Value, W: Value, bias: Value | None) -> Any:
    """x W^T + b, with the rows of x quantized as they come."""
    if call.options.asymmetric:
        raise call.refuse("rows with zero points")
    steps, scale = quantized_rows(x)
    return _real_sums(call, steps, scale, call.array(W, "weights").T, call.tensor(1), bias)


def _real_sums(call: Call, steps: Any, scale: Any, W: AnyArray, weights: Tensor, bias: Value | None) -> Any:
    sums = steps.apply("MatMulInteger", call.constant(W, W.dtype), dtype=INT32)
    scales = weights.scales if len(weights.scales) > 1 else weights.scales.reshape(())
    y: Any = sums.cast(np.float32) * (scale * call.constant(scales))
    return y if bias is None else y + bias


def hybrid_conv(call: Call, x: Value, W: Value, bias: Value | None) -> Any:
    """A convolution of real numbers, quantized as they come, with integer weights.

    Weights of one scale take images from -127 to 127, and weights of several scales those with a zero point.
    """
    weights, sizes, options = call.tensor(1), call.shape(0), window_options(call)
    array, options["group"] = filters(call, W)
    if len(weights.scales) == 1:
        rows, scale = quantized_rows(x.reshaped(sizes[0], -1))
        scale = scale.apply("Reshape", [-1, 1, 1, 1])
        first = rows.apply("Reshape", sizes).apply("Transpose", perm=list(FIRST))
        sums = first.apply("ConvInteger", call.constant(array, W.dtype), dtype=INT32, **options)
    else:  # sums of whole numbers, exact in float64
        steps, scale, zero = _quantized_images(x, [1, 2, 3])
        first = (steps - zero).apply("Transpose", perm=list(FIRST)).cast(np.float64)
        sums = first.apply("Conv", call.constant(array, np.float64), **options)
    scales = weights.scales if len(weights.scales) > 1 else weights.scales.reshape(())
    y = sums.cast(np.float32).apply("Transpose", perm=list(LAST)) * call.constant(scales) * scale
    return y if bias is None else y + bias


def _quantized_images(x: Any, axes: list[int]) -> tuple[Any, Any, Any]:
    """Return images as whole numbers from -128 to 127, their scales and their zero points."""
    low = -(-x).reduce("ReduceMax", axes, True).apply("Max", 0.0).cast(np.float64)
    high = x.reduce("ReduceMax", axes, True).apply("Max", 0.0).cast(np.float64)
    is_zero = low.equals(high)
    scale = where(is_zero, low.constant(1), (high - low) / 255)
    from_low, from_high = -128 - low / scale, 127 - high / scale
    low_error, high_error = 128 + abs(low / scale), 127 + abs(high / scale)
    zero = rounded(where(low_error < high_error, from_low, from_high).apply("Clip", -128.0, 127.0))
    zero = where(is_zero, zero.constant(0), zero).cast(np.float32)
    scale = scale.cast(np.float32)
    steps = rounded(zero + x * (scale.constant(1) / scale)).apply("Clip", -128.0, 127.0)
    return steps, scale, zero
