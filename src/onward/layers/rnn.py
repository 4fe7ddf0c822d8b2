"""The recurrent layers of torch.nn: RNN, LSTM and GRU, each with its equation, gates and arguments."""

from typing import Any

from numpy.typing import ArrayLike, DTypeLike

from ..core.activations import Spec, Specs, by_direction, choose, choose_one, is_spec
from ..core.arrays import Array
from ..core.checks import Rng, checked, flag, integer
from ..errors import ArgumentError
from .recurrent import Recurrent


class RNN(Recurrent[Array]):
    """A vanilla recurrent layer, as torch.nn.RNN.

    h_t = f(W x_t + b_W + R h_{t-1} + b_R), y_t = h_t, where f is tanh, relu or another `onward.Activation`

    nonlinearity: f as a name or (name, parameters), or a pair of these, one for each direction. clip: the
    argument of f is clipped to [-clip, clip].

    Weights: weight_ih (H, I), weight_hh (H, H) and biases (H,), drawn from U(-1/sqrt(H), 1/sqrt(H)) with
    `rng`, a NumPy Generator or a seed. Raises ArgumentError, DtypeError, and SignatureError for unknown
    arguments.
    Source: Elman, Finding structure in time, 1990.
    """

    gates = "h"
    PLAIN = ("tanh",), ("relu",)

    @checked
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Spec | tuple[Spec, Spec] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        clip: float | None = None,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.nonlinearity = choose_one("nonlinearity", nonlinearity, bidirectional)
        self._configure(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, clip, dtype, rng
        )

    def functions(self) -> tuple[Specs, Specs]:
        f: Any = self.nonlinearity
        forward, reverse = (f, f) if is_spec(f) else f
        return (forward,), (reverse,)

    def _cell(self) -> str:
        return "rnn_relu" if self.is_plain() and self.nonlinearity == "relu" else "rnn"


class LSTM(Recurrent[tuple[Array, Array]]):
    """A long short-term memory, as torch.nn.LSTM; its state is the pair (h, c).

    a = W x_t + b_W + R h_{t-1} + b_R, split into four equal blocks of rows, one per gate
    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o);  g = tanh(a_g)
    c_t = f c_{t-1} + i g;  h_t = o tanh(c_t), or V (o tanh(c_t)) with proj_size=P;  y_t = h_t

    peephole: adds p_i c_{t-1}, p_f c_{t-1} and p_o c_t to a_i, a_f and a_o, elementwise. coupled: f = 1 - i.
    activations: replace sigmoid, tanh and the tanh of c_t; names or (name, parameters) of
    `onward.Activation`, or a pair of such triples, one for each direction. clip: the arguments of the first
    two are clipped to [-clip, clip], as in onnxruntime.

    Weights: weight_ih (4H, I), weight_hh (4H, P) and biases (4H,), rows in the order i f g o; V is weight_hr
    (P, H), and p is weight_peephole (3H,) in the order i f o. All are drawn from U(-1/sqrt(H), 1/sqrt(H))
    with `rng`, a NumPy Generator or a seed. Raises ArgumentError, DtypeError, and SignatureError for unknown
    arguments.
    Source: Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000; projection: Sak et al. 2014;
    peepholes: Gers and Schmidhuber 2000; coupled gates: input_forget in ONNX.

    >>> import numpy as np
    >>> y, (h, c) = LSTM(12, 64, num_layers=2)(np.zeros((20, 4, 12)))
    >>> y.shape, h.shape, c.shape
    ((20, 4, 64), (2, 4, 64), (2, 4, 64))
    """

    gates = "ifgo"
    state_names = ("h", "c")
    PLAIN = (("sigmoid", "tanh", "tanh"),)

    @checked
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        peephole: bool = False,
        coupled: bool = False,
        activations: Specs | tuple[Specs, Specs] = ("sigmoid", "tanh", "tanh"),
        clip: float | None = None,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.proj_size = integer("proj_size", proj_size, 0, integer("hidden_size", hidden_size, 1) - 1)
        self.peephole = flag("peephole", peephole)
        self.coupled = flag("coupled", coupled)
        self.activations = choose("activations", activations, ["gate", "cell", "output"], bidirectional)
        self._configure(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, clip, dtype, rng
        )

    def functions(self) -> tuple[Specs, Specs]:
        return by_direction(self.activations)

    def _cell(self) -> str:
        return "lstm"

    def split_state(self, state: tuple[Array, Array] | None) -> tuple[ArrayLike | None, ArrayLike | None]:
        if state is None:
            return None, None
        if not isinstance(state, tuple | list) or len(state) != 2:
            kind = type(state).__name__
            given = f"{len(state)} arrays" if isinstance(state, tuple | list) else f"of type {kind}"
            raise ArgumentError(f"state is {given}, but the state of this LSTM is a pair (h, c)")
        return state[0], state[1]

    def join_state(self, h: Array, c: Array | None) -> tuple[Array, Array]:
        assert c is not None
        return h, c


class GRU(Recurrent[Array]):
    """A gated recurrent unit, as torch.nn.GRU, or as published by Cho et al. with `reset_after=False`.

    r, z = sigmoid(W x_t + b_W + R h_{t-1} + b_R)
    n = tanh(W x_t + b_W + r (R h_{t-1} + b_R)), or with reset_after=False
        tanh(W x_t + b_W + R (r h_{t-1}) + b_R)
    h_t = (1 - z) n + z h_{t-1};  y_t = h_t
    where r, z and n each use one third of the rows of W, R and the biases

    activations: replace sigmoid and tanh, as for an LSTM. clip: their arguments are clipped to
    [-clip, clip].

    Weights: weight_ih (3H, I), weight_hh (3H, H) and biases (3H,), rows in the order r z n, drawn from
    U(-1/sqrt(H), 1/sqrt(H)) with `rng`, a NumPy Generator or a seed. Raises ArgumentError, DtypeError, and
    SignatureError for unknown arguments.
    Source: Cho et al. 2014; reset after the product: the first preprint, and cuDNN.
    """

    gates = "rzn"
    PLAIN = (("sigmoid", "tanh"),)

    @checked
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        activations: Specs | tuple[Specs, Specs] = ("sigmoid", "tanh"),
        clip: float | None = None,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.reset_after = flag("reset_after", reset_after)
        self.activations = choose("activations", activations, ["gate", "candidate"], bidirectional)
        self._configure(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, clip, dtype, rng
        )

    def functions(self) -> tuple[Specs, Specs]:
        return by_direction(self.activations)

    def _cell(self) -> str:
        return "gru" if self.reset_after else "gru_reset_before"
