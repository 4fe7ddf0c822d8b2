"""The equations of recurrent networks in plain NumPy, forward and backward, written to be read.

The code favors clarity over speed. Arrays are laid out as features by batch; in sequences, time comes first:

    xt  (n_x, m)    the input of one time step            x  (T, n_x, m)
    a   (n_h, m)    the hidden state                      a  (T, n_h, m)
    c   (n_h, m)    the cell state of an LSTM             c  (T, n_h, m)
    yt  (n_y, m)    the prediction or the label           y  (T, n_y, m)

A cell function computes one time step; a sequence function applies its cell to each step in turn. Parameters
are a dict of arrays, and biases are columns of shape (n, 1).

Every `*_cell_forward` returns a cache last: a dict of the values that the backward pass reads again, such as
`cache["a_prev"]`. Every `*_forward` returns `caches`, the list of the caches of its T steps, so that
`caches[t]["a_next"]` is the hidden state after step t. The backward functions take both as they are.

The gradient of the scalar loss with respect to an array is named after the array with a leading `d` and has
its shape: `dWf` is the gradient with respect to `Wf`.

All functions accept float32 and float64 and compute in the precision of their arguments; integers are
converted to floats: to float64 if no argument has a precision. They raise ValueError for arrays of the wrong
shape, for missing parameters, and for caches of another cell.

References:

    Elman 1990, Finding structure in time, Cognitive Science 14(2).
    Werbos 1990, Backpropagation through time: what it does and how to do it, Proceedings of the IEEE 78(10).
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
Cache = dict[str, Any]

# The parameters of each cell and of its output layer, with their shapes. Gates act on the stack [a_prev; xt].
_RNN = {"Wax": "n_h n_x", "Waa": "n_h n_h", "ba": "n_h 1"}
_RNN_OUTPUT = {"Wya": "n_y n_h", "by": "n_y 1"}
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
_GRU_RESET_AFTER = _GRU | {"bnr": "n_h 1"}  # a separate bias for the recurrent part of the candidate
_OUTPUT = {"Wy": "n_y n_h", "by": "n_y 1"}
# The arrays of a cache that the backward pass reads.
_CACHE = {"a_next": "n_h m", "a_prev": "n_h m", "xt": "n_x m", "yt_pred": "n_y m"}
_LSTM_GATES = ("c_next", "c_prev", "forget_gate", "input_gate", "output_gate", "candidate")
_LSTM_CACHE = _CACHE | dict.fromkeys(_LSTM_GATES, "n_h m")
_GRU_CACHE = _CACHE | dict.fromkeys(("reset_gate", "update_gate", "candidate"), "n_h m")


def _check(shapes: dict[str, str], /, **arrays: Array) -> None:
    """Raise ValueError unless every array named in `shapes` is present and has the axes listed there.

    Without this check, NumPy would broadcast some wrong shapes silently.
    """
    for name, axes in shapes.items():
        if name not in arrays:
            expected = ", ".join(axes.split())
            raise ValueError(f"{name} is missing: add it to the parameters, with shape ({expected})")
    sizes = _sizes(shapes, arrays)
    for name, axes in shapes.items():
        shape, letters = np.shape(arrays[name]), axes.split()
        if shape != tuple(sizes.get(axis) for axis in letters):
            used = dict.fromkeys(axes.replace("+", " ").split())
            where = ", ".join(f"{axis}={sizes[axis]}" for axis in used if axis != "1" and axis in sizes)
            raise ValueError(
                f"{name} has shape {shape}, expected ({', '.join(letters)}){where and ' where ' + where}: "
                f"reshape or transpose {name}, or the arrays that set these sizes. Arrays are (features, "
                "batch), sequences (time, features, batch), weights (out, in), biases (n, 1), and labels are "
                "one-hot"
            )


def _sizes(shapes: dict[str, str], arrays: dict[str, Array]) -> dict[str, int]:
    """Return the size of each axis: the one on which most arrays agree, the first of them in a tie.

    A single wrong array is thus outvoted and named in the error, whichever it is.
    """
    votes: dict[str, list[int]] = {}
    for name, axes in shapes.items():
        shape, letters = np.shape(arrays[name]), axes.split()
        if len(shape) == len(letters):
            for axis, size in zip(letters, shape, strict=True):
                votes.setdefault(axis, []).append(size)
    stacked = votes.pop("n_h+n_x", [])
    sizes = {axis: max(found, key=found.count) for axis, found in votes.items()}
    if stacked:
        found = [size - sizes["n_h"] for size in stacked] + votes.get("n_x", [])
        sizes["n_x"] = max(found, key=found.count)
        sizes["n_h+n_x"] = sizes["n_h"] + sizes["n_x"]
    return sizes | {"1": 1}


def _floats(**arrays: Any) -> list[Array]:
    """Return arrays in one float dtype: the widest that they have, or float64 if all of them hold integers.

    Raises ValueError for an array of anything but real numbers, or without a shape.
    """
    given: list[Any] = []
    for name, value in arrays.items():
        try:
            given.append(np.asarray(value))
        except ValueError as error:
            raise ValueError(f"{name} is not an array of numbers: its rows differ in length") from error
        if given[-1].dtype.kind not in "biuf":
            raise ValueError(f"{name} has dtype {given[-1].dtype}, expected floats or integers")
    dtypes = [array.dtype for array in given if array.dtype.kind == "f"]
    dtype = np.result_type(*dtypes) if dtypes else np.float64
    return [array.astype(dtype, copy=False) for array in given]


def _checked(shapes: dict[str, str], parameters: Parameters, /, **arrays: Any) -> list[Array]:
    """Return the arrays and parameters named in `shapes`, checked, in their order and in one float dtype."""
    if not isinstance(parameters, dict):
        raise ValueError(
            f"parameters has type {type(parameters).__name__}, expected a dict of arrays by name"
        )
    given = {name: value for name, value in (parameters | arrays).items() if name in shapes}
    given = dict(zip(given, _floats(**given), strict=True))
    _check(shapes, **given)
    return [given[name] for name in shapes]


def _check_names(
    where: str, cell: str, cache: Cache, shapes: dict[str, str], weights: dict[str, str]
) -> None:
    """Raise ValueError unless a cache has the arrays and the parameters of these names."""
    source = f"{cell}_cell_forward"
    if not isinstance(cache, dict) or not isinstance(cache.get("param", {}), dict):
        raise ValueError(f"{where} is {cache!r:.40}, expected the dict that {source} returned")
    missing = [name for name in (*shapes, "param") if name not in cache]
    missing += [name for name in weights if name not in cache.get("param", weights)]
    if missing:
        fix = f"pass the one that {source} returned, not that of another cell"
        raise ValueError(f"{where} has no {', '.join(missing)}: {fix}")


def _from_cache(
    cell: str, cache: Cache, shapes: dict[str, str], weights: dict[str, str], **gradients: Array
) -> list[Array]:
    """Return the arrays of a cache, its parameters and gradients of shape (n_h, m), checked and as floats."""
    _check_names("cache", cell, cache, shapes, weights)
    arrays = {name: cache[name] for name in shapes} | gradients
    return _checked(shapes | weights | dict.fromkeys(gradients, "n_h m"), cache["param"], **arrays)


def _from_caches(
    cell: str,
    caches: list[Cache],
    shapes: dict[str, str],
    weights: dict[str, str],
    output: dict[str, str],
    da: Array,
    y: Array | None,
) -> tuple[Array, Array | None]:
    """Return da (T, n_h, m) and the labels y (T, n_y, m) as floats; check them, and the names in caches."""
    if not isinstance(caches, list | tuple):
        raise ValueError(f"caches is {caches!r:.40}, expected the list that {cell}_forward returned")
    if not caches:
        raise ValueError(
            "caches is empty, expected one cache per time step: a sequence of no steps has no gradients, so "
            "skip the backward pass for it"
        )
    for t, cache in enumerate(caches):
        _check_names(f"caches[{t}]", cell, cache, shapes, weights)
        for name in _CACHE:
            shape, first = np.shape(cache[name]), np.shape(caches[0][name])
            if shape != first:
                raise ValueError(f"caches[{t}] has {name} of shape {shape}, but caches[0] of shape {first}")
    a, y_pred = (np.stack([cache[name] for cache in caches]) for name in ("a_next", "yt_pred"))
    own, sequences = caches[0]["param"], {"a": "T n_h m", "da": "T n_h m"}
    if y is None:
        _checked(sequences, {}, a=a, da=da)
    else:
        _checked(
            sequences | output | {"y_pred": "T n_y m", "y": "T n_y m"}, own, a=a, da=da, y_pred=y_pred, y=y
        )
    dtype = _dtype(da, caches[0]["xt"], *own.values())  # labels have no say
    return np.asarray(da, dtype), None if y is None else np.asarray(y, dtype)


def _dtype(*arrays: Any) -> Any:
    """Return the dtype in which these arrays are computed."""
    return _floats(**{f"array {n}": array for n, array in enumerate(arrays)})[0].dtype


# ------------------------------------------------------------------------------------------------------------
# Activations, and their derivatives as functions of the activation's value
# ------------------------------------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    """Apply the logistic function to each element.

        sigmoid(x) = 1 / (1 + exp(-x))

    It is computed as exp(min(x, 0)) / (1 + exp(-|x|)), which is equal and never takes the exponential of a
    positive number: it cannot overflow, and small results keep all their digits.

    Takes an array of any shape and returns one of the same shape. Raises ValueError for anything but numbers.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    (x,) = _floats(x=x)
    s: Array = np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))
    return s


