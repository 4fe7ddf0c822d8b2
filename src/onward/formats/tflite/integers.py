"""Operators of integers that stand for real numbers, with the answers of LiteRT's reference kernels.

A quantized tensor of 8 bits keeps its dtype; one of 16 bits is int32 in the graph. What an operator computes
from one 8-bit integer alone is a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...graph.node import AnyArray
from ...graph.operations import fixed_factors
from ...graph.operations.expressions import where
from ...graph.operations.fixed_functions import scaled
from .elementwise import COMPARISONS
from .movement import joined
from .products import REDUCTIONS, multiplied, rows
from .read import Tensor
from .registry import ANY, BOUNDS, FLOAT32, INT32, INT64, INTEGERS, Call, Value, activated, operator
from .windows import channels_first, filters, transposed, window_options


def bounds(call: Call, tensor: Tensor, activation: str | None = None) -> tuple[int, int]:
    """Return the lowest and the highest integer of a result, which its activation may narrow."""
    low, high = tensor.limits
    name = call.activation if activation is None else activation
    if not name:
        return low, high
    if name not in BOUNDS:
        raise call.refuse(f"the activation {name} of integers")
    least, most = (
        None
        if number is None
        else int(fixed_factors.rounded(number / np.float32(tensor.scale))) + tensor.zero_point
        for number in BOUNDS[name]
    )
    return max(low, low if least is None else least), min(high, high if most is None else most)


def rescale(call: Call, x: Value, scale: Any, y: Tensor, limits: tuple[int, int] | None = None) -> Any:
    """Multiply int32 by a factor, or one for each index of the last axis; convert it to a tensor's type."""
    factor = scale if np.size(scale) > 1 else np.reshape(scale, ())
    return x.times(factor, y.inner_dtype, bounds(call, y) if limits is None else limits, y.zero_point)


def table(call: Call, x: Value, tensor: Tensor, function: Callable[[AnyArray], AnyArray], dtype: Any) -> Any:
    """Apply a function of integers to a tensor of 8 bits, by a table, or to a constant."""
    if x.known is not None:
        return call.constant(function(x.known.astype(np.int64)), dtype)
    if tensor.type not in ("int8", "uint8"):
        raise call.refuse(f"this operator with the type {tensor.type}")
    low, high = tensor.limits
    values = np.asarray(function(np.arange(low, high + 1)))
    return x.looked_up(values, low, dtype)


def requantized(call: Call, x: Value, limits: tuple[int, int]) -> Any:
    """Convert integers to those of the output."""
    given, y = call.tensor(0), call.y
    scale = float(np.float32(given.scale) / np.float32(y.scale))
    if given.type in ("int8", "uint8") and y.type in ("int8", "uint8"):
        return table(
            call,
            x,
            given,
            lambda q: np.clip(scaled(q - given.zero_point, scale) + y.zero_point, *limits),
            y.type,
        )
    return rescale(call, x.centered(call.tensor(0).zero_point), scale, y, limits)


# Arithmetic.


def _aligned(call: Call, places: Sequence[int], shift: int, scale: float) -> list[Any]:
    """Return inputs as int32 of one scale, with so many bits behind the point."""
    found = []
    for place in places:
        tensor = call.tensor(place)
        x, own = call.inputs[place], tensor.scale / scale

        def function(q: AnyArray, tensor: Tensor = tensor, own: float = own) -> AnyArray:
            return scaled((q - tensor.zero_point) << shift, own)

        if tensor.type == "int16" and x.known is None:
            wide = x.centered(call.tensor(place).zero_point) * (1 << shift)
            found.append(wide.times(own))
        else:
            found.append(table(call, x, tensor, function, np.int32))
    return found


