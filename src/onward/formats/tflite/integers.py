"""Operators of integers that stand for real numbers, with the answers of LiteRT's reference kernels.

A quantized tensor of 8 bits keeps its dtype; one of 16 bits is int32 in the graph. What an operator computes
from one 8-bit integer alone is a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ...graph.node import AnyArray
from ...graph.operations.expressions import where
from ...graph.operations.fixed_factors import (
    INT16_LIMITS,
    INT32_LIMITS,
    factor,
    factors,
    lines,
    mean_factor,
    rounded,
)
from .elementwise import BINARY, COMPARISONS
from .fixed_functions import hard_swish, interpolated, inverse_root, softmax_tables
from .movement import joined
from .products import reduce, rows, turned
from .read import Tensor
from .reals import real as real_numbers
from .registry import ANY, BOUNDS, INT32, INT64, INTEGERS, Call, Function, Value, activated, operator
from .windows import channels_first, filters, transposed, window_options

LOWEST = INT16_LIMITS[0]


def bounds(call: Call, tensor: Tensor, activation: str | None = None) -> tuple[int, int]:
    """Return the lowest and the highest integer of a result, which its activation may narrow."""
    name = call.activation if activation is None else activation
    if name and name not in BOUNDS:
        raise call.refuse(f"the activation {name} of integers")
    found = list(tensor.limits)
    for place, number in enumerate(BOUNDS.get(name, ())):
        if number is not None:
            bound = int(rounded(number / np.float32(tensor.scale))) + tensor.zero_point
            found[place] = (max, min)[place](found[place], bound)
    return found[0], found[1]


def rescale(call: Call, x: Value, scale: Any, y: Tensor, limits: tuple[int, int] | None = None) -> Any:
    """Multiply int32 by a factor, or one for each index of the last axis; convert it to a tensor's type."""
    factors = scale if np.size(scale) > 1 else np.reshape(scale, ())
    return x.times(factors, y.inner_dtype, bounds(call, y) if limits is None else limits, y.zero_point)


def tabulated(call: Call, place: int, function: Callable[[Any], Any]) -> Any:
    """Return a function of an input. An input of 8 bits selects its result from a table of 256."""
    x, tensor = call.inputs[place], call.tensor(place)
    if x.known is not None or tensor.type not in ("int8", "uint8"):
        return function(x)
    low, high = tensor.limits
    y = function(x.number(np.arange(low, high + 1), x.dtype))
    return x.looked_up(call.array(y, "table"), low, y.dtype)


def of_steps(call: Call, function: Callable[[Any], Any], scale: float = 1.0, activation: Any = None) -> Any:
    """Return a function of the only input without its zero point, times a factor."""
    zero, limits = call.tensor(0).zero_point, bounds(call, call.y, activation)
    return tabulated(call, 0, lambda x: rescale(call, function(x.centered(zero)), scale, call.y, limits))


# Arithmetic.


def _aligned(call: Call, shift: int, scale: float) -> list[Any]:
    """Return both inputs as int32 of one scale, with so many bits behind the point."""

    def aligned(place: int) -> Any:
        tensor = call.tensor(place)
        return tabulated(
            call, place, lambda x: (x.centered(tensor.zero_point) * (1 << shift)).times(tensor.scale / scale)
        )

    return [aligned(0), aligned(1)]


@operator(INTEGERS, "ADD SUB")
def add(call: Call, *operands: Value) -> Any:
    scales, is_wide = [x.scale for x in (call.tensor(0), call.tensor(1), call.y)], call.y.type == "int16"
    if is_wide and call.options.pot_scale_int16 and all(np.frexp(scale)[0] == 0.5 for scale in scales):
        raise call.refuse("a sum of int16 whose scales are powers of two")
    shift = 15 if is_wide else 20
    twice = 2 * max(call.tensor(0).scale, call.tensor(1).scale)
    total = BINARY[call.operator.kind](*_aligned(call, shift, twice))
    return rescale(call, total, twice / ((1 << shift) * call.y.scale), call.y)


@operator(INTEGERS, "MUL")
def multiply(call: Call, a: Value, b: Value) -> Any:
    product = a.centered(call.tensor(0).zero_point) * b.centered(call.tensor(1).zero_point)
    return rescale(call, product, call.y.steps_of(call.tensor(0), call.tensor(1)), call.y)