def sigmoid_deriv(s: Array) -> Array:
    """Compute the derivative of the sigmoid from its value s = sigmoid(x).

        d sigmoid(x) / dx = s (1 - s)

    Takes an array of any shape and returns one of the same shape. Raises ValueError for anything but numbers.

    >>> sigmoid_deriv(sigmoid(np.array([0.0, 1000.0])))
    array([0.25, 0.  ])
    """
    (s,) = _floats(s=s)
    return s * (1 - s)


def tanh(x: Array) -> Array:
    """Apply the hyperbolic tangent to each element.

        tanh(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x))

    Takes an array of any shape and returns one of the same shape. Raises ValueError for anything but numbers.

    >>> tanh(np.array([-1000.0, 0.0, 1000.0]))
    array([-1.,  0.,  1.])
    """
    (x,) = _floats(x=x)
    return np.tanh(x)


def tanh_deriv(t: Array) -> Array:
    """Compute the derivative of the hyperbolic tangent from its value t = tanh(x).

        d tanh(x) / dx = 1 - t^2

    It is computed as (1 - t) (1 + t), which keeps its digits where t is close to -1 or 1.

    Takes an array of any shape and returns one of the same shape. Raises ValueError for anything but numbers.

    >>> tanh_deriv(tanh(np.array([0.0, 1000.0])))
    array([1., 0.])
    """
    (t,) = _floats(t=t)
    return (1 - t) * (1 + t)


