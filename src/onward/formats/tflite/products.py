"""Matrix products, reductions and norms of real numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.operations.expressions import sqrt
from .registry import ANY, FLOATS, Call, Value, activated, operator

REDUCTIONS = {"MEAN": "Mean", "SUM": "Sum", "REDUCE_PROD": "Prod", "REDUCE_MAX": "Max", "REDUCE_MIN": "Min"}


def product(call: Call, x: Value, W: Value, bias: Value | None) -> Any:
    """x W^T + b with W (O, K)"""
    transposed = W.permuted(1, 0) if W.known is None else call.constant(W.known.T)
    y: Any = x.apply("MatMul", transposed)
    return y if bias is None else y + bias


def rows(call: Call, x: Value) -> Value:
    """Return the rows of a product: the axes before the last, or all elements in rows of its length."""
    shape, K = call.shape(0), call.shape(1)[-1]
    if shape[-1:] == [K] and (call.options.keep_axes or len(shape) == 2):
        return x
    return x.reshaped(-1, K)


@operator(FLOATS, "BATCH_MATMUL")
def batch_matmul(call: Call, a: Value, b: Value) -> Any:
    if call.tensor(1).is_quantized:
        raise call.refuse("a product of batches with quantized weights")
    return multiplied(call, a, b)


def multiplied(call: Call, a: Value, b: Value, operation: str = "MatMul", zeros: Sequence[Value] = ()) -> Any:
    """Return a b, each with its last two axes exchanged if the options ask for it."""

    def turned(x: Value, place: int, is_turned: bool) -> Value:
        n = len(call.shape(place))
        return x.permuted(*range(n - 2), n - 1, n - 2) if is_turned else x

    first, second = turned(a, 0, call.options.adj_x), turned(b, 1, call.options.adj_y)
    return first.apply(operation, second, *zeros)


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


@operator(FLOATS, "SOFTMAX")
def softmax(call: Call, x: Value) -> Any:
    beta = call.options.beta
    return (x if beta == 1 else x * beta).apply("Softmax", axis=-1)


@operator(FLOATS, "LOG_SOFTMAX")
def log_softmax(call: Call, x: Value) -> Any:
    return x.apply("LogSoftmax", axis=-1)


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
    scales: Any = call.constant(tensor.scales)
    if len(tensor.scales) > 1:
        scales = scales.apply("Gather", indices, axis=0).reshaped(
            *call.shape(0), *[1] * (len(call.shape(1)) - 1)
        )
    return found.cast(np.float32) * scales
