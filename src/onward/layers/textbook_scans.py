"""The equations of the recurrences beyond the LSTM in plain NumPy, forward and backward, written to be read.

Arrays are laid out as in `onward.textbook`: features by batch, time first; biases and other vectors of
parameters are columns. A cell function computes one time step:

    state_next, yt, cache = X_cell_forward(xt, state_prev, parameters)
    gradients = X_cell_backward(dyt, dstate_next, cache)

The state is a tuple of arrays, and dstate_next the tuple of the gradients with respect to them. Gradients are
a dict: dxt, dstate_prev (a tuple), and one array for each parameter, named after it with a leading `d`.
`scan_forward` and `scan_backward` apply a cell to a sequence. The forward functions raise ValueError for
arrays of the wrong shape and for missing parameters.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..textbook import Array, Cache, Parameters, _checked, sigmoid, sigmoid_deriv, tanh, tanh_deriv

__all__ = [
    "gated_delta_cell_backward",
    "gated_delta_cell_forward",
    "layer_norm_lstm_cell_backward",
    "layer_norm_lstm_cell_forward",
    "lru_cell_backward",
    "lru_cell_forward",
    "min_gru_cell_backward",
    "min_gru_cell_forward",
    "rg_lru_cell_backward",
    "rg_lru_cell_forward",
    "scan_backward",
    "scan_forward",
    "selective_cell_backward",
    "selective_cell_forward",
    "slstm_cell_backward",
    "slstm_cell_forward",
]

State = tuple[Array, ...]
Gradients = dict[str, Any]  # arrays, and tuples for states
Step = tuple[State, Array, Cache]

_MIN_GRU = {"Wz": "n_h n_x", "bz": "n_h 1", "Wn": "n_h n_x", "bn": "n_h 1"}
_COLUMN = dict.fromkeys(("nu", "theta", "gamma"), "n_h 1")
_LRU = _COLUMN | {"B_re": "n_h n_x", "B_im": "n_h n_x", "C_re": "n_x n_h", "C_im": "n_x n_h", "D": "n_x 1"}
_RG_LRU = {"Wr": "n_x n_x", "br": "n_x 1", "Wi": "n_x n_x", "bi": "n_x 1", "Lambda": "n_x 1"}
_SUMS = {"W": "4n_h n_x", "R": "4n_h n_h", "b": "4n_h 1"}
_NORMS = {"x_gain": "4n_h 1", "x_bias": "4n_h 1", "h_gain": "4n_h 1", "h_bias": "4n_h 1"}
_LAYER_NORM_LSTM = _SUMS | _NORMS | {"c_gain": "n_h 1", "c_bias": "n_h 1"}
_SELECTIVE = {"Wl": "n_r n_x", "WB": "n_s n_x", "WC": "n_s n_x", "Wd": "n_x n_r", "bd": "n_x 1"}
_SELECTIVE |= {"A_log": "n_x n_s", "D": "n_x 1"}
_GATED_DELTA = {"Wq": "n_k n_x", "Wk": "n_k n_x", "Wv": "n_v n_x", "Wa": "1 n_x", "Wb": "1 n_x"}
_GATED_DELTA |= {"A_log": "1 1", "dt": "1 1"}


def scan_forward(
    cell_forward: Callable[..., Step], x: Array, state: State, parameters: Parameters
) -> tuple[Array, State, list[Cache]]:
    """Run a cell over a sequence x (T, n_x, m) with at least one step.

    Returns the outputs (T, n_y, m), the final state and the caches of all steps. Raises the errors of the
    cell.

    >>> weights = dict.fromkeys(("Wz", "bz", "bn"), np.zeros((1, 1))) | {"Wn": np.ones((1, 1))}
    >>> y, _, _ = scan_forward(min_gru_cell_forward, np.ones((3, 1, 1)), (np.zeros((1, 1)),), weights)
    >>> y[:, 0, 0]
    array([0.5  , 0.75 , 0.875])
    """
    outputs, caches = [], []
    for xt in x:
        state, yt, cache = cell_forward(xt, state, parameters)
        outputs.append(yt)
        caches.append(cache)
    return np.stack(outputs), state, caches


def scan_backward(
    cell_backward: Callable[..., Gradients], dy: Array, dstate: State, caches: list[Cache]
) -> Gradients:
    """Backpropagate through time, from dy (T, n_y, m) and the gradient of the final state.

    Returns a dict of dx (T, n_x, m), dstate (a tuple, of the initial state), and the gradients of the
    parameters, summed over the steps. Raises the errors of the cell.

    >>> weights = dict.fromkeys(("Wz", "bz", "bn"), np.zeros((1, 1))) | {"Wn": np.ones((1, 1))}
    >>> zero = (np.zeros((1, 1)),)
    >>> y, _, caches = scan_forward(min_gru_cell_forward, np.ones((3, 1, 1)), zero, weights)
    >>> scan_backward(min_gru_cell_backward, np.ones_like(y), zero, caches)["dx"][:, 0, 0]
    array([0.875, 0.75 , 0.5  ])
    """
    total: Gradients = {}
    dx = []
    for dyt, cache in zip(dy[::-1], caches[::-1], strict=True):
        cell: dict[str, Any] = cell_backward(dyt, dstate, cache)
        dx.append(cell.pop("dxt"))
        dstate = cell.pop("dstate_prev")
        total = {name: gradient + total.get(name, 0) for name, gradient in cell.items()}
    return total | {"dx": np.stack(dx[::-1]), "dstate": dstate}


def softplus(x: Array) -> Array:
    """Compute log(1 + exp(x)), whose derivative is sigmoid(x), without overflow."""
    s: Array = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return s


def _named(shapes: dict[str, str], parameters: Parameters, /, **arrays: Any) -> dict[str, Any]:
    """Return the arrays and parameters named in `shapes`, checked and in one float dtype."""
    return dict(zip(shapes, _checked(shapes, parameters, **arrays), strict=True))


def _column(gradient: Array) -> Array:
    """Sum a gradient over the batch, for a column of parameters."""
    total: Array = np.sum(gradient, axis=-1, keepdims=True)
    return total


def min_gru_cell_forward(xt: Array, state_prev: State, parameters: Parameters) -> Step:
    """Compute one time step of a minimal GRU (Feng et al. 2024, arXiv:2410.01201).

        z  = sigmoid(Wz xt + bz)            n = Wn xt + bn
        yt = h = (1 - z) * h_prev + z * n

    The state is (h,), h (n_h, m). Raises ValueError for a wrong shape or a missing parameter. `scan_forward`
    has an example.

    >>> weights = dict.fromkeys(("Wz", "bz", "bn"), np.zeros((1, 1))) | {"Wn": np.ones((1, 1))}
    >>> min_gru_cell_forward(np.ones((1, 1)), (np.zeros((1, 1)),), weights)[1]
    array([[0.5]])
    """
    shapes = _MIN_GRU | {"xt": "n_x m", "h_prev": "n_h m"}
    Wz, bz, Wn, bn, xt, h_prev = _checked(shapes, parameters, xt=xt, h_prev=state_prev[0])
    z, n = sigmoid(Wz @ xt + bz), Wn @ xt + bn
    h = (1 - z) * h_prev + z * n
    return (h,), h, {"xt": xt, "h_prev": h_prev, "z": z, "n": n, "param": parameters}


def min_gru_cell_backward(dyt: Array, dstate_next: State, cache: Cache) -> Gradients:
    """Backpropagate through one time step of a minimal GRU. `scan_backward` has an example."""
    xt, h_prev, z, n, p = (cache[name] for name in ("xt", "h_prev", "z", "n", "param"))
    dh = dyt + dstate_next[0]
    dz, dn = dh * (n - h_prev) * sigmoid_deriv(z), dh * z  # with respect to the arguments of z and n
    return {
        "dxt": p["Wz"].T @ dz + p["Wn"].T @ dn,
        "dstate_prev": (dh * (1 - z),),
        **{"dWz": dz @ xt.T, "dbz": _column(dz), "dWn": dn @ xt.T, "dbn": _column(dn)},
    }


def lru_cell_forward(xt: Array, state_prev: State, parameters: Parameters) -> Step:
    """Compute one time step of a linear recurrent unit (Orvieto et al. 2023, arXiv:2303.06349).

        s  = lambda * s_prev + exp(gamma) * (B xt)      lambda = exp(-exp(nu) + i exp(theta))
        yt = Re(C s) + D * xt

    B = B_re + i B_im, C = C_re + i C_im, and the state is (Re s, Im s). Raises ValueError.
    """
    shapes = _LRU | {"xt": "n_x m", "re": "n_h m", "im": "n_h m"}
    given = _checked(shapes, parameters, xt=xt, re=state_prev[0], im=state_prev[1])
    nu, theta, gamma, B_re, B_im, C_re, C_im, D, xt, re, im = given
    eigenvalues, s_prev = np.exp(-np.exp(nu) + 1j * np.exp(theta)), re + 1j * im
    s = eigenvalues * s_prev + np.exp(gamma) * ((B_re + 1j * B_im) @ xt)
    yt = ((C_re + 1j * C_im) @ s).real + D * xt
    return (
        (s.real, s.imag),
        yt,
        {"xt": xt, "s": s, "s_prev": s_prev, "lambda": eigenvalues, "param": parameters},
    )


def lru_cell_backward(dyt: Array, dstate_next: State, cache: Cache) -> Gradients:
    """Backpropagate through one time step of a linear recurrent unit.

    The gradient of a complex number is that of its real part, plus i times that of its imaginary part. On its
    way back through a product with w, it is multiplied by the conjugate of w.
    """
    xt, s, s_prev, eigenvalues, p = (cache[name] for name in ("xt", "s", "s_prev", "lambda", "param"))
    B, C = p["B_re"] + 1j * p["B_im"], p["C_re"] + 1j * p["C_im"]
    ds = dstate_next[0] + 1j * dstate_next[1] + C.conj().T @ dyt
    dC = dyt @ s.conj().T
    dlog = _column(eigenvalues.conj() * s_prev.conj() * ds)  # of the logarithm of lambda
    dentering = np.exp(p["gamma"]) * ds
    dB = dentering @ xt.T
    dprev = eigenvalues.conj() * ds
    return {
        "dxt": (B.conj().T @ dentering).real + p["D"] * dyt,
        "dstate_prev": (dprev.real, dprev.imag),
        **{"dnu": -np.exp(p["nu"]) * dlog.real, "dtheta": np.exp(p["theta"]) * dlog.imag},
        "dgamma": _column(((B @ xt).conj() * dentering).real),
        **{"dB_re": dB.real, "dB_im": dB.imag, "dC_re": dC.real, "dC_im": dC.imag, "dD": _column(dyt * xt)},
    }


def rg_lru_cell_forward(xt: Array, state_prev: State, parameters: Parameters) -> Step:
    """Compute one time step of a real-gated linear recurrent unit (De et al. 2024, arXiv:2402.19427).

        r  = sigmoid(Wr xt + br)            i = sigmoid(Wi xt + bi)
        a  = sigmoid(Lambda)^(8 r)
        yt = h = a * h_prev + sqrt(1 - a^2) * (i * xt)

    The state is (h,), h (n_x, m). Raises ValueError.
    """
    shapes = _RG_LRU | {"xt": "n_x m", "h_prev": "n_x m"}
    Wr, br, Wi, bi, Lambda, xt, h_prev = _checked(shapes, parameters, xt=xt, h_prev=state_prev[0])
    r, i = sigmoid(Wr @ xt + br), sigmoid(Wi @ xt + bi)
    a = np.exp(-8 * r * softplus(-Lambda))
    h = a * h_prev + np.sqrt(1 - a**2) * i * xt
    return (h,), h, {"xt": xt, "h_prev": h_prev, "r": r, "i": i, "a": a, "param": parameters}


def rg_lru_cell_backward(dyt: Array, dstate_next: State, cache: Cache) -> Gradients:
    """Backpropagate through one time step of a real-gated linear recurrent unit."""
    xt, h_prev, r, i, a, p = (cache[name] for name in ("xt", "h_prev", "r", "i", "a", "param"))
    dh = dyt + dstate_next[0]
    scale = np.sqrt(1 - a**2)
    dlog_a = a * (dh * h_prev - dh * i * xt * a / scale)
    dr = -8 * softplus(-p["Lambda"]) * dlog_a * sigmoid_deriv(r)
    di = dh * scale * xt * sigmoid_deriv(i)
    return {
        "dxt": dh * scale * i + p["Wr"].T @ dr + p["Wi"].T @ di,
        "dstate_prev": (dh * a,),
        **{"dWr": dr @ xt.T, "dbr": _column(dr), "dWi": di @ xt.T, "dbi": _column(di)},
        "dLambda": _column(8 * r * sigmoid(-p["Lambda"]) * dlog_a),
    }


def _layer_norm(x: Array, gain: Array, bias: Array) -> tuple[Array, Array, Array]:
    """Normalize each column; return it with its gain and bias, then z and the standard deviation alone."""
    s = np.sqrt(np.var(x, axis=0, keepdims=True) + 1e-5)
    z = (x - np.mean(x, axis=0, keepdims=True)) / s
    return gain * z + bias, z, s


def _layer_norm_backward(dy: Array, norm: Sequence[Array], gain: Array) -> Array:
    """The gradient with respect to x, from z and s: dz without its mean and its part along z, over s."""
    dz, (z, s) = dy * gain, norm
    dx: Array = (dz - np.mean(dz, axis=0) - z * np.mean(dz * z, axis=0)) / s
    return dx


def layer_norm_lstm_cell_forward(xt: Array, state_prev: State, parameters: Parameters) -> Step:
    """Compute one time step of an LSTM with layer normalization (Ba et al. 2016, arXiv:1607.06450).

        [i, f, g, o] = LN(W xt; x_gain, x_bias) + LN(R h_prev; h_gain, h_bias) + b
        c  = sigmoid(f) * c_prev + sigmoid(i) * tanh(g)
        yt = h = sigmoid(o) * tanh(LN(c; c_gain, c_bias))

    The state is (h, c), each (n_h, m). Raises ValueError.
    """
    shapes = _LAYER_NORM_LSTM | {"xt": "n_x m", "h_prev": "n_h m", "c_prev": "n_h m"}
    p = _named(shapes, parameters, xt=xt, h_prev=state_prev[0], c_prev=state_prev[1])
    from_x, *x_norm = _layer_norm(p["W"] @ p["xt"], p["x_gain"], p["x_bias"])
    from_h, *h_norm = _layer_norm(p["R"] @ p["h_prev"], p["h_gain"], p["h_bias"])
    a_i, a_f, a_g, a_o = np.split(from_x + from_h + p["b"], 4)
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)
    c = f * p["c_prev"] + i * g
    read, *c_norm = _layer_norm(c, p["c_gain"], p["c_bias"])
    h = o * tanh(read)
    norms = {"x_norm": x_norm, "h_norm": h_norm, "c_norm": c_norm}
    return (h, c), h, p | norms | {"i": i, "f": f, "g": g, "o": o, "t": tanh(read)}


def layer_norm_lstm_cell_backward(dyt: Array, dstate_next: State, cache: Cache) -> Gradients:
    """Backpropagate through one time step of an LSTM with layer normalization."""
    k = cache
    i, f, g, o, t = (k[name] for name in "ifgot")
    dh = dyt + dstate_next[0]
    dread = dh * o * tanh_deriv(t)
    dc = dstate_next[1] + _layer_norm_backward(dread, k["c_norm"], k["c_gain"])
    di, df = dc * g * sigmoid_deriv(i), dc * k["c_prev"] * sigmoid_deriv(f)
    dg, do = dc * i * tanh_deriv(g), dh * t * sigmoid_deriv(o)
    dsums = np.concatenate([di, df, dg, do])
    dWx = _layer_norm_backward(dsums, k["x_norm"], k["x_gain"])
    dRh = _layer_norm_backward(dsums, k["h_norm"], k["h_gain"])
    shared = _column(dsums)
    return {
        "dxt": k["W"].T @ dWx,
        "dstate_prev": (k["R"].T @ dRh, dc * f),
        **{
            "dW": dWx @ k["xt"].T,
            "dR": dRh @ k["h_prev"].T,
            "db": shared,
            "dx_bias": shared,
            "dh_bias": shared,
        },
        "dx_gain": _column(dsums * k["x_norm"][0]),
        "dh_gain": _column(dsums * k["h_norm"][0]),
        "dc_gain": _column(dread * k["c_norm"][0]),
        "dc_bias": _column(dread),
    }


def slstm_cell_forward(xt: Array, state_prev: State, parameters: Parameters) -> Step:
    """Compute one time step of an sLSTM with a sigmoid forget gate (Beck et al. 2024, arXiv:2405.04517).

        [i~, f~, z~, o~] = W xt + R h_prev + b
        m = max(log sigmoid(f~) + m_prev, i~), or i~ while n_prev is 0
        i = exp(i~ - m)                     f = exp(log sigmoid(f~) + m_prev - m)
        c = f * c_prev + i * tanh(z~)       n = f * n_prev + i
        yt = h = sigmoid(o~) * c / n

    The state is (h, c, n, m), each (n_h, m). Raises ValueError.
    """
    names = ("h", "c", "n", "stabilizer")
    shapes = _SUMS | {"xt": "n_x m"} | dict.fromkeys(names, "n_h m")
    given = dict(zip(names, state_prev, strict=True))
    p = _named(shapes, parameters, xt=xt, **given)
    a_i, a_f, a_z, a_o = np.split(p["W"] @ p["xt"] + p["R"] @ p["h"] + p["b"], 4)
    kept = p["stabilizer"] - softplus(-a_f)
    keeps = (p["n"] != 0) & (kept >= a_i)
    m = np.where(keeps, kept, a_i)
    i, f, z, o = np.exp(a_i - m), np.exp(kept - m), tanh(a_z), sigmoid(a_o)
    c, n = f * p["c"] + i * z, f * p["n"] + i
    h = o * c / n
    gates = {"i": i, "f": f, "z": z, "o": o, "a_f": a_f, "keeps": keeps, "c_next": c, "n_next": n}
    return (h, c, n, m), h, p | gates


def slstm_cell_backward(dyt: Array, dstate_next: State, cache: Cache) -> Gradients:
    """Backpropagate through one time step of an sLSTM, and through the maximum of the stabilizer."""
    k = cache
    i, f, z, o, c, n = (k[name] for name in ("i", "f", "z", "o", "c_next", "n_next"))
    dh, dc, dn, dm = dstate_next
    dh = dh + dyt
    dc, dn = dc + dh * o / n, dn - dh * o * c / n**2
    di, dkept = (
        (dc * z + dn) * i,
        (dc * k["c"] + dn * k["n"]) * f,
    )  # with respect to i~ - m and log f + m_prev - m
    dm = dm - di - dkept
    di, dkept = di + np.where(k["keeps"], 0, dm), dkept + np.where(k["keeps"], dm, 0)
    df = dkept * sigmoid(-k["a_f"])
    dsums = np.concatenate([di, df, dc * i * tanh_deriv(z), dh * c / n * sigmoid_deriv(o)])
    return {
        "dxt": k["W"].T @ dsums,
        "dstate_prev": (k["R"].T @ dsums, dc * f, dn * f, dkept),
        **{"dW": dsums @ k["xt"].T, "dR": dsums @ k["h"].T, "db": _column(dsums)},
    }


def selective_cell_forward(xt: Array, state_prev: State, parameters: Parameters) -> Step:
    """Compute one time step of a selective state space (Gu and Dao 2023, arXiv:2312.00752).

        delta = softplus(Wd (Wl xt) + bd)   B = WB xt       C = WC xt       A = -exp(A_log)
        h[j, s] = exp(delta[j] A[j, s]) h_prev[j, s] + delta[j] B[s] xt[j]
        yt[j] = sum over s of h[j, s] C[s] + D[j] xt[j]

    The state is (h,), h (n_x, n_s, m). Raises ValueError.
    """
    shapes = _SELECTIVE | {"xt": "n_x m", "h_prev": "n_x n_s m"}
    p = _named(shapes, parameters, xt=xt, h_prev=state_prev[0])
    xt, low = p["xt"], p["Wl"] @ p["xt"]
    argument = p["Wd"] @ low + p["bd"]
    delta, B, C = softplus(argument), p["WB"] @ xt, p["WC"] @ xt
    decay = np.exp(-delta[:, None] * np.exp(p["A_log"])[:, :, None])
    h = decay * p["h_prev"] + (delta * xt)[:, None] * B[None]
    yt = np.sum(h * C[None], axis=1) + p["D"] * xt
    values = {"low": low, "argument": argument, "delta": delta, "B": B, "C": C, "decay": decay, "h": h}
    return (h,), yt, p | values


def selective_cell_backward(dyt: Array, dstate_next: State, cache: Cache) -> Gradients:
    """Backpropagate through one time step of a selective state space."""
    k = cache
    xt, delta, A = k["xt"], k["delta"], -np.exp(k["A_log"])
    dh = dstate_next[0] + dyt[:, None] * k["C"][None]
    dC, dB = np.sum(dyt[:, None] * k["h"], axis=0), np.sum(dh * (delta * xt)[:, None], axis=0)
    dlog = dh * k["h_prev"] * k["decay"]  # with respect to delta A
    dentering = np.sum(dh * k["B"][None], axis=1)  # with respect to delta xt
    ddelta = (np.sum(dlog * A[:, :, None], axis=1) + dentering * xt) * sigmoid(k["argument"])
    dlow = k["Wd"].T @ ddelta
    return {
        "dxt": dentering * delta + k["D"] * dyt + k["Wl"].T @ dlow + k["WB"].T @ dB + k["WC"].T @ dC,
        "dstate_prev": (dh * k["decay"],),
        **{"dWl": dlow @ xt.T, "dWB": dB @ xt.T, "dWC": dC @ xt.T, "dWd": ddelta @ k["low"].T},
        **{
            "dbd": _column(ddelta),
            "dA_log": np.sum(dlog * delta[:, None], axis=2) * A,
            "dD": _column(dyt * xt),
        },
    }


def gated_delta_cell_forward(xt: Array, state_prev: State, parameters: Parameters) -> Step:
    """Compute one time step of one head of a gated delta rule (Yang et al. 2024, arXiv:2412.06464).

        q, k  = unit vectors along Wq xt and Wk xt      v = Wv xt
        alpha = exp(-exp(A_log) softplus(Wa xt + dt))   beta = sigmoid(Wb xt)
        S  = alpha S_prev + k (beta (v - alpha S_prev^T k))^T
        yt = S^T q

    The state is (S,), S (n_k, n_v, m). Unit vectors are x / sqrt(|x|^2 + 1e-6). Raises ValueError.
    """
    shapes = _GATED_DELTA | {"xt": "n_x m", "S_prev": "n_k n_v m"}
    p = _named(shapes, parameters, xt=xt, S_prev=state_prev[0])
    xt, S_prev = p["xt"], p["S_prev"]
    lengths = [np.sqrt(np.sum((W @ xt) ** 2, axis=0) + 1e-6) for W in (p["Wq"], p["Wk"])]
    q, k, v = p["Wq"] @ xt / lengths[0], p["Wk"] @ xt / lengths[1], p["Wv"] @ xt
    log_alpha, beta = -np.exp(p["A_log"]) * softplus(p["Wa"] @ xt + p["dt"]), sigmoid(p["Wb"] @ xt)
    recalled = np.sum(S_prev * k[:, None], axis=0)
    error = v - np.exp(log_alpha) * recalled
    S = np.exp(log_alpha) * S_prev + k[:, None] * (beta * error)[None]
    yt = np.sum(S * q[:, None], axis=0)
    values = {"q": q, "k": k, "lengths": lengths, "log_alpha": log_alpha, "beta": beta, "S": S}
    return (S,), yt, p | values | {"recalled": recalled, "error": error}


def gated_delta_cell_backward(dyt: Array, dstate_next: State, cache: Cache) -> Gradients:
    """Backpropagate through one time step of one head of a gated delta rule."""
    p = cache
    xt, q, k, S_prev, alpha, beta = p["xt"], p["q"], p["k"], p["S_prev"], np.exp(p["log_alpha"]), p["beta"]
    dS = dstate_next[0] + q[:, None] * dyt[None]
    dq, dwritten = np.sum(p["S"] * dyt[None], axis=1), np.sum(dS * k[:, None], axis=0)
    derror, dbeta = beta * dwritten, np.sum(dwritten * p["error"], axis=0, keepdims=True)
    dk = np.sum(dS * (beta * p["error"])[None], axis=1) - alpha * np.sum(S_prev * derror[None], axis=1)
    dalpha = np.sum(dS * S_prev, axis=(0, 1)) - np.sum(derror * p["recalled"], axis=0)
    dlog = (alpha * dalpha).reshape(1, -1)
    da = -np.exp(p["A_log"]) * dlog * sigmoid(p["Wa"] @ xt + p["dt"])
    db = dbeta * sigmoid_deriv(beta)
    # a unit vector u changes only across its direction
    vectors = zip((dq, dk), (q, k), p["lengths"], strict=True)
    dq, dk = ((d - u * np.sum(d * u, axis=0)) / s for d, u, s in vectors)
    sums = {"Wq": dq, "Wk": dk, "Wv": derror, "Wa": da, "Wb": db}
    return {
        "dxt": sum(p[name].T @ d for name, d in sums.items()),
        "dstate_prev": (alpha * (dS - k[:, None] * derror[None]),),
        **{f"d{name}": d @ xt.T for name, d in sums.items()},
        **{"dA_log": _column(dlog * p["log_alpha"]), "ddt": _column(da)},
    }
