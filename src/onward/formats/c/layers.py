"""Steps with weights, windows and transforms, as calls of functions in C. Each is named after its step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.plan.view import View
from ...graph.plan.words import RecordedWeights
from .code import Body, indexed, nest, nested, plus, set_state, steps_of
from .library import literal
from .matrices import Matrix
from .places import pieces_of, row_steps, sizes_of
from .steps import activation, step, stored

FEW_OUTPUTS = 4
PRODUCT = "ONWARD_FMA({x}, {w}, total)"


@step
def product(c: Body, weights: RecordedWeights, x: View, row_axes: int, function: Any, y: View) -> None:
    """Dense layers and convolutions, with float32 or int8 weights."""
    W, bias, scale = c.weights(weights)
    matrix = Matrix.of(c.module, W, scale)
    pieces, length = pieces_of(x, row_axes)
    many = len(pieces) > 1
    table = c.module.constant(pieces.astype(np.int32), "pieces") if many else "0"
    b = "0" if bias is None else c.module.constant(np.asarray(bias, np.float32), "bias")
    rows = sizes_of(x.shape[:row_axes])
    sizes, places = nest(rows, x.strides[:row_axes], row_steps(y, rows))
    count = math.prod(rows)
    is_strided = matrix.O > 1 and y.strides[-1] != 1
    target = "row" if is_strided else plus("y", places[1])
    rest = table, str(len(pieces)), str(length), matrix.arguments, b, str(matrix.O), target
    statements = [f"{matrix.function}({', '.join([plus('x', places[0]), *rest, *matrix.scratch(c)])});"]
    c.add(f"const float *const x = {c.at(x)};", f"float *const y = {c.at(y)};")
    if is_strided:
        c.add(f"float *const row = {c.scratch(matrix.O)};", "int o;")
        place = f"{places[1]} + {int(y.strides[-1])} * o"
        statements.append(f"for (o = 0; o < {matrix.O}; o++) y[{place}] = row[o];")
    c.add(*nested(sizes, statements))
    c.multiply_adds += count * matrix.O * matrix.K
    if function is not None:
        c.add("{")
        c.loops([y], lambda y: f"{y} = {stored(activation(function, y))};")
        c.add("}")


@step
def matmul(c: Body, a: View, b: View, y: View) -> None:
    """Products of two computed matrices, such as those of attention."""
    axes = len(y.shape)
    M, N, K = int(y.shape[-2]), int(y.shape[-1]), int(a.shape[-1])

    shape = list(map(int, y.shape[:-2]))
    sizes, places = nest(shape, *(steps_of(view, axes - 2, -2) for view in (a, b, y)))

    def operand(name: str, view: View, place: int) -> str:
        return f"{plus(name, places[place])}, {int(view.strides[-2])}, {int(view.strides[-1])}"

    call = f"matrix_product({M}, {K}, {N}, {operand('a', a, 0)}, {operand('b', b, 1)}, {operand('y', y, 2)});"
    c.add(
        f"const float *const a = {c.at(a)};",
        f"const float *const b = {c.at(b)};",
        f"float *const y = {c.at(y)};",
        *nested(sizes, call),
    )
    c.multiply_adds += math.prod(shape) * M * N * K


def _over_taps(
    c: Body, x: View, y: View, x_rows: Sequence[Any], taps: slice, update: str, start: str, result: str
) -> None:
    """Compute each element of y from a total over the taps of x, which are some of its axes.

    `update` and `start` may contain an element of x as {x}, the weight of a tap as {w}, and the number of the
    unit, which is the place on the last axis of y, as {unit}.
    """
    units, unit_steps = int(y.shape[-1]), [0] * (len(y.shape) - 1) + [1]
    sizes, (x_at, y_at, unit) = nest(y.shape, x_rows, y.strides, unit_steps)
    depth = len(sizes)
    inner, (tap,) = nest(x.shape[taps], x.strides[taps], first=depth)
    number = indexed(list(map(int, View.contiguous(0, 0, tuple(inner)).strides)), depth)
    parts = {"w": f"weights[{units} * ({number}) + {unit}]", "unit": unit}
    statement = [
        f"float total = {start.format(x=f'x[{x_at}]', **parts)};",
        *nested(inner, f"total = {update.format(x=f'x[{plus(x_at, tap)}]', **parts)};", depth),
        f"y[{y_at}] = {stored(result)};",
    ]
    c.add(f"const float *const x = {c.at(x)};")
    c.add(f"float *const y = {c.at(y)};", *nested(sizes, statement))


@step
def window(c: Body, operation: str, x: View, weights: View | None, bias: View | None, y: View) -> None:
    """Pools and depthwise convolutions."""
    rows = len(y.shape) - 1
    for name, view in (("weights", weights), ("bias", bias)):
        if view is not None:
            c.add(f"const float *const {name} = {c.at(view)};")
    start = "{x}" if operation == "maximum" else "0.0f" if bias is None else "bias[{unit}]"
    updates = {"maximum": "larger(total, {x})", "sum": "total + {x}", "weighted_sum": PRODUCT}
    x_rows = [*x.strides[:rows], x.strides[-1]]
    _over_taps(c, x, y, x_rows, slice(rows, -1), updates[operation], start, "total + 0.0f")
    c.multiply_adds += math.prod(sizes_of((*y.shape, *x.shape[rows:-1]))) * (weights is not None)


@step
def filter_(c: Body, weights: RecordedWeights, x: View, row_axes: int, function: Any, y: View) -> None:
    """Products whose results may have any strides; those with few outputs add up one at a time."""
    W, bias, scale = c.weights(weights)
    rows = len(y.shape) - 1
    if int(y.shape[-1]) > FEW_OUTPUTS or scale is not None or row_axes != rows:
        return product(c, weights, x, row_axes, function, y)
    c.add(f"const float *const weights = {Matrix.of(c.module, W).arguments};")
    if bias is not None:
        values = c.module.constant(np.asarray(bias, np.float32), "bias")
        c.add(f"const float *const bias = {values};")
    start = "0.0f" if bias is None else "bias[{unit}]"
    result = "total" if function is None else activation(function, "total")
    _over_taps(c, x, y, [*x.strides[:rows], 0], slice(rows, None), PRODUCT, start, result)
    c.multiply_adds += math.prod(sizes_of((*y.shape, *x.shape[rows:])))


@step
def fourier(
    c: Body, n: int, inverse: bool, factors: Sequence[int], table: View, taper: View | None, x: View, y: View
) -> None:
    """Fast Fourier transforms, such as those of STFTs."""
    axes = len(y.shape)
    is_complex_x, is_complex_y = x.shape[-1] == 2, y.shape[-1] == 2
    is_half = n % 2 == 0 and not (is_complex_x and is_complex_y)
    points = n // 2 if is_half else n
    turns = math.prod(table.shape) - (2 * (points + 1) if is_half else 0)
    sizes, at = nest(y.shape[:-2], x.strides[:-2], y.strides[:-2])
    numbers = c.module.constant(np.array(factors or [1], np.int32), "factors")
    fields = {
        "n": n,
        "points": points,
        "stages": len(factors),
        "factors": numbers,
        "table": c.at(table),
        "turns": turns,
        "window": "0" if taper is None else c.at(taper),
        "inverse": int(inverse),
        "is_complex_x": int(is_complex_x),
        "is_complex_y": int(is_complex_y),
        "length": min(n, int(x.shape[axes - 2])),
        "bins": int(y.shape[axes - 2]),
        "x_step": int(x.strides[axes - 2]),
        "x_part": int(x.strides[axes - 1]) if is_complex_x else 0,
        "y_step": int(y.strides[axes - 2]),
        "y_part": int(y.strides[axes - 1]) if is_complex_y else 0,
    }
    memory = c.scratch(2 * (2 * points + 1))
    call = f"fourier(&f, {plus('x', at[0])}, {plus('y', at[1])}, (complex_number *)({memory}));"
    c.add(f"const float *const x = {c.at(x)};", f"float *const y = {c.at(y)};", "transform f;")
    c.add(*(f"f.{name} = {value};" for name, value in fields.items()), *nested(sizes, call))
    c.multiply_adds += math.prod(map(int, y.shape[:-2])) * points * 2 * max(1, sum(map(int, factors)))


@step
def linear_attention(
    c: Body, scale: float, q: View, k: View, v: View, before: View | None, decay: View | None,
    beta: View | None, y: View, after: View,
) -> None:  # fmt: skip
    """Linear attention, whose states are matrices."""
    B, T, heads, keys = sizes_of(k.shape)
    values, queries = int(v.shape[3]), int(q.shape[2]) // heads if heads else 0
    c.add(f"float *const state = {c.at(after)};", *set_state(c, "state", after, before))
    places = []
    for name, view in (("query", q), ("key", k), ("value", v), ("decay", decay), ("beta", beta), ("y", y)):
        if view is None:
            places.append("0")
            continue
        c.add(f"{'' if view is y else 'const '}float *const {name} = {c.at(view)};")
        row, step, head = sizes_of(view.strides[:3])
        places.append(plus(name, indexed([row, step, head * (queries if view in (q, y) else 1)])))
    by = int(decay is not None and decay.shape[3] > 1)
    vectors = f"{', '.join(places[:4])}, {by}, {places[4]}, {places[5]}"
    sizes = f"{literal(np.float32(scale), 'float32')}, {queries}, {keys}, {values}"
    call = f"linear_attention({sizes}, {vectors}, state + {keys * values} * ({heads} * i + k));"
    c.add(*nested([B, T, heads], call))
    c.multiply_adds += B * T * heads * keys * values * (queries + 1 + (beta is not None))
