"""The equations of recurrent networks in plain NumPy, forward and backward: slow and clear.

Everything is laid out features by batch, and sequences lead with time:

    xt  (n_x, m)    the input of one time step            x  (T, n_x, m)
    a   (n_h, m)    the hidden state (an LSTM's c too)    a  (T, n_h, m)
    yt  (n_y, m)    the prediction, or the label          y  (T, n_y, m)

A cell computes one time step, a sequence unrolls its cell over time. Parameters are a dict of arrays;
biases are columns (n, 1). Every `*_forward` returns last what the `*_backward` beside it needs, its cache.
A gradient has the name of what it belongs to behind a `d`: `dWf` is the derivative of the scalar loss by
`Wf`, and has the shape of `Wf`.

Sources:

    Elman 1990, Finding structure in time, Cognitive Science 14(2).
    Hochreiter and Schmidhuber 1997, Long short-term memory, Neural Computation 9(8).
    Gers et al. 2000, Learning to forget: continual prediction with LSTM, Neural Computation 12(10).
    Cho et al. 2014, Learning phrase representations using RNN encoder-decoder, EMNLP; arXiv:1406.1078v3.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "cross_entropy_loss",
    "cross_entropy_loss_t",
    "gru_backward",
    "gru_cell_backward",
    "gru_cell_forward",
    "gru_forward",
    "lstm_backward",
    "lstm_cell_backward",
    "lstm_cell_forward",
    "lstm_forward",
    "rnn_backward",
    "rnn_cell_backward",
    "rnn_cell_forward",
    "rnn_forward",
    "sigmoid",
    "sigmoid_deriv",
    "softmax",
    "softmax_deriv",
    "softmax_deriv_vectorized",
    "tanh",
    "tanh_deriv",
]

Array = NDArray[np.floating[Any]]
Parameters = dict[str, Array]
Gradients = dict[str, Array]
Cache = tuple[Any, ...]

# The parameters of each cell and of its output head, with their shapes. Gates act on [a_prev; xt], stacked.
_RNN = {"Wax": "n_h n_x", "Waa": "n_h n_h", "ba": "n_h 1"}
_RNN_HEAD = {"Wya": "n_y n_h", "by": "n_y 1"}
_LSTM = {
    "Wf": "n_h n_h+n_x", "bf": "n_h 1",  # forget gate
    "Wi": "n_h n_h+n_x", "bi": "n_h 1",  # input gate
    "Wo": "n_h n_h+n_x", "bo": "n_h 1",  # output gate
    "Wc": "n_h n_h+n_x", "bc": "n_h 1",  # candidate
}  # fmt: skip
_GRU = {
    "Wr": "n_h n_h+n_x", "br": "n_h 1",  # reset gate
    "Wz": "n_h n_h+n_x", "bz": "n_h 1",  # update gate
    "Wn": "n_h n_h+n_x", "bn": "n_h 1",  # candidate
}  # fmt: skip
_GRU_RESET_AFTER = _GRU | {"bnr": "n_h 1"}  # the recurrent part of the candidate has a bias of its own
_HEAD = {"Wy": "n_y n_h", "by": "n_y 1"}


def _check(shapes: dict[str, str], /, **arrays: Array) -> None:
    """Raise ValueError unless each array named in `shapes` is there, with the axes written beside its name.

    The first array with an axis sets its size. NumPy alone would silently stretch some wrong shapes to fit.
    """
    sizes = {"1": 1}
    for name, axes in shapes.items():
        letters = axes.split()
        expected = ", ".join(letters)
        if name not in arrays:
            raise ValueError(f"{name} is missing: add it to the parameters, with shape ({expected})")
        given = np.shape(arrays[name])
        if len(given) == len(letters):
            for axis, size in zip(letters, given, strict=True):
                sizes.setdefault(axis, size)
            if given == tuple(sum(sizes[n] for n in axis.split("+")) for axis in letters):
                continue
        known = ", ".join(f"{axis}={size}" for axis, size in sizes.items() if axis.isidentifier())
        raise ValueError(
            f"{name} has shape {given}, expected ({expected}){known and ' where ' + known}: reshape or "
            f"transpose {name}, or the arrays that have these sizes. Arrays are (features, batch), sequences "
            "(time, features, batch), weights (out, in), biases (n, 1), and labels are one-hot"
        )


def _dtype(*arrays: Array) -> Any:
    """The precision that NumPy computes these arrays in: float32 and float64 stay, integers widen."""
    return np.result_type(np.float16, *arrays)


# ------------------------------------------------------------------------------------------------------------
# Activations, and their derivatives as functions of the activation's value
# ------------------------------------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    """The logistic function, sigmoid(x) = 1 / (1 + exp(-x)).

    Written as exp(min(x, 0)) / (1 + exp(-|x|)), which is the same and never takes the exponential of a
    positive number: it cannot overflow, and small values keep all their digits. Any shape.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    s: Array = np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))
    return s


