"""Steps on bytes and integers that stand for real numbers, in C. Each is named after its step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...graph.plan.steps import OutputStage
from ...graph.plan.view import View
from ...graph.plan.words import RecordedWeights
from .code import INDICES, Body, nest, nested, plus
from .library import TYPES, literal
from .places import offsets_of, pieces_of, row_steps, sizes_of
from .steps import step, stored


@step
def quantize_dynamically(c: Body, x: View, y: View, scale: View, zero_point: View) -> None:
    """Rounding to bytes with the range of the numbers."""
    n = math.prod(map(int, x.shape))
    c.add(f"quantize_dynamically({c.at(x)}, {n}, {c.at(y)}, {c.at(scale)}, {c.at(zero_point)});")


@step
def quantize(c: Body, x: View, scale: View, zero_point: View, y: View) -> None:
    """Rounding to bytes with a scale and a zero point."""
    low, kind = (-128, "(int8_t)") if y.dtype == "int8" else (0, "")
    c.loops(
        [x, scale, zero_point, y],
        lambda x, scale, zero, y: f"{y} = {kind}quantized({x}, {scale}, {zero}, {low});",
    )


@step
def dequantize(c: Body, x: View, scale: View, zero_point: View, y: View) -> None:
    """Bytes and integers as real numbers."""

    def statement(x_element: str, scale_element: str, zero: str, y_element: str) -> str:
        centered = f"(float)(int32_t)((uint32_t){x_element} - (uint32_t){zero})"
        return f"{y_element} = {stored(f'{centered} * {scale_element}')};"

    c.loops([x, scale, zero_point, y], statement)


@step
def quantize_rows(c: Body, is_symmetric: bool, x: View, q: View, scale: View, zero_point: View) -> None:
    """Rounding of rows to bytes with ranges of their own."""
    K, rows = int(x.shape[-1]), math.prod(sizes_of(x.shape[:-1]))
    c.add(f"const float *const x = {c.at(x)};", f"int8_t *const q = {c.at(q)};")
    c.add(f"float *const scale = {c.at(scale)};", f"int8_t *const zero = {c.at(zero_point)};", "int i;")
    c.add(f"for (i = 0; i < {rows}; i++)")
    c.add(f"    scale[i] = quantized_row(x + {K} * i, {K}, {int(is_symmetric)}, q + {K} * i, zero + i);")


class Sums(NamedTuple):
    """What exact sums (rows, units) become, and where."""

    stage: OutputStage
    y: View

    def declare(self, c: Body) -> None:
        """Declare the addresses of the vectors and of y."""
        c.add(f"{TYPES[self.y.dtype]} *const y = {c.at(self.y)};")
        for name in ("row_scale", "scale", "bias", "multiplier"):
            if (view := getattr(self.stage, name)) is not None:
                c.add(f"const {TYPES[view.dtype]} *const {name} = {c.at(view)};")
        if self.stage.shift is not None:
            address, kind = c.narrowed(self.stage.shift)
            c.add(f"const {kind} *const shift = {address};")

    def started(self, c: Body, starts: NDArray[np.int64]) -> tuple[Sums, str]:
        """Return the sums without a known bias of integers, and the constant that takes its place, or ""."""
        given = self.stage.bias
        bias = c.known(given) if given is not None and given.dtype == "int32" else None
        whole = starts if bias is None else starts + bias
        if bias is None and not starts.any():
            return self, ""
        start = c.module.constant(whole.astype(np.int32), "start")
        return (self if bias is None else Sums(self.stage.with_bias(None), self.y)), start

    def stored(self, c: Body, total: str, row: str, unit: str) -> str:
        """Return what is stored for a sum."""
        row_scale, scale, bias, multiplier, shift, zero_point, low, high = self.stage
        if bias is not None and bias.dtype == "int32":
            total = f"{total} + bias[{unit}]"
        if multiplier is not None and shift is not None:
            m, s = f"multiplier[{_place(multiplier, unit)}]", f"shift[{_place(shift, unit)}]"
            product = f"{_rescaling(c, multiplier, shift)}({total}, {m}, {s})"
            return _rescaled(product, zero_point, low, high, self.y)
        if self.y.dtype != "float32":
            return total
        value = f"(float)({total})"
        for name, view, place in (("row_scale", row_scale, row), ("scale", scale, unit)):
            value += "" if view is None else f" * {name}[{_place(view, place)}]"
        return stored(value if bias is None or bias.dtype == "int32" else f"{value} + bias[{unit}]")


def _place(view: View, place: str) -> str:
    return place if math.prod(map(int, view.shape)) > 1 else "0"


def _for_rows(c: Body, x: View, row_axes: int, y: View, statements: Callable[..., list[str]]) -> None:
    """Repeat statements, of the offsets of a row in x and y, its number and a free index, for each row."""
    rows = sizes_of(x.shape[:row_axes])
    counted = sizes_of(View.contiguous(0, 0, tuple(rows)).strides)
    sizes, at = nest(rows, x.strides[:row_axes], row_steps(y, rows), counted)
    lines = statements(*at, INDICES[len(sizes)])
    c.add(*(nested(sizes, lines) if sizes else ["{", *lines, "}"]))


def _zero(c: Body, zero_point: View, x: View, row: str) -> str:
    """Return the zero point of a row."""
    number = c.number(zero_point) if math.prod(map(int, zero_point.shape)) == 1 else None
    return str(number) if number is not None else f"({c.at(zero_point)})[{_place(zero_point, row)}]"


@step
def integer_product(
    c: Body, weights: RecordedWeights, x: View, row_axes: int, zero_point: View, *stage_and_y: Any
) -> None:
    """Dense layers and convolutions in int8, with sums in int32."""
    sums = Sums(OutputStage(*stage_and_y[:-1]), stage_and_y[-1])
    q, zeros = (np.asarray(array) for array in c.weights(weights))
    O, K = q.shape  # noqa: E741
    pieces, length = pieces_of(x, row_axes)
    table = c.module.constant(pieces.astype(np.int32), "pieces") if len(pieces) > 1 else "0"
    flip = 128 if x.dtype == "uint8" else 0
    is_gathered = len(pieces) > 1 or flip
    c.add(f"const {TYPES[x.dtype]} *const x = {c.at(x)};")
    if is_gathered:
        c.add(f"int8_t *const row = (int8_t *){c.scratch(K, 'int8')};")
    matrix, known = c.module.constant(q, "bytes"), c.number(zero_point)
    if known is not None and not zeros.any():  # the zero point of x becomes a part of the bias
        starts = -(int(known) - flip) * q.sum(1, dtype=np.int64)
        sums, start = sums.started(c, starts)
        declared = f"const int32_t *const start = {start};" if start else ""
    else:
        declared = None
    sums.declare(c)
    if declared:
        c.add(declared)

    def statements(at: str, y_at: str, number: str, o: str) -> list[str]:
        row = "row" if is_gathered else plus("x", at)
        lines = [f"int {o};"]
        if is_gathered:
            source = f"(const uint8_t *)({plus('x', at)})"
            lines.append(f"gather_bytes({source}, {table}, {len(pieces)}, {length}, {flip}, row);")
        if declared is None:
            zero = _zero(c, zero_point, x, number) + (" - 128" if flip else "")
            lines.insert(0, f"const int32_t zero = {zero};")
            w_zero = f"{c.module.constant(zeros.astype(np.int32), 'zeros')}[{o}]" if zeros.any() else "0"
            total = f"sum_of_bytes({row}, {matrix} + {K} * {o}, {K}, zero, {w_zero})"
        else:
            total = f"dot_of_bytes({row}, {matrix} + {K} * {o}, {K})" + (f" + start[{o}]" if declared else "")
        stored_sum = sums.stored(c, total, number, o)
        return [*lines, f"for ({o} = 0; {o} < {O}; {o}++)", f"    y[{plus(o, y_at)}] = {stored_sum};"]

    _for_rows(c, x, row_axes, sums.y, statements)
    c.multiply_adds += math.prod(sizes_of(x.shape[:row_axes])) * O * K


@step
def integer_window(
    c: Body, weights: View, x: View, row_axes: int, zero_point: View, *stage_and_y: Any
) -> None:
    """Convolutions of bytes in which each channel has its own kernel."""
    sums = Sums(OutputStage(*stage_and_y[:-1]), stage_and_y[-1])
    places = offsets_of(x, row_axes, len(x.shape) - 1)
    taps, channels = len(places), int(x.shape[-1])
    c.multiply_adds += math.prod(sizes_of(x.shape[:row_axes])) * taps * channels
    numbers, known = c.known(weights), c.number(zero_point)
    if numbers is not None and known is not None and taps <= MOST_TAPS and np.abs(numbers).max() < 128:
        return _short_window(c, numbers.reshape(taps, channels).T, x, row_axes, int(known), places, sums)
    table = c.module.constant(places.astype(np.int32), "taps")
    c.add(f"const {TYPES[x.dtype]} *const x = {c.at(x)};", f"const int32_t *const weights = {c.at(weights)};")
    sums.declare(c)

    def statements(at: str, y_at: str, number: str, o: str) -> list[str]:
        element = f"({plus('x', at)})[{table}[e] + {o}]"
        return [
            f"const int32_t zero = {_zero(c, zero_point, x, number)};",
            f"int {o};",
            f"for ({o} = 0; {o} < {channels}; {o}++) {{",
            "    int32_t total = 0;",
            "    int e;",
            f"    for (e = 0; e < {taps}; e++) total += ({element} - zero) * weights[{channels} * e + {o}];",
            f"    y[{plus(o, y_at)}] = {sums.stored(c, 'total', number, o)};",
            "}",
        ]

    _for_rows(c, x, row_axes, sums.y, statements)
    return None


MOST_TAPS = 32  # that are written one after the other


def _short_window(
    c: Body, W: NDArray[np.int32], x: View, row_axes: int, zero: int, places: NDArray[np.int64], sums: Sums
) -> None:
    """Write the taps one after the other; the zero point of x becomes a part of the bias."""
    channels, taps = W.shape
    sums, start = sums.started(c, -zero * W.sum(1, dtype=np.int64))
    matrix = c.module.constant(W.astype(np.int8), "bytes")
    c.add(f"const {TYPES[x.dtype]} *const x = {c.at(x)};")
    sums.declare(c)

    def statements(at: str, y_at: str, number: str, o: str) -> list[str]:
        terms = [f"row[{plus(o, place)}] * W[{tap}]" for tap, place in enumerate(places.tolist())]
        lines = [" + ".join(terms[i : i + 4]) for i in range(0, taps, 4)]
        return [
            f"const {TYPES[x.dtype]} *const row = {plus('x', at)};",
            f"int {o};",
            f"for ({o} = 0; {o} < {channels}; {o}++) {{",
            f"    const int8_t *const W = {matrix} + {taps} * {o};",
            f"    int32_t total = {f'{start}[{o}]' if start else 0};",
            *(f"    total += {line};" for line in lines),
            f"    y[{plus(o, y_at)}] = {sums.stored(c, 'total', number, o)};",
            "}",
        ]

    _for_rows(c, x, row_axes, sums.y, statements)


def _rescaling(c: Body, multiplier: View, shift: View) -> str:
    """Return the function that multiplies by a factor, a simpler one if it is known to be small."""
    m, s = c.known(multiplier), c.known(shift)
    is_small = m is not None and s is not None and m.min() >= 0 and s.min() >= -31 and s.max() <= 0
    return "scaled_down" if is_small else "rescaled_32"


def _rescaled(product: str, zero_point: int, low: int, high: int, y: View) -> str:
    """Return a rescaled sum of 32 bits plus a zero point, clipped."""
    limits, kind = np.iinfo(np.int32), TYPES[y.dtype]
    low, high = (int(end) - int(zero_point) for end in (low, high))
    if low < limits.min or high > limits.max:
        ends = f"{_limit(low + zero_point)}, {_limit(high + zero_point)}"
        return f"({kind})between((int64_t){product} + {int(zero_point)}, {ends})"
    is_whole = (low, high) == (limits.min, limits.max)
    value = product if is_whole else f"clipped({product}, {_number(low)}, {_number(high)})"
    return f"({kind})({plus(value, int(zero_point))})".replace("+ -", "- ")


@step
def rescale(
    c: Body, zero_point: int, low: int, high: int, x: View, multiplier: View, shift: View, y: View
) -> None:
    """Integers times factors in fixed point."""
    call = f"{_rescaling(c, multiplier, shift)}({{0}}, {{1}}, {{2}})"
    c.loops(
        [x, multiplier, shift, y],
        lambda *each: f"{each[3]} = {_rescaled(call.format(*each), zero_point, low, high, y)};",
    )


@step
def rescale_once(
    c: Body, zero_point: int, low: int, high: int, x: View, multiplier: View, shift: View, y: View
) -> None:
    """Integers of 64 bits times factors in fixed point."""
    limits = f"{_limit(low)}, {_limit(high)}"
    c.loops(
        [x, multiplier, shift, y],
        lambda x, m, s, to: (
            f"{to} = ({TYPES[y.dtype]})between(rescaled_64({x}, {m}, {s}) + {_limit(zero_point)}, {limits});"
        ),
    )


def _limit(number: int) -> str:
    return "INT64_MIN" if int(number) == -(1 << 63) else f"INT64_C({int(number)})"


@step
def lookup(c: Body, low: int, bits: int, table: View, x: View, y: View) -> None:
    """Functions of integers, by tables, also on the lines between their elements."""
    last = int(table.shape[0]) - 1
    numbers, kind = c.narrowed(table)
    if bits > 14 or (bits and kind not in ("int8_t", "int16_t")):
        raise ArgumentError("a table with lines has C if its numbers have 16 bits, and its lines at most 14")
    place = _place_in_table(x.dtype, int(low), int(low) + (last << bits))
    c.add(f"const {kind} *const table = {numbers};")
    found = f"on_line(table, {place}, {bits}, {last})" if bits else f"table[{place}]"
    c.loops([x, y], lambda x, y: f"{y} = {found.format(x=x)};")


def _place_in_table(dtype: str, low: int, high: int) -> str:
    """Return the distance of {x} from the start of a table for integers from low to high."""
    kind, limits = np.iinfo(dtype), np.iinfo(np.int32)
    place = f"between({{x}}, {_limit(low)}, {_limit(high)})"
    if low <= kind.min and high >= kind.max:
        place = "{x}"
    elif dtype != "int64" and limits.min <= low <= high <= limits.max:
        place = f"clipped({{x}}, {_number(low)}, {_number(high)})"
    return plus(place, -low).replace("+ -", "- ")


def _number(number: int) -> str:
    return literal(number, "int32")


@step
def reduce_integers(c: Body, operation: str, x: View, y: View) -> None:
    """Sums and maxima of integers."""
    n, by, kind = int(x.shape[-1]), int(x.strides[-1]), TYPES[x.dtype]
    wide = "uint64_t" if operation == "sum" else kind

    def statement(x_element: str, y_element: str) -> list[str]:
        first = f"const {kind} *const from = &{x_element};"
        update = f"total += ({wide})from[{by} * e];"
        if operation != "sum":
            update = f"total = from[{by} * e] > total ? from[{by} * e] : total;"
        start = "0" if operation == "sum" else "from[0]"
        loop = f"for (e = 0; e < {n}; e++) {update}"
        return [first, f"{wide} total = {start};", "int e;", loop, f"{y_element} = ({kind})total;"]

    c.loops([x.sliced(len(x.shape) - 1, 0, 1), y], statement)


@step
def fixed_reciprocal(c: Body, x: View, multiplier: View, shift: View) -> None:
    """Reciprocals in fixed point."""
    c.loops([x, multiplier, shift], lambda x, m, y: f"{m} = fixed_reciprocal({x}, &{y});", written=2)


@step
def masked_steps(c: Body, mask: View, counted: View, lengths: View, sources: View) -> None:
    """The order of the steps of masked recurrent layers."""
    T, B, D = (int(size) for size in sources.shape)
    steps = f"{int(mask.strides[0])}, {int(mask.strides[1])}, {T}, {B}, {D}"
    c.add(f"masked_steps({c.at(mask)}, {steps}, {c.at(counted)}, {c.at(lengths)}, {c.at(sources)});")
