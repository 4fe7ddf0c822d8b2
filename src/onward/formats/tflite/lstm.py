"""LSTM over a sequence: of real numbers, and of integers as LiteRT's reference kernels compute them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph import Graph, Input
from ...graph.operations.recurrent import new_layer
from . import tables
from .read import Tensor, working_dtype
from .registry import FLOATS, INT32, INTEGERS, Call, Value, operator
from .schema import ACTIVATIONS

# The inputs of a direction: one of each for the input, forget, cell and output gate.
MATRICES, RECURRENT, PEEPHOLES, BIASES = slice(1, 5), slice(5, 9), slice(9, 12), slice(12, 16)
PROJECTION, PROJECTION_BIAS, H, C, NORMS = 16, 17, 18, 19, slice(20, 24)
INPUTS = 24
ONNX_GATES = [0, 3, 1, 2]  # input, output, forget, cell
INT32_RANGE = (-(2**31), 2**31 - 1)


def state(call: Call, place: int) -> Value:
    """Return the present value of a state, which starts at the number 0."""
    tensor = call.tensor(place)
    zero = tensor.zero_point if tensor.is_quantized else 0
    return call.t.variable(tensor.name, np.full(tensor.axes, zero, working_dtype(tensor)))


def keep(call: Call, place: int, value: Any) -> None:
    """Set the next value of a state."""
    call.t.assign(call.tensor(place).name, value)


def complete(call: Call, inputs: Sequence[Value | None]) -> list[Value | None]:
    """Return the inputs with those that the file leaves out. Raises ArgumentError for unknown options."""
    found = [*inputs, *[None] * (INPUTS - len(inputs))]
    o = call.options
    if any(x is not None for x in found[NORMS]):
        raise call.refuse("an LSTM with layer normalization")
    if found[PROJECTION] is not None:
        raise call.refuse("an LSTM with a projection")
    if getattr(o, "diagonal", False) or ACTIVATIONS.get(o.activation) != "TANH":
        raise call.refuse("an LSTM with diagonal matrices or an activation other than tanh")
    return found


def steps_first(call: Call, x: Any) -> Any:
    """Exchange time and batch unless time is the first axis."""
    return x if call.options.time_major else x.permuted(1, 0, 2)


@operator(FLOATS, "UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(call: Call, x: Value, *others: Value | None) -> Any:
    """An LSTM over x (B, T, I), or (T, B, I); its states are variables."""
    inputs = complete(call, [x, *others])
    if call.tensor(2).is_quantized:
        raise call.refuse("an LSTM of real numbers with quantized weights")
    matrices: list[Any] = [None if matrix is None else matrix[None] for matrix in _onnx_weights(call, inputs)]
    clip = call.options.cell_clip
    layer = new_layer("LSTM", {"cell_clip": clip} if clip > 0 else {}, *matrices)
    start = [state(call, place).apply("Unsqueeze", [0]) for place in (H, C)]
    y, *states = steps_first(call, x).applied("Recurrent", 3, None, *start, layer=layer, reverse=False)
    for place, after in zip((H, C), states, strict=True):
        keep(call, place, after.apply("Squeeze", [0]))
    return steps_first(call, y)


def _onnx_weights(call: Call, inputs: Sequence[Value | None]) -> list[Any]:
    """Return W, R, the bias and the peepholes of ONNX's operator."""
    if inputs[1] is None:
        raise call.refuse("an LSTM without an input gate")
    W, R = ([call.array(x, "weights") for x in inputs[part]] for part in (MATRICES, RECURRENT))
    rows = len(R[1])
    b = [np.zeros(rows, np.float32) if x is None else call.array(x, "biases") for x in inputs[BIASES]]
    P = [None if x is None else call.array(x, "peepholes") for x in inputs[PEEPHOLES]]
    bias = np.concatenate([b[gate] for gate in ONNX_GATES])
    joined = [np.concatenate([part[gate] for gate in ONNX_GATES]) for part in (W, R)]
    peepholes = None if P[1] is None else np.concatenate([P[0], P[2], P[1]])
    return [*joined, np.concatenate([bias, np.zeros_like(bias)]), peepholes]


# Integers: 8 bits for inputs and outputs, 16 bits for gates and cells.


