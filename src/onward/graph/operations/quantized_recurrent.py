"""onnxruntime's DynamicQuantizeLSTM: weights in bytes, and inputs quantized to bytes during the run.

x as a whole, and h of all rows at each step, get a scale and a zero point of their own; the products are
summed exactly. Hence a row depends on its batch, as in onnxruntime on one thread.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...core import arrays as sequences
from ...core.activations import call
from ...core.arrays import Array, contiguous
from ...core.cell import Cell
from ...core.functions import activate
from ...core.gates import reorder
from ...errors import ShapeError
from ..node import AnyArray, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .quantization import quantize_dynamically
from .recurrent import OPTIONS, new_cell, rows_of_unit
from .registry import operation


class Matrix(NamedTuple):
    """A matrix scale q: integers q (K, N) in float64, which sums their products exactly."""

    q: Array
    scale: Array

    def times(self, x: Array) -> Array:
        """Return the product (M, N) of x (M, K), quantized as a whole, and the matrix."""
        quantized, scale, zero_point = quantize_dynamically(x)
        steps = quantized.astype(np.float64) - zero_point.astype(np.float64)
        y: Array = (steps @ self.q).astype(np.float32) * (scale * self.scale)
        return y


def _form(W: Operand, R: Operand, P: Operand | None, attributes: dict[str, Any]) -> Cell:
    """Return a cell without weights that holds the options of the node."""
    W, R = (Signature((a.shape[0], *a.shape[:0:-1]), np.dtype(np.float32)) for a in (W, R))
    return new_cell("LSTM", attributes, W, R, None, P)


def _signature(
    X: Operand, W: Operand, R: Operand, *others: Operand | None, **attributes: Any
) -> list[Signature]:
    """The outputs of a cell with as many directions as W; a run compares their number with the options."""
    if len(W.shape) != 3 or len(R.shape) != 3 or R.shape[2] != W.shape[2]:
        raise ShapeError(f"W has shape {W.shape}, R {R.shape}; expected (D, I, 4H) and (D, H, 4H)")
    (T, batch, _), (D, H, _) = X.shape, R.shape
    return [Signature(shape, X.dtype) for shape in ((T, D, batch, H), (D, batch, H), (D, batch, H))]


@operation("DynamicQuantizeLSTM", signature=_signature, attributes=OPTIONS)
def dynamic_quantize_lstm(*inputs: Any, **attributes: Any) -> tuple[Array, ...]:
    """LSTM with W (D, I, 4H) and R (D, H, 4H) in bytes, their scales and zero points (D,) or (D, 4H).

    clip applies to the arguments of the gates, not to C. Returns Y (T, D, B, H), Y_h and Y_c (D, B, H).
    """
    return _run(inputs, attributes, is_recorded=False)[:3]


def record(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[dict[str, Array]]:
    """Run a node and return the gates, their preactivations and the states (T, B, H) of each direction."""
    return _run(inputs, dict(attributes), is_recorded=True)[3]


def _run(
    inputs: Sequence[Any], attributes: dict[str, Any], is_recorded: bool
) -> tuple[Array, Array, Array, list[dict[str, Array]]]:
    """Return Y, Y_h and Y_c, and the record of each direction, which is empty unless `is_recorded`."""
    X, W, R, B, sequence_lens, initial_h, initial_c, P, *quantized = inputs
    form = _form(W, R, P, attributes)
    (T, batch, features), D, H = X.shape, 1 + form.bidirectional, form.hidden_size
    full = np.full(batch, T) if sequence_lens is None else sequence_lens
    lengths = sequences.as_lengths(full, (batch,), T)
    input_matrices, recurrent_matrices = _matrices(W, *quantized[:2]), _matrices(R, *quantized[2:])
    Y, Y_h, Y_c = (np.zeros(shape, np.float32) for shape in ((T, D, batch, H), *[(D, batch, H)] * 2))
    recorded = []
    for d in range(D):
        reverse = attributes.get("direction") == "reverse" or d == 1
        x = (sequences.reversed_steps(X, lengths) if reverse else X)[: lengths.max(initial=0)]
        sums = input_matrices[d].times(x.reshape(len(x) * batch, features)).reshape(len(x), batch, 4 * H)
        h, c = (np.zeros((batch, H), np.float32) if a is None else a[d] for a in (initial_h, initial_c))
        cell = _Cell(form, d, B, P)
        records = {name: np.zeros((T, batch, H), np.float32) for name in _Cell.NAMES if is_recorded}
        Y[: len(x), d], *final = _steps(cell, sums, recurrent_matrices[d], lengths, h, c, records)
        if reverse:
            Y[:, d] = sequences.reversed_steps(Y[:, d], lengths)
            records = {name: sequences.reversed_steps(array, lengths) for name, array in records.items()}
        Y_h[d], Y_c[d] = (np.where((lengths > 0)[:, None], state, 0) for state in final)
        recorded.append(records)
    return Y, Y_h, Y_c, recorded


def _matrices(W: AnyArray, scale: Array, zero_point: AnyArray) -> list[Matrix]:
    """Return the matrix of each direction."""
    D = len(W)
    q = W.astype(np.float64) - zero_point.astype(np.float64).reshape(D, 1, -1)
    return [Matrix(q[d], scale.reshape(D, -1)[d]) for d in range(D)]


def _steps(
    cell: "_Cell", sums: Array, R: Matrix, lengths: Any, h: Any, c: Any, record: dict[str, Array]
) -> tuple[Any, Any, Any]:
    """Return y, h and c after the steps of sums (T, B, 4H), the products of x; write what `record` names."""
    y = np.zeros((*sums.shape[:2], h.shape[1]), np.float32)
    y_t = h  # zeros in rows that have ended
    for t in range(len(sums)):
        valid = (t < lengths)[:, None]
        values = cell(sums[t] + R.times(y_t), c)
        for name, array in record.items():
            array[t] = np.where(valid, values[name], 0)
        h_t, c_t = values["h"], values["c"]
        h, c = np.where(valid, h_t, h), np.where(valid, c_t, c)
        y[t] = y_t = np.where(valid, h_t, 0)
    return y, h, c


class _Cell:
    """One step of one direction, with the gates in ONNX's order i o f c."""

    NAMES = ("i", "f", "g", "o", "c", "h", *(f"{gate}_preactivation" for gate in "ifgo"))

    def __init__(self, form: Cell, d: int, B: Array | None, P: Array | None) -> None:
        H = form.hidden_size
        self.gate, self.candidate, self.output = (
            partial(activate, call(spec)) for spec in form.functions()[d]
        )
        self.clip, self.coupled = np.float32(form.clip or np.inf), form.coupled
        self.biases: list[Any] = np.split(
            np.zeros(4 * H, np.float32) if B is None else B[d, : 4 * H] + B[d, 4 * H :], 4
        )
        self.peepholes: list[Any] = np.split(np.zeros(3 * H, np.float32) if P is None else P[d], 3)

    def __call__(self, sums: Any, c: Any) -> dict[str, Any]:
        """Return the gates and states by name, from the sums of products (B, 4H) and the previous c."""
        (a_i, a_o, a_f, a_g), (b_i, b_o, b_f, b_g) = np.split(sums, 4, axis=1), self.biases
        p_i, p_o, p_f = self.peepholes
        a_i = self._clipped(a_i + p_i * c + b_i)
        a_f = self._clipped(a_f + p_f * c + b_f)
        a_g = self._clipped(a_g + b_g)
        i, g = self.gate(a_i), self.candidate(a_g)
        f = 1 - i if self.coupled else self.gate(a_f)
        c = f * c + i * g
        a_o = self._clipped(a_o + p_o * c + b_o)
        o = self.gate(a_o)
        values = (i, f, g, o, c, o * self.output(c), a_i, a_f, a_g, a_o)
        return dict(zip(self.NAMES, values, strict=True))

    def _clipped(self, x: Any) -> Any:
        return np.clip(x, -self.clip, self.clip)