@operator(INTEGERS, "SQUARED_DIFFERENCE")
def squared_difference(call: Call, *operands: Value) -> Any:
    twice = 2 * max(call.tensor(0).scale, call.tensor(1).scale)
    found = BINARY["SQUARED_DIFFERENCE"](*_aligned(call, 7, twice))
    return rescale(call, found, twice * twice / ((1 << 14) * call.y.scale), call.y)


INTEGERS |= {name: lambda call, a, b, name=name: BINARY[name](a, b) for name in ("MAXIMUM", "MINIMUM")}
INTEGERS |= {name: lambda call, a, b, f=f: f(*_aligned(call, 8, 1.0)) for name, f in COMPARISONS.items()}
INTEGERS["ABS"] = lambda call, x: of_steps(call, abs, call.y.steps_of(call.tensor(0)))
INTEGERS |= {name: lambda call, x, name=name: _converted(call, name) for name in BOUNDS}


def _converted(call: Call, activation: str) -> Any:
    """Convert the integers of the input to those of the output."""
    return of_steps(call, lambda q: q, call.y.steps_of(call.tensor(0)), activation)


@operator(INTEGERS, "QUANTIZE")
def quantize(call: Call, x: Any) -> Any:
    is_real = not call.tensor(0).is_quantized
    return _nearest(x / np.float32(call.y.scale), call.y) if is_real else _converted(call, "")


@operator(INTEGERS, "LEAKY_RELU")
def leaky_relu(call: Call, x: Value) -> Any:
    scale, alpha = np.float32(call.tensor(0).scale), np.float32(call.options.alpha)
    slope = float(scale * alpha / np.float32(call.y.scale))
    return of_steps(call, lambda q: where(q < 0, q.times(slope), q.times(call.y.steps_of(call.tensor(0)))))


@operator(INTEGERS, "PRELU")
def prelu(call: Call, x: Value, slope: Value) -> Any:
    given, alpha, y = call.tensor(0), call.tensor(1), call.y
    value = x.centered(given.zero_point)
    product = value * slope.centered(alpha.zero_point)
    found: Any = where(value < 0, product.times(y.steps_of(given, alpha)), value.times(y.steps_of(given)))
    return rescale(call, found, 1.0, y)


# Products.


def _finished(call: Call, sums: Any, bias: Value | None, scale: Any) -> Any:
    """Add a bias to exact sums and rescale them; those of int16 are int64, with factors of 16 bits."""
    is_wide = sums.dtype == np.float64 and (bias is None or bias.dtype == INT64)
    sums = sums.cast(np.int64 if is_wide else np.int32)
    sums = sums if bias is None else sums + bias
    if not is_wide:
        return rescale(call, sums, scale, call.y)
    multipliers, shifts = factors(np.ravel(scale))
    halves = (multipliers.astype(np.int64) + (1 << 15)) >> 16
    multipliers, y = np.where(multipliers < 0x7FFF0000, halves, 0x7FFF), call.y
    return sums.rescaled(multipliers, shifts + 16, y.inner_dtype, bounds(call, y), y.zero_point)


def _product_scale(call: Call, weights: Tensor, is_float: bool = False) -> AnyArray:
    """Return the factors of exact sums, one or one for each output channel; some kernels multiply floats."""
    dtype = np.float32 if is_float else np.float64
    products: AnyArray = np.asarray(call.tensor(0).scale, dtype) * weights.scales.astype(dtype)
    return products.astype(np.float64) / call.y.scale


def _sums(
    call: Call, operation: str, a: Any, b: Any, *others: Any, apply: Any = Value.apply, **options: Any
) -> Any:
    """Return exact sums of products: in int32, or of int16 in float64."""
    if call.tensor(0).type == "int16":
        return apply(a.cast(np.float64), operation, b.cast(np.float64), **options)
    zeros = [x.number(call.tensor(place).zero_point, x.dtype) for place, x in enumerate((a, b))]
    return apply(a, f"{operation}Integer", b, *zeros, *others, dtype=INT32, **options)


