"""Recurrent layers beyond torch.nn: each with its equation, weights and arguments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike

from ..core.arrays import Array, Shape
from ..core.checks import Rng, flag, integer, positive
from ..errors import ArgumentError
from .recurrence import Recurrence


class MinGRU(Recurrence):
    """A minimal gated recurrent unit, whose gate does not depend on the state: `y, h = layer(x, h0)`.

        z = sigmoid(W_z x_t + b_z)                      update gate
        n = W_n x_t + b_n                               candidate
        n = g(W_n x_t + b_n)                            candidate with positive=True
        y_t = h_t = (1 - z) h_{t-1} + z n

    g(a) = a + 1/2 for a of at least 0, and sigmoid(a) elsewhere, which is positive, as the computation in
    logarithms requires.

    Weights: weight_ih W (2H, I) and bias_ih b (2H,), rows in the order z n.

    Args:
        input_size: I, the features of x.
        hidden_size: H, the units.
        positive: whether candidates pass g.
        bias: False leaves out b.
        batch_first: x and y are (B, T, features) instead of (T, B, features). States are not affected.
        dtype: float32 or float64, of weights and results.
        rng: a NumPy Generator or a seed for the initial weights, drawn from U(-1/sqrt(H), 1/sqrt(H)).

    Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> y, h = MinGRU(12, 64)(np.zeros((20, 4, 12)))
    >>> y.shape, h.shape
    ((20, 4, 64), (1, 4, 64))

    Source: Feng et al., Were RNNs all we needed?, 2024, arXiv:2410.01201, section 3.1 and appendix B.
    """

    equation = "min_gru"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        positive: bool = False,
        bias: bool = True,
        batch_first: bool = False,
        *,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.input_size = I = integer("input_size", input_size, 1)  # noqa: E741
        self.hidden_size = self.output_size = H = integer("hidden_size", hidden_size, 1)
        self.positive, self.bias = flag("positive", positive), flag("bias", bias)
        shapes = {"weight_ih": (2 * H, I), "bias_ih": (2 * H,) if self.bias else None}
        self._configure(((H,),), batch_first, dtype, rng, H**-0.5, shapes, {})


class LRU(Recurrence):
    """A linear recurrent unit, a diagonal recurrence of complex numbers: `y, (h, c) = layer(x, (h0, c0))`.

        lambda = exp(-exp(nu) + i exp(theta))
        s_t = lambda s_{t-1} + exp(gamma) (B x_t)
        y_t = Re(C s_t) + D x_t

    The state is the real part h and the imaginary part c of s; y has I features.

    Weights: nu_log, theta_log and gamma_log (H,), weight_ih (2H, I) with the rows Re B, Im B, weight_ho
    (I, 2H) with the columns Re C, Im C, and D (I,).

    The arguments that `MinGRU` takes as well have the same meaning. The initial |lambda|^2 is uniform in
    [0.81, 0.998], its phase in [0, pi / 10], and exp(gamma) = sqrt(1 - |lambda|^2).

    Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> y, (h, c) = LRU(12, 64)(np.zeros((20, 4, 12)))
    >>> y.shape, h.shape, c.shape
    ((20, 4, 12), (1, 4, 64), (1, 4, 64))

    Source: Orvieto et al., Resurrecting recurrent neural networks for long sequences, 2023, arXiv:2303.06349,
    equations 1 and 5 and appendix A.
    """

    equation = "lru"
    state_names = ("h", "c")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        batch_first: bool = False,
        *,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.input_size = self.output_size = I = integer("input_size", input_size, 1)  # noqa: E741
        self.hidden_size = H = integer("hidden_size", hidden_size, 1)
        shapes = {
            **dict.fromkeys(("nu_log", "theta_log", "gamma_log"), (H,)),
            "weight_ih": (2 * H, I),
            "weight_ho": (I, 2 * H),
            "D": (I,),
        }
        starts = {
            "nu_log": lambda u: np.log(-0.5 * np.log(0.81 + u * (0.998 - 0.81))),
            "theta_log": lambda u: np.log(np.pi / 10 * (1 - u)),
        }
        self._configure(((H,), (H,)), batch_first, dtype, rng, H**-0.5, shapes, starts)
        if self._weights:
            decay = np.exp(-2 * np.exp(self._weights["nu_log"]))
            self.take_weights({"gamma_log": (0.5 * np.log(1 - decay)).astype(self.dtype)})


class RGLRU(Recurrence):
    """A real-gated linear recurrent unit, the recurrence of Griffin: `y, h = layer(x, h0)`.

        r = sigmoid(W_r x_t + b_r)                      recurrence gate
        i = sigmoid(W_i x_t + b_i)                      input gate
        a = sigmoid(Lambda)^(exponent r)
        y_t = h_t = a h_{t-1} + sqrt(1 - a^2) (i x_t)

    x, h and y have H features. The first step follows the same equation as all others.

    Weights: weight_ih W (2H, H) and bias_ih b (2H,), rows in the order r i, and Lambda (H,).

    The arguments that `MinGRU` takes as well have the same meaning. The initial sigmoid(Lambda)^8 is uniform
    in [0.9, 0.999].

    Args:
        hidden_size: H, the features of x, h and y.
        exponent: how strongly r reduces a.

    Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> y, h = RGLRU(64)(np.zeros((20, 4, 64)))
    >>> y.shape, h.shape
    ((20, 4, 64), (1, 4, 64))

    Source: De et al., Griffin, 2024, arXiv:2402.19427, equations 1 to 4.
    """

    equation = "rg_lru"

    def __init__(
        self,
        hidden_size: int,
        bias: bool = True,
        batch_first: bool = False,
        *,
        exponent: float = 8.0,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.hidden_size = H = integer("hidden_size", hidden_size, 1)
        self.input_size = self.output_size = H
        self.bias, self.exponent = flag("bias", bias), positive("exponent", exponent)
        shapes = {"weight_ih": (2 * H, H), "bias_ih": (2 * H,) if self.bias else None, "Lambda": (H,)}

        def start(u: Array) -> Array:
            a: Array = (0.9 + 0.099 * u) ** (1 / 8)
            return np.log(a) - np.log1p(-a)

        self._configure(((H,),), batch_first, dtype, rng, H**-0.5, shapes, {"Lambda": start})


class LayerNormLSTM(Recurrence):
    """An LSTM whose sums and cell are normalized over the units: `y, (h, c) = layer(x, (h0, c0))`.

        [i, f, g, o] = LN_hh(R h_{t-1}) + LN_ih(W x_t) + b        over all 4H sums
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
        y_t = h_t = sigmoid(o) tanh(LN_c(c_t))
        c_t = LN_c(sigmoid(f) c_{t-1} + sigmoid(i) tanh(g))       with normalized_state=True

    LN(x) = weight (x - mean x) / sqrt(var x + eps) + bias. With normalized_state=True, the next step reads
    the normalized cell, as in the LayerNormLSTMCell of PyTorch's benchmarks, and y_t = sigmoid(o) tanh(c_t).

    Weights: weight_ih W (4H, I), weight_hh R (4H, H) and bias_ih b (4H,), rows in the order i f g o;
    norm_ih.weight, norm_ih.bias, norm_hh.weight and norm_hh.bias (4H,), norm_c.weight and norm_c.bias (H,).

    The arguments that `MinGRU` takes as well have the same meaning.

    Args:
        normalized_state: whether the normalized cell is the state.
        eps: added to the variances.

    Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> y, (h, c) = LayerNormLSTM(12, 64)(np.zeros((20, 4, 12)))
    >>> y.shape, h.shape, c.shape
    ((20, 4, 64), (1, 4, 64), (1, 4, 64))

    Source: Ba, Kiros and Hinton, Layer normalization, 2016, arXiv:1607.06450, equations 20 to 22.
    """

    equation = "layer_norm_lstm"
    state_names = ("h", "c")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        batch_first: bool = False,
        *,
        normalized_state: bool = False,
        eps: float = 1e-5,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.input_size = I = integer("input_size", input_size, 1)  # noqa: E741
        self.hidden_size = self.output_size = H = integer("hidden_size", hidden_size, 1)
        self.bias, self.normalized_state = flag("bias", bias), flag("normalized_state", normalized_state)
        self.eps = positive("eps", eps)
        norms = {"ih": 4 * H, "hh": 4 * H, "c": H}
        shapes = {
            "weight_ih": (4 * H, I),
            "weight_hh": (4 * H, H),
            "bias_ih": (4 * H,) if self.bias else None,
            **{f"norm_{name}.{part}": (size,) for name, size in norms.items() for part in ("weight", "bias")},
        }
        starts = {f"norm_{name}.weight": np.ones_like for name in norms}
        starts |= {f"norm_{name}.bias": np.zeros_like for name in norms}
        self._configure(((H,), (H,)), batch_first, dtype, rng, H**-0.5, shapes, starts)


class sLSTM(Recurrence):
    """The scalar LSTM of xLSTM, with exponential gates: `y, (h, c) = layer(x, (h0, c0))`.

        i~, f~, z~, o~ = W x_t + R h_{t-1} + b
        log f = log sigmoid(f~), or f~ with forget_gate="exponential"
        m_t = max(log f + m_{t-1}, i~)                  stabilizer; i~ while n is 0
        i = exp(i~ - m_t),  f = exp(log f + m_{t-1} - m_t)
        c_t = f c_{t-1} + i tanh(z~)                    cell
        n_t = f n_{t-1} + i                             normalizer
        y_t = h_t = sigmoid(o~) c_t / n_t

    The array c of the state holds c, n and m, one after the other: (1, B, 3H).

    Weights: weight_ih W (4H, I), weight_hh R (4H, H) and bias_ih b (4H,), rows in the order i f z o. R of
    several heads is block-diagonal.

    The arguments that `MinGRU` takes as well have the same meaning.

    Args:
        forget_gate: "sigmoid" or "exponential".

    Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> y, (h, c) = sLSTM(12, 64)(np.zeros((20, 4, 12)))
    >>> y.shape, h.shape, c.shape
    ((20, 4, 64), (1, 4, 64), (1, 4, 192))

    Source: Beck et al., xLSTM, 2024, arXiv:2405.04517, equations 8 to 17.
    """

    equation = "s_lstm"
    state_names = ("h", "c")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        batch_first: bool = False,
        *,
        forget_gate: str = "sigmoid",
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.input_size = I = integer("input_size", input_size, 1)  # noqa: E741
        self.hidden_size = self.output_size = H = integer("hidden_size", hidden_size, 1)
        self.bias = flag("bias", bias)
        if not isinstance(forget_gate, str) or forget_gate not in ("sigmoid", "exponential"):
            raise ArgumentError(f"forget_gate={forget_gate!r}, but must be 'sigmoid' or 'exponential'")
        self.forget_gate = forget_gate
        shapes = {
            "weight_ih": (4 * H, I),
            "weight_hh": (4 * H, H),
            "bias_ih": (4 * H,) if self.bias else None,
        }
        self._configure(((H,), (3 * H,)), batch_first, dtype, rng, H**-0.5, shapes, {})


class SelectiveScan(Recurrence):
    """The selective state space model of Mamba: `y, h = layer(x, h0)`.

        [l, B, C] = W_x x_t                             R, N and N features
        delta = softplus(W_d l + b_d)                   a step size for each of I features
        h_t = exp(delta A) h_{t-1} + (delta x_t) B      I x N, with A = -exp(A_log)
        y_t = h_t C + D x_t

    The input enters as delta B x_t, the first-order form of equation 4 that Mamba computes.

    Weights, named as in mamba_ssm: x_proj.weight W_x (R + 2N, I), dt_proj.weight W_d (I, R), dt_proj.bias b_d
    (I,), A_log (I, N) and D (I,). The state is (1, B, I, N).

    The arguments that `MinGRU` takes as well have the same meaning. Initially, A_log = log(1, ..., N), D = 1,
    and softplus(b_d) is log-uniform in [0.001, 0.1].

    Args:
        input_size: I, the features of x and y.
        state_size: N, the numbers that a feature remembers.
        rank: R, by default I / 16, rounded up.

    Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> y, h = SelectiveScan(32, 16)(np.zeros((20, 4, 32)))
    >>> y.shape, h.shape
    ((20, 4, 32), (1, 4, 32, 16))

    Source: Gu and Dao, Mamba, 2023, arXiv:2312.00752, equations 2 and 4 and algorithm 2.
    """

    equation = "selective_scan"

    STATE_AXES = "1", "batch", "features", "state_size"

    def is_matrix(self, name: str, shape: Shape) -> bool:
        return name in ("x_proj.weight", "dt_proj.weight")

    def __init__(
        self,
        input_size: int,
        state_size: int = 16,
        rank: int | None = None,
        batch_first: bool = False,
        *,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.input_size = self.output_size = I = integer("input_size", input_size, 1)  # noqa: E741
        self.state_size = N = integer("state_size", state_size, 1)
        self.rank = R = -(-I // 16) if rank is None else integer("rank", rank, 1)
        shapes = {
            "x_proj.weight": (R + 2 * N, I),
            "dt_proj.weight": (I, R),
            "dt_proj.bias": (I,),
            "A_log": (I, N),
            "D": (I,),
        }
        starts: dict[str, Callable[[Array], Array]] = {
            "A_log": lambda u: np.broadcast_to(np.log(np.arange(1, N + 1)), u.shape),
            "D": np.ones_like,
            "dt_proj.bias": _softplus_inverse_of_steps,
        }
        self._configure(((I, N),), batch_first, dtype, rng, I**-0.5, shapes, starts)


class GatedDeltaRule(Recurrence):
    """A gated delta rule, which writes values under keys into a matrix: `y, S = layer(x, S0)`.

        [q, k, v, a, b] = W x_t                         for each head: K, K, V, 1 and 1 features
        q, k = q / sqrt(|q|^2 + eps), k / sqrt(|k|^2 + eps)
        alpha = exp(-exp(A_log) softplus(a + dt_bias))  what is kept
        beta = sigmoid(b)                               how strongly the value is written
        S_t = alpha S_{t-1} + k (beta (v - (alpha S_{t-1})^T k))^T
        y_t = S_t^T q

    The paper writes S transposed: S_t = S_{t-1} alpha (1 - beta k k^T) + beta v k^T.

    Weights: weight_ih W (heads (2K + V + 2), I), the rows of q, k, v, a and b of all heads one after the
    other; A_log and dt_bias (heads,). The state is (1, B, heads, K, V), and y has heads V features.

    The arguments that `MinGRU` takes as well have the same meaning.

    Args:
        num_heads: the number of heads.
        head_size: K, the size of keys and queries.
        value_size: V, the size of values; K by default.
        eps: added to the squared norms of keys and queries.

    Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> y, S = GatedDeltaRule(32, 2, 8)(np.zeros((20, 4, 32)))
    >>> y.shape, S.shape
    ((20, 4, 16), (1, 4, 2, 8, 8))

    Source: Yang, Kautz and Hatamizadeh, Gated delta networks, 2024, arXiv:2412.06464, equation 10.
    """

    equation = "gated_delta_rule"

    STATE_AXES = "1", "batch", "heads", "head_size", "value_size"

    def __init__(
        self,
        input_size: int,
        num_heads: int,
        head_size: int,
        value_size: int | None = None,
        batch_first: bool = False,
        *,
        eps: float = 1e-6,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.input_size = I = integer("input_size", input_size, 1)  # noqa: E741
        self.num_heads = heads = integer("num_heads", num_heads, 1)
        self.head_size = K = integer("head_size", head_size, 1)
        self.value_size = V = K if value_size is None else integer("value_size", value_size, 1)
        self.output_size, self.eps = heads * V, positive("eps", eps)
        shapes = {"weight_ih": (heads * (2 * K + V + 2), I), "A_log": (heads,), "dt_bias": (heads,)}
        starts = {"A_log": lambda u: np.log(1 + 15 * u), "dt_bias": _softplus_inverse_of_steps}
        self._configure(((heads, K, V),), batch_first, dtype, rng, I**-0.5, shapes, starts)


def _softplus_inverse_of_steps(u: Array) -> Array:
    """The arguments of softplus for step sizes that are log-uniform in [0.001, 0.1]."""
    steps: Array = 0.001 * 100**u
    return np.log(np.expm1(steps))