@dynamic_quantize_lstm.steps(views=(0, 5, 6))
def _(
    b: Builder, x: View, W: AnyArray, R: AnyArray, bias: Any, lengths: Any, h0: View | None, c0: View | None,
    P: Any, *quantization: AnyArray, **attributes: Any,
) -> list[View] | None:  # fmt: skip
    """Map x (T, B, I) to Y (T, D, B, H), Y_h and Y_c (D, B, H)."""
    if lengths is not None and (lengths != x.shape[0]).any():
        return None
    arrays, options = (W, R, bias, P, *quantization), _form(W, R, P, attributes).core_options()
    reverse = attributes.get("direction") == "reverse"
    packed = b.shared(
        arrays, ("lstm", reverse), lambda: b.core.QuantizedLSTM(_directions(*arrays), options, reverse)
    )
    (T, B, _), (D, H, _) = x.shape, R.shape
    outputs = [b.new(T, D, B, H), b.new(D, B, H), b.new(D, B, H)]
    h, c = (state and b.contiguous(state) for state in (h0, c0))
    b.add("quantized_lstm", packed, b.contiguous(x), h, c, *outputs)
    return outputs


def _directions(W: Any, R: Any, bias: Any, P: Any, *quantization: Any) -> list[tuple[Any, ...]]:
    """Return the weights of each direction with their gates in the core's order."""
    D, G = len(W), W.shape[2]

    def matrix(d: int, q: Any, scale: Any, zero_point: Any) -> list[Any]:
        center = 128 if q.dtype == np.uint8 else 0
        scales = np.broadcast_to(scale.reshape(D, -1)[d], G)
        zeros = np.broadcast_to(zero_point.astype(np.int32).reshape(D, -1)[d] - center, G)
        centered = (q[d] ^ np.array(center, q.dtype)).view(np.int8)  # q - center, which wraps around
        arrays = contiguous(centered.T), scales, zeros
        return [reorder(array, "lstm", "onnx", "torch") for array in arrays]

    directions = []
    for d in range(D):
        total = np.zeros(G, np.float32) if bias is None else bias[d, :G] + bias[d, G:]
        peephole = None if P is None else reorder(P[d], "peephole", "onnx", "torch")
        matrices = (*matrix(d, W, *quantization[:2]), *matrix(d, R, *quantization[2:]))
        directions.append((*matrices, reorder(total, "lstm", "onnx", "torch"), peephole))
    return directions


dynamic_quantize_lstm.reading(rows_of_unit)