def softmax(x: Array) -> Array:
    """Apply the softmax to each column.

        s_i = exp(x_i) / sum_j exp(x_j)

    The maximum of each column is subtracted first, which leaves the quotient unchanged. The largest
    exponential is then 1, so the sum neither overflows nor vanishes, however far apart the columns are.

    Takes x (n, m), (n,) or a sequence (T, n, m) and returns an array of the same shape, whose columns sum
    to 1. Raises ValueError for another rank, and if n is 0.

    >>> softmax(np.array([[1000.0, -1000.0], [1000.0, -1000.0]]))
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    (x,) = _floats(x=x)
    axis = 0 if x.ndim == 1 else -2
    if x.ndim not in (1, 2, 3) or x.shape[axis] == 0:
        raise ValueError(f"x has shape {x.shape}, expected (n,), (n, m) or (T, n, m) with n of at least 1")
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    s: Array = e / np.sum(e, axis=axis, keepdims=True)
    return s


def softmax_deriv(s: Array) -> Array:
    """Compute the Jacobian of the softmax from its value s = softmax(x), with loops.

        J[i, j] = ds_i / dx_j = s_i (delta_ij - s_j)

    Takes s (n, m) and returns J (n, n, m), one Jacobian per column. Raises ValueError for another rank.

    >>> softmax_deriv(np.array([[0.5], [0.5]]))[:, :, 0]
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    (s,) = _checked({"s": "n m"}, {}, s=s)
    n, m = s.shape
    J = np.zeros((n, n, m), s.dtype)
    for k in range(m):
        for i in range(n):
            for j in range(n):
                delta = 1 if i == j else 0
                J[i, j, k] = s[i, k] * (delta - s[j, k])
    return J


def softmax_deriv_vectorized(s: Array) -> Array:
    """Compute the Jacobian of the softmax from its value s = softmax(x), without loops.

        J[i, j] = ds_i / dx_j = s_i (delta_ij - s_j)

    Takes s (n, m) and returns J (n, n, m), as `softmax_deriv` does. Raises ValueError for another rank.

    >>> s = softmax(np.array([[0.0, 1.0], [0.0, 3.0]]))
    >>> bool(np.allclose(softmax_deriv_vectorized(s), softmax_deriv(s)))
    True
    """
    (s,) = _checked({"s": "n m"}, {}, s=s)
    delta = np.eye(len(s), dtype=s.dtype)
    return s[:, None, :] * (delta[:, :, None] - s[None, :, :])


# ------------------------------------------------------------------------------------------------------------
# The loss
# ------------------------------------------------------------------------------------------------------------


def cross_entropy_loss_t(y_t: Array, ypred_t: Array) -> Array:
    """Compute the cross-entropy of one time step for each example of the batch.

        L_t = -sum_i y_i log(p_i)

    Predictions p are clipped from below at the smallest normal number of their dtype. A predicted 0 therefore
    costs about 87 in float32 and 708 in float64 instead of infinity, and exactly 0 where the label is 0.

    Takes labels `y_t` (n_y, m), one-hot or any distribution, and predictions `ypred_t` (n_y, m), and returns
    the loss (m,). Raises ValueError if the shapes differ.

    >>> y_t = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> cross_entropy_loss_t(y_t, np.array([[0.5, 0.75], [0.5, 0.25]])).round(4)
    array([0.6931, 1.3863])
    """
    ypred_t, y_t = _checked({"ypred_t": "n_y m", "y_t": "n_y m"}, {}, ypred_t=ypred_t, y_t=y_t)
    p = np.maximum(ypred_t, np.finfo(ypred_t.dtype).tiny)
    loss: Array = np.sum(y_t * -np.log(p), axis=0)
    return loss


def cross_entropy_loss(y: Array, y_pred: Array) -> float:
    """Compute the cross-entropy of a sequence, summed over time and averaged over the batch.

        L = 1/m sum_k sum_t L_t[k]

    Takes labels `y` and predictions `y_pred`, both (T, n_y, m), and returns a float. Raises ValueError if the
    shapes differ.

    >>> y = np.array([[[1.0], [0.0]], [[0.0], [1.0]]])
    >>> round(cross_entropy_loss(y, np.full((2, 2, 1), 0.5)), 4)
    1.3863
    """
    y_pred, y = _checked({"y_pred": "T n_y m", "y": "T n_y m"}, {}, y_pred=y_pred, y=y)
    total = sum(np.sum(cross_entropy_loss_t(y_t, ypred_t)) for y_t, ypred_t in zip(y, y_pred, strict=True))
    return float(total / max(y.shape[2], 1))  # the loss of an empty batch is 0


def _output_backward(
    da: Array, caches: list[Cache], y: Array, W: Array, b: Array
) -> tuple[Array, Array, Array]:
    """Backpropagate `cross_entropy_loss` through the output layer, yt_pred = softmax(W a_next + b).

    With z = W a_next + b and p = softmax(z), the gradients of the logarithm and of the softmax combine to

        dz_i = p_i sum_j(y_j) - y_i         which is p - y where the labels sum to 1

    This is the gradient of the loss without its clip, which would vanish where the prediction is worst.

    Returns `da` plus the gradient with respect to each hidden state, and the gradients dW and db.
    """
    W, b = (np.asarray(array, da.dtype) for array in (W, b))
    da, dW, db = da.copy(), np.zeros_like(W), np.zeros_like(b)
    for t, cache in enumerate(caches):
        dz = (cache["yt_pred"] * np.sum(y[t], axis=0) - y[t]) / y.shape[2]
        da[t] += W.T @ dz
        dW += dz @ cache["a_next"].T
        db += np.sum(dz, axis=1, keepdims=True)
    return da, dW, db


# ------------------------------------------------------------------------------------------------------------
# The simple RNN
# ------------------------------------------------------------------------------------------------------------


