"""The layers beyond torch.nn, with plain loops in float64 as oracles, and a check of gradients."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import onward
from onward.layers.recurrence import Recurrence

Array = NDArray[Any]
Weights = Mapping[str, Array]
# from x_t (B, I) and the arrays of the state (B, ...) to y_t and the next state
Step = Callable[[Array, Any], tuple[Array, Any]]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softplus(x: Array) -> Array:
    return np.log1p(np.exp(x))


def _min_gru(layer: Any, w: Weights) -> Step:
    H = layer.hidden_size
    b = w.get("bias_ih", np.zeros(2 * H))

    def step(x: Array, state: Any) -> Any:
        (h,) = state
        z, n = sigmoid(x @ w["weight_ih"][:H].T + b[:H]), x @ w["weight_ih"][H:].T + b[H:]
        if layer.positive:
            n = np.array([[v + 0.5 if v >= 0 else sigmoid(v) for v in row] for row in n])
        h = h + z * (n - h)
        return h, (h,)

    return step


def _lru(layer: Any, w: Weights) -> Step:
    H = layer.hidden_size
    phases = np.exp(w["theta_log"])
    eigenvalues = np.exp(-np.exp(w["nu_log"])) * (np.cos(phases) + 1j * np.sin(phases))
    B = w["weight_ih"][:H] + 1j * w["weight_ih"][H:]
    C = w["weight_ho"][:, :H] + 1j * w["weight_ho"][:, H:]

    def step(x: Array, state: Any) -> Any:
        h, c = state
        s = eigenvalues * (h + 1j * c) + np.exp(w["gamma_log"]) * (x @ B.T)
        return (s @ C.T).real + x * w["D"], (s.real, s.imag)

    return step


def _rg_lru(layer: Any, w: Weights) -> Step:
    H = layer.hidden_size
    b = w.get("bias_ih", np.zeros(2 * H))

    def step(x: Array, state: Any) -> Any:
        (h,) = state
        r, i = np.split(sigmoid(x @ w["weight_ih"].T + b), 2, axis=1)
        a = sigmoid(w["Lambda"]) ** (layer.exponent * r)
        h = a * h + np.sqrt(1 - a**2) * i * x
        return h, (h,)

    return step


def _layer_norm_lstm(layer: Any, w: Weights) -> Step:
    def normalized(x: Array, name: str) -> Array:
        z = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + layer.eps)
        return z * w[f"norm_{name}.weight"] + w[f"norm_{name}.bias"]

    def step(x: Array, state: Any) -> Any:
        h, c = state
        sums = normalized(x @ w["weight_ih"].T, "ih") + normalized(h @ w["weight_hh"].T, "hh")
        i, f, g, o = np.split(sums + w.get("bias_ih", 0), 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        if layer.normalized_state:
            c = normalized(c, "c")
            h = sigmoid(o) * np.tanh(c)
        else:
            h = sigmoid(o) * np.tanh(normalized(c, "c"))
        return h, (h, c)

    return step


def _s_lstm(layer: Any, w: Weights) -> Step:
    """Without a stabilizer: c and n grow with exp of the input gate's sum, as in equations 8 to 11."""

    def step(x: Array, state: Any) -> Any:
        h, packed = state
        scaled_c, scaled_n, m = np.split(packed, 3, axis=1)
        i, f, z, o = np.split(x @ w["weight_ih"].T + h @ w["weight_hh"].T + w.get("bias_ih", 0), 4, axis=1)
        forget = sigmoid(f) if layer.forget_gate == "sigmoid" else np.exp(f)
        c = forget * scaled_c * np.exp(m) + np.exp(i) * np.tanh(z)
        n = forget * scaled_n * np.exp(m) + np.exp(i)
        h = sigmoid(o) * c / n
        m = np.where(scaled_n == 0, i, np.maximum(np.log(forget) + m, i))
        return h, (h, np.concatenate([c * np.exp(-m), n * np.exp(-m), m], axis=1))

    return step


def _selective_scan(layer: Any, w: Weights) -> Step:
    R, N = layer.rank, layer.state_size

    def step(x: Array, state: Any) -> Any:
        h, y = state[0].copy(), np.empty_like(x)
        low, B, C = np.split(x @ w["x_proj.weight"].T, [R, R + N], axis=1)
        delta = softplus(low @ w["dt_proj.weight"].T + w["dt_proj.bias"])
        for b, d in np.ndindex(*x.shape):
            for n in range(N):
                decay = np.exp(delta[b, d] * -np.exp(w["A_log"][d, n]))
                h[b, d, n] = decay * h[b, d, n] + delta[b, d] * B[b, n] * x[b, d]
            y[b, d] = h[b, d] @ C[b] + w["D"][d] * x[b, d]
        return y, (h,)

    return step