@operator(INTEGERS, "UNIDIRECTIONAL_SEQUENCE_LSTM")
def integer_lstm(call: Call, x: Value, *others: Value | None) -> Any:
    """Run a loop over the steps; the products with the inputs precede it."""
    inputs = complete(call, [x, *others])
    given = call.tensor(0)
    if given.type != "int8" or inputs[1] is None or any(p is not None for p in inputs[PEEPHOLES]):
        raise call.refuse(f"an LSTM of {given.type} without an input gate or with peepholes")
    biases = [call.array(b, "biases") for b in inputs[BIASES]]
    sums = _gate_sums(call, steps_first(call, x), given, inputs, MATRICES)
    sums = _saturated(_gates(call, sums + call.constant(np.concatenate(biases), INT32), given, MATRICES))
    h, c = state(call, H), state(call, C)
    body = _step(call, inputs)
    count = sums.apply("Shape").apply("Gather", np.array(0))
    names = [count.name, "", h.name, c.name, sums.name]
    h_n, c_n, y = call.t.add_all("Loop", names, 3, body=body, captured=1)
    keep(call, H, Value(call.t, h_n, h.dtype))
    keep(call, C, Value(call.t, c_n, c.dtype))
    return steps_first(call, Value(call.t, y, x.dtype))


def _gate_sums(call: Call, x: Value, tensor: Tensor, inputs: Sequence[Value | None], part: slice) -> Any:
    """Return exact sums of products with the matrices of all gates."""
    W = np.concatenate([call.array(w, "weights") for w in inputs[part]])
    zero = Value(x.t, x.t.cast(tensor.zero_point, x.dtype), x.dtype)
    constant = Value(x.t, x.t.cast(W.T, np.int8), np.dtype(np.int8))
    return Value(x.t, x.apply("MatMulInteger", constant, zero, None).name, INT32)


def _gates(call: Call, sums: Any, tensor: Tensor, part: slice) -> Any:
    """Return sums of all gates with 12 bits behind the point."""
    weights = [call.tensor(place) for place in range(part.start, part.stop)]
    scales = [np.float32(w.scale) * np.float32(tensor.scale) / np.float32(2.0**-12) for w in weights]
    multipliers, shifts = tables.factors(scales)
    units = call.tensor(RECURRENT.start).axes[0]
    return sums.rescaled(np.repeat(multipliers, units), np.repeat(shifts, units), np.int32, INT32_RANGE)


def _saturated(x: Any) -> Any:
    return x.apply("Max", -(1 << 15)).apply("Min", (1 << 15) - 1)


def _shifted(x: Any, n: int) -> Any:
    """x / 2^n, rounded, ties away from zero: a factor of 1 and a shift."""
    return x.rescaled(1 << 30, 1 - n, np.int32, INT32_RANGE)


def _step(call: Call, inputs: Sequence[Value | None]) -> Graph:
    """Return the body of the loop: (i, condition, h, c, sums) to (condition, h, c, y)."""
    t = type(call.t)(call.t.model, Graph(), call.t)
    t.label = call.t.label
    graph, hidden, cells = t.graph, call.tensor(H), call.tensor(C)
    i = Value(t, graph.add_input("i", np.int64, ()), np.dtype(np.int64))
    condition = graph.add_input("condition", bool, ())
    h = Value(t, graph.add_input("h", np.int8, hidden.axes), np.dtype(np.int8))
    c = Value(t, graph.add_input("c", np.int32, cells.axes), INT32)
    sums = Value(t, graph.add_input("sums", np.int32), INT32)
    recurrent = _gates(call, _gate_sums(call, h, hidden, inputs, RECURRENT), hidden, RECURRENT)
    gates = _saturated(sums.apply("Gather", i, axis=0) + recurrent)
    parts = gates.applied("Split", 4, axis=-1, num_outputs=4)
    gate_tables = tables.logistic_table(), tables.tanh_table(3)
    i_, f, g, o = (
        part.looked_up(gate_tables[gate == 2], -(1 << 15), np.int32) for gate, part in enumerate(parts)
    )
    exponent = round(np.log2(cells.scale))
    next_c = _saturated(_shifted(f * c, 15) + _shifted(i_ * g, 30 + exponent))
    clip = min(call.options.cell_clip / cells.scale, 32767.0)
    if clip > 0:
        next_c = next_c.apply("Max", -int(clip)).apply("Min", int(clip))
    product = o * next_c.looked_up(tables.tanh_table(15 + exponent), -(1 << 15), np.int32)
    scale = call.intermediates[4] if len(call.intermediates) > 4 else hidden
    factor = tables.factor(float(np.float32(2.0**-15) / np.float32(scale.scale) * np.float32(2.0**-15)))
    y = product.rescaled(*factor, np.int8, (-128, 127), hidden.zero_point)
    graph.outputs = (condition, y.name, next_c.name, y.name)
    declared = [
        (condition, np.bool_, ()),
        (y.name, np.int8, hidden.axes),
        (next_c.name, np.int32, cells.axes),
    ]
    graph.declared_outputs = tuple(
        Input(name, np.dtype(dtype), tuple(axes)) for name, dtype, axes in (*declared, declared[1])
    )
    return graph
