"""Recurrent layers: of real numbers, and of integers as LiteRT's reference kernels compute them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...graph.node import AnyArray
from ...graph.operations.expressions import sqrt, unary
from ...graph.operations.fixed_factors import INT16_LIMITS, INT32_LIMITS
from ...graph.operations.recurrent import new_cell
from . import reals
from .control import loop
from .fixed_functions import logistic_table, tanh_table
from .products import matrix, times
from .read import Tensor
from .registry import FLOATS, INT32, INTEGERS, Call, Value, activated, operator

TWELVE_BITS = np.float32(2.0**-12)
LOWEST, LOWEST_INT8 = -(1 << 15), -(1 << 7)  # integers; tables start at that of 16 bits
sigmoid = unary("Sigmoid")


class Direction:
    """The places of an LSTM's inputs: in fours, of the input, forget, cell and output gate.

    The weights of a direction start at one place, and its states at another one.
    """

    def __init__(self, first: int, h: int, norms: Sequence[int] = ()) -> None:
        self.matrices, self.recurrent = range(first, first + 4), range(first + 4, first + 8)
        self.peepholes = {0: first + 8, 1: first + 9, 3: first + 10}  # by the number of the gate
        self.biases = range(first + 11, first + 15)
        self.projection, self.projection_bias = first + 15, first + 16
        self.h, self.c, self.norms = h, h + 1, norms


ONE = Direction(1, 18, range(20, 24))


def changed(call: Call, places: Sequence[int], function: Callable[..., Sequence[Any]]) -> Any:
    """Return y of a function from states to their next values, which are kept, and y."""
    *finals, y = function(*(call.t.state(call.tensor(place)) for place in places))
    for place, final in zip(places, finals, strict=True):
        call.t.assign(call.tensor(place).name, final)
    return y


def repeated(call: Call, x: Any, places: Sequence[int], step: Callable[..., Sequence[Any]]) -> Any:
    """Run (x, *states) to (*states, y) for each step of x; return all y, and keep the states."""

    def taken(i: Value, *values: Any) -> Sequence[Any]:
        *before, rows = values
        return [None, *step(rows.apply("Gather", i, axis=0), *before)]

    count = x.apply("Shape").apply("Gather", np.array(0))
    axes = [*(call.tensor(place).declared_axes for place in places), None]
    return changed(
        call, places, lambda *states: loop(call, count, None, [*states, x], axes, taken, captured=1)
    )


def steps_first(call: Call, x: Any) -> Any:
    """Exchange time and batch unless time is the first axis."""
    return x if call.options.time_major else x.permuted(1, 0, 2)


# Real numbers.


def real(call: Call, place: int) -> AnyArray | None:
    """Return the weights of an input as real numbers, or None if it is omitted."""
    x = call.optional(place)
    if x is None:
        return None
    array, tensor = call.array(x, "weights"), call.tensor(place)
    return array * np.float32(tensor.scale) if tensor.is_quantized else array


def plus(call: Call, x: Any, place: int, factor: Any = None) -> Any:
    """Add the weights of an input, times a factor, unless it is omitted."""
    array = real(call, place)
    if array is None:
        return x
    weights = x.number(array, np.float32)
    return x + (weights if factor is None else factor * weights)


def _gates(call: Call, d: Direction) -> list[int]:
    """Return the gates that have weights: all, or all but the input gate. Raises ArgumentError."""
    if getattr(call.options, "diagonal", False):
        raise call.refuse("an LSTM with diagonal matrices")
    return [k for k in range(4) if k or call.optional(d.matrices[0]) is not None]


def run_lstm(call: Call, d: Direction, x: Any) -> Any:
    """Return y (T, B, P) of x (T, B, I); the states are variables."""
    gates, has_norms = _gates(call, d), any(call.optional(place) is not None for place in d.norms)
    is_plain = call.optional(d.projection) is None and call.tensor(d.h).integers is None and not has_norms
    is_quantized = call.tensor(d.matrices[1]).is_quantized or call.tensor(d.recurrent[1]).is_quantized
    if is_plain and not is_quantized and call.activation == "TANH":
        return _layer(call, d, gates, x)
    sums = times(call, x, *(d.matrices[k] for k in gates))
    if not has_norms:
        sums = sums + sums.number(np.concatenate([_bias(call, d, k) for k in gates]), np.float32)
    return repeated(call, sums, (d.h, d.c), lambda *values: _step(call, d, gates, has_norms, *values))


def _bias(call: Call, d: Direction, gate: int) -> AnyArray:
    bias = real(call, d.biases[gate])
    return np.zeros(call.tensor(d.recurrent[gate]).axes[0], np.float32) if bias is None else bias


def _step(call: Call, d: Direction, gates: list[int], has_norms: bool, sums: Any, h: Any, c: Any) -> Any:
    """One step of an LSTM with norms, a projection or integer weights: to h', c' and y."""
    total = sums + times(call, h, *(d.recurrent[k] for k in gates))
    parts = dict(zip(gates, total.split(len(gates)), strict=True))

    def gate(k: int, cell: Any = None) -> Any:
        z = parts[k] if cell is None else plus(call, parts[k], d.peepholes[k], cell)
        if has_norms:
            centered = z - z.reduce("ReduceMean", [-1], True)
            z = centered / sqrt((centered * centered).reduce("ReduceMean", [-1], True) + 1e-8)
            z = plus(call, z * z.number(real(call, d.norms[k]), np.float32), d.biases[k])
        return z

    f, g = sigmoid(gate(1, c)), activated(call, gate(2))
    i = sigmoid(gate(0, c)) if 0 in gates else f.constant(1) - f
    new = _clipped(f * c + i * g, call.options.cell_clip)
    if (cells := call.tensor(d.c).integers) is not None:
        new = _clipped(new, cells.scale * cells.limits[1])
    y = sigmoid(gate(3, new)) * activated(call, new)
    if call.optional(d.projection) is not None:
        y = plus(call, times(call, y, d.projection), d.projection_bias)
        y = _clipped(y, call.options.proj_clip)
    y = reals.representable(y, call.tensor(d.h))
    return y, new, y


def _clipped(x: Any, limit: float) -> Any:
    return x.apply("Clip", -limit, limit) if limit > 0 else x


def _layer(call: Call, d: Direction, gates: list[int], x: Any) -> Any:
    """Run a layer; without an input gate i = 1 - f, it has that of the weights -f."""

    def ordered(of_gate: Callable[[int], Any], places: Sequence[int] = (0, 3, 1, 2)) -> AnyArray:
        """Return arrays, one for the only direction, in the order input, output, forget, cell."""
        found = [-of_gate(1) if k == 0 and 0 not in gates else of_gate(k) for k in places]
        return np.concatenate(found)[None]

    W, R = ordered(lambda k: real(call, d.matrices[k])), ordered(lambda k: real(call, d.recurrent[k]))
    bias, P = ordered(lambda k: _bias(call, d, k)), None
    if call.optional(d.peepholes[1]) is not None:
        P = ordered(lambda k: real(call, d.peepholes[k]), (0, 3, 1))
    clip = {"cell_clip": call.options.cell_clip} if call.options.cell_clip > 0 else {}
    options = clip | ({"input_forget": 1} if 0 not in gates else {})
    cell = new_cell("LSTM", options, W, R, np.concatenate([bias, np.zeros_like(bias)], 1), P)

    def run(*states: Any) -> list[Any]:
        start = [x.apply("Unsqueeze", [0]) for x in states]
        dtypes = [x.dtype] * 3
        y, *finals = x.typed("Recurrent", dtypes, None, *start, cell=cell, reverse=False)
        return [*(final.apply("Squeeze", [0]) for final in finals), y]

    return changed(call, (d.h, d.c), run)


@operator(FLOATS, "LSTM")
def one_lstm_step(call: Call, x: Value, *others: Value | None) -> Any:
    """One step: of all options, or of one matrix for x and h, whose gates are input, cell, forget, output."""
    if not call.options.kernel_type:
        return run_lstm(call, ONE, x.apply("Unsqueeze", [0])).apply("Squeeze", [0])
    h, _, b, c = others
    both: Any = x.apply("Concat", h, axis=1)
    sums = times(call, both, 2) + b
    parts = sums.split(4)
    i, g, f, o = sigmoid(parts[0]), parts[1].apply("Tanh"), sigmoid(parts[2]), sigmoid(parts[3])
    new: Any = i * g + f * c
    return [o * new.apply("Tanh"), new, both, sums]


def run_rnn(call: Call, places: tuple[int, int], x: Any) -> Any:
    """Return h' = f(W x + R h + b) for each step of x (T, B, I); the weights and h start at two places."""
    first, h = places
    is_quantized = call.tensor(first).is_quantized

    def step(row: Any, before: Any) -> Any:
        product = row if is_quantized else times(call, row, first)
        y = activated(call, plus(call, product + times(call, before, first + 1), first + 2))
        return y, y

    return repeated(call, times(call, x, first) if is_quantized else x, (h,), step)