def rnn_cell_forward(xt: Array, a_prev: Array, parameters: Parameters) -> tuple[Array, Array, Cache]:
    """Compute one time step of a simple RNN (Elman 1990).

        a_next  = tanh(Wax xt + Waa a_prev + ba)
        yt_pred = softmax(Wya a_next + by)

    Takes xt (n_x, m), a_prev (n_h, m) and the parameters Wax (n_h, n_x), Waa (n_h, n_h), ba (n_h, 1),
    Wya (n_y, n_h) and by (n_y, 1).

    Returns a_next (n_h, m), yt_pred (n_y, m) and the cache, a dict with the keys `a_next`, `a_prev`, `xt`,
    `param` and `yt_pred`. Raises ValueError for a wrong shape or a missing parameter.

    >>> parameters = {name: np.ones((1, 1)) for name in ("Wax", "Waa", "ba", "Wya", "by")}
    >>> a_next, yt_pred, cache = rnn_cell_forward(np.array([[0.5]]), np.array([[-1.5]]), parameters)
    >>> a_next, yt_pred, cache["a_prev"]
    (array([[0.]]), array([[1.]]), array([[-1.5]]))
    """
    shapes = _RNN | _RNN_OUTPUT | {"xt": "n_x m", "a_prev": "n_h m"}
    Wax, Waa, ba, Wya, by, xt, a_prev = _checked(shapes, parameters, xt=xt, a_prev=a_prev)
    a_next = tanh(Wax @ xt + Waa @ a_prev + ba)
    yt_pred = softmax(Wya @ a_next + by)
    cache = {"a_next": a_next, "a_prev": a_prev, "xt": xt, "param": parameters, "yt_pred": yt_pred}
    return a_next, yt_pred, cache


def rnn_forward(x: Array, a0: Array, parameters: Parameters) -> tuple[Array, Array, list[Cache]]:
    """Run a simple RNN over a sequence.

        a[t], y_pred[t] = rnn_cell_forward(x[t], a[t-1])        where a[-1] is a0

    Takes x (T, n_x, m), a0 (n_h, m) and the parameters of `rnn_cell_forward`. T may be 0.

    Returns all hidden states a (T, n_h, m), all predictions y_pred (T, n_y, m) and the list of the caches of
    the T steps. Raises ValueError for a wrong shape or a missing parameter.

    >>> rng = np.random.default_rng(0)
    >>> shapes = {"Wax": (5, 3), "Waa": (5, 5), "Wya": (2, 5), "ba": (5, 1), "by": (2, 1)}
    >>> parameters = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    >>> a, y_pred, caches = rnn_forward(rng.standard_normal((7, 3, 4)), np.zeros((5, 4)), parameters)
    >>> a.shape, y_pred.shape
    ((7, 5, 4), (7, 2, 4))
    >>> bool((caches[6]["a_prev"] == a[5]).all())
    True
    >>> gradients = rnn_backward(np.ones_like(a), caches)
    >>> gradients["dWax"].shape, gradients["dx"].shape
    ((5, 3), (7, 3, 4))
    """
    shapes = _RNN | _RNN_OUTPUT | {"x": "T n_x m", "a0": "n_h m"}
    *_, by, x, a0 = _checked(shapes, parameters, x=x, a0=a0)
    T, _, m = x.shape
    a, y_pred = np.zeros((T, len(a0), m), x.dtype), np.zeros((T, len(by), m), x.dtype)
    caches = []
    a_prev = a0
    for t in range(T):
        a_prev, y_pred[t], cache = rnn_cell_forward(x[t], a_prev, parameters)
        a[t] = a_prev
        caches.append(cache)
    return a, y_pred, caches


def rnn_cell_backward(da_next: Array, cache: Cache) -> Gradients:
    """Backpropagate through one time step of a simple RNN.

    With z = Wax xt + Waa a_prev + ba, the chain rule gives

        dz      = da_next * (1 - a_next^2)
        dxt     = Wax^T dz
        da_prev = Waa^T dz
        dWax    = dz xt^T
        dWaa    = dz a_prev^T
        dba     = sum of dz over the batch

    Takes da_next (n_h, m), the gradient with respect to a_next, and the cache of `rnn_cell_forward`.
    Returns a dict of these gradients without dz. Raises ValueError for a wrong shape of da_next.

    >>> parameters = {name: np.ones((1, 1)) for name in ("Wax", "Waa", "ba", "Wya", "by")}
    >>> _, _, cache = rnn_cell_forward(np.array([[0.5]]), np.array([[-1.5]]), parameters)
    >>> rnn_cell_backward(np.array([[1.0]]), cache)["dWaa"]
    array([[-1.5]])
    """
    a_next, a_prev, xt, _, Wax, Waa, _, da_next = _from_cache("rnn", cache, _CACHE, _RNN, da_next=da_next)
    dz = da_next * tanh_deriv(a_next)
    return {
        "dxt": Wax.T @ dz,
        "da_prev": Waa.T @ dz,
        "dWax": dz @ xt.T,
        "dWaa": dz @ a_prev.T,
        "dba": np.sum(dz, axis=1, keepdims=True),
    }


