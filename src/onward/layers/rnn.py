"""The recurrent layers of torch.nn: RNN, LSTM and GRU, each with its equation, gates and arguments."""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from ..core.activations import Spec, Specs
from ..core.arrays import Array
from ..core.cell import KINDS, Cell
from ..core.checks import Rng
from .base import NO_WEIGHTS
from .recurrent import Recurrent


class RNN(Recurrent[Array]):
    """A vanilla recurrent layer, as torch.nn.RNN: `y, h = rnn(x, h0)`.

        h_t = f(W x_t + b_W + R h_{t-1} + b_R)
        y_t = h_t

    Weights of layer k: weight_ih_lk W (H, I) and weight_hh_lk R (H, H), bias_ih_lk and bias_hh_lk (H,), with
    the suffix _reverse for the second direction; above the first layer, I is H times the directions.

    Args:
        input_size: I, the features of x.
        hidden_size: H, the units of a layer and direction.
        num_layers: layers above each other; each reads the outputs of the one below.
        nonlinearity: f: tanh, relu or another `onward.Activation`, as a name or (name, parameters), or a
            pair of these, one for each direction.
        bias: False leaves out both biases.
        batch_first: x and y are (B, T, features) instead of (T, B, features). States are not affected.
        dropout: the probability of dropping an output between layers, in training only.
        bidirectional: a second direction reads from the last step to the first; y has the features of both.
        clip: clip the argument of f to [-clip, clip].
        dtype: float32 or float64, of weights and results.
        rng: a NumPy Generator or a seed for the initial weights, drawn from U(-1/sqrt(H), 1/sqrt(H)).

    Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> y, h = RNN(12, 64, bidirectional=True)(np.zeros((20, 4, 12)))
    >>> y.shape, h.shape
    ((20, 4, 128), (2, 4, 64))

    Source: Elman, Finding structure in time, 1990.
    """

    gates = KINDS["RNN"].gates
    nonlinearity: Spec | tuple[Spec, Spec]

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
        sizes = input_size, hidden_size, num_layers, bias, bidirectional, dtype
        cell = Cell("RNN", *sizes, nonlinearity=nonlinearity, clip=clip)
        self._configure(cell, batch_first, dropout, rng)


class LSTM(Recurrent[tuple[Array, Array]]):
    """A long short-term memory, as torch.nn.LSTM: `y, (h, c) = lstm(x, (h0, c0))`.

        i = sigmoid(W_i x_t + R_i h_{t-1} + b_i)        input gate
        f = sigmoid(W_f x_t + R_f h_{t-1} + b_f)        forget gate
        g = tanh(W_g x_t + R_g h_{t-1} + b_g)           candidate
        o = sigmoid(W_o x_t + R_o h_{t-1} + b_o)        output gate
        c_t = f c_{t-1} + i g
        y_t = h_t = o tanh(c_t)                         or V (o tanh(c_t)) with proj_size=P

    Weights of layer k: weight_ih_lk W (4H, I) and weight_hh_lk R (4H, P), rows in the order i f g o (P is H
    without a projection), bias_ih_lk and bias_hh_lk (4H,), whose sum is b, weight_hr_lk V (P, H) and
    weight_peephole_lk (3H,) in the order i f o. The suffix _reverse marks the second direction; above the
    first layer, I is P times the directions.

    The arguments that `RNN` takes as well have the same meaning.

    Args:
        proj_size: P, the size of y and h, smaller than H; 0 for no projection.
        peephole: add p_i c_{t-1}, p_f c_{t-1} and p_o c_t to the arguments of i, f and o, elementwise.
        coupled: f = 1 - i.
        activations: replace sigmoid, tanh and the tanh of c_t: names or (name, parameters) of
            `onward.Activation`, or a pair of such triples, one for each direction.
        clip: clip the arguments of the first two to [-clip, clip], as onnxruntime does.
        cell_clip: clip c_t to [-cell_clip, cell_clip], as TensorFlow Lite does.

    Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> y, (h, c) = LSTM(12, 64, num_layers=2)(np.zeros((20, 4, 12)))
    >>> y.shape, h.shape, c.shape
    ((20, 4, 64), (2, 4, 64), (2, 4, 64))

    Source: Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000; projection: Sak et al. 2014;
    peepholes: Gers and Schmidhuber 2000; coupled gates: input_forget in ONNX.
    """

    gates, state_names = KINDS["LSTM"][:2]
    peephole: bool
    coupled: bool
    activations: Specs | tuple[Specs, Specs]
    cell_clip: float | None

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
        cell_clip: float | None = None,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        sizes = input_size, hidden_size, num_layers, bias, bidirectional, dtype
        cell = Cell(
            "LSTM",
            *sizes,
            proj_size=proj_size,
            peephole=peephole,
            coupled=coupled,
            activations=activations,
            clip=clip,
            cell_clip=cell_clip,
        )
        self._configure(cell, batch_first, dropout, rng)


class GRU(Recurrent[Array]):
    """A gated recurrent unit, as torch.nn.GRU: `y, h = gru(x, h0)`.

        r = sigmoid(W_r x_t + b_Wr + R_r h_{t-1} + b_Rr)            reset gate
        z = sigmoid(W_z x_t + b_Wz + R_z h_{t-1} + b_Rz)            update gate
        n = tanh(W_n x_t + b_Wn + r (R_n h_{t-1} + b_Rn))           candidate
        n = tanh(W_n x_t + b_Wn + R_n (r h_{t-1}) + b_Rn)           candidate with reset_after=False
        y_t = h_t = (1 - z) n + z h_{t-1}

    Weights of layer k: weight_ih_lk W (3H, I) and weight_hh_lk R (3H, H), rows in the order r z n,
    bias_ih_lk b_W and bias_hh_lk b_R (3H,), with the suffix _reverse for the second direction; above the
    first layer, I is H times the directions.

    The arguments that `RNN` takes as well have the same meaning.

    Args:
        reset_after: whether the reset gate acts after the product with R, as in PyTorch and cuDNN, or
            before it, as published.
        activations: replace sigmoid and tanh, as for an LSTM.
        clip: clip their arguments to [-clip, clip].

    Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> y, h = GRU(12, 64, batch_first=True)(np.zeros((4, 20, 12)), lengths=[20, 7, 1, 0])
    >>> y.shape, h.shape
    ((4, 20, 64), (1, 4, 64))

    Source: Cho et al. 2014; reset after the product: the first preprint, and cuDNN.
    """

    gates = KINDS["GRU"].gates
    reset_after: bool
    activations: Specs | tuple[Specs, Specs]

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
        sizes = input_size, hidden_size, num_layers, bias, bidirectional, dtype
        cell = Cell("GRU", *sizes, reset_after=reset_after, activations=activations, clip=clip)
        self._configure(cell, batch_first, dropout, rng)


LAYERS: dict[str, type[Recurrent[Any]]] = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}


def of_cell(cell: Cell, batch_first: bool) -> Recurrent[Any]:
    """Return a layer with the weights of a cell."""
    layer = LAYERS[cell.kind](**cell.config(), batch_first=batch_first, rng=NO_WEIGHTS)  # type: ignore[call-arg]
    layer.take_cell(cell)
    return layer