@operator(FLOATS, "RNN")
def one_rnn_step(call: Call, x: Value, *others: Value | None) -> Any:
    return run_rnn(call, (1, 4), x.apply("Unsqueeze", [0])).apply("Squeeze", [0])


LAYERS: dict[str, tuple[Callable[..., Any], list[Any], int]] = {  # what runs each direction; all inputs
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (run_lstm, [ONE], 24),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (run_rnn, [(1, 4)], 5),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (run_lstm, [Direction(1, 35), Direction(18, 37)], 39),
    "BIDIRECTIONAL_SEQUENCE_RNN": (run_rnn, [(1, 4), (5, 8)], 9),
}


@operator(FLOATS, " ".join(LAYERS))
def layer(call: Call, x: Value, *others: Value | None) -> Any:
    """One or two layers over x (B, T, I), or (T, B, I), the second from the last step to the first."""
    run, directions, count = LAYERS[call.operator.kind]
    if any(value is not None for value in call.inputs[count:]):
        raise call.refuse("a layer with auxiliary inputs")

    def backwards(x: Any) -> Any:
        return x.apply("Slice", [-1], [-np.iinfo(np.int64).max], [0], [-1])

    steps = steps_first(call, x)
    found = [run(call, directions[0], steps)]
    found += [backwards(run(call, each, backwards(steps))) for each in directions[1:]]
    if found[1:] and call.options.merge_outputs:
        found = [found[0].apply("Concat", found[1], axis=-1)]
    return [steps_first(call, y) for y in found]