def sigmoid_deriv(s: Array) -> Array:
    """The derivative of the sigmoid, s (1 - s), of its value s = sigmoid(x). Any shape."""
    return s * (1 - s)


def tanh(x: Array) -> Array:
    """The hyperbolic tangent, tanh(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x)). Any shape."""
    return np.tanh(x)


def tanh_deriv(t: Array) -> Array:
    """The derivative of the hyperbolic tangent, 1 - t^2, of its value t = tanh(x). Any shape.

    Written as (1 - t) (1 + t), which keeps its digits where t is near -1 or 1.
    """
    return (1 - t) * (1 + t)


def softmax(x: Array) -> Array:
    """The softmax over axis 0, s_i = exp(x_i) / sum_j exp(x_j), each column on its own.

    Each column is first shifted by its own maximum, which changes nothing in exact arithmetic: the largest
    exponential is then 1, so that no sum overflows or vanishes, however far apart the columns are.
    Takes (n, m) or (n,), returns the same shape.

    >>> softmax(np.array([[1000.0, -1000.0], [1000.0, -1000.0]]))
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    e = np.exp(x - np.max(x, axis=0, keepdims=True))
    s: Array = e / np.sum(e, axis=0, keepdims=True)
    return s


def softmax_deriv(s: Array) -> Array:
    """The Jacobian of the softmax, J[i, j] = ds_i / dx_j = s_i (delta_ij - s_j), of its value, by loops.

    Takes s = softmax(x) of shape (n, m), returns (n, n, m): one Jacobian a column. Raises ValueError on
    other ranks.
    """
    _check({"s": "n m"}, s=s)
    n, m = s.shape
    J = np.zeros((n, n, m), _dtype(s))
    for k in range(m):
        for i in range(n):
            for j in range(n):
                delta = 1 if i == j else 0
                J[i, j, k] = s[i, k] * (delta - s[j, k])
    return J


def softmax_deriv_vectorized(s: Array) -> Array:
    """The Jacobian of the softmax as `softmax_deriv` has it, without loops.

    >>> s = softmax(np.array([[0.0, 1.0], [0.0, 3.0]]))
    >>> bool(np.allclose(softmax_deriv_vectorized(s), softmax_deriv(s)))
    True
    """
    _check({"s": "n m"}, s=s)
    delta = np.eye(len(s), dtype=_dtype(s))
    return s[:, None, :] * (delta[:, :, None] - s[None, :, :])


# ------------------------------------------------------------------------------------------------------------
# The loss
# ------------------------------------------------------------------------------------------------------------


def cross_entropy_loss_t(y_t: Array, ypred_t: Array) -> Array:
    """The cross-entropy of one time step, L_t = -sum_i y_i log(p_i), for each example of the batch.

    Labels `y_t` (one-hot, or any distribution) and predictions `ypred_t` are (n_y, m), the loss is (m,).
    Predictions are clipped at the smallest normal number of their dtype: a predicted 0 costs much (about 87
    in float32, 708 in float64), not infinity, and costs exactly 0 where the label is 0. Raises ValueError
    where the shapes differ.

    >>> y_t = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> cross_entropy_loss_t(y_t, np.array([[0.5, 0.75], [0.5, 0.25]])).round(4)
    array([0.6931, 1.3863])
    """
    _check({"ypred_t": "n_y m", "y_t": "n_y m"}, ypred_t=ypred_t, y_t=y_t)
    p = np.maximum(ypred_t, np.finfo(_dtype(ypred_t)).tiny)
    loss: Array = np.sum(y_t * -np.log(p), axis=0)
    return loss


def cross_entropy_loss(y: Array, y_pred: Array) -> float:
    """The cross-entropy of a sequence, summed over time and averaged over the batch.

        L = sum_k sum_t L_t[k] / m

    Labels `y` and predictions `y_pred` are (T, n_y, m). Raises ValueError where the shapes differ.

    >>> y = np.array([[[1.0], [0.0]], [[0.0], [1.0]]])
    >>> round(cross_entropy_loss(y, np.full((2, 2, 1), 0.5)), 4)
    1.3863
    """
    _check({"y_pred": "T n_y m", "y": "T n_y m"}, y_pred=y_pred, y=y)
    total = sum(np.sum(cross_entropy_loss_t(y_t, ypred_t)) for y_t, ypred_t in zip(y, y_pred, strict=True))
    return float(total / max(y.shape[2], 1))  # an empty batch costs nothing


def _head_backward(da: Array, cells: list[Cache], y: Array, W: Array, b: Array) -> tuple[Array, Array, Array]:
    """Return `da` plus the gradient of `cross_entropy_loss` by each hidden state, and those by W and b.

    Through softmax and logarithm together it becomes simple: with z = W a + b and p = softmax(z), dL/dz_i =
    p_i sum_j(y_j) - y_i, which is p - y where the labels sum to 1. This is the derivative of the loss
    without its clip, for it must not vanish where the prediction is worst.
    """
    _check({"da": "T n_h m", "by": "n_y 1", "y": "T n_y m"}, da=da, by=b, y=y)
    da, dW, db = da.copy(), np.zeros_like(W, da.dtype), np.zeros_like(b, da.dtype)
    for t, cache in enumerate(cells):
        a_next, yt_pred, *_ = cache  # every cell's cache starts with these two
        dz = (yt_pred * np.sum(y[t], axis=0) - y[t]) / y.shape[2]
        da[t] += W.T @ dz
        dW += dz @ a_next.T
        db += np.sum(dz, axis=1, keepdims=True)
    return da, dW, db


# ------------------------------------------------------------------------------------------------------------
# The vanilla RNN
# ------------------------------------------------------------------------------------------------------------


def rnn_cell_forward(xt: Array, a_prev: Array, parameters: Parameters) -> tuple[Array, Array, Cache]:
    """One time step of a vanilla RNN (Elman 1990).

        a_next  = tanh(Wax xt + Waa a_prev + ba)
        yt_pred = softmax(Wya a_next + by)

    Takes xt (n_x, m), a_prev (n_h, m) and the parameters Wax (n_h, n_x), Waa (n_h, n_h), Wya (n_y, n_h),
    ba (n_h, 1), by (n_y, 1). Returns a_next (n_h, m), yt_pred (n_y, m) and the cache for `rnn_cell_backward`.
    Raises ValueError on other shapes and on a missing parameter.
    """
    _check({"xt": "n_x m", "a_prev": "n_h m"} | _RNN | _RNN_HEAD, xt=xt, a_prev=a_prev, **parameters)
    Wax, Waa, ba, Wya, by = (parameters[name] for name in _RNN | _RNN_HEAD)
    a_next = tanh(Wax @ xt + Waa @ a_prev + ba)
    yt_pred = softmax(Wya @ a_next + by)
    return a_next, yt_pred, (a_next, yt_pred, a_prev, xt, parameters)


def rnn_forward(x: Array, a0: Array, parameters: Parameters) -> tuple[Array, Array, Cache]:
    """A vanilla RNN over a sequence: `rnn_cell_forward` at each step, its a_next the next one's a_prev.

    Takes x (T, n_x, m), a0 (n_h, m) and the parameters of `rnn_cell_forward`. Returns every hidden state
    a (T, n_h, m), every prediction y_pred (T, n_y, m) and the caches for `rnn_backward`; T may be 0.
    Raises ValueError on other shapes and on a missing parameter.

    >>> rng = np.random.default_rng(0)
    >>> shapes = {"Wax": (5, 3), "Waa": (5, 5), "Wya": (2, 5), "ba": (5, 1), "by": (2, 1)}
    >>> parameters = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    >>> a, y_pred, caches = rnn_forward(rng.standard_normal((7, 3, 4)), np.zeros((5, 4)), parameters)
    >>> a.shape, y_pred.shape
    ((7, 5, 4), (7, 2, 4))
    >>> gradients = rnn_backward(np.ones_like(a), caches)
    >>> gradients["dWax"].shape, gradients["dx"].shape
    ((5, 3), (7, 3, 4))
    """
    _check({"x": "T n_x m", "a0": "n_h m"} | _RNN | _RNN_HEAD, x=x, a0=a0, **parameters)
    T, _, m = x.shape
    dtype = _dtype(x, a0, *parameters.values())
    a = np.zeros((T, len(a0), m), dtype)
    y_pred = np.zeros((T, len(parameters["by"]), m), dtype)
    cells = []
    a_prev = a0
    for t in range(T):
        a_prev, y_pred[t], cache = rnn_cell_forward(x[t], a_prev, parameters)
        a[t] = a_prev
        cells.append(cache)
    return a, y_pred, (cells, x, parameters)


def rnn_cell_backward(da_next: Array, cache: Cache) -> Gradients:
    """The gradients of one time step of a vanilla RNN: the chain rule through the first equation.

        dz      = da_next * (1 - a_next^2)
        dxt     = Wax^T dz          da_prev = Waa^T dz
        dWax    = dz xt^T           dWaa    = dz a_prev^T           dba = dz summed over the batch

    Takes da_next (n_h, m), the gradient by a_next. Returns dxt, da_prev, dWax, dWaa, dba in a dict.
    Raises ValueError on another shape of da_next.
    """
    a_next, _, a_prev, xt, parameters = cache
    _check({"a_next": "n_h m", "da_next": "n_h m"}, a_next=a_next, da_next=da_next)
    dz = da_next * tanh_deriv(a_next)
    return {
        "dxt": parameters["Wax"].T @ dz,
        "da_prev": parameters["Waa"].T @ dz,
        "dWax": dz @ xt.T,
        "dWaa": dz @ a_prev.T,
        "dba": np.sum(dz, axis=1, keepdims=True),
    }


def rnn_backward(da: Array, caches: Cache, y: Array | None = None) -> Gradients:
    """Backpropagation through time for a vanilla RNN.

    The gradient by a hidden state is what reaches it from above, plus what flows back from the next time
    step; a parameter is used at every step, so its gradient is the sum over the steps.

    Takes da (T, n_h, m), the gradient that reaches each hidden state from above. With labels y (T, n_y, m),
    that of `cross_entropy_loss` through the output head is added. Returns a dict of dx (T, n_x, m), da0
    (n_h, m), dWax, dWaa, dba and, with labels, dWya and dby. Raises ValueError on other shapes.
    """
    cells, x, parameters = caches
    _check({"x": "T n_x m", "ba": "n_h 1", "da": "T n_h m"}, x=x, ba=parameters["ba"], da=da)
    dtype = _dtype(da, x, *parameters.values())
    da = da.astype(dtype, copy=False)
    gradients = {"d" + name: np.zeros_like(parameters[name], dtype) for name in _RNN}
    if y is not None:
        head = parameters["Wya"], parameters["by"]
        da, gradients["dWya"], gradients["dby"] = _head_backward(da, cells, y, *head)

    dx = np.zeros_like(x, dtype)
    da_next = np.zeros(da.shape[1:], dtype)
    for t in reversed(range(len(x))):
        cell = rnn_cell_backward(da[t] + da_next, cells[t])
        dx[t], da_next = cell.pop("dxt"), cell.pop("da_prev")
        for name in cell:
            gradients[name] += cell[name]
    return gradients | {"dx": dx, "da0": da_next}


# ------------------------------------------------------------------------------------------------------------
# The LSTM
# ------------------------------------------------------------------------------------------------------------


def lstm_cell_forward(
    xt: Array, a_prev: Array, c_prev: Array, parameters: Parameters
) -> tuple[Array, Array, Array, Cache]:
    """One time step of an LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

        ax      = [a_prev; xt]
        f       = sigmoid(Wf ax + bf)           what to keep of the old cell state
        i       = sigmoid(Wi ax + bi)           what to let in of the candidate
        o       = sigmoid(Wo ax + bo)           what to show of the new cell state
        g       = tanh(Wc ax + bc)              the candidate
        c_next  = f * c_prev + i * g
        a_next  = o * tanh(c_next)
        yt_pred = softmax(Wy a_next + by)

    Takes xt (n_x, m), a_prev and c_prev (n_h, m) and the parameters Wf, Wi, Wo, Wc (n_h, n_h + n_x), bf,
    bi, bo, bc (n_h, 1), Wy (n_y, n_h), by (n_y, 1). Returns a_next and c_next (n_h, m), yt_pred (n_y, m)
    and the cache for `lstm_cell_backward`. Raises ValueError on other shapes and on a missing parameter.
    """
    shapes = {"xt": "n_x m", "a_prev": "n_h m", "c_prev": "n_h m"} | _LSTM | _HEAD
    _check(shapes, xt=xt, a_prev=a_prev, c_prev=c_prev, **parameters)
    Wf, bf, Wi, bi, Wo, bo, Wc, bc, Wy, by = (parameters[name] for name in _LSTM | _HEAD)
    ax = np.concatenate([a_prev, xt])
    f = sigmoid(Wf @ ax + bf)
    i = sigmoid(Wi @ ax + bi)
    o = sigmoid(Wo @ ax + bo)
    g = tanh(Wc @ ax + bc)
    c_next = f * c_prev + i * g
    a_next = o * tanh(c_next)
    yt_pred = softmax(Wy @ a_next + by)
    return a_next, c_next, yt_pred, (a_next, yt_pred, c_next, f, i, o, g, a_prev, c_prev, xt, parameters)


def lstm_forward(x: Array, a0: Array, c0: Array, parameters: Parameters) -> tuple[Array, Array, Array, Cache]:
    """An LSTM over a sequence: `lstm_cell_forward` at each step, its two states going into the next one.

    Takes x (T, n_x, m), a0 and c0 (n_h, m) and the parameters of `lstm_cell_forward`. Returns every hidden
    state a (T, n_h, m), every cell state c (T, n_h, m), every prediction y_pred (T, n_y, m) and the caches
    for `lstm_backward`; T may be 0. Raises ValueError on other shapes and on a missing parameter.
    """
    _check({"x": "T n_x m", "a0": "n_h m", "c0": "n_h m"} | _LSTM | _HEAD, x=x, a0=a0, c0=c0, **parameters)
    T, _, m = x.shape
    dtype = _dtype(x, a0, c0, *parameters.values())
    a, c = np.zeros((T, len(a0), m), dtype), np.zeros((T, len(c0), m), dtype)
    y_pred = np.zeros((T, len(parameters["by"]), m), dtype)
    cells = []
    a_prev, c_prev = a0, c0
    for t in range(T):
        a_prev, c_prev, y_pred[t], cache = lstm_cell_forward(x[t], a_prev, c_prev, parameters)
        a[t], c[t] = a_prev, c_prev
        cells.append(cache)
    return a, c, y_pred, (cells, x, parameters)


def lstm_cell_backward(da_next: Array, dc_next: Array, cache: Cache) -> Gradients:
    """The gradients of one time step of an LSTM: the chain rule, last equation first.

    c_next is used twice, by the next time step and by a_next, so its whole gradient is

        dc      = dc_next + da_next * o * (1 - tanh(c_next)^2)

    Takes da_next and dc_next (n_h, m), the gradients by a_next and c_next. Returns dxt, da_prev, dc_prev,
    dWf, dbf, dWi, dbi, dWo, dbo, dWc, dbc in a dict. Raises ValueError on other shapes of da_next and
    dc_next.
    """
    a_next, _, c_next, f, i, o, g, a_prev, c_prev, xt, parameters = cache
    shapes = {"a_next": "n_h m", "da_next": "n_h m", "dc_next": "n_h m"}
    _check(shapes, a_next=a_next, da_next=da_next, dc_next=dc_next)
    tanh_c = tanh(c_next)
    dc = dc_next + da_next * o * tanh_deriv(tanh_c)

    # By what goes into each gate's sigmoid, and into the candidate's tanh.
    df = dc * c_prev * sigmoid_deriv(f)
    di = dc * g * sigmoid_deriv(i)
    do = da_next * tanh_c * sigmoid_deriv(o)
    dg = dc * i * tanh_deriv(g)

    Wf, Wi, Wo, Wc = (parameters[name] for name in ("Wf", "Wi", "Wo", "Wc"))
    ax = np.concatenate([a_prev, xt])
    dax = Wf.T @ df + Wi.T @ di + Wo.T @ do + Wc.T @ dg
    da_prev, dxt = np.split(dax, [len(a_prev)])
    gradients = {"dxt": dxt, "da_prev": da_prev, "dc_prev": dc * f}
    for gate, dgate in {"f": df, "i": di, "o": do, "c": dg}.items():
        gradients["dW" + gate] = dgate @ ax.T
        gradients["db" + gate] = np.sum(dgate, axis=1, keepdims=True)
    return gradients


def lstm_backward(da: Array, caches: Cache, y: Array | None = None) -> Gradients:
    """Backpropagation through time for an LSTM.

    As `rnn_backward`, with a second stream of gradient that flows back through the cell states: where a
    forget gate is open it passes unchanged, which is what the LSTM was made for.

    Takes da (T, n_h, m), the gradient that reaches each hidden state from above. With labels y (T, n_y, m),
    that of `cross_entropy_loss` through the output head is added. Returns a dict of dx (T, n_x, m), da0 and
    dc0 (n_h, m), dWf, dbf, dWi, dbi, dWo, dbo, dWc, dbc and, with labels, dWy and dby. Raises ValueError on
    other shapes.
    """
    cells, x, parameters = caches
    _check({"x": "T n_x m", "bf": "n_h 1", "da": "T n_h m"}, x=x, bf=parameters["bf"], da=da)
    dtype = _dtype(da, x, *parameters.values())
    da = da.astype(dtype, copy=False)
    gradients = {"d" + name: np.zeros_like(parameters[name], dtype) for name in _LSTM}
    if y is not None:
        head = parameters["Wy"], parameters["by"]
        da, gradients["dWy"], gradients["dby"] = _head_backward(da, cells, y, *head)

    dx = np.zeros_like(x, dtype)
    da_next, dc_next = np.zeros(da.shape[1:], dtype), np.zeros(da.shape[1:], dtype)
    for t in reversed(range(len(x))):
        cell = lstm_cell_backward(da[t] + da_next, dc_next, cells[t])
        dx[t], da_next, dc_next = cell.pop("dxt"), cell.pop("da_prev"), cell.pop("dc_prev")
        for name in cell:
            gradients[name] += cell[name]
    return gradients | {"dx": dx, "da0": da_next, "dc0": dc_next}


# ------------------------------------------------------------------------------------------------------------
# The GRU
# ------------------------------------------------------------------------------------------------------------


def gru_cell_forward(
    xt: Array, a_prev: Array, parameters: Parameters, *, reset_after: bool = False
) -> tuple[Array, Array, Cache]:
    """One time step of a GRU (Cho et al. 2014, equations 5 to 8, with biases).

        ax      = [a_prev; xt]
        r       = sigmoid(Wr ax + br)                       (5) the reset gate
        z       = sigmoid(Wz ax + bz)                       (6) the update gate
        n       = tanh(Wn [r * a_prev; xt] + bn)            (8) the candidate
        a_next  = (1 - z) * n + z * a_prev                  (7)
        yt_pred = softmax(Wy a_next + by)

    z keeps the old state, as in the paper and in PyTorch, Keras and ONNX; some texts have z and 1 - z the
    other way round. With `reset_after=True` the reset gate comes after the matrix (arXiv:1406.1078v1;
    PyTorch, Keras's default, ONNX's linear_before_reset=1). Wn's columns for the state and for the input
    being Wna and Wnx, the candidate is then

        n       = tanh(Wnx xt + bn + r * (Wna a_prev + bnr))

    Takes xt (n_x, m), a_prev (n_h, m) and the parameters Wr, Wz, Wn (n_h, n_h + n_x), br, bz, bn (n_h, 1),
    Wy (n_y, n_h), by (n_y, 1), and with `reset_after=True` bnr (n_h, 1). Returns a_next (n_h, m), yt_pred
    (n_y, m) and the cache for `gru_cell_backward`. Raises ValueError on other shapes and on a missing
    parameter.
    """
    shapes = (_GRU_RESET_AFTER if reset_after else _GRU) | _HEAD
    _check({"xt": "n_x m", "a_prev": "n_h m"} | shapes, xt=xt, a_prev=a_prev, **parameters)
    Wr, br, Wz, bz, Wn, bn, Wy, by = (parameters[name] for name in _GRU | _HEAD)
    Wna, Wnx = np.split(Wn, [len(a_prev)], axis=1)
    ax = np.concatenate([a_prev, xt])
    r = sigmoid(Wr @ ax + br)
    z = sigmoid(Wz @ ax + bz)
    if reset_after:
        n = tanh(Wnx @ xt + bn + r * (Wna @ a_prev + parameters["bnr"]))
    else:
        n = tanh(Wnx @ xt + bn + Wna @ (r * a_prev))
    a_next = (1 - z) * n + z * a_prev
    yt_pred = softmax(Wy @ a_next + by)
    return a_next, yt_pred, (a_next, yt_pred, r, z, n, a_prev, xt, parameters, reset_after)


def gru_forward(
    x: Array, a0: Array, parameters: Parameters, *, reset_after: bool = False
) -> tuple[Array, Array, Cache]:
    """A GRU over a sequence: `gru_cell_forward` at each step, its a_next the next one's a_prev.

    Takes x (T, n_x, m), a0 (n_h, m) and the parameters of `gru_cell_forward`. Returns every hidden state
    a (T, n_h, m), every prediction y_pred (T, n_y, m) and the caches for `gru_backward`; T may be 0.
    Raises ValueError on other shapes and on a missing parameter.
    """
    shapes = (_GRU_RESET_AFTER if reset_after else _GRU) | _HEAD
    _check({"x": "T n_x m", "a0": "n_h m"} | shapes, x=x, a0=a0, **parameters)
    T, _, m = x.shape
    dtype = _dtype(x, a0, *parameters.values())
    a = np.zeros((T, len(a0), m), dtype)
    y_pred = np.zeros((T, len(parameters["by"]), m), dtype)
    cells = []
    a_prev = a0
    for t in range(T):
        a_prev, y_pred[t], cache = gru_cell_forward(x[t], a_prev, parameters, reset_after=reset_after)
        a[t] = a_prev
        cells.append(cache)
    return a, y_pred, (cells, x, parameters, reset_after)


def gru_cell_backward(da_next: Array, cache: Cache) -> Gradients:
    """The gradients of one time step of a GRU: the chain rule, last equation first.

    a_prev is used by the update, by both gates and by the candidate: its gradient is the sum of the four.
    The cache knows whether the reset gate came before the matrix or after it.

    Takes da_next (n_h, m), the gradient by a_next. Returns dxt, da_prev, dWr, dbr, dWz, dbz, dWn, dbn and,
    with `reset_after`, dbnr in a dict. Raises ValueError on another shape of da_next.
    """
    a_next, _, r, z, n, a_prev, xt, parameters, reset_after = cache
    _check({"a_next": "n_h m", "da_next": "n_h m"}, a_next=a_next, da_next=da_next)
    Wr, Wz, Wn = (parameters[name] for name in ("Wr", "Wz", "Wn"))
    Wna, Wnx = np.split(Wn, [len(a_prev)], axis=1)
    gradients = {}

    # By what goes into each gate's sigmoid, and into the candidate's tanh.
    dz = da_next * (a_prev - n) * sigmoid_deriv(z)
    dn = da_next * (1 - z) * tanh_deriv(n)
    if reset_after:
        drecurrent = r * dn  # by what r multiplies, Wna a_prev + bnr
        dr = dn * (Wna @ a_prev + parameters["bnr"]) * sigmoid_deriv(r)
        da_prev_by_candidate = Wna.T @ drecurrent
        dWna = drecurrent @ a_prev.T
        gradients["dbnr"] = np.sum(drecurrent, axis=1, keepdims=True)
    else:
        dra = Wna.T @ dn  # by r * a_prev
        dr = dra * a_prev * sigmoid_deriv(r)
        da_prev_by_candidate = dra * r
        dWna = dn @ (r * a_prev).T

    ax = np.concatenate([a_prev, xt])
    da_prev_by_gates, dxt_by_gates = np.split(Wr.T @ dr + Wz.T @ dz, [len(a_prev)])
    gradients["dxt"] = dxt_by_gates + Wnx.T @ dn
    gradients["da_prev"] = da_next * z + da_prev_by_gates + da_prev_by_candidate
    gradients["dWr"] = dr @ ax.T
    gradients["dWz"] = dz @ ax.T
    gradients["dWn"] = np.concatenate([dWna, dn @ xt.T], axis=1)
    gradients["dbr"] = np.sum(dr, axis=1, keepdims=True)
    gradients["dbz"] = np.sum(dz, axis=1, keepdims=True)
    gradients["dbn"] = np.sum(dn, axis=1, keepdims=True)
    return gradients


def gru_backward(da: Array, caches: Cache, y: Array | None = None) -> Gradients:
    """Backpropagation through time for a GRU; see `rnn_backward`.

    Takes da (T, n_h, m), the gradient that reaches each hidden state from above. With labels y (T, n_y, m),
    that of `cross_entropy_loss` through the output head is added. Returns a dict of dx (T, n_x, m), da0
    (n_h, m), dWr, dbr, dWz, dbz, dWn, dbn, with `reset_after` dbnr and, with labels, dWy and dby. Raises
    ValueError on other shapes.
    """
    cells, x, parameters, reset_after = caches
    _check({"x": "T n_x m", "br": "n_h 1", "da": "T n_h m"}, x=x, br=parameters["br"], da=da)
    dtype = _dtype(da, x, *parameters.values())
    da = da.astype(dtype, copy=False)
    names = _GRU_RESET_AFTER if reset_after else _GRU
    gradients = {"d" + name: np.zeros_like(parameters[name], dtype) for name in names}
    if y is not None:
        head = parameters["Wy"], parameters["by"]
        da, gradients["dWy"], gradients["dby"] = _head_backward(da, cells, y, *head)

    dx = np.zeros_like(x, dtype)
    da_next = np.zeros(da.shape[1:], dtype)
    for t in reversed(range(len(x))):
        cell = gru_cell_backward(da[t] + da_next, cells[t])
        dx[t], da_next = cell.pop("dxt"), cell.pop("da_prev")
        for name in cell:
            gradients[name] += cell[name]
    return gradients | {"dx": dx, "da0": da_next}