@operator(INTEGERS, "FULLY_CONNECTED")
def fully_connected(call: Call, x: Value, W: Value, bias: Value | None = None) -> Any:
    """Exact sums times factors: in fixed point for uint8, otherwise in float64."""
    given, weights, y = call.tensor(0), call.tensor(1), call.y
    sums = _sums(call, "MatMul", rows(call, x), W.permuted(1, 0))
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
    sums = _sums(call, "MatMul", *turned(call, a, b))
    return _finished(call, sums, None, _product_scale(call, call.tensor(1)))


@operator(INTEGERS, "CONV_2D DEPTHWISE_CONV_2D")
def conv(call: Call, x: Value, W: Value, bias: Value | None = None) -> Any:
    given, weights, (F, options) = call.tensor(0), call.tensor(1), filters(call, W)
    scale = _product_scale(call, weights, given.type == "uint8")
    is_wide = given.type == "int16"
    sums = _sums(call, "Conv", x, F, bias, apply=channels_first, **options)
    return _finished(call, sums, bias if is_wide else None, scale)


@operator(INTEGERS, "TRANSPOSE_CONV")
def transposed_conv(call: Call, shape: Value, W: Value, x: Value, bias: Value | None = None) -> Any:
    """Sums in float64 are exact."""
    weights, given = call.tensor(1), call.tensor(2)
    F: Any = W.permuted(3, 0, 1, 2).cast(np.float64) - weights.zero_point
    sums = transposed(call, shape, x.cast(np.float64) - given.zero_point, F, None)
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


@operator(INTEGERS, "REDUCE_MAX REDUCE_MIN")
def extreme(call: Call, x: Value, axes: Value) -> Any:
    return reduce(call, x.cast(np.float32), axes).cast(x.dtype)


@operator(INTEGERS, "SUM MEAN")
def total(call: Call, x: Value, axes: Value) -> Any:
    places, given, y, sizes = call.numbers(axes, "axes"), call.tensor(0), call.y, call.shape(0)
    scale, keeps = given.scale / y.scale, call.options.keep_axes
    if call.operator.kind == "SUM":
        return rescale(call, x.centered(given.zero_point).reduce("ReduceSum", places, keeps), scale, y)
    count = math.prod(sizes[place] for place in {place % len(sizes) for place in places})
    if count < 1:
        raise call.refuse("a mean over open axes")
    sums: Any = x.cast(np.int32).reduce("ReduceSum", places, keeps) - given.zero_point * count
    return sums.rescaled(*mean_factor(scale, count), y.inner_dtype, bounds(call, y), y.zero_point)


# Conversions.


@operator(ANY, "CONCATENATION")
def concatenate(call: Call, *parts: Value) -> Any:
    """Join arrays, after converting integers of other scales."""
    result = joined([_part(call, place) for place in range(len(parts))], call.options.axis)
    return result if call.y.is_quantized else activated(call, result)


def _part(call: Call, place: int) -> Any:
    given, y = call.tensor(place), call.y
    if not given.is_quantized or (given.scale, given.zero_point) == (y.scale, y.zero_point):
        return call.inputs[place]
    if given.type != "uint8":
        raise call.refuse("joining integers of different scales")
    scale = np.float32(given.scale) * (np.float32(1) / np.float32(y.scale))
    start = np.float32(-given.zero_point) * scale
    return tabulated(call, place, lambda q: _nearest(q.cast(np.float32) * scale + start, y))


def _nearest(steps: Any, y: Tensor) -> Any:
    """Return the integers of a tensor that are nearest to numbers of steps from its zero point."""
    return (_rounded(steps) + y.zero_point).apply("Clip", *y.limits).cast(y.inner_dtype)


def _rounded(x: Any) -> Any:
    """Round to nearest, ties away from zero."""
    size = abs(x)
    whole = size.apply("Floor")
    return (whole + where(size - whole < 0.5, whole.constant(0), 1)) * x.apply("Sign")


@operator(ANY, "DEQUANTIZE")
def dequantize(call: Call, x: Value) -> Any:
    """Real numbers from float16, or from integers with scales."""
    tensor = call.tensor(0)
    return real_numbers(x, tensor, tensor.axis) if tensor.is_quantized else x.cast(np.float32)


# Functions of one number.