@operator(INTEGERS, "ADD SUB")
def add(call: Call, *operands: Value) -> Any:
    if call.y.type == "int16" and _powers_of_two(call):
        raise call.refuse("a sum of int16 whose scales are powers of two")
    shift = 15 if call.y.type == "int16" else 20
    twice = 2 * max(call.tensor(0).scale, call.tensor(1).scale)
    a, b = _aligned(call, (0, 1), shift, twice)
    total = a + b if call.operator.kind == "ADD" else a - b
    return rescale(call, total, twice / ((1 << shift) * call.y.scale), call.y)


def _powers_of_two(call: Call) -> bool:
    scales = [call.tensor(0).scale, call.tensor(1).scale, call.y.scale]
    return call.options.pot_scale_int16 and all(np.frexp(scale)[0] == 0.5 for scale in scales)


@operator(INTEGERS, "MUL")
def multiply(call: Call, a: Value, b: Value) -> Any:
    product = a.centered(call.tensor(0).zero_point) * b.centered(call.tensor(1).zero_point)
    first, second, out = (np.float32(x.scale) for x in (call.tensor(0), call.tensor(1), call.y))
    return rescale(call, product, float(first * second / out), call.y)


@operator(INTEGERS, "SQUARED_DIFFERENCE")
def squared_difference(call: Call, a: Value, b: Value) -> Any:
    twice = 2 * max(call.tensor(0).scale, call.tensor(1).scale)
    first, second = _aligned(call, (0, 1), 7, twice)
    difference = first - second
    return rescale(call, difference * difference, twice * twice / ((1 << 14) * call.y.scale), call.y)


@operator(INTEGERS, "MAXIMUM MINIMUM")
def extreme(call: Call, a: Value, b: Value) -> Any:
    return a.apply("Max" if call.operator.kind == "MAXIMUM" else "Min", b)


@operator(INTEGERS, " ".join(COMPARISONS))
def compare(call: Call, a: Value, b: Value) -> Any:
    return COMPARISONS[call.operator.kind](*_aligned(call, (0, 1), 8, 1.0))


@operator(INTEGERS, "PRELU")
def prelu(call: Call, x: Value, slope: Value) -> Any:
    given, alpha, y = call.tensor(0), call.tensor(1), call.y
    scale, out = np.float32(given.scale), np.float32(y.scale)
    value = x.centered(call.tensor(0).zero_point)
    positive = value.times(float(scale / out))
    product = value * slope.centered(call.tensor(1).zero_point)
    negative = product.times(float(scale * np.float32(alpha.scale) / out))
    found = where(value < 0, negative, positive) + y.zero_point
    return found.apply("Clip", *y.limits).cast(y.type)


# Products.


def _finished(call: Call, sums: Any, bias: Value | None, scale: Any) -> Any:
    """Add a bias to exact sums and rescale them; those of int16 are int64, with factors of 16 bits."""
    is_wide = sums.dtype == np.float64 and (bias is None or bias.dtype == INT64)
    sums = sums.cast(np.int64 if is_wide else np.int32)
    sums = sums if bias is None else sums + bias
    if not is_wide:
        return rescale(call, sums, scale, call.y)
    multipliers, shifts = fixed_factors.factors(np.ravel(scale))
    halves = (multipliers.astype(np.int64) + (1 << 15)) >> 16
    multipliers, y = np.where(multipliers < 0x7FFF0000, halves, 0x7FFF), call.y
    return sums.rescaled(multipliers, shifts + 16, y.inner_dtype, bounds(call, y), y.zero_point)


def _product_scale(call: Call, weights: Tensor, is_float: bool = False) -> AnyArray:
    """Return the factors of exact sums, one or one for each output channel; some kernels multiply floats."""
    dtype = np.float32 if is_float else np.float64
    products: AnyArray = np.asarray(call.tensor(0).scale, dtype) * weights.scales.astype(dtype)
    return products.astype(np.float64) / call.y.scale


