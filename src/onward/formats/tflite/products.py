"""Matrix products, reductions, norms and Fourier transforms of real numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.node import AnyArray
from ...graph.operations.expressions import sqrt, square
from .registry import ANY, COMPLEX, FLOATS, Call, Value, activated, operator

REDUCTIONS = {"MEAN": "Mean", "SUM": "Sum", "REDUCE_PROD": "Prod", "REDUCE_MAX": "Max", "REDUCE_MIN": "Min"}


def matrix(call: Call, places: Sequence[int]) -> AnyArray:
    """Return the weights (K, N) of several inputs, one behind the other."""
    joined: AnyArray = np.concatenate([call.array(call.optional(place), "weights") for place in places]).T
    return joined


def times(call: Call, x: Any, *places: int) -> Any:
    """x W^T with the weights of several inputs; for integers, the rows of x are quantized as they come."""
    tensors = [call.tensor(place) for place in places]
    if not tensors[0].is_quantized:
        return x.apply("MatMul", x.number(matrix(call, places), np.float32))
    q, scale, zero = quantized_rows(x, call.options.asymmetric)
    W = x.number(matrix(call, places), np.int8)
    scales = np.concatenate([np.resize(tensor.scales, tensor.axes[0]) for tensor in tensors])
    return q.typed("RowProduct", [np.float32], W, scale, zero, x.number(scales, np.float32))[0]


def quantized_rows(x: Any, is_asymmetric: bool) -> Any:
    """Return rows as int8, their scales (.., 1) in float32 and their zero points in int8."""
    if is_asymmetric:
        return x.typed("QuantizeRowsWithZero", [np.int8, np.float32, np.int8])
    return *x.typed("QuantizeRows", [np.int8, np.float32]), x.number(0, np.int8)


def rows(call: Call, x: Value) -> Value:
    """Return the rows of a product: the axes before the last, or all elements in rows of its length."""
    if call.options.weights_format:
        raise call.refuse(f"the weights format {call.options.weights_format}")
    shape, K = call.shape(0), call.shape(1)[-1]
    if shape[-1:] == [K] and (call.options.keep_axes or len(shape) == 2):
        return x
    return x.reshaped(-1, K)


@operator(FLOATS, "FULLY_CONNECTED")
def fully_connected(call: Call, x: Value, W: Value, bias: Value | None = None) -> Any:
    """x W^T + b with W (O, K)"""
    first: Any = rows(call, x)
    is_quantized = call.tensor(1).is_quantized
    y = times(call, first, 1) if is_quantized else first.apply("MatMul", W.permuted(1, 0))
    return activated(call, y if bias is None else y + bias)


@operator(FLOATS, "BATCH_MATMUL")
def batch_matmul(call: Call, a: Value, b: Value) -> Any:
    if call.tensor(1).is_quantized:
        raise call.refuse("a product of batches with quantized weights")
    first, second = turned(call, a, b)
    return first.apply("MatMul", second)


def turned(call: Call, a: Value, b: Value) -> list[Value]:
    """Return both factors, each with its last two axes exchanged if the options ask for it."""
    found, swaps = [], (call.options.adj_x, call.options.adj_y)
    for place, (x, is_swapped) in enumerate(zip((a, b), swaps, strict=True)):
        n = len(call.shape(place))
        found.append(x.permuted(*range(n - 2), n - 1, n - 2) if is_swapped else x)
    return found


@operator(FLOATS, " ".join(REDUCTIONS))
def reduce(call: Call, x: Value, axes: Value) -> Any:
    name = f"Reduce{REDUCTIONS[call.operator.kind]}"
    return x.reduce(name, call.numbers(axes, "axes"), call.options.keep_axes)


@operator(ANY, "REDUCE_ANY REDUCE_ALL")
def reduce_logic(call: Call, x: Value, axes: Value) -> Any:
    name = "ReduceMax" if call.operator.kind == "REDUCE_ANY" else "ReduceMin"
    found = x.cast(np.int32).reduce(name, call.numbers(axes, "axes"), call.options.keep_axes)
    return found.cast(bool)


@operator(FLOATS, "CUMSUM")
def running_sum(call: Call, x: Value, axis: Value) -> Any:
    place, o = call.constant(call.numbers(axis, "axis")[0], np.int64), call.options
    return x.apply("CumSum", place, exclusive=int(o.exclusive), reverse=int(o.reverse))


def _softmax(call: Call, x: Value) -> Any:
    beta = call.options.beta
    return (x if beta == 1 else x * beta).apply("Softmax", axis=-1)


FLOATS |= {"SOFTMAX": _softmax, "LOG_SOFTMAX": lambda call, x: x.apply("LogSoftmax", axis=-1)}


@operator(FLOATS, "L2_NORMALIZATION")
def l2_norm(call: Call, x: Value) -> Any:
    """x / |x| along the last axis; lengths below 1e-6 count as 1e-6."""
    length: Any = sqrt((x * x).reduce("ReduceSum", [-1], True))
    y: Any = x / length.apply("Max", 1e-6)
    return activated(call, y)


@operator(ANY, "EMBEDDING_LOOKUP")
def embedding(call: Call, indices: Value, table: Value) -> Any:
    """The rows of a table; quantized ones become real numbers."""
    found, tensor = table.apply("Gather", indices, axis=0), call.tensor(1)
    if not tensor.is_quantized or call.y.type != "float32":
        return found
    scales = call.constant(np.resize(tensor.scales, call.shape(1)[0]))
    each: Any = scales.apply("Gather", indices, axis=0)
    ones = [1] * (len(call.shape(1)) - 1)
    return found.cast(np.float32) * each.reshaped(*call.shape(0), *ones)


# Fourier transforms and complex numbers, whose two parts are the last axis of an array in the graph.


@operator(FLOATS, "RFFT2D")
def rfft2d(call: Call, x: Value, sizes: Value) -> Any:
    """The Fourier transform of the last two axes, padded or cropped; half of the last one."""
    height, width = call.numbers(sizes, "sizes")
    y: Any = x.apply("Unsqueeze", [-1]).apply("DFT", width, -2, onesided=1)
    return y if height == call.shape(0)[-2] == 1 else y.apply("DFT", height, -3)


def _part(x: Value, place: int) -> Any:
    return x.apply("Gather", x.number(place, int), axis=-1)


COMPLEX |= {
    "REAL": lambda call, x: _part(x, 0),
    "IMAG": lambda call, x: _part(x, 1),
    "COMPLEX_ABS": lambda call, x: sqrt(square(_part(x, 0)) + square(_part(x, 1))),
}


@operator(COMPLEX, "RESHAPE SQUEEZE EXPAND_DIMS")
def reshape(call: Call, x: Value, *others: Value) -> Any:
    return x.reshaped(*call.y.axes, 2)
