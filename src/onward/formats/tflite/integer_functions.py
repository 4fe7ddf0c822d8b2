"""Functions of integers that stand for real numbers, by tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...graph.node import AnyArray
from ...graph.operations.fixed_factors import factor, lines, rounded
from ...graph.operations.fixed_functions import exp_of_negative, inverse_root, scaled
from ...graph.operations.fixed_point import high_product, rescaled, shifted_right
from ...graph.operations.integer_expressions import INT32_LIMITS
from .integers import bounds, requantized, table
from .registry import BOUNDS, INT32, INTEGERS, Call, Function, Value, operator

# Where the kernels' table of the logistic function of k / 24 is 1 above the rounded numbers.
ABOVE = [
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44),
    *(45, 46, 49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255),
]


def _exp(x: AnyArray) -> AnyArray:
    """exp(x) of float32."""
    return np.exp(x.astype(np.float64)).astype(np.float32)


def _gelu(x: AnyArray) -> AnyArray:
    return np.array([0.5 * v * (1 + math.erf(v / 2**0.5)) for v in x.tolist()])


REAL: dict[str, Callable[[AnyArray], AnyArray]] = {
    "LOGISTIC": lambda x: np.float32(1) / (np.float32(1) + _exp(-x)),
    "TANH": np.tanh,
    "ELU": lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
    "EXP": _exp,
    "LOG": np.log,
    "GELU": _gelu,
}


def real_table(
    function: Callable[[AnyArray], AnyArray], integers: AnyArray, x: Any, y: Any, bounds: tuple[int, int]
) -> AnyArray:
    """Return a function of real numbers as integers of y, for each integer of x; in float32."""
    numbers = np.float32(x.scale) * (integers - x.zero_point).astype(np.float32)
    with np.errstate(all="ignore"):
        values = np.asarray(function(numbers.astype(np.float64))).astype(np.float32)
        steps = rounded(values * (np.float32(1) / np.float32(y.scale))) + y.zero_point
    clipped: AnyArray = np.clip(np.nan_to_num(steps, nan=bounds[0]), *bounds)
    return clipped


def _define_real(name: str, function: Callable[[AnyArray], AnyArray]) -> None:
    @operator(INTEGERS, name)
    def compute(call: Call, x: Value) -> Any:
        given, y = call.tensor(0), call.y
        if given.type == "int16":
            return _function_of_int16(call, x, name)
        return table(call, x, given, lambda q: real_table(function, q, given, y, y.limits), y.type)


def interpolated(scale: float, is_tanh: bool) -> AnyArray:
    """Return the logistic function or the tangent of int16 of a scale, between 256 known numbers."""
    known = np.minimum(rounded(65536 / (1 + np.exp(-np.arange(257) / 24))), 65535).astype(np.int64)
    known[ABOVE] += 1
    exponent = math.log2(scale)
    multiplier, shift = 3 << max(0, round(12 + exponent)), 0
    if abs(exponent - round(exponent)) > 1e-3 or round(12 + exponent):
        real = float(np.float32(scale)) * 4096 * 3
        while real <= 32767 / 2 and shift <= 30:
            real, shift = real * 2, shift + 1
        multiplier = int(real)
    x = np.arange(-(1 << 15), 1 << 15) * multiplier + ((1 << shift) >> 1) >> shift
    bits, size = 8 if is_tanh else 9, np.abs(x)
    place, rest = np.minimum(size >> bits, 255), size & ((1 << bits) - 1)
    y = (known[place] << bits) + rest * (known[place + 1] - known[place])
    y = np.where(size >> bits >= 255, (0xFFFF << 8) if is_tanh else (0x7FFF << 10), y)
    if is_tanh:
        return (np.where(x >= 0, y - (1 << 23) + 128, -y + (1 << 23) + 127) >> 8).astype(np.int32)
    return (np.where(x >= 0, y + (1 << 9), (1 << 25) - y + (1 << 9) - 1) >> 10).astype(np.int32)


def _function_of_int16(call: Call, x: Value, name: str) -> Any:
    given = call.tensor(0)
    if name == "EXP":
        numbers = lines(np.exp, (given.scale, given.zero_point), call.y.scale, np.float32)
        return x.looked_up(numbers, -(1 << 15), np.int32, bits=7)
    if name in ("LOGISTIC", "TANH"):
        return x.looked_up(interpolated(given.scale, name == "TANH"), -(1 << 15), np.int32)
    raise call.refuse("this operator with the type int16")


for _name, _function in REAL.items():
    _define_real(_name, _function)


@operator(INTEGERS, " ".join(BOUNDS))
def relu(call: Call, x: Value) -> Any:
    return requantized(call, x, bounds(call, call.y, call.operator.kind))


def by_table(name: str) -> Callable[[Function], Function]:
    """Register a function of a call, integers without their zero point and the quotient of the scales."""

    def register(function: Function) -> Function:
        @operator(INTEGERS, name)
        def compute(call: Call, x: Value) -> Any:
            given, y = call.tensor(0), call.y
            ratio = np.float32(given.scale) / np.float32(y.scale)

            def numbers(q: AnyArray) -> Any:
                found = function(call, q - given.zero_point, ratio)
                return np.clip(found + y.zero_point, *y.limits)

            return table(call, x, given, numbers, y.type)

        return function

    return register


@by_table("LEAKY_RELU")
def leaky_relu(call: Call, q: AnyArray, ratio: Any) -> Any:
    scale, alpha = np.float32(call.tensor(0).scale), np.float32(call.options.alpha)
    slope = float(scale * alpha / np.float32(call.y.scale))
    return np.where(q >= 0, scaled(q, float(ratio)), scaled(q, slope))


@by_table("ABS")
def absolute(call: Call, q: AnyArray, ratio: Any) -> Any:
    return scaled(np.abs(q), float(ratio))


@by_table("RSQRT")
def reciprocal_root(call: Call, q: AnyArray, ratio: Any) -> Any:
    scales = [float(np.float32(x.scale)) for x in (call.tensor(0), call.y)]
    output = factor(1.0 / (scales[0] ** 0.5 * scales[1]))
    return np.array([inverse_root(int(v), output) for v in q.ravel()]).reshape(q.shape)


@by_table("HARD_SWISH")
def hard_swish(call: Call, q: AnyArray, ratio: Any) -> Any:
    """x clip(x / 6 + 1/2, 0, 1)"""
    fine = np.float32(1 / 128) * np.float32(call.tensor(0).scale)
    output, reluish = (factor(float(fine / np.float32(s))) for s in (call.y.scale, 3 / 32768))
    low, high = -(1 << 15), (1 << 15) - 1
    multipliers = [min((multiplier + (1 << 15)) >> 16, high) for multiplier, _ in (output, reluish)]
    steps = q.astype(np.int64) << 7
    scaled_up = high_product(steps, multipliers[0], 16)
    shift = reluish[1]
    gate = np.clip(steps << max(shift - 1, 0), low, high)
    gate = high_product(gate, multipliers[1], 16)
    gate = np.clip(gate << 1, low, high) if shift > 0 else shifted_right(gate, -shift)
    gate = (gate + (1 << 15)) >> 1
    product = gate * scaled_up
    before = np.where(product >= 0, product >> 15, -(-product >> 15))
    return shifted_right(before, max(0, -output[1]))


@by_table("NEG")
def negative(call: Call, q: AnyArray, ratio: Any) -> Any:
    return -q


def softmax_tables(scale: float, beta: float) -> tuple[AnyArray, AnyArray]:
    """Return exp(scale beta x) for x from -255 to 0: with no bits before the point, and with 12."""
    x = np.arange(-255, 1)
    real = min(float(beta) * float(np.float32(scale)) * (1 << 26), (1 << 31) - 1.0)
    multiplier, shift = factor(real)
    radius = math.floor(31 * 2.0**26 / 2.0**shift)
    steps = rescaled(x.astype(np.int32), *(np.array(n, np.int32) for n in (multiplier, shift)))
    values = np.where(x >= -radius, exp_of_negative(steps, 5), 0)
    return values.astype(np.int32), shifted_right(values, 12).astype(np.int32)


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
    multiplier, shift = total.applied("FixedReciprocal", 2)
    limits = y.limits  # the total has 12 bits before the point, and the result 8 behind it
    return exponentials.rescaled(multiplier, shift - (12 + 31 - 8), y.type, limits, limits[0])


def _softmax_of_int16(call: Call, x: Value) -> Any:
    """Exponentials of numbers from -10 to 0, and 1 / (1 + x) of their sum, both from tables."""
    scale, one, high = call.tensor(0).scale * call.options.beta, 2 / 65535, (1 << 15) - 1
    below: Any = x - x.reduce("ReduceMax", [-1], True)
    steps = below.times(scale / (10 / 65535))
    exponentials = steps.looked_up(lines(np.exp, (10 / 65535, high), one), -65535, INT32, bits=7)
    total = exponentials.reduce("ReduceSum", [-1], True)
    _, zeros = total.applied("FixedReciprocal", 2)
    part = total.cast(np.int64).rescaled(1 << 30, zeros - 14, np.int32, INT32_LIMITS)
    inverse = lines(lambda v: 1 / (1 + v), (1 / 65535, -high - 1), one)
    products = exponentials * part.looked_up(inverse, 1 << 16, INT32, bits=7)
    return products.cast(np.int64).rescaled(1 << 30, zeros - 30, np.int32, (0, high))