@operator(INTEGERS, "FULLY_CONNECTED")
def fully_connected(call: Call, x: Value, W: Value, bias: Value | None = None) -> Any:
    """Exact sums times factors: in fixed point for uint8, otherwise in float64."""
    given, weights, y, first = call.tensor(0), call.tensor(1), call.y, rows(call, x)
    turned: Any = W.permuted(1, 0) if W.known is None else call.constant(W.known.T, W.dtype)
    if given.type == "int16":
        sums: Any = first.cast(np.float64).apply("MatMul", turned.cast(np.float64))
    else:
        sums = first.product(turned, given.zero_point, weights.zero_point)
    sums = sums if bias is None else sums + bias.cast(sums.dtype)
    scale = _product_scale(call, weights, given.type == "uint8")
    if given.type == "uint8":
        return rescale(call, sums, scale, y)
    real = sums.cast(np.float64) * sums.number(scale, np.float64)
    half = sums.apply("Sign").cast(np.float64) * 0.5  # of int32: the program for pages lacks signs of float64
    steps = (real + half).cast(np.int32)  # rounded, ties away from zero
    steps = steps + y.zero_point if y.zero_point else steps
    return steps.apply("Clip", *bounds(call, y)).cast(y.inner_dtype)


@operator(INTEGERS, "BATCH_MATMUL")
def batch_matmul(call: Call, a: Value, b: Value) -> Any:
    first, second = call.tensor(0), call.tensor(1)
    if first.type == "int16":
        sums = multiplied(call, a.cast(np.float64), b.cast(np.float64))
        return _finished(call, sums, None, _product_scale(call, second))
    zeros = [call.constant(x.zero_point, dtype) for x, dtype in ((first, a.dtype), (second, b.dtype))]
    sums = multiplied(call, a, b, "MatMulInteger", *zeros, dtype=INT32)
    return rescale(call, sums, _product_scale(call, second), call.y)


@operator(INTEGERS, "CONV_2D DEPTHWISE_CONV_2D")
def conv(call: Call, x: Value, W: Value, bias: Value | None = None) -> Any:
    given, weights, (F, options) = call.tensor(0), call.tensor(1), filters(call, W)
    scale = _product_scale(call, weights, given.type == "uint8")
    if given.type == "int16":
        sums = channels_first(x.cast(np.float64), "Conv", F.cast(np.float64), **options)
        return _finished(call, sums, bias, scale)
    zeros = call.constant(given.zero_point, x.dtype), call.constant(weights.zero_point, W.dtype)
    sums = channels_first(x, "ConvInteger", F, *zeros, bias, dtype=INT32, **options)
    return rescale(call, sums, scale, call.y)


@operator(INTEGERS, "TRANSPOSE_CONV")
def transposed_conv(call: Call, shape: Value, W: Value, x: Value, bias: Value | None = None) -> Any:
    """Sums in float64 are exact."""
    weights, given = call.tensor(1), call.tensor(2)
    array = call.array(W, "weights").astype(np.float64) - weights.zero_point
    wide: Any = x.cast(np.float64) - given.zero_point
    sums = transposed(call, shape, wide, call.constant(array.transpose(3, 0, 1, 2), np.float64), None)
    sums = sums if given.type == "int16" else sums.cast(np.int32)
    return _finished(call, sums, bias, given.scale * weights.scales.astype(np.float64) / call.y.scale)


# Pooling and reductions.


@operator(INTEGERS, "AVERAGE_POOL_2D MAX_POOL_2D")
def pool(call: Call, x: Value) -> Any:
    """Sums of whole numbers are exact in float32."""
    options, wide = window_options(call), x.cast(np.float32)
    if call.operator.kind == "MAX_POOL_2D":
        found = channels_first(wide, "MaxPool", **options)
    else:
        sums = channels_first(wide, "SumPool", **options)
        count = channels_first(wide * 0 + 1, "SumPool", **options)
        half = (count * 0.5).apply("Floor")
        found = ((abs(sums) + half) / count).apply("Floor") * sums.apply("Sign")
    return found.apply("Clip", *bounds(call, call.y)).cast(x.dtype)


