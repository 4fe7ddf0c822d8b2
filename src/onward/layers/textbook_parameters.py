"""Convert between the parameters of `onward.textbook` and the weights of the recurrent layers.

A gate of the textbook has one matrix W = [Wa Wx] for the stack [a_prev; xt] and one bias b. A layer stacks
the gates along the rows of weight_hh (Wa) and weight_ih (Wx), and has two biases, whose sum is b.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .. import textbook
from ..core import arrays
from ..core.arrays import Array
from ..errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from .recurrent import Recurrent

# The textbook's letter for each gate, in the order of a layer's rows. An RNN has no gates but other names.
LETTERS = {"ifgo": "ifco", "rzn": "rzn"}
SHAPES = {"h": textbook._RNN, "ifgo": textbook._LSTM, "rzn": textbook._GRU}
OUTPUT = {"Wy", "Wya", "by"}  # the output layer, an `onward.Linear`


def layer_from(cls: Any, parameters: Mapping[str, ArrayLike]) -> Recurrent[Any]:
    """A layer of class `cls` with the textbook's parameters. Raises ArgumentError, ShapeError, DtypeError."""
    if not isinstance(parameters, Mapping):
        kind = type(parameters).__name__
        raise ArgumentError(f"parameters has type {kind}; expected a dict of arrays, as in onward.textbook")
    reset_after = cls.gates == "rzn" and "bnr" in parameters
    shapes = textbook._GRU_RESET_AFTER if reset_after else SHAPES[cls.gates]
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
    if cls.gates == "h":
        W, b = np.concatenate([values["Waa"], values["Wax"]], axis=1), values["ba"][:, 0]
    else:
        W, b = (np.concatenate([values[kind + gate] for gate in LETTERS[cls.gates]]) for kind in "Wb")
        b = b[:, 0]
    H = len(W) // len(cls.gates)
    b_hh = np.zeros_like(b)
    if reset_after:
        b_hh[2 * H :] = values["bnr"][:, 0]
    options: dict[str, Any] = {"reset_after": reset_after} if cls.gates == "rzn" else {}
    float32 = all(value.dtype == np.float32 for value in values.values())
    layer: Recurrent[Any] = cls(W.shape[1] - H, H, dtype="float32" if float32 else "float64", **options)
    weights = {"weight_ih": W[:, H:], "weight_hh": W[:, :H], "bias_ih": b, "bias_hh": b_hh}
    layer.load_state_dict({name + "_l0": array for name, array in weights.items()})
    return layer


def parameters_of(layer: Recurrent[Any]) -> dict[str, Array]:
    """The textbook's parameters of a layer. Raises ArgumentError if the textbook does not describe it."""
    reasons = {
        f"num_layers={layer.num_layers}": layer.num_layers > 1,
        "bidirectional=True": layer.bidirectional,
        f"proj_size={layer.proj_size}": bool(layer.proj_size),
        f"{layer.precision} weights": bool(layer.precision),
        "relu, other activations, peepholes, coupled gates or clipping": not layer.is_plain()
        or layer._cell() == "rnn_relu",
    }
    for reason, applies in reasons.items():
        if applies:
            raise ArgumentError(
                f"{layer!r} has {reason}, but the textbook describes one float layer in one direction, with "
                "the equations of `onward.textbook`"
            )
    weights = layer.state_dict()
    W_x, W_a = weights["weight_ih_l0"], weights["weight_hh_l0"]
    zeros = np.zeros(len(W_x), layer.dtype)
    b, b_hh = (weights.get(name, zeros)[:, None] for name in ("bias_ih_l0", "bias_hh_l0"))
    if layer.gates == "h":
        return {"Wax": W_x, "Waa": W_a, "ba": b + b_hh}
    parameters: dict[str, Array] = {}
    if layer._cell() == "gru":
        parameters["bnr"] = b_hh[2 * layer.hidden_size :].copy()
        b_hh[2 * layer.hidden_size :] = 0
    count = len(layer.gates)
    W = np.split(np.concatenate([W_a, W_x], axis=1), count)
    for gate, matrix, bias in zip(LETTERS[layer.gates], W, np.split(b + b_hh, count), strict=True):
        parameters |= {"W" + gate: matrix.copy(), "b" + gate: bias.copy()}
    return parameters
