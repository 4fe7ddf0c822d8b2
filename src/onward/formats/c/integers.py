"""Steps on bytes and integers that stand for real numbers, in C. Each is named after its step."""

from __future__ import annotations

import math

import numpy as np

from ...graph.plan.view import View
from ...graph.plan.words import Weights
from .code import Body, indexed, merged, nested, plus
from .library import TYPES
from .places import pieces_of, sizes_of
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
def integer_product(
    c: Body,
    weights: Weights,
    x: View,
    row_axes: int,
    zero_point: View,
    scale: View | None,
    bias: View | None,
    y: View,
) -> None:
    """Dense layers and convolutions in int8, with sums in int32."""
    q, zero_points = c.weights(weights)
    q = np.asarray(q)
    O, K = q.shape  # noqa: E741
    pieces, length = pieces_of(x, row_axes)
    table = c.module.constant(pieces.astype(np.int32), "pieces") if len(pieces) > 1 else "0"
    rows = sizes_of(x.shape[:row_axes])
    y_steps = [int(y.strides[0]) * stride for stride in View.contiguous(0, 0, tuple(rows)).strides]
    loops = merged(rows, [sizes_of(x.strides[:row_axes]), y_steps])
    depth = len(loops)
    at = [indexed([axis[1][place] for axis in loops]) for place in range(2)]
    o = "ijklmnpqrst"[depth]
    is_unsigned = x.dtype == "uint8"
    zeros = np.asarray(zero_points)
    w_zero = f"{c.module.constant(zeros.astype(np.int32), 'zeros')}[{o}]" if zeros.any() else "0"
    total = f"sum_of_bytes(row, {c.module.constant(q, 'bytes')} + {K} * {o}, {K}, zero, {w_zero})"
    if bias is not None and bias.dtype == "int32":
        total = f"{total} + bias[{o}]"
    if y.dtype == "float32":
        value = f"(float)({total})"
        if scale is not None:
            value += f" * scale[{o if math.prod(map(int, scale.shape)) > 1 else 0}]"
        value += f" + bias[{o}]" if bias is not None and bias.dtype == "float32" else ""
        total = stored(value)
    row = f"gather_bytes((const uint8_t *)({plus('x', at[0])}), {table}, {len(pieces)}, {length}"
    statements = [
        f"int {o};",
        f"{row}, {128 if is_unsigned else 0}, row);",
        f"for ({o} = 0; {o} < {O}; {o}++)",
        f"    y[{at[1]} + {o}] = {total};",
    ]
    c.add(f"const {TYPES[x.dtype]} *const x = {c.at(x)};", f"{TYPES[y.dtype]} *const y = {c.at(y)};")
    for name, view in (("scale", scale), ("bias", bias)):
        if view is not None:
            c.add(f"const {TYPES[view.dtype]} *const {name} = {c.at(view)};")
    zero = f"*({c.at(zero_point)})" if c.number(zero_point) is None else c.number(zero_point)
    c.add(f"const int32_t zero = {zero}{' - 128' if is_unsigned else ''};")
    c.add(f"int8_t *const row = (int8_t *){c.scratch(K, 'int8')};")
    c.add(*(nested([axis[0] for axis in loops], statements) if depth else ["{", *statements, "}"]))
    c.multiply_adds += math.prod(rows) * O * K


@step
def rescale(
    c: Body, zero_point: int, low: int, high: int, x: View, multiplier: View, shift: View, y: View
) -> None:
    """Integers times factors in fixed point."""
    kind, wide = TYPES[y.dtype], "rescaled_64" if x.dtype == "int64" else "rescaled_32"

    def statement(x_element: str, m: str, s: str, y_element: str) -> str:
        value = f"{wide}({x_element}, {m}, {s}) + INT64_C({int(zero_point)})"
        return f"{y_element} = ({kind})between({value}, {_limit(low)}, {_limit(high)});"

    c.loops([x, multiplier, shift, y], statement)


def _limit(number: int) -> str:
    return "INT64_MIN" if int(number) == -(1 << 63) else f"INT64_C({int(number)})"


@step
def lookup(c: Body, low: int, table: View, x: View, y: View) -> None:
    """Functions of integers, by tables."""
    last = int(table.shape[0]) - 1
    c.add(f"const {TYPES[table.dtype]} *const table = {c.at(table)};")
    c.loops([x, y], lambda x, y: f"{y} = table[between((int64_t){x} - INT64_C({int(low)}), 0, {last})];")


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