def rnn_backward(da: Array, caches: list[Cache], y: Array | None = None) -> Gradients:
    """Backpropagate through time in a simple RNN (Werbos 1990).

    A hidden state feeds the layer above and the next time step, so its gradient is the sum of both:

        da_next at step t = da[t] + da_prev of step t+1

    Every step uses the same parameters, so the gradient of a parameter is the sum over the steps.

    Takes da (T, n_h, m), the gradient that reaches each hidden state from above, and the caches of
    `rnn_forward`. If labels y (T, n_y, m) are given, the gradient of `cross_entropy_loss` is added to da.

    Returns a dict of dx (T, n_x, m), da0 (n_h, m), dWax, dWaa, dba and, with labels, dWya and dby. Raises
    ValueError for a wrong shape or if there are no steps. `rnn_forward` has an example.

    >>> parameters = {name: np.ones((1, 1)) for name in ("Wax", "Waa", "ba", "Wya", "by")}
    >>> a, _, caches = rnn_forward(np.zeros((3, 1, 2)), np.zeros((1, 2)), parameters)
    >>> sorted(rnn_backward(np.ones_like(a), caches))
    ['dWaa', 'dWax', 'da0', 'dba', 'dx']
    """
    da, y = _from_caches("rnn", caches, _CACHE, _RNN, _RNN_OUTPUT, da, y)
    parameters, dtype = caches[0]["param"], da.dtype
    gradients = {"d" + name: np.zeros_like(parameters[name], dtype) for name in _RNN}
    if y is not None:
        output = parameters["Wya"], parameters["by"]
        da, gradients["dWya"], gradients["dby"] = _output_backward(da, caches, y, *output)

    dx = np.zeros((len(caches), *caches[0]["xt"].shape), dtype)
    da_next = np.zeros(da.shape[1:], dtype)
    for t in reversed(range(len(caches))):
        cell = rnn_cell_backward(da[t] + da_next, caches[t])
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
    """Compute one time step of an LSTM (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

        ax      = [a_prev; xt]
        f       = sigmoid(Wf ax + bf)           forget gate: what to keep of the old cell state
        i       = sigmoid(Wi ax + bi)           input gate: what to add of the candidate
        o       = sigmoid(Wo ax + bo)           output gate: what to reveal of the new cell state
        g       = tanh(Wc ax + bc)              candidate
        c_next  = f * c_prev + i * g
        a_next  = o * tanh(c_next)
        yt_pred = softmax(Wy a_next + by)

    Takes xt (n_x, m), a_prev and c_prev (n_h, m) and the parameters Wf, Wi, Wo, Wc (n_h, n_h + n_x),
    bf, bi, bo, bc (n_h, 1), Wy (n_y, n_h) and by (n_y, 1).

    Returns a_next and c_next (n_h, m), yt_pred (n_y, m) and the cache, a dict with the keys `a_next`,
    `c_next`, `a_prev`, `c_prev`, `xt`, `param`, `yt_pred`, `forget_gate`, `input_gate`, `output_gate` and
    `candidate`. Raises ValueError for a wrong shape or a missing parameter.

    >>> parameters = {"W" + gate: np.zeros((1, 2)) for gate in "fioc"} | {"Wy": np.ones((1, 1))}
    >>> parameters |= {"b" + gate: np.zeros((1, 1)) for gate in "fiocy"}
    >>> one = np.ones((1, 1))
    >>> a_next, c_next, yt_pred, cache = lstm_cell_forward(one, one, one, parameters)
    >>> c_next, cache["forget_gate"]
    (array([[0.5]]), array([[0.5]]))
    """
    shapes = _LSTM | _OUTPUT | {"xt": "n_x m", "a_prev": "n_h m", "c_prev": "n_h m"}
    given = _checked(shapes, parameters, xt=xt, a_prev=a_prev, c_prev=c_prev)
    Wf, bf, Wi, bi, Wo, bo, Wc, bc, Wy, by, xt, a_prev, c_prev = given
    ax = np.concatenate([a_prev, xt])
    f = sigmoid(Wf @ ax + bf)
    i = sigmoid(Wi @ ax + bi)
    o = sigmoid(Wo @ ax + bo)
    g = tanh(Wc @ ax + bc)
    c_next = f * c_prev + i * g
    a_next = o * tanh(c_next)
    yt_pred = softmax(Wy @ a_next + by)
    cache = {
        "a_next": a_next,
        "c_next": c_next,
        "a_prev": a_prev,
        "c_prev": c_prev,
        "xt": xt,
        "param": parameters,
        "yt_pred": yt_pred,
        "forget_gate": f,
        "input_gate": i,
        "output_gate": o,
        "candidate": g,
    }
    return a_next, c_next, yt_pred, cache


def lstm_forward(
    x: Array, a0: Array, c0: Array, parameters: Parameters
) -> tuple[Array, Array, Array, list[Cache]]:
    """Run an LSTM over a sequence.

        a[t], c[t], y_pred[t] = lstm_cell_forward(x[t], a[t-1], c[t-1])     where a[-1] is a0, c[-1] is c0

    Takes x (T, n_x, m), a0 and c0 (n_h, m) and the parameters of `lstm_cell_forward`. T may be 0.

    Returns all hidden states a (T, n_h, m), all cell states c (T, n_h, m), all predictions y_pred
    (T, n_y, m) and the list of the caches of the T steps. Raises ValueError for a wrong shape or a missing
    parameter.

    >>> rng = np.random.default_rng(0)
    >>> parameters = {"W" + gate: rng.standard_normal((5, 8)) for gate in "fioc"}
    >>> parameters |= {"b" + gate: np.zeros((5, 1)) for gate in "fioc"}
    >>> parameters |= {"Wy": rng.standard_normal((2, 5)), "by": np.zeros((2, 1))}
    >>> x, zero_state = rng.standard_normal((7, 3, 4)), np.zeros((5, 4))
    >>> a, c, y_pred, caches = lstm_forward(x, zero_state, zero_state, parameters)
    >>> a.shape, c.shape, y_pred.shape, caches[6]["forget_gate"].shape
    ((7, 5, 4), (7, 5, 4), (7, 2, 4), (5, 4))
    >>> gradients = lstm_backward(np.ones_like(a), caches)
    >>> gradients["dWf"].shape, gradients["dx"].shape
    ((5, 8), (7, 3, 4))
    """
    shapes = _LSTM | _OUTPUT | {"x": "T n_x m", "a0": "n_h m", "c0": "n_h m"}
    *_, by, x, a0, c0 = _checked(shapes, parameters, x=x, a0=a0, c0=c0)
    T, _, m = x.shape
    a, c = np.zeros((T, len(a0), m), x.dtype), np.zeros((T, len(c0), m), x.dtype)
    y_pred = np.zeros((T, len(by), m), x.dtype)
    caches = []
    a_prev, c_prev = a0, c0
    for t in range(T):
        a_prev, c_prev, y_pred[t], cache = lstm_cell_forward(x[t], a_prev, c_prev, parameters)
        a[t], c[t] = a_prev, c_prev
        caches.append(cache)
    return a, c, y_pred, caches


