"""LSTM over a sequence: of real numbers, and of integers as LiteRT's reference kernels compute them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...graph.node import AnyArray
from ...graph.operations.expressions import sqrt, unary
from ...graph.operations.fixed_functions import logistic_table, tanh_table
from ...graph.operations.integer_expressions import INT16_LIMITS, INT32_LIMITS
from ...graph.operations.recurrent import new_layer
from . import reals
from .control import loop
from .products import matrix, times
from .read import Tensor
from .registry import FLOATS, INT32, INTEGERS, Call, Value, activated, operator

TWELVE_BITS = np.float32(2.0**-12)
LOWEST, LOWEST_INT8 = -(1 << 15), -(1 << 7)  # integers; tables start at that of 16 bits
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


def layered(
    call: Call, cell: str, options: dict[str, Any], weights: Sequence[Any], places: Sequence[int], x: Any
) -> Any:
    """Run a layer with weights W, R, a bias and peepholes over x (T, B, I), and keep the states."""
    W, R, bias, P = weights
    biases = np.concatenate([bias, np.zeros_like(bias)])[None]
    layer = new_layer(cell, options, W[None], R[None], biases, None if P is None else P[None])
    start = [state(call, place).apply("Unsqueeze", [0]) for place in places]
    y, *states = x.applied("Recurrent", 1 + len(places), None, *start, layer=layer, reverse=False)
    for place, after in zip(places, states, strict=True):
        keep(call, place, after.apply("Squeeze", [0]))
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


def _gates(call: Call, d: Direction) -> list[int]:
    """Return the gates that have weights: all, or all but the input gate. Raises ArgumentError."""
    if getattr(call.options, "diagonal", False):
        raise call.refuse("an LSTM with diagonal matrices")
    return [k for k in range(4) if k or call.optional(d.matrices[0]) is not None]


def run(call: Call, d: Direction, x: Any) -> Any:
    """Return y (T, B, P) of x (T, B, I); the states are variables."""
    special = [d.projection, *d.norms[1:2]]
    is_plain = all(call.optional(place) is None for place in special) and call.tensor(d.h).integers is None
    is_quantized = call.tensor(d.matrices[1]).is_quantized or call.tensor(d.recurrent[1]).is_quantized
    if is_plain and not is_quantized and call.activation == "TANH":
        return _layer(call, d, x)
    gates = _gates(call, d)
    sums = times(call, x, *(d.matrices[k] for k in gates))
    has_norms = not is_plain and call.optional(d.norms[1]) is not None if d.norms else False
    biases = np.concatenate([_bias(call, d, k) for k in gates])
    sums = sums if has_norms else sums + sums.number(biases, np.float32)
    return repeated(call, sums, (d.h, d.c), lambda *values: _step(call, d, gates, has_norms, *values))


def _bias(call: Call, d: Direction, gate: int) -> AnyArray:
    bias = real(call, d.biases[gate])
    return np.zeros(call.tensor(d.recurrent[gate]).axes[0], np.float32) if bias is None else bias


def _step(call: Call, d: Direction, gates: list[int], has_norms: bool, sums: Any, h: Any, c: Any) -> Any:
    """One step of an LSTM with norms, a projection or integer weights: to h', c' and y."""
    total = sums + times(call, h, *(d.recurrent[k] for k in gates))
    parts = dict(zip(gates, total.split(len(gates)), strict=True))

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
    if (cells := call.tensor(d.c).integers) is not None:
        new = _clipped(new, cells.scale * cells.limits[1])
    y = sigmoid(gate(3, new)) * activated(call, new)
    if call.optional(d.projection) is not None:
        bias = real(call, d.projection_bias)
        y = times(call, y, d.projection)
        y = _clipped(y if bias is None else y + y.number(bias, np.float32), call.options.proj_clip)
    y = reals.representable(y, call.tensor(d.h))
    return y, new, y


def _clipped(x: Any, limit: float) -> Any:
    return x.apply("Clip", -limit, limit) if limit > 0 else x


def _layer(call: Call, d: Direction, x: Any) -> Any:
    """Run a layer; without an input gate i = 1 - f, it has that of the weights -f."""
    gates = _gates(call, d)

    def ordered(of_gate: Callable[[int], Any], places: Sequence[int] = (0, 3, 1, 2)) -> Any:
        """Return arrays in the order input, output, forget, cell."""
        return np.concatenate([-of_gate(1) if k == 0 and 0 not in gates else of_gate(k) for k in places])

    W, R = ordered(lambda k: real(call, d.matrices[k])), ordered(lambda k: real(call, d.recurrent[k]))
    bias, P = ordered(lambda k: _bias(call, d, k)), None
    if call.optional(d.peepholes[1]) is not None:
        P = ordered(lambda k: real(call, d.peepholes[k]), (0, 3, 1))
    options = {"cell_clip": call.options.cell_clip} if call.options.cell_clip > 0 else {}
    options |= {"input_forget": 1} if 0 not in gates else {}
    return layered(call, "LSTM", options, (W, R, bias, P), (d.h, d.c), x)


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
    sums = times(call, both, 2) + b
    parts = sums.split(4)
    i, g, f, o = sigmoid(parts[0]), parts[1].apply("Tanh"), sigmoid(parts[2]), sigmoid(parts[3])
    new: Any = i * g + f * c
    return [o * new.apply("Tanh"), new, both, sums]


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
    new = new.apply("Max", -clip).apply("Min", clip) if clip > 0 else new
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
    scale = np.float32(call.tensor(ONE.projection).scale) * np.float32(inside.scale)
    y = sums.times(float(scale / np.float32(hidden.scale)), np.int8, hidden.limits, hidden.zero_point)
    clip = int(min(max(call.options.proj_clip / hidden.scale, -128.0), 127.0))
    return y.apply("Max", -clip).apply("Min", clip) if clip > 0 else y