# A filter over features, and one over time, of low rank.


def _filtered(call: Call, features: Any, filters: Any) -> Any:
    """Append features (B, F) to the state (B, F M), drop the oldest ones, and sum products (B, F, M)."""
    F, M = call.shape(2)

    def filtered(before: Any) -> Sequence[Any]:
        memory = before.reshaped(-1, F, M).apply("Slice", [1], [M], [2])
        memory = memory.apply("Concat", features.apply("Unsqueeze", [2]), axis=2)
        products = (memory * filters).reshaped(-1, F // call.options.rank, call.options.rank * M)
        return memory.reshaped(-1, F * M), products.reduce("ReduceSum", [-1])

    return changed(call, [4], filtered)


@operator(FLOATS, "SVDF")
def svdf(call: Call, x: Value, W: Value, filters: Value, bias: Value | None, *others: Any) -> Any:
    """x (B, I) to y (B, units): the features W x join the last ones, which `filters` (F, M) weight."""
    y = _filtered(call, times(call, x, 1), x.number(real(call, 2), np.float32))
    return activated(call, y if bias is None else y + bias)


@operator(INTEGERS, "SVDF")
def integer_svdf(call: Call, x: Value, W: Value, filters: Value, bias: Value | None, *others: Any) -> Any:
    given, weights, over_time, cells = (call.tensor(place) for place in (0, 1, 2, 4))
    if over_time.type != "int16":
        raise call.refuse(f"a filter over time of {over_time.type}")
    sums = x.product(matrix(call, [1]), given.zero_point)
    y = _filtered(call, sums.times(cells.steps_of(given, weights), limits=INT16_LIMITS), filters)
    y, factor = y if bias is None else y + bias, call.y.steps_of(cells, over_time)
    return y.times(factor, np.int8, call.y.limits, call.y.zero_point)


# Integers: 8 bits for inputs and outputs, 16 bits for gates and cells.


@operator(INTEGERS, "UNIDIRECTIONAL_SEQUENCE_LSTM")
def integer_lstm(call: Call, x: Value, *others: Value | None) -> Any:
    """Run a loop over the steps; the products with the inputs precede it."""
    given, gates, is_tanh = call.tensor(0), _gates(call, ONE), call.activation == "TANH"
    if given.type != "int8" or call.optional(ONE.norms[1]) is not None or not is_tanh:
        raise call.refuse(f"an LSTM of {given.type} with norms or an activation other than tanh")
    if call.optional(ONE.peepholes[1]) is not None and call.shape(ONE.h) != call.shape(ONE.c):
        raise call.refuse("a projection beside peepholes, whose elements LiteRT's kernels confuse")
    places = [ONE.matrices[k] for k in gates]
    biases = np.concatenate([call.array(call.optional(ONE.biases[k]), "biases") for k in gates])
    first = steps_first(call, x).product(matrix(call, places), given.zero_point)
    sums = _scaled(call, first + first.number(biases, INT32), given, places, INT16_LIMITS)
    y = repeated(call, sums, (ONE.h, ONE.c), lambda *values: _integer_step(call, gates, *values))
    return steps_first(call, y)


def _scaled(
    call: Call, sums: Any, tensor: Tensor, places: Sequence[int], limits: tuple[int, int] = INT32_LIMITS
) -> Any:
    """Return sums of all gates with 12 bits behind the point."""
    scales = [
        np.float32(call.tensor(place).scale) * np.float32(tensor.scale) / TWELVE_BITS for place in places
    ]
    return sums.times(np.repeat(scales, call.tensor(places[0]).axes[0]), INT32, limits)


def _integer_step(call: Call, gates: list[int], sums: Any, h: Any, c: Any) -> Any:
    """One step: to h', c' and y."""
    hidden, cells, places = call.tensor(ONE.h), call.tensor(ONE.c), [ONE.recurrent[k] for k in gates]
    exponent, recurrent = round(np.log2(cells.scale)), h.product(matrix(call, places), hidden.zero_point)
    total = (sums + _scaled(call, recurrent, hidden, places)).saturated()
    parts = dict(zip(gates, total.split(len(gates)), strict=True))

    def gate(k: int, cell: Any = None) -> Any:
        z, p = parts[k], None if cell is None else call.optional(ONE.peepholes[k])
        if p is not None:
            scale = np.float32(2.0**exponent) * np.float32(call.tensor(ONE.peepholes[k]).scale)
            product = cell * cell.number(call.array(p, "peepholes"), INT32)
            z = (z + product.times(float(scale / TWELVE_BITS))).saturated()
        return z.looked_up(tanh_table(3) if k == 2 else logistic_table(), LOWEST, INT32)

    f, g = gate(1, c), gate(2)
    i = gate(0, c) if 0 in gates else f.constant((1 << 15) - 1) - f
    added = (i * g).shifted(30 + exponent)
    if exponent < -15:  # where LiteRT's kernel drops the upper bits
        added = (added + (1 << 15)).apply("Mod", 1 << 16) - (1 << 15)
    new = ((f * c).shifted(15) + added).saturated()
    clip = int(min(call.options.cell_clip / cells.scale, 32767.0))
    new = _clipped(new, clip)
    bits, squashed = 15 + exponent, i
    if 0 <= bits <= 6:  # for other scales, LiteRT's kernel leaves the input gate in its buffer
        squashed = new.looked_up(tanh_table(bits), LOWEST, INT32)
    elif 0 not in gates:
        raise call.refuse(f"an LSTM without input gates whose cells have the scale {cells.scale}")
    inside = call.intermediates[4] if len(call.intermediates) > 4 else hidden
    factor = np.float32(2.0**-15) / np.float32(inside.scale) * np.float32(2.0**-15)
    projects = call.optional(ONE.projection) is not None
    zero = -inside.zero_point if projects else inside.zero_point  # LiteRT's kernel changes the sign
    if zero == -LOWEST_INT8:
        raise call.refuse(f"a projection of numbers with the zero point {inside.zero_point}")
    y = (gate(3, new) * squashed).times(float(factor), np.int8, inside.limits, zero)
    if projects:
        y = _projected(call, y, zero, inside, hidden)
    return y, new, y


def _projected(call: Call, y: Any, zero: int, inside: Tensor, hidden: Tensor) -> Any:
    sums, bias = y.product(matrix(call, [ONE.projection]), zero), call.optional(ONE.projection_bias)
    sums = sums if bias is None else sums + sums.number(call.array(bias, "biases"), INT32)
    factor = hidden.steps_of(call.tensor(ONE.projection), inside)
    y = sums.times(factor, np.int8, hidden.limits, hidden.zero_point)
    clip = int(min(max(call.options.proj_clip / hidden.scale, -128.0), 127.0))
    return _clipped(y, clip)