def lstm_cell_backward(da_next: Array, dc_next: Array, cache: Cache) -> Gradients:
    """Backpropagate through one time step of an LSTM.

    c_next feeds the next time step and a_next, so its total gradient is

        dc      = dc_next + da_next * o * (1 - tanh(c_next)^2)
        dc_prev = dc * f

    Each of the other gradients follows from the chain rule, beside its line of code.

    Takes da_next and dc_next (n_h, m), the gradients with respect to a_next and c_next, and the cache of
    `lstm_cell_forward`. Returns a dict of dxt, da_prev, dc_prev, dWf, dbf, dWi, dbi, dWo, dbo, dWc and dbc.
    Raises ValueError for a wrong shape of da_next or dc_next.

    >>> parameters = {"W" + gate: np.zeros((1, 2)) for gate in "fioc"} | {"Wy": np.ones((1, 1))}
    >>> parameters |= {"b" + gate: np.zeros((1, 1)) for gate in "fiocy"}
    >>> one = np.ones((1, 1))
    >>> *_, cache = lstm_cell_forward(one, one, one, parameters)
    >>> lstm_cell_backward(0 * one, one, cache)["dc_prev"]  # half passes the forget gate
    array([[0.5]])
    """
    given = _from_cache("lstm", cache, _LSTM_CACHE, _LSTM, da_next=da_next, dc_next=dc_next)
    _, a_prev, xt, _, c_next, c_prev, f, i, o, g, Wf, _, Wi, _, Wo, _, Wc, _, da_next, dc_next = given
    tanh_c = tanh(c_next)
    dc = dc_next + da_next * o * tanh_deriv(tanh_c)

    # Gradients with respect to the arguments of the three sigmoids and of the candidate's tanh
    df = dc * c_prev * sigmoid_deriv(f)  # from c_next = f * c_prev + i * g
    di = dc * g * sigmoid_deriv(i)  # from c_next = f * c_prev + i * g
    do = da_next * tanh_c * sigmoid_deriv(o)  # from a_next = o * tanh(c_next)
    dg = dc * i * tanh_deriv(g)  # from c_next = f * c_prev + i * g

    ax = np.concatenate([a_prev, xt])
    dax = Wf.T @ df + Wi.T @ di + Wo.T @ do + Wc.T @ dg  # from Wf ax + bf and its like
    da_prev, dxt = np.split(dax, [len(a_prev)])  # from ax = [a_prev; xt]
    gradients: Gradients = {"dxt": dxt, "da_prev": da_prev, "dc_prev": dc * f}
    for gate, dgate in {"f": df, "i": di, "o": do, "c": dg}.items():
        gradients["dW" + gate] = dgate @ ax.T
        gradients["db" + gate] = np.sum(dgate, axis=1, keepdims=True)
    return gradients