@operator(INTEGERS, " ".join(REDUCTIONS))
def reduce(call: Call, x: Value, axes: Value) -> Any:
    kind, places, given, y = call.operator.kind, call.numbers(axes, "axes"), call.tensor(0), call.y
    keeps = call.options.keep_axes
    if kind in ("REDUCE_MAX", "REDUCE_MIN"):
        wide: Any = x.cast(np.int32)
        found = wide if kind == "REDUCE_MAX" else -wide
        found = found.reduce("ReduceMax", places, keeps)
        return (found if kind == "REDUCE_MAX" else -found).cast(x.dtype)
    if kind == "REDUCE_PROD":
        raise call.refuse("the product of integers with scales")
    scale, sizes = given.scale / y.scale, call.shape(0)
    if kind == "SUM":
        return rescale(
            call, x.centered(call.tensor(0).zero_point).reduce("ReduceSum", places, keeps), scale, y
        )
    count = math.prod(sizes[place] for place in {place % len(sizes) for place in places})
    if count < 1:
        raise call.refuse("a mean over open axes")
    sums: Any = x.cast(np.int32).reduce("ReduceSum", places, keeps) - given.zero_point * count
    return sums.rescaled(
        *fixed_factors.mean_factor(scale, count), y.inner_dtype, bounds(call, y), y.zero_point
    )


# Conversions.


@operator(ANY, "CONCATENATION")
def concatenate(call: Call, *parts: Value) -> Any:
    """Join arrays, after converting integers of other scales."""
    y, found = call.y, []
    for place, part in enumerate(parts):
        given = call.tensor(place)
        differs = given.is_quantized and (given.scale, given.zero_point) != (y.scale, y.zero_point)
        found.append(_joinable(call, part, given) if differs else part)
    result = joined(found, call.options.axis)
    return result if y.is_quantized else activated(call, result)


def _joinable(call: Call, part: Value, given: Tensor) -> Any:
    y = call.y
    if given.type != "uint8":
        raise call.refuse("joining integers of different scales")
    scale = np.float32(given.scale) * (np.float32(1) / np.float32(y.scale))
    start = np.float32(-given.zero_point) * scale

    def function(q: AnyArray) -> Any:
        return np.clip(fixed_factors.rounded(q.astype(np.float32) * scale + start) + y.zero_point, 0, 255)

    return table(call, part, given, function, y.type)


@operator(INTEGERS, "QUANTIZE")
def quantize(call: Call, x: Value) -> Any:
    """Round real numbers to integers, ties away from zero, or convert integers."""
    y = call.y
    if call.tensor(0).is_quantized:
        return requantized(call, x, y.limits)
    steps = rounded(x / np.float32(y.scale)) + y.zero_point
    return steps.apply("Clip", *y.limits).cast(y.inner_dtype)


def rounded(x: Any) -> Any:
    """Round to nearest, ties away from zero."""
    size = abs(x)
    whole = size.apply("Floor")
    return (whole + where(size - whole < 0.5, whole.constant(0), 1)) * x.apply("Sign")


@operator(ANY, "DEQUANTIZE")
def dequantize(call: Call, x: Value) -> Any:
    """Real numbers from float16, or from integers with scales."""
    tensor = call.tensor(0)
    if x.known is not None and x.dtype == np.float16:
        return call.constant(x.known)  # also where an operator takes constant weights only
    if not tensor.is_quantized:
        return x.cast(np.float32)
    scales = tensor.per_channel
    zeros = tensor.zero_points if len(tensor.zero_points) > 1 else np.full(scales.shape, tensor.zero_point)
    constants = call.constant(scales), call.constant(zeros, x.dtype)
    return x.apply("DequantizeLinear", *constants, dtype=FLOAT32, axis=tensor.axis)
