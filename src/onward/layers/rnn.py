"""The recurrent layers of torch.nn: RNN, LSTM and GRU, each with its equation, gates and arguments."""

from typing import Any

from numpy.typing import ArrayLike, DTypeLike

from ..core.activations import Spec, Specs, by_direction, choose, choose_one, is_spec
from ..core.arrays import Array
from ..core.checks import Rng, checked, flag, integer
from ..errors import ArgumentError
from .recurrent import Recurrent


class RNN(Recurrent[Array]):
    """The vanilla recurrent layer of torch.nn.RNN.

    h_t = f(W x_t + b_W + R h_{t-1} + b_R), f = tanh, relu, or any other of `onward.Activation`; y_t = h_t

    nonlinearity: f as a name or (name, parameters), or such for each direction. clip: what f is applied to
    is first clipped to [-clip, clip].

    Weights: weight_ih (H, I), weight_hh (H, H), biases (H,), drawn from U(-1/sqrt(H), 1/sqrt(H)) with `rng`,
    a NumPy Generator or a seed. Raises ArgumentError, DtypeError, and SignatureError for unknown arguments.
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
    """The long short-term memory of torch.nn.LSTM; its state is the pair (h, c).

    i, f, o = sigmoid(W x_t + b_W + R h_{t-1} + b_R), g = tanh(the same), each with its quarter of the rows
    c_t = f c_{t-1} + i g;  h_t = o tanh(c_t), or V (o tanh(c_t)) with proj_size=P;  y_t = h_t

    peephole: i and f also see p c_{t-1}, o sees p c_t, element by element. coupled: f = 1 - i. activations:
    in the places of sigmoid, tanh and tanh(c_t), as names or (name, parameters) of `onward.Activation`, or
    such a tuple for each direction. clip: what the first two are applied to is first clipped to
    [-clip, clip], as onnxruntime does.

    Weights: weight_ih (4H, I), weight_hh (4H, P), biases (4H,), rows in the order i f g o; V, weight_hr
    (P, H); p, weight_peephole (3H,) in the order i f o. All are drawn from U(-1/sqrt(H), 1/sqrt(H)) with
    `rng`, a NumPy Generator or a seed. Raises ArgumentError, DtypeError, and SignatureError for unknown
    arguments.
    Source: Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000; projection: Sak et al. 2014;
    peepholes: Gers and Schmidhuber 2000; the coupled gates are those of ONNX, its input_forget.
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
    """The gated recurrent unit of torch.nn.GRU; with `reset_after=False`, that of Cho et al. as published.

    r, z = sigmoid(W x_t + b_W + R h_{t-1} + b_R), each with its third of the rows, as n below
    n = tanh(W x_t + b_W + r (R h_{t-1} + b_R)), or, with reset_after=False,
        tanh(W x_t + b_W + R (r h_{t-1}) + b_R)
    h_t = (1 - z) n + z h_{t-1};  y_t = h_t

    activations: in the places of sigmoid and tanh, as for an LSTM. clip: what they are applied to is first
    clipped to [-clip, clip].

    Weights: weight_ih (3H, I), weight_hh (3H, H), biases (3H,), rows in the order r z n, drawn from
    U(-1/sqrt(H), 1/sqrt(H)) with `rng`, a NumPy Generator or a seed. Raises ArgumentError, DtypeError, and
    SignatureError for unknown arguments.
    Source: Cho et al. 2014; reset after the product: its first preprint, and cuDNN.
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