def lstm_backward(da: Array, caches: list[Cache], y: Array | None = None) -> Gradients:
    """Backpropagate through time in an LSTM (Werbos 1990).

    As in `rnn_backward`, the gradient of a hidden state is the sum of what comes from above and from the next
    time step. A second gradient flows back through the cell states:

        da_next at step t = da[t] + da_prev of step t+1
        dc_next at step t = dc_prev of step t+1

    Where a forget gate is open, dc passes through unchanged, so it does not vanish over many steps. This is
    what the LSTM was designed for.

    Takes da (T, n_h, m), the gradient that reaches each hidden state from above, and the caches of
    `lstm_forward`. If labels y (T, n_y, m) are given, the gradient of `cross_entropy_loss` is added to da.

    Returns a dict of dx (T, n_x, m), da0 and dc0 (n_h, m), dWf, dbf, dWi, dbi, dWo, dbo, dWc, dbc and, with
    labels, dWy and dby. Raises ValueError for a wrong shape or if there are no steps. `lstm_forward` has an
    example.

    >>> parameters = {"W" + gate: np.ones((1, 2)) for gate in "fioc"} | {"Wy": np.ones((1, 1))}
    >>> parameters |= {"b" + gate: np.zeros((1, 1)) for gate in "fiocy"}
    >>> zeros = np.zeros((1, 2))
    >>> a, _, _, caches = lstm_forward(np.ones((3, 1, 2)), zeros, zeros, parameters)
    >>> gradients = lstm_backward(np.ones_like(a), caches)
    >>> gradients["dWf"].shape, gradients["dx"].shape
    ((1, 2), (3, 1, 2))
    """
    da, y = _from_caches("lstm", caches, _LSTM_CACHE, _LSTM, _OUTPUT, da, y)
    parameters, dtype = caches[0]["param"], da.dtype
    gradients = {"d" + name: np.zeros_like(parameters[name], dtype) for name in _LSTM}
    if y is not None:
        output = parameters["Wy"], parameters["by"]
        da, gradients["dWy"], gradients["dby"] = _output_backward(da, caches, y, *output)

    dx = np.zeros((len(caches), *caches[0]["xt"].shape), dtype)
    da_next, dc_next = np.zeros(da.shape[1:], dtype), np.zeros(da.shape[1:], dtype)
    for t in reversed(range(len(caches))):
        cell = lstm_cell_backward(da[t] + da_next, dc_next, caches[t])
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
    """Compute one time step of a GRU (Cho et al. 2014, equations 5 to 8, with biases added).

        ax      = [a_prev; xt]
        r       = sigmoid(Wr ax + br)                       (5) reset gate
        z       = sigmoid(Wz ax + bz)                       (6) update gate
        n       = tanh(Wn [r * a_prev; xt] + bn)            (8) candidate
        a_next  = (1 - z) * n + z * a_prev                  (7)
        yt_pred = softmax(Wy a_next + by)

    As in the paper, PyTorch, Keras and ONNX, z = 1 keeps the old state; some texts swap z and 1 - z.

    With `reset_after=True`, the reset gate is applied after the matrix product, as in arXiv:1406.1078v1,
    PyTorch, Keras (by default) and ONNX (linear_before_reset=1). Let Wna and Wnx be the columns of Wn for the
    state and for the input; then

        n       = tanh(Wnx xt + bn + r * (Wna a_prev + bnr))

    Takes xt (n_x, m), a_prev (n_h, m) and the parameters Wr, Wz, Wn (n_h, n_h + n_x), br, bz, bn (n_h, 1),
    Wy (n_y, n_h), by (n_y, 1) and, with `reset_after=True`, bnr (n_h, 1).

    Returns a_next (n_h, m), yt_pred (n_y, m) and the cache, a dict with the keys `a_next`, `a_prev`, `xt`,
    `param`, `yt_pred`, `reset_gate`, `update_gate`, `candidate` and `reset_after`. Raises ValueError for a
    wrong shape or a missing parameter.

    >>> parameters = {"W" + gate: np.zeros((1, 2)) for gate in "rzn"} | {"Wy": np.ones((1, 1))}
    >>> parameters |= {"b" + gate: np.zeros((1, 1)) for gate in "rzny"}
    >>> a_next, yt_pred, cache = gru_cell_forward(np.ones((1, 1)), np.ones((1, 1)), parameters)
    >>> a_next, cache["update_gate"]
    (array([[0.5]]), array([[0.5]]))
    """
    shapes = (_GRU_RESET_AFTER if reset_after else _GRU) | _OUTPUT
    shapes |= {"xt": "n_x m", "a_prev": "n_h m"}
    Wr, br, Wz, bz, Wn, bn, *others, Wy, by, xt, a_prev = _checked(shapes, parameters, xt=xt, a_prev=a_prev)
    Wna, Wnx = np.split(Wn, [len(a_prev)], axis=1)
    ax = np.concatenate([a_prev, xt])
    r = sigmoid(Wr @ ax + br)
    z = sigmoid(Wz @ ax + bz)
    if reset_after:
        (bnr,) = others
        n = tanh(Wnx @ xt + bn + r * (Wna @ a_prev + bnr))
    else:
        n = tanh(Wnx @ xt + bn + Wna @ (r * a_prev))
    a_next = (1 - z) * n + z * a_prev
    yt_pred = softmax(Wy @ a_next + by)
    cache = {
        "a_next": a_next,
        "a_prev": a_prev,
        "xt": xt,
        "param": parameters,
        "yt_pred": yt_pred,
        "reset_gate": r,
        "update_gate": z,
        "candidate": n,
        "reset_after": reset_after,
    }
    return a_next, yt_pred, cache


def gru_forward(
    x: Array, a0: Array, parameters: Parameters, *, reset_after: bool = False
) -> tuple[Array, Array, list[Cache]]:
    """Run a GRU over a sequence.

        a[t], y_pred[t] = gru_cell_forward(x[t], a[t-1])        where a[-1] is a0

    Takes x (T, n_x, m), a0 (n_h, m) and the parameters of `gru_cell_forward`. T may be 0.

    Returns all hidden states a (T, n_h, m), all predictions y_pred (T, n_y, m) and the list of the caches of
    the T steps. Raises ValueError for a wrong shape or a missing parameter.

    >>> rng = np.random.default_rng(0)
    >>> parameters = {"W" + gate: rng.standard_normal((5, 8)) for gate in "rzn"}
    >>> parameters |= {"b" + gate: np.zeros((5, 1)) for gate in "rzn"}
    >>> parameters |= {"Wy": rng.standard_normal((2, 5)), "by": np.zeros((2, 1))}
    >>> a, y_pred, caches = gru_forward(rng.standard_normal((7, 3, 4)), np.zeros((5, 4)), parameters)
    >>> a.shape, y_pred.shape, caches[6]["update_gate"].shape
    ((7, 5, 4), (7, 2, 4), (5, 4))
    >>> gradients = gru_backward(np.ones_like(a), caches)
    >>> gradients["dWz"].shape, gradients["dx"].shape
    ((5, 8), (7, 3, 4))
    """
    shapes = (_GRU_RESET_AFTER if reset_after else _GRU) | _OUTPUT
    *_, by, x, a0 = _checked(shapes | {"x": "T n_x m", "a0": "n_h m"}, parameters, x=x, a0=a0)
    T, _, m = x.shape
    a, y_pred = np.zeros((T, len(a0), m), x.dtype), np.zeros((T, len(by), m), x.dtype)
    caches = []
    a_prev = a0
    for t in range(T):
        a_prev, y_pred[t], cache = gru_cell_forward(x[t], a_prev, parameters, reset_after=reset_after)
        a[t] = a_prev
        caches.append(cache)
    return a, y_pred, caches


