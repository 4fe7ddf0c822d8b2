"""Run the functions of the domain `onward` with Onward's layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from ...core import arrays
from ...errors import ArgumentError
from ...layers.activation import Activation
from ...layers.base import NO_WEIGHTS
from ...layers.last import Last
from ...layers.rnn import LSTM
from .layer_operators import Operator
from .operators import AnyArray, Cached, described, floats


class ActivationFunction(Operator):
    """onward.Activation."""

    def _run(self, x: AnyArray, *parameters: AnyArray) -> tuple[AnyArray]:
        return (Activation(self.op_type, *(p.item() for p in parameters))(floats("x", x)),)


class Steps(Operator):
    """The number of steps of x (T, B, ...), for each row."""

    def _run(self, x: AnyArray) -> tuple[AnyArray]:
        return (np.full(x.shape[1], len(x), np.int32),)


class LastStep(Operator):
    """onward.Last with lengths."""

    def _run(self, y: AnyArray, lengths: AnyArray) -> tuple[AnyArray]:
        return (Last(batch_first=True)(floats("y", y), lengths),)


class FinalState(Operator):
    """The final state of a recurrent node, or the initial one in rows of no steps."""

    def _run(self, state: AnyArray, initial: AnyArray, lengths: AnyArray) -> tuple[AnyArray]:
        return (np.where((lengths > 0)[:, None], state, initial),)


class Projected(Operator):
    """onward.LSTM with projection, in one direction."""

    batch_first, first_of_states = False, 6

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)
        self._cached = Cached(self._layer)

    @property
    def reverse(self) -> bool:
        return bool(self.op_type == "lstm_reverse")

    def _run(self, x: AnyArray, *given: AnyArray) -> tuple[AnyArray, ...]:
        *weights, lengths, h0, c0 = given
        lengths = arrays.as_lengths(lengths, x.shape[1:2], len(x))
        steps = arrays.reversed_steps(x, lengths) if self.reverse else x
        y, (h, c) = self._cached(*weights)(steps, (h0, c0), lengths=lengths)
        if self.reverse:
            y = arrays.reversed_steps(y, lengths)
        return y[:, None], h, c

    def layer(self, inputs: Sequence[Any], batch_first: bool) -> LSTM:
        """The layer that computes the node, given the inputs that are constants.

        Raises ArgumentError if there is none.
        """
        if self.reverse:
            raise ArgumentError(f"{described(self.onnx_node)} runs only in reverse, which no layer supports")
        if any(weight is None for weight in inputs[1:6]):
            raise ArgumentError(f"{described(self.onnx_node)} has weights that depend on the inputs")
        return self._layer(*inputs[1:6], batch_first=batch_first)

    def _layer(self, *given: AnyArray, batch_first: bool = False) -> LSTM:
        """The layer with weights W (4, I, H), R (4, P, H), b_W and b_R (4, 1, H), W_hr (H, P)."""
        W, R, b_W, b_R, W_hr = given
        H, P = W_hr.shape
        layer = LSTM(W.shape[1], H, batch_first=batch_first, proj_size=P, dtype=W.dtype, rng=NO_WEIGHTS)
        weights = {
            f"{name}_l0": a.swapaxes(1, 2).reshape(4 * H, -1)
            for name, a in zip(("weight_ih", "weight_hh"), (W, R), strict=True)
        }
        biases = {"bias_ih_l0": b_W.reshape(4 * H), "bias_hh_l0": b_R.reshape(4 * H)}
        layer.load_state_dict(weights | biases | {"weight_hr_l0": W_hr.T})
        return layer


FUNCTIONS: dict[str, type[Operator]] = {
    **dict.fromkeys(("silu", "affine", "scaled_tanh"), ActivationFunction),
    "steps": Steps,
    "last": LastStep,
    "final_state": FinalState,
    **dict.fromkeys(("lstm", "lstm_reverse"), Projected),
}
