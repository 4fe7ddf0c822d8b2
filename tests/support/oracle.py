"""The equations as a loop over rows and steps in float64, independent of the code under test."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.cases import Case, Inputs, options_of

Array = NDArray[np.float64]


def sigmoid(x: Array) -> Array:
    return np.array(1 / (1 + np.exp(-x)))


FUNCTIONS: dict[str, Any] = {
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "elu": lambda x, alpha=1.0: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
    "exponential": np.exp,
    "gelu": lambda x: np.array([v / 2 * math.erfc(-v / math.sqrt(2)) for v in x]),
    "hard_sigmoid": lambda x, alpha=1 / 6, beta=0.5: np.clip(alpha * x + beta, 0, 1),
    "hard_sigmoid_keras2": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "leaky_relu": lambda x, alpha=0.01: np.where(x < 0, alpha * x, x),
    "linear": lambda x: x,
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "scaled_tanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x < 0, 1.6732632423543772 * np.expm1(np.minimum(x, 0)), x)
    ),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "swish": lambda x: x * sigmoid(x),
    "tanh": np.tanh,
    "thresholded_relu": lambda x, alpha=1.0: np.where(x > alpha, x, 0),
}


def function(spec: Any, clip: float) -> Any:
    """f(x) for a function as layers specify it, with x clipped."""
    name, *parameters = (spec,) if isinstance(spec, str) else spec
    return lambda x: FUNCTIONS[name](np.clip(x, -clip, clip), *parameters)


def functions(case: Case, direction: int) -> list[Any]:
    """The functions of a case's cell, in order."""
    options = options_of(case)
    usual = {
        "r": (case.cell.removeprefix("rnn_"),),
        "l": ("sigmoid", "tanh", "tanh"),
        "g": ("sigmoid", "tanh"),
    }
    if case.cell[0] == "r" and "nonlinearity" in options:
        chosen = options["nonlinearity"]
        chosen = (chosen[direction],) if case.bidirectional and not isinstance(chosen, str) else (chosen,)
    else:
        chosen = options.get("activations", usual[case.cell[0]])
        if len(chosen) == 2 and all(isinstance(one, tuple) for one in chosen):
            chosen = chosen[direction]
    clip = options.get("clip") or np.inf  # not of c
    return [function(spec, np.inf if place == 2 else clip) for place, spec in enumerate(chosen)]


def step(
    case: Case, direction: int, w: dict[str, Array], x: Array, h: Array, c: Array
) -> tuple[Array, Array]:
    """h and c after one step of one row."""
    from_x, from_h = w["weight_ih"] @ x + w["bias_ih"], w["weight_hh"] @ h + w["bias_hh"]
    gate, *others = functions(case, direction)
    if case.cell.startswith("rnn"):
        return gate(from_x + from_h), c
    if case.cell.startswith("lstm"):
        i, f, g, o = np.split(from_x + from_h, 4)
        p_i, p_f, p_o = np.split(w.get("weight_peephole", np.zeros(3 * len(c))), 3)
        i = gate(i + p_i * c)
        f = 1 - i if options_of(case).get("coupled") else gate(f + p_f * c)
        c = f * c + i * others[0](g)
        h = gate(o + p_o * c) * others[1](c)
        return (w["weight_hr"] @ h if "weight_hr" in w else h), c
    (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(from_x, 3), np.split(from_h, 3)
    r, z = gate(r_x + r_h), gate(z_x + z_h)
    if case.cell.startswith("gru_reset_before"):
        n = others[0](n_x + np.split(w["weight_hh"], 3)[2] @ (r * h) + np.split(w["bias_hh"], 3)[2])
    else:
        n = others[0](n_x + r * n_h)
    return (1 - z) * n + z * h, c


def run(case: Case, inputs: Inputs) -> tuple[Array, Array, Array | None]:
    """y (T, B, D*P), h_n and c_n (or None) for x (T, B, I)."""
    D = 1 + case.bidirectional
    y = inputs.x.astype(np.float64)
    h_n, c_n = np.zeros((case.layers * D, case.B, case.P)), np.zeros((case.layers * D, case.B, case.H))
    if inputs.h0 is not None:
        h_n[:] = inputs.h0
    if inputs.c0 is not None:
        c_n[:] = inputs.c0
    for layer in range(case.layers):
        x, y = y, np.zeros((case.T, case.B, D * case.P))
        for direction, suffix in enumerate(["", "_reverse"][:D]):
            at, w = layer * D + direction, _weights(inputs.weights, f"_l{layer}{suffix}")
            for row in range(case.B):
                T = case.T if inputs.lengths is None else inputs.lengths[row]
                h, c = h_n[at, row], c_n[at, row]
                for t in reversed(range(T)) if direction else range(T):
                    h, c = step(case, direction, w, x[t, row], h, c)
                    y[t, row, direction * case.P : (direction + 1) * case.P] = h
                h_n[at, row], c_n[at, row] = h, c
    return y, h_n, c_n if case.cell.startswith("lstm") else None


def _weights(weights: dict[str, NDArray[Any]], suffix: str) -> dict[str, Array]:
    """The weights of one direction in float64, named without the suffix; missing biases are zeros."""
    own = {
        name.removesuffix(suffix): w.astype(np.float64)
        for name, w in weights.items()
        if name.endswith(suffix)
    }
    zeros = np.zeros(len(own["weight_ih"]))
    return {"bias_ih": zeros, "bias_hh": zeros, **own}
