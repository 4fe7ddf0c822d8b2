"""Time the gradients of layers beyond torch.nn in Onward and JAX: same weights and inputs, in one run.

    python bench/scan_gradients.py

One call computes the forward and the backward pass of 200 steps of 32 rows with 64 features, with the
gradients of all weights and of x, in float32 on one thread. JAX compiles a `lax.scan` of the same equations.
Outputs and gradients are compared before timing.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import report
from peers import Run, interleaved, set_threads
from recurrences import calm
from train import agreeing, one_core

import onward

STEPS, ROWS, FEATURES = 200, 32, 64
TOLERANCE = 1e-3  # relative to an array's maximum: rounding errors grow from step to step
PEERS = ["jax"]
Weights = Mapping[str, Any]


def layers() -> dict[str, Any]:
    """Return the layers by name."""
    size, options = FEATURES, {"rng": 0}
    return {
        "MinGRU": onward.MinGRU(size, size, **options),
        "LayerNormLSTM": calm(onward.LayerNormLSTM(size, size, **options)),
        "SelectiveScan": onward.SelectiveScan(size, 16, **options),
        "GatedDeltaRule": onward.GatedDeltaRule(size, 4, 16, **options),
    }


def equations() -> dict[str, Callable[[Any, Any, Weights], Any]]:
    """Return a function of a layer, x (T, B, I) and the weights to y (T, B, F), by the name of the layer."""
    import jax
    from jax import numpy as jnp

    sigmoid, softplus, scan = jax.nn.sigmoid, jax.nn.softplus, jax.lax.scan

    def min_gru(layer: Any, x: Any, w: Weights) -> Any:
        a, n = jnp.split(x @ w["weight_ih"].T + w["bias_ih"], 2, -1)
        z = sigmoid(a)

        def step(h: Any, slices: Any) -> Any:
            h = slices[0] * h + slices[1]
            return h, h

        return scan(step, jnp.zeros((x.shape[1], layer.hidden_size)), (1 - z, z * n))[1]

    def layer_norm_lstm(layer: Any, x: Any, w: Weights) -> Any:
        def normalized(x: Any, name: str) -> Any:
            mean = x.mean(-1, keepdims=True)
            deviation = jnp.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + layer.eps)
            return (x - mean) / deviation * w[f"norm_{name}.weight"] + w[f"norm_{name}.bias"]

        def step(state: Any, entering: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(normalized(h @ w["weight_hh"].T, "hh") + entering, 4, -1)
            c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
            read = normalized(c, "c")
            h = sigmoid(o) * jnp.tanh(read)
            return (h, read if layer.normalized_state else c), h

        zeros = jnp.zeros((x.shape[1], layer.hidden_size))
        return scan(step, (zeros, zeros), normalized(x @ w["weight_ih"].T, "ih") + w["bias_ih"])[1]

    def selective_scan(layer: Any, x: Any, w: Weights) -> Any:
        rank, N = layer.rank, layer.state_size
        low, B, C = jnp.split(x @ w["x_proj.weight"].T, [rank, rank + N], -1)
        delta, A = softplus(low @ w["dt_proj.weight"].T + w["dt_proj.bias"]), -jnp.exp(w["A_log"])

        def step(h: Any, slices: Any) -> Any:
            delta, entering, B, C = slices
            h = jnp.exp(delta[..., None] * A) * h + entering[..., None] * B[:, None]
            return h, (h * C[:, None]).sum(-1)

        return scan(step, jnp.zeros((*x.shape[1:], N)), (delta, delta * x, B, C))[1] + x * w["D"]

    def gated_delta_rule(layer: Any, x: Any, w: Weights) -> Any:
        heads, K, V = layer.num_heads, layer.head_size, layer.value_size
        ends = np.cumsum([heads * K, heads * K, heads * V, heads])
        *parts, a, b = jnp.split(x @ w["weight_ih"].T, ends, -1)
        q, k, v = (each.reshape(*x.shape[:2], heads, -1) for each in parts)
        q, k = (each / jnp.sqrt((each * each).sum(-1, keepdims=True) + layer.eps) for each in (q, k))
        alpha, beta = jnp.exp(-jnp.exp(w["A_log"]) * softplus(a + w["dt_bias"])), sigmoid(b)

        def step(S: Any, slices: Any) -> Any:
            q, k, v, alpha, beta = slices
            S = S * alpha[..., None, None]
            S = S + k[..., None] * ((v - jnp.einsum("bhk,bhkv->bhv", k, S)) * beta[..., None])[..., None, :]
            return S, jnp.einsum("bhk,bhkv->bhv", q, S)

        y = scan(step, jnp.zeros((x.shape[1], heads, K, V)), (q, k, v, alpha, beta))[1]
        return y.reshape(*x.shape[:2], heads * V)

    found = min_gru, layer_norm_lstm, selective_scan, gated_delta_rule
    return dict(zip(layers(), found, strict=True))


def run_onward(layer: Any, x: np.ndarray, dy: np.ndarray) -> tuple[Run, Any]:
    def run() -> Any:
        y, _, cache = layer.forward(x)
        dx, _, gradients = layer.backward(dy, None, cache)
        return [y, dx, *gradients.values()]

    return run, lambda result: result


def run_jax(name: str, layer: Any, x: np.ndarray, dy: np.ndarray) -> tuple[Run, Any]:
    import jax
    from jax import numpy as jnp

    weights, equation = {key: jnp.asarray(w) for key, w in layer.state_dict().items()}, equations()[name]
    steps, after = jnp.asarray(x), jnp.asarray(dy)

    @jax.jit
    def gradients(x: Any, w: Weights) -> Any:
        y, backward = jax.vjp(lambda x, w: equation(layer, x, w), x, w)
        dx, found = backward(after)
        return [y, dx, *(found[name] for name in layer.state_dict())]

    def run() -> Any:
        return jax.block_until_ready(gradients(steps, weights))

    return run, lambda result: list(map(np.asarray, result))


def main() -> None:
    options = report.parser(__doc__).parse_args()
    set_threads(1, PEERS)
    with one_core():
        from jax import numpy as jnp

        jnp.zeros(()).block_until_ready()  # starts the threads
    measured, rng = report.Report(options, PEERS), np.random.default_rng(0)
    x = rng.standard_normal((STEPS, ROWS, FEATURES)).astype(np.float32)
    for name, layer in layers().items():
        dy = rng.standard_normal((STEPS, ROWS, layer.output_size)).astype(np.float32)
        makers = {"onward": run_onward(layer, x, dy), "jax": run_jax(name, layer, x, dy)}
        times = interleaved(agreeing(makers, TOLERANCE), 1 if options.quick else 7, 0.2)
        measured.add("layers", layer=repr(layer), **times, ratio=times["jax"] / times["onward"])


if __name__ == "__main__":
    main()
