"""One signature for the four networks of the textbook, random inputs for them, and central differences."""

import numpy as np

from onward.textbook import (
    gru_backward,
    gru_cell_forward,
    gru_forward,
    lstm_backward,
    lstm_cell_forward,
    lstm_forward,
    rnn_backward,
    rnn_cell_forward,
    rnn_forward,
)

GATES = {"lstm": ("f", "i", "o", "c"), "gru": ("r", "z", "n"), "gru_reset_after": ("r", "z", "n")}
KINDS = ("rnn", "lstm", "gru", "gru_reset_after")
BACKWARD = {
    "rnn": rnn_backward,
    "lstm": lstm_backward,
    "gru": gru_backward,
    "gru_reset_after": gru_backward,
}


def parameter_shapes(kind, n_x, n_h, n_y):
    if kind == "rnn":
        return {"Wax": (n_h, n_x), "Waa": (n_h, n_h), "ba": (n_h, 1), "Wya": (n_y, n_h), "by": (n_y, 1)}
    shapes = {"Wy": (n_y, n_h), "by": (n_y, 1)}
    for gate in GATES[kind]:
        shapes |= {"W" + gate: (n_h, n_h + n_x), "b" + gate: (n_h, 1)}
    return shapes | ({"bnr": (n_h, 1)} if kind == "gru_reset_after" else {})


def random_inputs(kind, T, m, n_x=5, n_h=7, n_y=3, dtype=np.float64):
    """Return the inputs of a sequence and its parameters as two dicts."""
    rng = np.random.default_rng([KINDS.index(kind), T, m])
    inputs = {"x": (T, n_x, m), "a0": (n_h, m)} | ({"c0": (n_h, m)} if kind == "lstm" else {})
    inputs = {name: rng.standard_normal(shape).astype(dtype) for name, shape in inputs.items()}
    shapes = parameter_shapes(kind, n_x, n_h, n_y)
    parameters = {name: (0.6 * rng.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}
    return inputs, parameters


def one_hot(T, n_y, m, seed=0):
    labels = np.random.default_rng(seed).integers(n_y, size=(T, m))
    return np.eye(n_y)[labels].transpose(0, 2, 1).copy()


def forward(kind, inputs, parameters):
    """Return a, c (None except for the LSTM), y_pred and caches."""
    x, a0 = inputs["x"], inputs["a0"]
    if kind == "lstm":
        return lstm_forward(x, a0, inputs["c0"], parameters)
    if kind == "rnn":
        a, y_pred, caches = rnn_forward(x, a0, parameters)
    else:
        a, y_pred, caches = gru_forward(x, a0, parameters, reset_after=kind == "gru_reset_after")
    return a, None, y_pred, caches


def cell_forward(kind, inputs, parameters):
    """Run the first step; return a_next, c_next (None except for the LSTM), yt_pred and cache."""
    xt, a_prev = inputs["x"][0], inputs["a0"]
    if kind == "lstm":
        return lstm_cell_forward(xt, a_prev, inputs["c0"], parameters)
    if kind == "rnn":
        a_next, yt_pred, cache = rnn_cell_forward(xt, a_prev, parameters)
    else:
        reset_after = kind == "gru_reset_after"
        a_next, yt_pred, cache = gru_cell_forward(xt, a_prev, parameters, reset_after=reset_after)
    return a_next, None, yt_pred, cache


def central_difference(f, array, step=1e-5):
    """Differentiate f(), a scalar or a vector, with respect to each element of `array`, which f reads."""
    gradient = np.zeros((*np.shape(f()), *array.shape))
    for index in np.ndindex(array.shape):
        old = array[index]
        array[index] = old + step
        above = f()
        array[index] = old - step
        below = f()
        array[index] = old
        gradient[..., *index] = (above - below) / (2 * step)
    return gradient


def assert_same_gradient(ours, numerical, name):
    assert ours.shape == numerical.shape, name
    error = np.max(np.abs(ours - numerical)) / np.max(np.abs(numerical))
    assert error < 1e-6, f"{name}: relative error {error:.1e}"
