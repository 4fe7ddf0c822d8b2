"""Read calls of the functions that Onward writes, in the domain `onward`, as operations of graphs.

Other runtimes run the bodies of the functions. Onward runs its own layers, which preserves the bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError
from ...layers.base import NO_WEIGHTS
from ...layers.rnn import LSTM
from . import messages

if TYPE_CHECKING:
    from .translate import _Scope

DOMAIN, VERSION = "onward", 1
ACTIVATIONS = {"silu": "Swish", "affine": "Affine", "scaled_tanh": "ScaledTanh"}
OPERATIONS = {"steps": "Steps", "last": "LastStep", "final_state": "FinalState"}


def add(scope: _Scope, node: messages.Node, version: int, inputs: list[str]) -> Sequence[str] | None:
    """Add the operations of a call and return the outputs, or None to run the body of the function."""
    name, graph = node.op_type, scope.graph
    if version != VERSION:
        raise ArgumentError(f"this version of Onward reads version {VERSION} of {DOMAIN}, not {version}")
    if name in OPERATIONS:
        return graph.add_all(OPERATIONS[name], inputs, node.output, name=node.name)
    if name not in (*ACTIVATIONS, "lstm", "lstm_reverse"):
        raise ArgumentError(f"this version of Onward has no function {name}")
    constants = [graph.constants.get(value) for value in inputs[1 : 6 if name.startswith("lstm") else None]]
    if any(constant is None for constant in constants):
        return None
    if name in ACTIVATIONS:
        numbers = [float(constant.item()) for constant in constants if constant is not None]
        attributes: dict[str, Any] = dict(zip(("alpha", "beta"), numbers, strict=False))
        return graph.add_all(ACTIVATIONS[name], inputs[:1], node.output, name=node.name, **attributes)
    layer, reverse = _projected(*constants), name == "lstm_reverse"
    y, *states = graph.add_all(
        "Recurrent", [inputs[0], *inputs[6:]], 3, name=node.name, layer=layer, reverse=reverse
    )
    return graph.add("Unsqueeze", y, graph.add_constant(np.array([1]))), *states


def _projected(*given: Any) -> LSTM:
    """The layer with weights W (4, I, H), R (4, P, H), b_W and b_R (4, 1, H), W_hr (H, P)."""
    W, R, b_W, b_R, W_hr = given
    H, P = W_hr.shape
    layer = LSTM(W.shape[1], H, proj_size=P, dtype=W.dtype, rng=NO_WEIGHTS)
    weights = {
        f"{name}_l0": a.swapaxes(1, 2).reshape(4 * H, -1)
        for name, a in zip(("weight_ih", "weight_hh"), (W, R), strict=True)
    }
    biases = {"bias_ih_l0": b_W.reshape(4 * H), "bias_hh_l0": b_R.reshape(4 * H)}
    layer.load_state_dict(weights | biases | {"weight_hr_l0": W_hr.T})
    return layer