def _gated_delta_rule(layer: Any, w: Weights) -> Step:
    heads, K, V = layer.num_heads, layer.head_size, layer.value_size

    def step(x: Array, state: Any) -> Any:
        S, y = state[0].copy(), np.empty((len(x), heads, V))
        parts = np.split(x @ w["weight_ih"].T, np.cumsum([heads * K, heads * K, heads * V, heads]), axis=1)
        for b, head in np.ndindex(len(x), heads):
            q, k, v = (part[b].reshape(heads, -1)[head] for part in parts[:3])
            q, k = (each / np.sqrt(each @ each + layer.eps) for each in (q, k))
            alpha = np.exp(-np.exp(w["A_log"][head]) * softplus(parts[3][b, head] + w["dt_bias"][head]))
            beta = sigmoid(parts[4][b, head])
            paper = S[b, head].T @ (alpha * (np.eye(K) - beta * np.outer(k, k))) + beta * np.outer(v, k)
            S[b, head] = paper.T
            y[b, head] = paper @ q
        return y.reshape(len(x), -1), (S,)

    return step


class Kind(NamedTuple):
    """A layer with some options."""

    make: Callable[..., Recurrence]
    step: Callable[[Any, Weights], Step]

    def layer(self, seed: int = 0, **options: Any) -> Any:
        """Return a layer with random weights, none of which is at its initial constant."""
        layer = self.make(rng=seed, **options)
        rng = np.random.default_rng(seed)
        for name, weight in layer.state_dict().items():
            moved = weight + 0.3 * rng.standard_normal(weight.shape)
            layer.load_state_dict({name: moved}, strict=False)
        return layer

    def run(self, layer: Any, x: Array, state: Any, lengths: Any = None) -> tuple[Array, tuple[Array, ...]]:
        """Return y (T, B, F) and the arrays of the final state (1, B, ...) of a plain loop in float64."""
        T, B = x.shape[:2]
        step = self.step(layer, {name: w.astype(np.float64) for name, w in layer.state_dict().items()})
        ends = np.full(B, T) if lengths is None else np.asarray(lengths)
        y = np.zeros((T, B, layer.output_size))
        after = [np.zeros((1, B, *shape[2:])) for shape in layer.state_shapes(B)]
        for b in range(B):
            own = tuple(part[0, b : b + 1].astype(np.float64) for part in state)
            for t in range(ends[b]):
                y[t, b : b + 1], own = step(x[t, b : b + 1].astype(np.float64), own)
            for part, final in zip(after, own, strict=True):
                part[0, b : b + 1] = final
        return y, tuple(after)


I, H = 5, 7  # noqa: E741


def _of(cls: Any, step: Any, *sizes: int, **fixed: Any) -> Kind:
    return Kind(lambda **options: cls(*sizes, **fixed, **options), step)


RECURRENCES: dict[str, Kind] = {
    "MinGRU": _of(onward.MinGRU, _min_gru, I, H),
    "MinGRU positive": _of(onward.MinGRU, _min_gru, I, H, positive=True, bias=False),
    "LRU": _of(onward.LRU, _lru, I, H),
    "RGLRU": _of(onward.RGLRU, _rg_lru, I),
    "RGLRU exponent": _of(onward.RGLRU, _rg_lru, I, bias=False, exponent=2.5),
    "LayerNormLSTM": _of(onward.LayerNormLSTM, _layer_norm_lstm, I, H),
    "LayerNormLSTM state": _of(
        onward.LayerNormLSTM, _layer_norm_lstm, I, H, normalized_state=True, bias=False
    ),
    "sLSTM": _of(onward.sLSTM, _s_lstm, I, H),
    "sLSTM exponential": _of(onward.sLSTM, _s_lstm, I, H, forget_gate="exponential", bias=False),
    "SelectiveScan": _of(onward.SelectiveScan, _selective_scan, I, 3, 2),
    "GatedDeltaRule": _of(onward.GatedDeltaRule, _gated_delta_rule, I, 2, 3, 4),
}


def random_state(layer: Any, rng: np.random.Generator, batch: int) -> tuple[Array, ...]:
    """Return the arrays of a state; the normalizer of an sLSTM is positive."""
    state = [rng.standard_normal(shape).astype(layer.dtype) for shape in layer.state_shapes(batch)]
    if isinstance(layer, onward.sLSTM):
        n = slice(layer.hidden_size, 2 * layer.hidden_size)
        state[1][..., n] = np.abs(state[1][..., n])
    return tuple(state)


def joined(layer: Any, state: tuple[Array, ...]) -> Any:
    """Return the arrays of a state as the layer takes them."""
    return layer.join_state(*state, *[None] * (2 - len(state)))


def check_direction(
    array: NDArray[Any], gradient: NDArray[Any], loss: Callable[[], float], rng: np.random.Generator
) -> None:
    """Compare a gradient with a central difference along a random direction."""
    assert array.shape == gradient.shape
    way, sides = rng.standard_normal(array.shape), []
    for size in (1e-6, -2e-6):
        array += size * way
        sides.append(loss())
    array += 1e-6 * way
    assert (gradient * way).sum() == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-6)
    loss()
