"""Convert between the parameters of `onward.textbook` and the weights of the recurrent layers.

A gate of the textbook has one matrix W = [Wa Wx] for the stack [a_prev; xt] and one bias b. A layer stacks
the gates along the rows of weight_hh (Wa) and weight_ih (Wx), and has two biases, whose sum is b.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from .. import textbook
from ..core import arrays
from ..core.arrays import Array
from ..errors import ArgumentError, ShapeError

# The textbook's letter for each gate, in the order of a layer's rows. An RNN has no gates but other names.
LETTERS = {"ifgo": "ifco", "rzn": "rzn"}
SHAPES = {"h": textbook._RNN, "ifgo": textbook._LSTM, "rzn": textbook._GRU}
OUTPUT = {"Wy", "Wya", "by"}  # the output layer, an `onward.Linear`


class TextbookParameters:
    """The methods of the recurrent layers that read and return the textbook's parameters."""

    @classmethod
    def from_textbook(cls, parameters: Mapping[str, ArrayLike]) -> Self:
        """A layer with the parameters of `onward.textbook`: Wf, bf, Wi, ... for an LSTM.

        The layer has one direction, and dtype float32 if all parameters have it, otherwise float64. A GRU
        resets after the product if `bnr` is among the parameters. Those of the output layer (Wy or Wya, and
        by) are ignored: load them into an `onward.Linear`. The textbook's arrays are (features, batch), those
        of the layer (batch, features): transpose the last two axes.

        Raises ArgumentError for a missing or an unknown name, ShapeError, DtypeError.

        >>> import numpy as np
        >>> from onward import LSTM, textbook
        >>> rng = np.random.default_rng(0)
        >>> parameters = {"W" + gate: rng.normal(size=(5, 8)) for gate in "fioc"} | {"Wy": np.zeros((2, 5))}
        >>> parameters |= {"b" + gate: rng.normal(size=(5, 1)) for gate in "fioc"} | {"by": np.zeros((2, 1))}
        >>> x, zeros = rng.normal(size=(7, 3, 4)), np.zeros((5, 4))  # T=7, n_x=3, m=4
        >>> a, c, _, _ = textbook.lstm_forward(x, zeros, zeros, parameters)
        >>> y, _ = LSTM.from_textbook(parameters)(x.swapaxes(1, 2))
        >>> bool(np.allclose(y.swapaxes(1, 2), a))
        True
        """
        kind: Any = cls
        if not isinstance(parameters, Mapping):
            given = type(parameters).__name__
            raise ArgumentError(
                f"parameters has type {given}; expected a dict of arrays, as in onward.textbook"
            )
        reset_after = kind.gates == "rzn" and "bnr" in parameters
        shapes = textbook._GRU_RESET_AFTER if reset_after else SHAPES[kind.gates]
        unknown = sorted(set(parameters) - set(shapes) - OUTPUT)
        if unknown:
            known = ", ".join(shapes)
            raise ArgumentError(
                f"parameters has unknown names {unknown}; {cls.__name__}.from_textbook takes {known}"
            )
        values = {name: arrays.as_array(parameters[name], name) for name in shapes if name in parameters}
        try:
            textbook._check(shapes, **values)
        except ValueError as error:
            raise (ShapeError if len(values) == len(shapes) else ArgumentError)(str(error)) from error
        if kind.gates == "h":
            W, b = np.concatenate([values["Waa"], values["Wax"]], axis=1), values["ba"][:, 0]
        else:
            W, b = (np.concatenate([values[letter + g] for g in LETTERS[kind.gates]]) for letter in "Wb")
            b = b[:, 0]
        H = len(W) // len(kind.gates)
        b_hh = np.zeros_like(b)
        if reset_after:
            b_hh[2 * H :] = values["bnr"][:, 0]
        options = {"reset_after": reset_after} if kind.gates == "rzn" else {}
        float32 = all(value.dtype == np.float32 for value in values.values())
        layer = kind(W.shape[1] - H, H, dtype="float32" if float32 else "float64", **options)
        weights = {"weight_ih": W[:, H:], "weight_hh": W[:, :H], "bias_ih": b, "bias_hh": b_hh}
        layer.load_state_dict({name + "_l0": array for name, array in weights.items()})
        return layer  # type: ignore[no-any-return]

    def to_textbook(self) -> dict[str, Array]:
        """The parameters of this layer for `onward.textbook`, the inverse of `from_textbook`.

        Returns new arrays of the layer's dtype: matrices (n_h, n_h + n_x) for the stack [a_prev; xt], or Wax
        and Waa for an RNN, and biases (n_h, 1), each the sum of the layer's two. The textbook's functions
        also need an output layer: `lstm.to_textbook() | {"Wy": head.weight, "by": head.bias[:, None]}`, and
        those of a GRU `reset_after=True` if `bnr` is among the parameters.

        Raises ArgumentError for several layers or directions, a projection, other activations, peepholes,
        coupled gates, clipping or quantized weights.

        >>> from onward import LSTM
        >>> sorted(LSTM(3, 5).to_textbook())
        ['Wc', 'Wf', 'Wi', 'Wo', 'bc', 'bf', 'bi', 'bo']
        """
        layer: Any = self
        reasons = {
            f"num_layers={layer.num_layers}": layer.num_layers > 1,
            "bidirectional=True": layer.bidirectional,
            f"proj_size={layer.proj_size}": layer.proj_size,
            f"{layer.precision} weights": layer.precision,
            "relu, other activations, peepholes, coupled gates or clipping": not layer.cell.is_plain()
            or layer.cell.equation == "rnn_relu",
        }
        for reason, applies in reasons.items():
            if applies:
                raise ArgumentError(
                    f"{layer!r} has {reason}, but the textbook describes one float layer in one direction, "
                    "with the equations of `onward.textbook`"
                )
        weights = layer.state_dict()
        W_x, W_a = weights["weight_ih_l0"], weights["weight_hh_l0"]
        zeros = np.zeros(len(W_x), layer.dtype)
        b, b_hh = (weights.get(name, zeros)[:, None] for name in ("bias_ih_l0", "bias_hh_l0"))
        if layer.gates == "h":
            return {"Wax": W_x, "Waa": W_a, "ba": b + b_hh}
        parameters: dict[str, Array] = {}
        if layer.cell.equation == "gru":
            parameters["bnr"] = b_hh[2 * layer.hidden_size :].copy()
            b_hh[2 * layer.hidden_size :] = 0
        count = len(layer.gates)
        W = np.split(np.concatenate([W_a, W_x], axis=1), count)
        for gate, matrix, bias in zip(LETTERS[layer.gates], W, np.split(b + b_hh, count), strict=True):
            parameters |= {"W" + gate: matrix.copy(), "b" + gate: bias.copy()}
        return parameters
