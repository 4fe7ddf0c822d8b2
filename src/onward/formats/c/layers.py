"""Steps with weights, windows and transforms, as calls of functions in C. Each is named after its step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.plan.view import View
from ...graph.plan.words import RecordedWeights
from .code import Body, indexed, merged, nested, plus, set_state
from .library import literal
from .matrices import Matrix
from .places import offsets_of, pieces_of, row_steps, sizes_of
from .steps import activation, step, stored

FEW_OUTPUTS = 4


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
    loops = merged(rows, [sizes_of(x.strides[:row_axes]), row_steps(y, rows)])
    count = math.prod(rows)
    places = [indexed([axis[1][place] for axis in loops]) for place in range(2)]
    is_strided = matrix.O > 1 and y.strides[-1] != 1
    target = "row" if is_strided else plus("y", places[1])
    rest = table, str(len(pieces)), str(length), matrix.arguments, b, str(matrix.O), target
    statements = [f"{matrix.function}({', '.join([plus('x', places[0]), *rest, *matrix.scratch(c)])});"]
    c.add(f"const float *const x = {c.at(x)};", f"float *const y = {c.at(y)};")
    if is_strided:
        c.add(f"float *const row = {c.scratch(matrix.O)};", "int o;")
        place = f"{places[1]} + {int(y.strides[-1])} * o"
        statements.append(f"for (o = 0; o < {matrix.O}; o++) y[{place}] = row[o];")
    c.add(*nested([axis[0] for axis in loops], statements))
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

    def batch(view: View) -> list[int]:
        missing = axes - len(view.shape)
        pairs = zip(view.shape[:-2], view.strides[:-2], strict=True)
        return [0] * missing + [0 if size == 1 else int(stride) for size, stride in pairs]

    shape = list(map(int, y.shape[:-2]))
    loops = merged(shape, [batch(a), batch(b), list(map(int, y.strides[:-2]))])
    places = [indexed([axis[1][place] for axis in loops]) for place in range(3)]

    def operand(name: str, view: View, place: int) -> str:
        return f"{plus(name, places[place])}, {int(view.strides[-2])}, {int(view.strides[-1])}"

    call = f"matrix_product({M}, {K}, {N}, {operand('a', a, 0)}, {operand('b', b, 1)}, {operand('y', y, 2)});"
    c.add(
        f"const float *const a = {c.at(a)};",
        f"const float *const b = {c.at(b)};",
        f"float *const y = {c.at(y)};",
        *nested([axis[0] for axis in loops], call),
    )
    c.multiply_adds += math.prod(shape) * M * N * K


@step
def window(c: Body, operation: str, x: View, weights: View | None, bias: View | None, y: View) -> None:
    """Pools and depthwise convolutions."""
    rows, channels = len(y.shape) - 1, int(y.shape[-1])
    x_rows = [*map(int, x.strides[:rows]), int(x.strides[-1])]
    outer = merged(list(map(int, y.shape)), [x_rows, list(map(int, y.strides)), [0] * rows + [1]])
    taps = offsets_of(x, rows, len(x.shape) - 1)
    inner = merged(list(map(int, x.shape[rows:-1])), [list(map(int, x.strides[rows:-1]))])
    depth = len(outer)
    at = [indexed([axis[1][place] for axis in outer]) for place in range(3)]
    tap = indexed([axis[1][0] for axis in inner], depth)
    term = f"x[{at[0]} + {tap}]" if tap != "0" else f"x[{at[0]}]"
    number = indexed(_contiguous([axis[0] for axis in inner]), depth)
    start = {"maximum": f"x[{at[0]} + {int(taps[0])}]"}.get(
        operation, "0.0f" if bias is None else f"bias[{at[2]}]"
    )
    combined = {
        "maximum": f"total = larger(total, {term});",
        "sum": f"total += {term};",
        "weighted_sum": f"total = ONWARD_FMA({term}, weights[{channels} * ({number}) + {at[2]}], total);",
    }[operation]
    sizes = [axis[0] for axis in inner]
    names = "ijklmnpqrst"[depth : depth + len(sizes)]
    statement = [
        *([f"int {', '.join(names)};"] if names else []),
        f"float total = {start};",
        *nested(sizes, combined, depth)[bool(sizes) :],
        f"y[{at[1]}] = {stored('total + 0.0f')};",
    ]
    c.add(f"const float *const x = {c.at(x)};")
    for name, view in (("weights", weights), ("bias", bias)):
        if view is not None:
            c.add(f"const float *const {name} = {c.at(view)};")
    c.add(f"float *const y = {c.at(y)};", *nested([axis[0] for axis in outer], statement))
    c.multiply_adds += math.prod(map(int, y.shape)) * len(taps) * (weights is not None)


def _contiguous(sizes: Sequence[int]) -> list[int]:
    return list(map(int, View.contiguous(0, 0, tuple(sizes)).strides))


@step
def filter_(c: Body, weights: RecordedWeights, x: View, row_axes: int, function: Any, y: View) -> None:
    """Products whose results may have any strides; those with few outputs add up one at a time."""
    W, bias, scale = c.weights(weights)
    rows, outputs = len(y.shape) - 1, int(y.shape[-1])
    if outputs > FEW_OUTPUTS or scale is not None or row_axes != rows:
        return product(c, weights, x, row_axes, function, y)
    matrix = Matrix.of(c.module, W)
    x_rows = [*map(int, x.strides[:rows]), 0]
    outer = merged(
        list(map(int, y.shape)), [x_rows, list(map(int, y.strides)), [0] * rows + [1]], in_order=True
    )
    inner = merged(list(map(int, x.shape[rows:])), [list(map(int, x.strides[rows:]))])
    depth = len(outer)
    at = [indexed([axis[1][place] for axis in outer]) for place in range(3)]
    tap = indexed([axis[1][0] for axis in inner], depth)
    term = f"x[{at[0]} + {tap}]"
    number = indexed(_contiguous([axis[0] for axis in inner]), depth)
    sizes = [axis[0] for axis in inner]
    names = "ijklmnpqrst"[depth : depth + len(sizes)]
    combined = f"total = ONWARD_FMA({term}, weights[{outputs} * ({number}) + {at[2]}], total);"
    result = "total" if function is None else activation(function, "total")
    statement = [
        *([f"int {', '.join(names)};"] if names else []),
        f"float total = {'0.0f' if bias is None else f'bias[{at[2]}]'};",
        *nested(sizes, combined, depth)[bool(sizes) :],
        f"y[{at[1]}] = {stored(result)};",
    ]
    c.add(f"const float *const x = {c.at(x)};", f"const float *const weights = {matrix.arguments};")
    if bias is not None:
        values = c.module.constant(np.asarray(bias, np.float32), "bias")
        c.add(f"const float *const bias = {values};")
    c.add(f"float *const y = {c.at(y)};", *nested([axis[0] for axis in outer], statement))
    c.multiply_adds += math.prod(map(int, y.shape)) * math.prod(map(int, x.shape[rows:]))


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
    rows = merged(
        list(map(int, y.shape[:-2])), [list(map(int, x.strides[:-2])), list(map(int, y.strides[:-2]))]
    )
    at = [indexed([axis[1][place] for axis in rows]) for place in range(2)]
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
    lines = nested([axis[0] for axis in rows], call)
    c.add(
        *lines[: bool(rows)],
        *(f"f.{name} = {value};" for name, value in fields.items()),
        *lines[bool(rows) :],
    )
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
