"""Recurrent layers of one gate, and SVDF: a filter over features, and one over time, of low rank."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph.operations.integer_expressions import INT16_LIMITS
from .lstm import backwards, keep, layered, merged, real, repeated, state, steps_first
from .products import matrix, times
from .registry import FLOATS, INTEGERS, Call, Value, activated, operator

LAYERS = {"TANH": "Tanh", "RELU": "Relu"}  # activations that a layer has


def run(call: Call, first: int, h: int, x: Any) -> Any:
    """Return h' = f(W x + R h + b) for each step of x (T, B, I); the weights start at a place."""
    bias = call.optional(first + 2)
    if call.tensor(first).is_quantized or call.activation not in LAYERS:
        sums = times(call, x, first)
        sums = sums if bias is None else sums + bias

        def step(row: Any, before: Any) -> Any:
            y = activated(call, row + times(call, before, first + 1))
            return y, y

        return repeated(call, sums, (h,), step)
    W, R = (call.array(call.optional(place), "weights") for place in (first, first + 1))
    b = np.zeros(len(W), np.float32) if bias is None else call.array(bias, "biases")
    options = {"activations": [LAYERS[call.activation]]}
    return layered(call, "RNN", options, (W, R, b, None), (h,), x)


@operator(FLOATS, "RNN")
def one_step(call: Call, x: Value, *others: Value | None) -> Any:
    return run(call, 1, 4, x.apply("Unsqueeze", [0])).apply("Squeeze", [0])


@operator(FLOATS, "UNIDIRECTIONAL_SEQUENCE_RNN")
def rnn(call: Call, x: Value, *others: Value | None) -> Any:
    return steps_first(call, run(call, 1, 4, steps_first(call, x)))


@operator(FLOATS, "BIDIRECTIONAL_SEQUENCE_RNN")
def bidirectional_rnn(call: Call, x: Value, *others: Value | None) -> Any:
    if any(value is not None for value in others[8:]):
        raise call.refuse("an RNN with auxiliary inputs")
    first = steps_first(call, x)
    return merged(call, run(call, 1, 4, first), backwards(run(call, 5, 8, backwards(first))))


@operator(FLOATS, "SVDF")
def svdf(call: Call, x: Value, W: Value, filters: Value, bias: Value | None, *others: Any) -> Any:
    """x (B, I) to y (B, units): the features W x join the last ones, which `filters` (F, M) weight."""
    memory = _remembered(call, times(call, x, 1))
    y = _summed(call, memory * memory.number(real(call, 2), np.float32))
    return activated(call, y if bias is None else y + bias)


@operator(INTEGERS, "SVDF")
def integer_svdf(call: Call, x: Value, W: Value, filters: Value, bias: Value | None, *others: Any) -> Any:
    given, weights, over_time, cells = (call.tensor(place) for place in (0, 1, 2, 4))
    if over_time.type != "int16":
        raise call.refuse(f"a filter over time of {over_time.type}")
    sums = x.product(matrix(call, [1]), given.zero_point)
    first, second = (
        float(np.float32(a.scale) * np.float32(b.scale) / np.float32(c.scale))
        for a, b, c in ((given, weights, cells), (cells, over_time, call.y))
    )
    memory = _remembered(call, sums.times(first, limits=INT16_LIMITS))
    y = _summed(call, memory * filters)
    return (y if bias is None else y + bias).times(second, np.int8, call.y.limits, call.y.zero_point)


def _remembered(call: Call, features: Any) -> Any:
    """Append features (B, F) to the state (B, F M), whose first ones leave; return it as (B, F, M)."""
    F, M = call.shape(2)
    before = state(call, 4).reshaped(-1, F, M).apply("Slice", [1], [M], [2])
    memory = before.apply("Concat", features.apply("Unsqueeze", [2]), axis=2)
    keep(call, 4, memory.apply("Reshape", [-1, F * M], allowzero=1))
    return memory


def _summed(call: Call, products: Any) -> Any:
    """Return the sums (B, units) of products (B, units rank, M)."""
    F, M = call.shape(2)
    return products.apply("Reshape", [-1, F // call.options.rank, call.options.rank * M]).reduce(
        "ReduceSum", [-1]
    )
