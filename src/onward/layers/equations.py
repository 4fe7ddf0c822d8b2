"""The equations of the layers beyond torch.nn as graphs of standard operators.

What does not depend on the state runs before the loop over time. A step reads slices of sequences and the
state before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph.graph import Graph, close
from ..graph.operations.expressions import Expression, exp, maximum, softplus, sqrt, unary, where
from ..graph.writer import Recorder

if TYPE_CHECKING:
    from .graphs import GraphBuilder
    from .recurrence import Recurrence
    from .scans import LRU, RGLRU, GatedDeltaRule, LayerNormLSTM, MinGRU, SelectiveScan, sLSTM

sigmoid, tanh = unary("Sigmoid"), unary("Tanh")

Equation = Callable[..., "tuple[Sequence[Expression], Sequence[Expression], dict[str, Expression]]"]


class Equations:
    """The graph of one layer while its equations are recorded."""

    def __init__(self, b: GraphBuilder, layer: Recurrence, states: Sequence[str]) -> None:
        self._b, self._layer, self._states, self._weights = b, layer, states, layer.weights_by_name()
        self.final: Sequence[str] = ()

    def value(self, name: str) -> Expression:
        """Return a value of the graph by its name."""
        return Expression(self._b, name, self._layer.dtype)

    def weight(self, name: str) -> Expression:
        """Return a weight, which is a constant of the same name behind the prefix of the layer."""
        constants, own = self._b.graph.constants, self._b.prefix + name
        if own not in constants:
            self._b.graph.add_constant(self._weights[name], own)
        return self.value(own)

    def matrix(self, name: str) -> list[Expression | None]:
        """Return a weight (O, I) as products take it: as (I, O), or as (O, I) with scales if quantized."""
        if self._layer.precision:
            scale = f"{name}_scale"
            return [self.weight(name), self.weight(scale) if scale in self._weights else None]
        return [self.weight(name).apply("Transpose", perm=[1, 0])]

    def times(self, x: Expression, matrix: Sequence[Expression | None], *bias: Expression) -> Expression:
        """Return the product of rows and a matrix, which begins with a bias."""
        return x.apply("QuantizedMatMul" if self._layer.precision else "MatMul", *matrix, *bias)

    def linear(self, x: Expression, weight: str, bias: str) -> Expression:
        """Return x W^T + b, without b if the layer has none."""
        return self.times(x, self.matrix(weight), *([self.weight(bias)] if bias in self._weights else []))

    def masked(self, y: Expression) -> Expression:
        """Return outputs (T, B, F) that are 0 past the lengths of their rows."""
        return where(self._valid(y), y, 0) if self._b.lengths else y

    def scan(self, step: Equation, *sequences: Expression) -> list[Expression]:
        """Return the outputs (T, B, ...) of a step that runs over the slices of sequences (T, B, ...).

        The step takes the arrays of the state and the slices, and returns the next arrays of the state, its
        outputs, and, by name, what a trace shows besides. All arrays but the slices are (1, B, ...).
        """
        body, dtype = Graph(), self._layer.dtype
        inner = Recorder(body, f"{self._b.prefix}step/", self._b.label)

        def declared(name: str, dtype: np.dtype[Any]) -> Expression:
            return Expression(inner, body.add_input(self._b.prefix + name, dtype), dtype)

        before = [declared(name, dtype) for name in self._layer.state_names]
        slices = [declared(f"slice_{place}", dtype) for place in range(len(sequences))]
        scanned = [x.name for x in sequences]
        after, outputs, shown = step(*before, *slices)
        if self._b.lengths:
            valid = declared("valid", np.dtype(np.bool_))
            scanned.append(self._valid(sequences[0]).name)
            axes = [list(range(2, len(shape) - 1)) for shape in self._layer.state_shapes(1)]
            masks = [valid.apply("Unsqueeze", own) if own else valid for own in axes]
            after = [where(mask, new, old) for mask, new, old in zip(masks, after, before, strict=True)]
        written = [*outputs, *(shown.values() if self._b.recorded is not None else ())]
        written = [y.apply("Squeeze", [0]) for y in written]
        body.outputs = tuple(each.name for each in (*after, *written))
        captured = close(body)
        given, options = (*self._states, *scanned, *captured), {"captured": len(captured)}
        count = len(body.outputs)
        results = self._b.add_all("Scan", given, count, body=body, num_scan_inputs=len(scanned), **options)
        self.final, found = results[: len(after)], [self.value(name) for name in results[len(after) :]]
        self.show(**dict(zip(shown, found[len(outputs) :], strict=False)))
        return found[: len(outputs)]

    def show(self, **values: Expression) -> None:
        """Let traces show values (T, B, F) by name."""
        if self._b.recorded is not None:
            self._b.recorded |= {name: self.masked(value).name for name, value in values.items()}

    def _valid(self, x: Expression) -> Expression:
        """Return which steps (T, B, 1) of a sequence lie within the lengths of their rows."""
        integer = np.dtype(np.int64)
        first, second = (Expression(self._b, self._b.cast(n, integer), integer) for n in (0, 1))
        steps = first.apply("Range", x.apply("Shape").apply("Gather", first), second)
        rows = Expression(self._b, self._b.lengths, np.dtype(np.int32)).cast(integer)
        return steps.apply("Unsqueeze", [1, 2]) < rows.apply("Unsqueeze", [1])


def columns(x: Expression, *sizes: int) -> list[Expression]:
    """Return parts of these sizes of the last axis."""
    return [Expression(x.t, y, x.dtype) for y in x.t.add_all("Split", (x.name, sizes), len(sizes), axis=-1)]


def min_gru(e: Equations, layer: MinGRU, x: Expression) -> Expression:
    """h = (1 - z) h + z n"""
    a_z, n = columns(e.linear(x, "weight_ih", "bias_ih"), *[layer.hidden_size] * 2)
    z = sigmoid(a_z)
    f = 1 - z
    if layer.positive:
        n = where(n >= 0, n + 0.5, sigmoid(n))

    def step(h: Expression, f: Expression, entering: Expression) -> Any:
        h = f * h + entering
        return [h], [h], {}

    (h,) = e.scan(step, f, z * n)
    e.show(f=f, z=z, n=n, h=h)
    return h


def lru(e: Equations, layer: LRU, x: Expression) -> Expression:
    """h = lambda h + gamma B x and y = Re(C h) + D x, with complex numbers as pairs of reals"""
    H = layer.hidden_size
    size, angle = exp(-exp(e.weight("nu_log"))), exp(e.weight("theta_log"))
    real, imaginary = size * angle.apply("Cos"), size * angle.apply("Sin")
    gamma = exp(e.weight("gamma_log"))
    b_real, b_imaginary = (gamma_b * gamma for gamma_b in columns(e.linear(x, "weight_ih", ""), H, H))

    def step(h: Expression, c: Expression, b_real: Expression, b_imaginary: Expression) -> Any:
        after = h * real - c * imaginary + b_real, h * imaginary + c * real + b_imaginary
        return after, after, {}

    h, c = e.scan(step, b_real, b_imaginary)
    e.show(h=h, c=c)
    return e.linear(h.apply("Concat", -c, axis=-1), "weight_ho", "") + x * e.weight("D")


def rg_lru(e: Equations, layer: RGLRU, x: Expression) -> Expression:
    """h = a h + sqrt(1 - a^2) (i x)"""
    H = layer.hidden_size
    r, i = columns(sigmoid(e.linear(x, "weight_ih", "bias_ih")), H, H)
    log_a = softplus(-e.weight("Lambda")) * -layer.exponent * r
    a = exp(log_a)
    entering = sqrt(1 - exp(log_a * 2)) * (i * x)

    def step(h: Expression, a: Expression, entering: Expression) -> Any:
        h = a * h + entering
        return [h], [h], {}

    (h,) = e.scan(step, a, entering)
    e.show(r=r, i=i, f=a, h=h)
    return h


def layer_norm_lstm(e: Equations, layer: LayerNormLSTM, x: Expression) -> Expression:
    """The gates of an LSTM from normalized products, and h = o tanh(LN(c))"""
    H = layer.hidden_size

    def normalized(x: Expression, name: str) -> Expression:
        parts = (e.weight(f"norm_{name}.{part}") for part in ("weight", "bias"))
        return x.apply("LayerNormalization", *parts, axis=-1, epsilon=layer.eps)

    entering = normalized(e.linear(x, "weight_ih", ""), "ih")
    if layer.bias:
        entering = entering + e.weight("bias_ih")
    R = e.matrix("weight_hh")

    def step(h: Expression, c: Expression, entering: Expression) -> Any:
        a_i, a_f, a_g, a_o = columns(normalized(e.times(h, R), "hh") + entering, *[H] * 4)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)
        c = f * c + i * g
        read = normalized(c, "c")
        if layer.normalized_state:
            c = read
        h = o * tanh(read)
        return [h, c], [h], {"i": i, "f": f, "g": g, "o": o, "c": c}

    (h,) = e.scan(step, entering)
    e.show(h=h)
    return h


def s_lstm(e: Equations, layer: sLSTM, x: Expression) -> Expression:
    """h = o c / n, with exponential gates relative to the stabilizer m"""
    H, R = layer.hidden_size, e.matrix("weight_hh")

    def step(h: Expression, c: Expression, entering: Expression) -> Any:
        sums = e.times(h, R) + entering
        a_i, a_f, a_z, a_o = columns(sums, *[H] * 4)
        c, n, m = columns(c, *[H] * 3)
        log_f = -softplus(-a_f) if layer.forget_gate == "sigmoid" else a_f
        kept = log_f + m
        new = where(n.equals(0), a_i, maximum(kept, a_i))
        f = exp(-maximum(new - kept, -80.0))  # above 1 only where n is 0, and finite
        i, z, o = exp(a_i - new), tanh(a_z), sigmoid(a_o)
        c, n = f * c + i * z, f * n + i
        h = o * (c / n)
        shown = {"i": i, "f": f, "g": z, "o": o, "c": c, "normalizer": n, "stabilizer": new}
        return [h, c.apply("Concat", n, new, axis=-1)], [h], shown

    (h,) = e.scan(step, e.linear(x, "weight_ih", "bias_ih"))
    e.show(h=h)
    return h


def selective_scan(e: Equations, layer: SelectiveScan, x: Expression) -> Expression:
    """h = exp(delta A) h + delta B x and y = C h + D x"""
    N = layer.state_size
    low, B, C = columns(e.linear(x, "x_proj.weight", ""), layer.rank, N, N)
    delta = softplus(e.linear(low, "dt_proj.weight", "dt_proj.bias"))
    A = -exp(e.weight("A_log"))

    def step(h: Expression, delta: Expression, entering: Expression, B: Expression, C: Expression) -> Any:
        column = delta.apply("Unsqueeze", [-1])
        B, C = B.apply("Unsqueeze", [-2]), C.apply("Unsqueeze", [-2])
        h = exp(column * A) * h + entering.apply("Unsqueeze", [-1]) * B
        return [h], [(h * C).reduce("ReduceSum", [-1])], {"h": h.apply("Reshape", [0, 0, -1])}

    (y,) = e.scan(step, delta, delta * x, B, C)
    e.show(delta=delta)
    return y + x * e.weight("D")


def gated_delta_rule(e: Equations, layer: GatedDeltaRule, x: Expression) -> Expression:
    """S = alpha S + k (beta (v - alpha S k))^T and y = S q"""
    heads, K, V = layer.num_heads, layer.head_size, layer.value_size
    parts = columns(e.linear(x, "weight_ih", ""), *[heads * K] * 2, heads * V, heads, heads)
    q, k = (each.apply("Reshape", [0, 0, heads, K]) for each in parts[:2])
    q, k = (each / sqrt((each * each).reduce("ReduceSum", [-1], True) + layer.eps) for each in (q, k))
    v = parts[2].apply("Reshape", [0, 0, heads, V])
    alpha = exp(-exp(e.weight("A_log")) * softplus(parts[3] + e.weight("dt_bias")))
    beta = sigmoid(parts[4])

    def step(
        S: Expression, q: Expression, k: Expression, v: Expression, alpha: Expression, beta: Expression
    ) -> Any:
        q, k_row, v = (each.apply("Unsqueeze", [-2]) for each in (q, k, v))
        alpha, beta = (each.apply("Unsqueeze", [-2, -1]) for each in (alpha, beta))
        written = (v - k_row.apply("MatMul", S) * alpha) * beta
        S = S * alpha + k.apply("Unsqueeze", [-1]) * written
        y = q.apply("MatMul", S).apply("Squeeze", [-2])
        return [S], [y], {"h": S.apply("Reshape", [0, 0, -1])}

    (y,) = e.scan(step, q, k, v, alpha, beta)
    e.show(f=alpha, beta=beta)
    return y.apply("Reshape", [0, 0, heads * V])
