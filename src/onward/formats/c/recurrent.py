"""Recurrent layers in C: a function for each kind of cell, called for each layer, direction and row."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ...graph.plan.view import View
from ...graph.plan.words import RecordedWeights
from .code import Body, Module, plus, set_state
from .library import literal
from .matrices import Matrix
from .steps import activation, step

# The place of each cell in the template, and its gates.
CELLS = {"lstm": (0, 4), "gru": (1, 3), "gru_reset_before": (2, 3), "rnn": (3, 1), "rnn_relu": (3, 1)}
QUOTIENTS = {"sigmoid": "sigmoid_quotient", "tanh": "tanh_quotient"}
ROOM = {"lstm": 8, "gru": 6, "gru_reset_before": 7, "rnn": 2, "rnn_relu": 2}  # numbers for each unit

SUMS_ARE_KNOWN = {  # x and u_t are products
    "weights": "const float *u_t",
    "product_W": "memcpy(z, x + t * x_step, (size_t)I * sizeof *z);",
    "product_R": "memcpy(u, u_t, (size_t)I * sizeof *u);",
    "memory": "",
}


class Direction(NamedTuple):
    """One direction of one layer: the name of its function, its sizes, and its weights as arguments."""

    function: str
    I: int  # noqa: E741
    H: int
    P: int
    weights: str
    more: str  # arguments between the biases and y
    multiply_adds: int
    bytes: int  # of a row of int8


@step
def recurrent(
    c: Body,
    weights: RecordedWeights,
    x: View,
    h0: View | None,
    c0: View | None,
    y: View,
    h_n: View,
    c_n: View | None,
    lengths: View | None,
    name: str,
) -> None:
    """LSTM, GRU and RNN, with all options of the layers."""
    cell, matrices, D, options = c.weights(weights)
    T, B = int(x.shape[0]), int(x.shape[1])
    directions = [
        direction_of(c.module, cell, each, options[i % D] if options else None)
        for i, each in enumerate(matrices)
    ]
    P, H, layers = directions[0].P, directions[0].H, len(directions) // D
    for target, start, initial in (("h", h_n, h0), ("c", c_n, c0)):
        if start is not None:
            c.add(f"float *const {target} = {c.at(start)};", *set_state(c, target, start, initial))
    room = ROOM[cell] * H + H * (P != H or cell == "lstm")
    c.add(f"float *const sums = {c.scratch(room)};")
    most = max(each.bytes for each in directions)
    if most:
        c.add(f"int8_t *const bytes = (int8_t *){c.scratch(most, 'int8')};")
    if lengths is not None:
        c.add(f"const int64_t *const lengths = {c.at(lengths)};")
    between = [c.scratch(T * B * D * P) for _ in range(min(2, layers - 1))]
    source, x_t, x_b = c.at(x), int(x.strides[0]), int(x.strides[1])
    for layer in range(layers):
        is_last = layer == layers - 1
        target = c.at(y) if is_last else between[layer % 2]
        y_t, y_b = (int(y.strides[0]), int(y.strides[1])) if is_last else (B * D * P, D * P)
        for d in range(D):
            one = directions[layer * D + d]
            at = _Places(source, x_t, x_b, target, y_t, y_b, d, layer * D + d, T, B, lengths is not None)
            c.add(*at.calls(one, c_n is not None, bool(most)))
            c.multiply_adds += T * B * one.multiply_adds
        source, x_t, x_b = target, y_t, y_b


@step
def quantized_lstm(
    c: Body,
    weights: RecordedWeights,
    x: View,
    h0: View | None,
    c0: View | None,
    y: View,
    h_n: View,
    c_n: View,
) -> None:
    """LSTM that rounds its input, and all states at a step, to bytes as they come."""
    matrices, options, is_backward = c.weights(weights)
    T, B, I = map(int, x.shape)  # noqa: E741
    D, H = int(y.shape[1]), int(y.shape[3])
    units = 4 * H
    for name, view, initial in (("h", h_n, h0), ("c", c_n, c0)):
        c.add(f"float *const {name} = {c.at(view)};", *set_state(c, name, view, initial))
    c.add(f"float *const y = {c.at(y)}, *const sums = {c.scratch(8 * H)};")
    c.add(f"float *const z = {c.scratch(units)}, *const u = {c.scratch(units)};")
    c.add(f"uint8_t *const x_bytes = {c.scratch(T * B * I, 'uint8')};")
    c.add(f"uint8_t *const h_bytes = {c.scratch(B * H, 'uint8')};")
    c.add("float x_scale, h_scale;", "uint8_t x_zero, h_zero;", "int n, b;")
    c.add(f"quantize_dynamically({c.at(x)}, {T * B * I}, x_bytes, &x_scale, &x_zero);")
    for d, (*arrays, bias, peephole) in enumerate(matrices):
        own = options[d] if options else None
        parts = _functions(c.module, "lstm", own) | SUMS_ARE_KNOWN
        parts |= _lstm(parts["gate"], own, peephole is not None, False)
        function = c.module.function("cells", 0, "lstm", **parts)
        names = [
            c.module.constant(array, "bytes" if array.dtype == np.int8 else "numbers") for array in arrays
        ]
        W, R, b_W = ", ".join(names[:3]), ", ".join(names[3:]), c.module.constant(bias, "bias")
        more = "" if peephole is None else f"{c.module.constant(peephole, 'peephole')}, "
        t = f"({T - 1} - n)" if is_backward or d else "n"
        at = f"{H} * ({d * B} + b)"
        states = f"h + {at}, c + {at}"
        c.add(
            f"for (n = 0; n < {T}; n++) {{",
            f"    quantize_dynamically({plus('h', d * B * H)}, {B * H}, h_bytes, &h_scale, &h_zero);",
            f"    for (b = 0; b < {B}; b++) {{",
            f"        const uint8_t *const row = x_bytes + {I} * ({B} * {t} + b);",
            f"        float *const target = y + {D * B * H} * {t} + {at};",
            f"        product_of_range(row, {I}, x_scale, x_zero, {W}, {b_W}, {units}, z);",
            f"        product_of_range(h_bytes + {H} * b, {H}, h_scale, h_zero, {R}, 0, {units}, u);",
            f"        {function}(z, 1, 0, {units}, {H}, u, {more}target, 0, {states}, sums);",
            "    }",
            "}",
        )  # fmt: skip
    c.multiply_adds += T * B * D * units * (I + H)


class _Places(NamedTuple):
    """Where a direction reads and writes."""

    x: str
    x_t: int
    x_b: int
    y: str
    y_t: int
    y_b: int
    d: int
    number: int  # of the direction among all
    T: int
    B: int
    has_lengths: bool

    def calls(self, one: Direction, has_c: bool, has_bytes: bool) -> list[str]:
        """Return the calls for all rows."""
        steps = "steps" if self.has_lengths else str(self.T)
        row = self.B > 1
        x = plus(self.x, f"{self.x_b} * b" if row else 0)
        first = y = plus(self.y, self.d * one.P, f"{self.y_b} * b" if row else 0)
        x_t, y_t = self.x_t, self.y_t
        if self.d:  # backward
            x, y = (plus(x, f"{x_t} * ({steps} - 1)"), plus(y, f"{y_t} * ({steps} - 1)"))
            x_t, y_t = -x_t, -y_t
        states = [_state("h", one.P, self.number * self.B, row)]
        states += [_state("c", one.H, self.number * self.B, row)] if has_c else []
        arguments = [
            x,
            steps,
            str(x_t),
            str(one.I),
            str(one.H),
            one.weights,
            *([one.more] if one.more else []),
        ]
        arguments += [y, str(y_t), *states, "sums", *(["bytes"] if has_bytes else [])]
        calls = [f"{one.function}({', '.join(arguments)});"]
        if self.has_lengths:
            clear = f"memset({plus(first, f'{self.y_t} * t')}, 0, {one.P} * sizeof(float));"
            place = "b" if row else "0"
            calls = [
                f"const int steps = steps_in(lengths[{place}], {self.T});",
                "int t;",
                f"for (t = steps; t < {self.T}; t++)",
                f"    {clear}",
                *calls,
            ]
        if not row:
            return ["{", *(f"    {line}" for line in calls), "}"] if self.has_lengths else calls
        loop = f"for (b = 0; b < {self.B}; b++) {{"
        return ["{", "    int b;", f"    {loop}", *(f"        {line}" for line in calls), "    }", "}"]


def _state(name: str, n: int, first: int, row: bool) -> str:
    """Return the address of the state of a row."""
    return plus(name, f"{n} * ({plus(str(first), 'b')})") if row else plus(name, n * first)


def direction_of(module: Module, cell: str, weights: Any, options: Any) -> Direction:
    """Return a direction; its function is made from the template of the cell."""
    (W, W_scale), (R, R_scale), b_W, b_R, projection, peephole = weights
    place, G = CELLS[cell]
    split = 2 * len(R) // 3 if cell == "gru_reset_before" else len(R)  # the n gate is a product of its own
    scales = [None, None] if R_scale is None else [R_scale[:split], R_scale[split:]]
    matrices = {"W": Matrix.of(module, W, W_scale), "R": Matrix.of(module, R[:split], scales[0])}
    if split < len(R):
        matrices["N"] = Matrix.of(module, R[split:], scales[1])
    if projection is not None:
        matrices["projection"] = Matrix.of(module, *projection)
    H, I = len(R) // G, W.shape[1]  # noqa: E741
    has_peephole = peephole is not None and options is not None
    parts = _functions(module, cell, options)
    if cell == "lstm":
        parts |= _lstm(parts["gate"], options, has_peephole, projection is not None)
    parts |= _products(cell, matrices, G, projection is not None)
    biases = ["0" if b is None else module.constant(np.asarray(b, np.float32), "bias") for b in (b_W, b_R)]
    arguments = [matrix.arguments for matrix in matrices.values()]
    return Direction(
        module.function("cells", place, "rnn" if cell == "rnn_relu" else cell, **parts),
        I,
        H,
        R.shape[1],
        ", ".join([*arguments, *biases]),
        module.constant(np.asarray(peephole, np.float32), "peephole") if has_peephole else "",
        sum(matrix.O * matrix.K for matrix in matrices.values()),
        max(matrix.K if matrix.is_int8 else 0 for matrix in matrices.values()),
    )


def _functions(module: Module, cell: str, options: Any) -> dict[str, str]:
    """Return the names of the functions of the gates."""
    parts = {"gate": "sigmoid_quotient", "candidate": "tanh_quotient", "output": "tanh_quotient"}
    if cell == "rnn_relu":
        parts["candidate"] = module.function("parts", 0, "candidate", value="plain(relu(x))")
    if options is not None:
        for name, function in zip(parts, options[:3], strict=True):
            clip = math.inf if name == "output" else float(options[3])
            bound = literal(np.float32(clip), "float32")
            x = "x" if clip == math.inf else f"clip(x, -{bound}, {bound})"
            kind = function[0]
            value = f"{QUOTIENTS[kind]}({x})" if kind in QUOTIENTS else f"plain({activation(function, x)})"
            parts[name] = module.function("parts", 0, name, value=value)
    return parts


def _products(cell: str, matrices: dict[str, Matrix], G: int, is_projected: bool) -> dict[str, str]:
    """Return the products of the template."""
    W, R = matrices["W"], matrices["R"]
    size = "H" if not is_projected else str(R.K)
    declared = (matrix.parameters(name) for name, matrix in matrices.items())
    units = "2 * H" if "N" in matrices else "H" if G == 1 else f"{G} * H"
    parts = {
        "weights": ", ".join([*declared, "const float *b_W", "const float *b_R"]),
        "product_W": W.call("W", "x + t * x_step", "I", "b_W", "H" if G == 1 else f"{G} * H", "z"),
        "product_R": R.call("R", "h", size, "b_R", units, "u"),
        "memory": ", int8_t *bytes" if any(matrix.is_int8 for matrix in matrices.values()) else "",
    }
    if "N" in matrices:
        bias = "b_R ? b_R + 2 * H : 0"
        parts["product_N"] = matrices["N"].call("N", "reset", "H", bias, "H", "u + 2 * H")
    if is_projected:
        parts["project"] = matrices["projection"].call("projection", "hidden", "H", "0", size, "h")
        parts["P"] = size
    return parts


def _lstm(gate: str, options: Any, has_peephole: bool, is_projected: bool) -> dict[str, str]:
    """Return the parts of the template that only an LSTM has."""

    def total_of(number: int, state: str, place: str) -> str:
        total = f"z[{place}j] + u[{place}j]"
        weight = f"peephole[{f'{number} * H + ' if number else ''}j]"
        return f"ONWARD_FMA({weight}, {state}, {total})" if has_peephole else total

    clip, is_coupled = (math.inf, False) if options is None else (float(options[4]), options[5])
    bound = literal(np.float32(clip), "float32")
    following = "ONWARD_FMA(value_of(f), c[j], product_of(i, g))"
    total_f = total_of(1, "c[j]", "H + ")
    return {
        "parameters": " const float *peephole," if has_peephole else "",
        "sum_i": total_of(0, "c[j]", ""),
        "sum_o": total_of(2, "next", "3 * H + "),
        "forget": "plain(1.0f - value_of(i))" if is_coupled else f"{gate}({total_f})",
        "next": following if clip == math.inf else f"clip({following}, -{bound}, {bound})",
        "h": "hidden" if is_projected else "h",
        "project": "",
        "hidden": "float *const hidden = sums + 8 * H;" if is_projected else "",
        "room": "9 H" if is_projected else "8 H",
        "P": "H",
    }
