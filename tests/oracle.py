"""The equations once more, as a loop over rows and steps in float64, independent of everything tested."""

from typing import Any

import numpy as np
from cases import Case, Inputs
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sigmoid(x: Array) -> Array:
    return np.array(1 / (1 + np.exp(-x)))


def step(cell: str, w: dict[str, Array], x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """h and c after one step of one row."""
    from_x, from_h = w["weight_ih"] @ x + w["bias_ih"], w["weight_hh"] @ h + w["bias_hh"]
    if cell == "rnn_tanh":
        return np.tanh(from_x + from_h), c
    if cell == "rnn_relu":
        return np.maximum(from_x + from_h, 0), c
    if cell == "lstm":
        i, f, g, o = np.split(from_x + from_h, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return (w["weight_hr"] @ h if "weight_hr" in w else h), c
    (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(from_x, 3), np.split(from_h, 3)
    r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
    if cell == "gru":
        n = np.tanh(n_x + r * n_h)
    else:
        n = np.tanh(n_x + np.split(w["weight_hh"], 3)[2] @ (r * h) + np.split(w["bias_hh"], 3)[2])
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
                    h, c = step(case.cell, w, x[t, row], h, c)
                    y[t, row, direction * case.P : (direction + 1) * case.P] = h
                h_n[at, row], c_n[at, row] = h, c
    return y, h_n, c_n if case.cell == "lstm" else None


def _weights(weights: dict[str, NDArray[Any]], suffix: str) -> dict[str, Array]:
    """Those of one direction, in float64, under names without the suffix; missing biases are zeros."""
    own = {
        name.removesuffix(suffix): w.astype(np.float64)
        for name, w in weights.items()
        if name.endswith(suffix)
    }
    zeros = np.zeros(len(own["weight_ih"]))
    return {"bias_ih": zeros, "bias_hh": zeros, **own}