def real(function: Callable[[AnyArray], AnyArray]) -> Function:
    """Return a function of real numbers, in float32, as one of a call and integers without zero point."""

    def steps(call: Call, q: AnyArray) -> AnyArray:
        x, one = np.float32(call.tensor(0).scale) * q.astype(np.float32), np.float32(1)
        with np.errstate(all="ignore"):
            values = np.asarray(function(x.astype(np.float64))).astype(np.float32)
            found: AnyArray = np.clip(rounded(values * (one / np.float32(call.y.scale))), *INT16_LIMITS)
        return np.nan_to_num(found, nan=LOWEST)

    return steps


def _reciprocal_root(call: Call, q: AnyArray) -> AnyArray:
    scales = [float(np.float32(x.scale)) for x in (call.tensor(0), call.y)]
    output = factor(1.0 / (scales[0] ** 0.5 * scales[1]))
    return np.array([inverse_root(int(v), output) for v in q.ravel()]).reshape(q.shape)


STEPS: dict[str, Function] = {  # from 8 bits to steps of the output
    "LOGISTIC": real(lambda x: np.float32(1) / (np.float32(1) + np.exp(-x).astype(np.float32))),
    "TANH": real(np.tanh),
    "ELU": real(lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x)),
    "EXP": real(np.exp),
    "LOG": real(np.log),
    "GELU": real(np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / 2**0.5)))),
    "NEG": lambda call, q: -q,
    "RSQRT": _reciprocal_root,
    "HARD_SWISH": lambda call, q: hard_swish(q, call.tensor(0).scale, call.y.scale),
}
OF_INT16: dict[str, Function] = {
    "LOGISTIC": lambda call, x: x.looked_up(interpolated(call.tensor(0).scale, False), LOWEST, INT32),
    "TANH": lambda call, x: x.looked_up(interpolated(call.tensor(0).scale, True), LOWEST, INT32),
    "EXP": lambda call, x: x.looked_up(
        lines(np.exp, (call.tensor(0).scale, call.tensor(0).zero_point), call.y.scale, np.float32),
        LOWEST,
        INT32,
        bits=7,
    ),
}


def _function(name: str, call: Call, x: Value) -> Any:
    type_ = call.tensor(0).type
    if type_ == "int16" and name in OF_INT16:
        return OF_INT16[name](call, x)
    if type_ not in ("int8", "uint8"):
        raise call.refuse(f"this operator with the type {type_}")
    return of_steps(call, lambda q: q.number(STEPS[name](call, q.known), INT32))


INTEGERS |= {name: partial(_function, name) for name in STEPS}


@operator(INTEGERS, "SOFTMAX")
def softmax(call: Call, x: Value) -> Any:
    given, y = call.tensor(0), call.y
    if y.type != given.type:
        raise call.refuse(f"softmax of {given.type} in {y.type}")
    if y.type == "int16":
        return _softmax_of_int16(call, x)
    values, terms = softmax_tables(given.scale, call.options.beta)
    wide: Any = x.cast(np.int32)
    below = wide - wide.reduce("ReduceMax", [-1], True)
    exponentials, terms_ = (below.looked_up(each, -255, INT32) for each in (values, terms))
    total = terms_.reduce("ReduceSum", [-1], True)
    multiplier, shift = total.typed("FixedReciprocal", [INT32] * 2)
    limits = y.limits  # the total has 12 bits before the point, and the result 8 behind it
    return exponentials.rescaled(multiplier, shift - (12 + 31 - 8), y.type, limits, limits[0])


def _softmax_of_int16(call: Call, x: Value) -> Any:
    """Exponentials of numbers from -10 to 0, and 1 / (1 + x) of their sum, both from tables."""
    scale, one, high = call.tensor(0).scale * call.options.beta, 2 / 65535, (1 << 15) - 1
    below: Any = x - x.reduce("ReduceMax", [-1], True)
    steps = below.times(scale / (10 / 65535))
    exponentials = steps.looked_up(lines(np.exp, (10 / 65535, high), one), -65535, INT32, bits=7)
    total = exponentials.reduce("ReduceSum", [-1], True)
    _, zeros = total.typed("FixedReciprocal", [INT32] * 2)
    part = total.cast(np.int64).rescaled(1 << 30, zeros - 14, np.int32, INT32_LIMITS)
    inverse = lines(lambda v: 1 / (1 + v), (1 / 65535, -high - 1), one)
    products = exponentials * part.looked_up(inverse, 1 << 16, INT32, bits=7)
    return products.cast(np.int64).rescaled(1 << 30, zeros - 30, np.int32, (0, high))
