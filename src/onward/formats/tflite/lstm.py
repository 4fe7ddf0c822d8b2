"""LSTM over a sequence: of real numbers, and of integers as LiteRT's reference kernels compute them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...graph.node import AnyArray
from ...graph.operations.expressions import sqrt, unary
from ...graph.operations.recurrent import new_layer
from . import tables
from .control import loop
from .hybrid import hybrid_times
from .read import Tensor
from .registry import FLOATS, INT32, INTEGERS, Call, Value, activated, operator
from .schema import ACTIVATIONS

INT16_RANGE, INT32_RANGE = (-(2**15), 2**15 - 1), (-(2**31), 2**31 - 1)
TWELVE_BITS = np.float32(2.0**-12)
sigmoid = unary("Sigmoid")


class Direction(NamedTuple):
    """The places of the inputs of a direction: in fours, of the input, forget, cell and output gate."""

    matrices: Sequence[int]
    recurrent: Sequence[int]
    peepholes: dict[int, int]  # by the number of the gate
    biases: Sequence[int]
    projection: int
    projection_bias: int
    h: int
    c: int
    norms: Sequence[int] = ()

    @classmethod
    def at(cls, n: int, h: int, norms: Sequence[int] = ()) -> Direction:
        """Return the direction whose weights start at one place, and whose states at another one."""
        fours = [range(n, n + 4), range(n + 4, n + 8), range(n + 11, n + 15)]
        peepholes = {0: n + 8, 1: n + 9, 3: n + 10}
        return cls(fours[0], fours[1], peepholes, fours[2], n + 15, n + 16, h, h + 1, norms)


# Values that operators keep, and loops over the steps.


def state(call: Call, place: int) -> Value:
    """Return the present value of a state."""
    return call.t.state(call.tensor(place))


def keep(call: Call, place: int, value: Any) -> None:
    """Set the next value of a state."""
    call.t.assign(call.tensor(place).name, value)


def steps_first(call: Call, x: Any) -> Any:
    """Exchange time and batch unless time is the first axis."""
    return x if call.options.time_major else x.permuted(1, 0, 2)


def backwards(x: Any) -> Any:
    """Return the steps in reverse."""
    return x.apply("Slice", [-1], [-np.iinfo(np.int64).max], [0], [-1])


def repeated(call: Call, sums: Any, places: Sequence[int], step: Callable[..., Sequence[Any]]) -> Value:
    """Run (sums, *states) to (*states, y) for each step of sums; return all y, and keep the states."""

    def taken(i: Value, *values: Any) -> Sequence[Any]:
        *before, rows = values
        return [None, *step(rows.apply("Gather", i, axis=0), *before)]

    count: Any = sums.apply("Shape").apply("Gather", np.array(0))
    axes = [*(call.tensor(place).declared_axes for place in places), None]
    values = [*(state(call, place) for place in places), sums]
    *finals, y = loop(call, count, None, values, axes, taken, captured=1)
    for place, final in zip(places, finals, strict=True):
        keep(call, place, final)
    return y


# Real numbers.


def real(call: Call, place: int) -> AnyArray | None:
    """Return the weights of an input as real numbers, or None if it is omitted."""
    x = call.optional(place)
    if x is None:
        return None
    array, tensor = call.array(x, "weights"), call.tensor(place)
    found: AnyArray = array * np.float32(tensor.scale) if tensor.is_quantized else array
    return found


def times(call: Call, x: Any, places: Sequence[int]) -> Any:
    """x W^T with the matrices of several inputs, one behind the other."""
    arrays = [call.array(call.optional(place), "weights") for place in places]
    W = np.concatenate(arrays).T
    if not call.tensor(places[0]).is_quantized:
        return x.apply("MatMul", x.number(W, np.float32))
    scales = [
        np.full(len(a), call.tensor(place).scale, np.float32) for a, place in zip(arrays, places, strict=True)
    ]
    return hybrid_times(x, W, np.concatenate(scales), call.options.asymmetric)


def _gates(call: Call, d: Direction) -> list[int]:
    """Return the gates that have weights: all, or all but the input gate. Raises ArgumentError."""
    if getattr(call.options, "diagonal", False):
        raise call.refuse("an LSTM with diagonal matrices")
    return [k for k in range(4) if k or call.optional(d.matrices[0]) is not None]


def run(call: Call, d: Direction, x: Any) -> Any:
    """Return y (T, B, P) of x (T, B, I); the states are variables."""
    special = [d.projection, *d.norms[1:2]]
    is_plain = all(call.optional(place) is None for place in special)
    is_quantized = call.tensor(d.matrices[1]).is_quantized or call.tensor(d.recurrent[1]).is_quantized
    if is_plain and not is_quantized and ACTIVATIONS.get(call.options.activation) == "TANH":
        return _layer(call, d, x)
    gates = _gates(call, d)
    sums = times(call, x, [d.matrices[k] for k in gates])
    has_norms = not is_plain and call.optional(d.norms[1]) is not None if d.norms else False
    biases = np.concatenate([_bias(call, d, k) for k in gates])
    sums = sums if has_norms else sums + sums.number(biases, np.float32)
    return repeated(call, sums, (d.h, d.c), lambda *values: _step(call, d, gates, has_norms, *values))


def _bias(call: Call, d: Direction, gate: int) -> AnyArray:
    bias = real(call, d.biases[gate])
    return np.zeros(call.tensor(d.recurrent[gate]).axes[0], np.float32) if bias is None else bias


def _step(call: Call, d: Direction, gates: list[int], has_norms: bool, sums: Any, h: Any, c: Any) -> Any:
    """One step of an LSTM with norms, a projection or integer weights: to h', c' and y."""
    total = sums + times(call, h, [d.recurrent[k] for k in gates])
    parts = dict(zip(gates, total.applied("Split", len(gates), axis=-1, num_outputs=len(gates)), strict=True))

    def gate(k: int, cell: Any = None) -> Any:
        z, p = parts[k], None if cell is None else real(call, d.peepholes[k])
        z = z if p is None else z + cell * cell.number(p, np.float32)
        if has_norms:
            centered = z - z.reduce("ReduceMean", [-1], True)
            z = centered / sqrt((centered * centered).reduce("ReduceMean", [-1], True) + 1e-8)
            z = z * z.number(real(call, d.norms[k]), np.float32) + z.number(_bias(call, d, k), np.float32)
        return z

    f, g = sigmoid(gate(1, c)), activated(call, gate(2))
    i = sigmoid(gate(0, c)) if 0 in gates else f.constant(1) - f
    new = _clipped(f * c + i * g, call.options.cell_clip)
    y = sigmoid(gate(3, new)) * activated(call, new)
    if call.optional(d.projection) is not None:
        bias = real(call, d.projection_bias)
        y = times(call, y, [d.projection])
        y = _clipped(y if bias is None else y + y.number(bias, np.float32), call.options.proj_clip)
    return y, new, y


def _clipped(x: Any, limit: float) -> Any:
    return x.apply("Clip", -limit, limit) if limit > 0 else x


def _layer(call: Call, d: Direction, x: Any) -> Any:
    """Run a layer; without an input gate i = 1 - f, it has that of the weights -f."""
    gates = _gates(call, d)

    def ordered(of_gate: Callable[[int], Any], places: Sequence[int] = (0, 3, 1, 2)) -> Any:
        """Return arrays in the order input, output, forget, cell."""
        parts = [-of_gate(1) if k == 0 and 0 not in gates else of_gate(k) for k in places]
        return np.concatenate(parts)[None]

    W, R = ordered(lambda k: real(call, d.matrices[k])), ordered(lambda k: real(call, d.recurrent[k]))
    bias, P = ordered(lambda k: _bias(call, d, k)), None
    if call.optional(d.peepholes[1]) is not None:
        P = ordered(lambda k: real(call, d.peepholes[k]), (0, 3, 1))
    options = {"cell_clip": call.options.cell_clip} if call.options.cell_clip > 0 else {}
    options |= {"input_forget": 1} if 0 not in gates else {}
    layer = new_layer("LSTM", options, W, R, np.concatenate([bias, np.zeros_like(bias)], 1), P)
    start = [state(call, place).apply("Unsqueeze", [0]) for place in (d.h, d.c)]
    y, *states = x.applied("Recurrent", 3, None, *start, layer=layer, reverse=False)
    for place, after in zip((d.h, d.c), states, strict=True):
        keep(call, place, after.apply("Squeeze", [0]))
    return y


ONE = Direction.at(1, 18, range(20, 24))


@operator(FLOATS, "UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(call: Call, x: Value, *others: Value | None) -> Any:
    """An LSTM over x (B, T, I), or (T, B, I); its states are variables."""
    return steps_first(call, run(call, ONE, steps_first(call, x)))


@operator(FLOATS, "BIDIRECTIONAL_SEQUENCE_LSTM")
def bidirectional_lstm(call: Call, x: Value, *others: Value | None) -> Any:
    """Two LSTMs, the second from the last step to the first."""
    if any(value is not None for value in others[38:]):
        raise call.refuse("an LSTM with auxiliary inputs")
    first = steps_first(call, x)
    y = run(call, Direction.at(1, 35), first), backwards(run(call, Direction.at(18, 37), backwards(first)))
    return merged(call, *y)


def merged(call: Call, first: Any, second: Any) -> Any:
    """Return the outputs of both directions, one behind the other if the options ask for it."""
    if call.options.merge_outputs:
        return steps_first(call, first.apply("Concat", second, axis=-1))
    return [steps_first(call, first), steps_first(call, second)]


@operator(FLOATS, "LSTM")
def one_step(call: Call, x: Value, *others: Value | None) -> Any:
    """One step: of all options, or of one matrix for x and h, whose gates are input, cell, forget, output."""
    if not call.options.kernel_type:
        return run(call, ONE, x.apply("Unsqueeze", [0])).apply("Squeeze", [0])
    h, _, b, c = others
    both: Any = x.apply("Concat", h, axis=1)
    sums = times(call, both, [2]) + b
    parts = sums.applied("Split", 4, axis=-1, num_outputs=4)
    i, g, f, o = sigmoid(parts[0]), parts[1].apply("Tanh"), sigmoid(parts[2]), sigmoid(parts[3])
    new: Any = i * g + f * c
    return [o * new.apply("Tanh"), new, both, sums]


# Integers: 8 bits for inputs and outputs, 16 bits for gates and cells.


@operator(INTEGERS, "UNIDIRECTIONAL_SEQUENCE_LSTM")
def integer_lstm(call: Call, x: Value, *others: Value | None) -> Any:
    """Run a loop over the steps; the products with the inputs precede it."""
    given, gates = call.tensor(0), _gates(call, ONE)
    if (
        given.type != "int8"
        or call.optional(21) is not None
        or ACTIVATIONS.get(call.options.activation) != "TANH"
    ):
        raise call.refuse(f"an LSTM of {given.type} with norms or an activation other than tanh")
    if call.optional(ONE.peepholes[1]) is not None and call.shape(ONE.h) != call.shape(ONE.c):
        raise call.refuse("a projection beside peepholes, whose elements LiteRT's kernels confuse")
    places = [ONE.matrices[k] for k in gates]
    biases = [call.array(call.optional(ONE.biases[k]), "biases") for k in gates]
    first = _sums(call, steps_first(call, x), given, places)
    first = first + first.number(np.concatenate(biases), INT32)
    sums = _scaled(call, first, given, places, INT16_RANGE)
    y = repeated(call, sums, (ONE.h, ONE.c), lambda *values: _integer_step(call, gates, *values))
    return steps_first(call, y)


def _sums(call: Call, x: Any, tensor: Tensor, places: Sequence[int]) -> Any:
    """Return exact sums of products with several matrices."""
    W = np.concatenate([call.array(call.optional(place), "weights") for place in places])
    zero = x.number(tensor.zero_point, x.dtype)
    return x.apply("MatMulInteger", x.number(W.T, np.int8), zero, None, dtype=INT32)


def _scaled(
    call: Call, sums: Any, tensor: Tensor, places: Sequence[int], limits: tuple[int, int] = INT32_RANGE
) -> Any:
    """Return sums of all gates with 12 bits behind the point."""
    scales = [
        np.float32(call.tensor(place).scale) * np.float32(tensor.scale) / TWELVE_BITS for place in places
    ]
    units = call.tensor(places[0]).axes[0]
    multipliers, shifts = (np.repeat(numbers, units) for numbers in tables.factors(scales))
    return sums.rescaled(multipliers, shifts, np.int32, limits)


def _saturated(x: Any) -> Any:
    return x.apply("Clip", *INT16_RANGE)


def _shifted(x: Any, n: int) -> Any:
    """x / 2^n, rounded, ties away from zero: a factor of 1 and a shift."""
    return x.rescaled(1 << 30, 1 - n, np.int32, INT32_RANGE)


def _integer_step(call: Call, gates: list[int], sums: Any, h: Any, c: Any) -> Any:
    """One step: to h', c' and y."""
    hidden, cells, places = call.tensor(ONE.h), call.tensor(ONE.c), [ONE.recurrent[k] for k in gates]
    exponent = round(np.log2(cells.scale))
    total = _saturated(sums + _scaled(call, _sums(call, h, hidden, places), hidden, places))
    parts = dict(zip(gates, total.applied("Split", len(gates), axis=-1, num_outputs=len(gates)), strict=True))

    def gate(k: int, cell: Any = None) -> Any:
        z, p = parts[k], None if cell is None else call.optional(ONE.peepholes[k])
        if p is not None:
            factor = tables.factor(
                float(
                    np.float32(2.0**exponent) * np.float32(call.tensor(ONE.peepholes[k]).scale) / TWELVE_BITS
                )
            )
            product = cell * cell.number(call.array(p, "peepholes"), np.int32)
            z = _saturated(z + product.rescaled(*factor, np.int32, INT32_RANGE))
        table = tables.tanh_table(3) if k == 2 else tables.logistic_table()
        return z.looked_up(table, -(1 << 15), np.int32)

    f, g = gate(1, c), gate(2)
    i = gate(0, c) if 0 in gates else f.constant((1 << 15) - 1) - f
    new = _saturated(_shifted(f * c, 15) + _shifted(i * g, 30 + exponent))
    clip = min(call.options.cell_clip / cells.scale, 32767.0)
    if clip > 0:
        new = new.apply("Max", -int(clip)).apply("Min", int(clip))
    product = gate(3, new) * new.looked_up(tables.tanh_table(15 + exponent), -(1 << 15), np.int32)
    inside = call.intermediates[4] if len(call.intermediates) > 4 else hidden
    factor = tables.factor(float(np.float32(2.0**-15) / np.float32(inside.scale) * np.float32(2.0**-15)))
    y = product.rescaled(*factor, np.int8, (-128, 127), inside.zero_point)
    if call.optional(ONE.projection) is not None:
        y = _projected(call, y, inside, hidden)
    return y, new, y


def _projected(call: Call, y: Any, inside: Tensor, hidden: Tensor) -> Any:
    sums, scale = _sums(call, y, inside, [ONE.projection]), np.float32(call.tensor(ONE.projection).scale)
    bias = call.optional(ONE.projection_bias)
    sums = sums if bias is None else sums + sums.number(call.array(bias, "biases"), INT32)
    factor = tables.factor(float(scale * np.float32(inside.scale) / np.float32(hidden.scale)))
    y = sums.rescaled(*factor, np.int8, (-128, 127), hidden.zero_point)
    clip = int(min(max(call.options.proj_clip / hidden.scale, -128.0), 127.0))
    return y.apply("Max", -clip).apply("Min", clip) if clip > 0 else y
