"""Functions of integers that stand for real numbers, by tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...graph.node import AnyArray
from . import tables
from .integers import RANGES, bounds, requantized, table
from .registry import BOUNDS, INT32, INTEGERS, Call, Function, Value, operator


def _define_real(name: str, function: Callable[[AnyArray], AnyArray]) -> None:
    @operator(INTEGERS, name)
    def compute(call: Call, x: Value) -> Any:
        given, y = call.tensor(0), call.y
        if given.type == "int16":
            return _function_of_int16(call, x, name)
        return table(
            call, x, given, lambda q: tables.real_table(function, q, given, y, RANGES[y.type]), y.type
        )


def _function_of_int16(call: Call, x: Value, name: str) -> Any:
    given, y = call.tensor(0), call.y
    if name == "EXP":
        numbers = tables.piecewise(np.exp, (given.scale, given.zero_point), y.scale, np.float32)
    elif name in ("LOGISTIC", "TANH"):
        numbers = tables.interpolated(given.scale, name == "TANH")
    else:
        raise call.refuse("this operator with the type int16")
    return x.looked_up(numbers, -(1 << 15), np.int32)


for _name, _function in tables.REAL.items():
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
                return np.clip(found + y.zero_point, *RANGES[y.type])

            return table(call, x, given, numbers, y.type)

        return function

    return register


@by_table("LEAKY_RELU")
def leaky_relu(call: Call, q: AnyArray, ratio: Any) -> Any:
    scale, alpha = np.float32(call.tensor(0).scale), np.float32(call.options.alpha)
    slope = float(scale * alpha / np.float32(call.y.scale))
    return np.where(q >= 0, tables.scaled(q, float(ratio)), tables.scaled(q, slope))


@by_table("ABS")
def absolute(call: Call, q: AnyArray, ratio: Any) -> Any:
    return tables.scaled(np.abs(q), float(ratio))


@by_table("RSQRT")
def inverse_root(call: Call, q: AnyArray, ratio: Any) -> Any:
    scales = [float(np.float32(x.scale)) for x in (call.tensor(0), call.y)]
    factor = tables.factor(1.0 / (scales[0] ** 0.5 * scales[1]))
    return np.array([tables.inverse_root(int(v), factor) for v in q.ravel()]).reshape(q.shape)


@by_table("HARD_SWISH")
def hard_swish(call: Call, q: AnyArray, ratio: Any) -> Any:
    fine = np.float32(1 / 128) * np.float32(call.tensor(0).scale)
    factors = [
        tables.factor(float(v)) for v in (fine / np.float32(call.y.scale), fine / np.float32(3 / 32768))
    ]
    return tables.hard_swish(q, *factors)


@by_table("NEG")
def negative(call: Call, q: AnyArray, ratio: Any) -> Any:
    return -q


@operator(INTEGERS, "SOFTMAX")
def softmax(call: Call, x: Value) -> Any:
    given, y = call.tensor(0), call.y
    if y.type != given.type:
        raise call.refuse(f"softmax of {given.type} in {y.type}")
    if y.type == "int16":
        return _softmax_of_int16(call, x)
    values, terms = tables.softmax_tables(given.scale, call.options.beta)
    wide: Any = x.cast(np.int32)
    below = wide - wide.reduce("ReduceMax", [-1], True)
    exponentials, terms_ = (below.looked_up(each, -255, INT32) for each in (values, terms))
    total = terms_.reduce("ReduceSum", [-1], True)
    multiplier, shift = total.applied("FixedReciprocal", 2)
    limits = RANGES[y.type]  # the total has 12 bits before the point, and the result 8 behind it
    return exponentials.rescaled(multiplier, shift - (12 + 31 - 8), y.type, limits, limits[0])


def _softmax_of_int16(call: Call, x: Value) -> Any:
    """Exponentials of numbers from -10 to 0, and 1 / (1 + x) of their sum, both from tables."""
    scale, one, high = call.tensor(0).scale * call.options.beta, 2 / 65535, (1 << 15) - 1
    below: Any = x - x.reduce("ReduceMax", [-1], True)
    steps = below.rescaled(*tables.factor(scale / (10 / 65535)), np.int32, RANGES["int32"])
    exponentials = steps.looked_up(tables.piecewise(np.exp, (10 / 65535, high), one), -65535, INT32)
    total = exponentials.reduce("ReduceSum", [-1], True)
    _, zeros = total.applied("FixedReciprocal", 2)
    part = total.cast(np.int64).rescaled(1 << 30, zeros - 14, np.int32, RANGES["int32"])
    inverse = tables.piecewise(lambda v: 1 / (1 + v), (1 / 65535, -high - 1), one)
    products = exponentials * part.looked_up(inverse, 1 << 16, INT32)
    return products.cast(np.int64).rescaled(1 << 30, zeros - 30, np.int32, (0, high))