def gru_cell_backward(da_next: Array, cache: Cache) -> Gradients:
    """Backpropagate through one time step of a GRU.

    The update, both gates and the candidate read a_prev, so its gradient is the sum of four terms. Each
    gradient follows from the chain rule, beside its line of code. The cache records `reset_after`.

    Takes da_next (n_h, m), the gradient with respect to a_next, and the cache of `gru_cell_forward`. Returns
    a dict of dxt, da_prev, dWr, dbr, dWz, dbz, dWn, dbn and, with `reset_after`, dbnr. Raises ValueError for
    a wrong shape of da_next.

    >>> parameters = {"W" + gate: np.zeros((1, 2)) for gate in "rzn"} | {"Wy": np.ones((1, 1))}
    >>> parameters |= {"b" + gate: np.zeros((1, 1)) for gate in "rzny"}
    >>> *_, cache = gru_cell_forward(np.ones((1, 1)), np.ones((1, 1)), parameters)
    >>> gru_cell_backward(np.ones((1, 1)), cache)["da_prev"]  # half passes the update gate
    array([[0.5]])
    """
    reset_after = isinstance(cache, dict) and cache.get("reset_after")
    given = _from_cache("gru", cache, _GRU_CACHE, _GRU_RESET_AFTER if reset_after else _GRU, da_next=da_next)
    _, a_prev, xt, _, r, z, n, Wr, _, Wz, _, Wn, _, *others, da_next = given
    Wna, Wnx = np.split(Wn, [len(a_prev)], axis=1)
    gradients = {}

    # Gradients with respect to the arguments of the update gate's sigmoid and of the candidate's tanh,
    # from a_next = (1 - z) * n + z * a_prev
    dz = da_next * (a_prev - n) * sigmoid_deriv(z)
    dn = da_next * (1 - z) * tanh_deriv(n)

    # The reset gate and the recurrent part of the candidate
    if reset_after:
        (bnr,) = others
        drecurrent = dn * r  # from r * (Wna a_prev + bnr)
        dr = dn * (Wna @ a_prev + bnr) * sigmoid_deriv(r)  # likewise
        da_prev_candidate = Wna.T @ drecurrent  # from Wna a_prev + bnr
        dWna = drecurrent @ a_prev.T
        gradients["dbnr"] = np.sum(drecurrent, axis=1, keepdims=True)
    else:
        dra = Wna.T @ dn  # with respect to r * a_prev, from Wna (r * a_prev)
        dr = dra * a_prev * sigmoid_deriv(r)
        da_prev_candidate = dra * r
        dWna = dn @ (r * a_prev).T

    ax = np.concatenate([a_prev, xt])
    dax = Wr.T @ dr + Wz.T @ dz  # from Wr ax + br and Wz ax + bz
    da_prev_gates, dxt_gates = np.split(dax, [len(a_prev)])  # from ax = [a_prev; xt]
    gradients["dxt"] = dxt_gates + Wnx.T @ dn
    gradients["da_prev"] = da_next * z + da_prev_gates + da_prev_candidate
    gradients["dWr"] = dr @ ax.T
    gradients["dWz"] = dz @ ax.T
    gradients["dWn"] = np.concatenate([dWna, dn @ xt.T], axis=1)
    gradients["dbr"] = np.sum(dr, axis=1, keepdims=True)
    gradients["dbz"] = np.sum(dz, axis=1, keepdims=True)
    gradients["dbn"] = np.sum(dn, axis=1, keepdims=True)
    return gradients


def gru_backward(da: Array, caches: list[Cache], y: Array | None = None) -> Gradients:
    """Backpropagate through time in a GRU (Werbos 1990).

        da_next at step t = da[t] + da_prev of step t+1

    Takes da (T, n_h, m), the gradient that reaches each hidden state from above, and the caches of
    `gru_forward`. If labels y (T, n_y, m) are given, the gradient of `cross_entropy_loss` is added to da.

    Returns a dict of dx (T, n_x, m), da0 (n_h, m), dWr, dbr, dWz, dbz, dWn, dbn, with `reset_after` dbnr and,
    with labels, dWy and dby. Raises ValueError for a wrong shape or if there are no steps. `gru_forward` has
    an example.

    >>> parameters = {"W" + gate: np.ones((1, 2)) for gate in "rzn"} | {"Wy": np.ones((1, 1))}
    >>> parameters |= {"b" + gate: np.zeros((1, 1)) for gate in "rzny"}
    >>> a, _, caches = gru_forward(np.ones((3, 1, 2)), np.zeros((1, 2)), parameters)
    >>> gradients = gru_backward(np.ones_like(a), caches)
    >>> gradients["dWz"].shape, gradients["dx"].shape
    ((1, 2), (3, 1, 2))
    """
    first = caches[0] if isinstance(caches, list | tuple) and caches else {}
    names = _GRU_RESET_AFTER if isinstance(first, dict) and first.get("reset_after") else _GRU
    da, y = _from_caches("gru", caches, _GRU_CACHE, names, _OUTPUT, da, y)
    parameters, dtype = caches[0]["param"], da.dtype
    gradients = {"d" + name: np.zeros_like(parameters[name], dtype) for name in names}
    if y is not None:
        output = parameters["Wy"], parameters["by"]
        da, gradients["dWy"], gradients["dby"] = _output_backward(da, caches, y, *output)

    dx = np.zeros((len(caches), *caches[0]["xt"].shape), dtype)
    da_next = np.zeros(da.shape[1:], dtype)
    for t in reversed(range(len(caches))):
        cell = gru_cell_backward(da[t] + da_next, caches[t])
        dx[t], da_next = cell.pop("dxt"), cell.pop("da_prev")
        for name in cell:
            gradients[name] += cell[name]
    return gradients | {"dx": dx, "da0": da_next}
