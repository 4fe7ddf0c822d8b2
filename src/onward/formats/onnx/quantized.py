"""onnxruntime's operators on weights in bytes, and on inputs that are quantized as they come.

DynamicQuantizeLSTM quantizes x as a whole, and h of all rows at each step, with a scale and a zero point of
their own; sums are exact. A row therefore depends on its batch, as in onnxruntime on one thread; with more
threads, onnxruntime quantizes the rows of each thread together.
"""

from typing import Any, NamedTuple

import numpy as np

from ...core import arrays
from ...core.arrays import Array
from ...errors import ArgumentError
from ...layers import rnn
from ...layers.activation import Activation
from ...layers.base import NO_WEIGHTS
from .layer_operators import Operator
from .operators import AnyArray, Cached, described
from .recurrent_operators import LSTM, Options


def quantized(x: Array) -> tuple[Array, np.float32]:
    """x = scale q with q of at most 256 neighboring whole numbers: q and scale."""
    low, high = x.min(initial=0), x.max(initial=0)
    scale = (high - low) / np.float32(255) if high > low else np.float32(1)
    zero_point = np.rint(np.clip(-low / scale, 0, 255))
    return np.clip(np.rint(x / scale) + zero_point, 0, 255) - zero_point, scale


class Matrix(NamedTuple):
    """A matrix scale q: q (K, N) of whole numbers, in float64, which sums their products exactly."""

    q: Array
    scale: Array

    def times(self, x: Array) -> Array:
        """x (M, K) by the matrix, (M, N)."""
        q, scale = quantized(x)
        y: Array = (q.astype(np.float64) @ self.q).astype(np.float32) * (scale * self.scale)
        return y


class MatMulIntegerToFloat(Operator):
    """(A - a_zero_point) (B - b_zero_point) a_scale b_scale + bias, with exact sums."""

    op_domain = "com.microsoft"

    def _run(
        self,
        A: AnyArray,
        B: AnyArray,
        a_scale: AnyArray,
        b_scale: AnyArray,
        a_zero_point: AnyArray | None = None,
        b_zero_point: AnyArray | None = None,
        bias: AnyArray | None = None,
    ) -> tuple[AnyArray]:
        a, b = (
            q.astype(np.float64) - (0 if zero is None else zero.astype(np.float64))
            for q, zero in ((A, a_zero_point), (B, b_zero_point))
        )
        y = (a @ b).astype(np.float32) * (a_scale * b_scale)
        return (y if bias is None else y + bias,)


class DynamicQuantizeMatMul(Operator):
    """A (B - b_zero_point) b_scale + bias, where A is quantized by its range."""

    op_domain = "com.microsoft"

    def _run(
        self,
        A: Array,
        B: AnyArray,
        b_scale: AnyArray,
        b_zero_point: AnyArray | None = None,
        bias: AnyArray | None = None,
    ) -> tuple[AnyArray]:
        q, scale = quantized(A)
        b = B.astype(np.float64) - (0 if b_zero_point is None else b_zero_point.astype(np.float64))
        y = (q.astype(np.float64) @ b).astype(np.float32) * (scale * b_scale)
        return (y if bias is None else y + bias,)


class DynamicQuantizeLSTM(LSTM):
    """As LSTM, with W (D, I, 4H) and R (D, H, 4H) in bytes, their scales and zero points (D,) or (D, 4H).

    clip acts on what the gates are functions of, and not on C.
    """

    op_domain = "com.microsoft"

    def __init__(self, node: Any, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)
        self._matrices = Cached(_matrices), Cached(_matrices)

    def _run(  # type: ignore[override]  # there are more inputs
        self,
        X: Array,
        W: AnyArray,
        R: AnyArray,
        B: Array | None,
        sequence_lens: AnyArray | None,
        initial_h: Array | None,
        initial_c: Array | None,
        P: Array | None,
        W_scale: Array,
        W_zero_point: AnyArray,
        R_scale: Array,
        R_zero_point: AnyArray,
        **attributes: Any,
    ) -> tuple[Array, ...]:
        """Y (T, D, B, H), Y_h and Y_c (D, B, H)."""
        options = self._options or self._read(attributes)
        T, batch, I = X.shape  # noqa: E741 - axis letters
        D, H = options.directions, R.shape[1]
        full = np.full(batch, T) if sequence_lens is None else sequence_lens
        lengths = arrays.as_lengths(full, (batch,), T)
        input_matrices = self._matrices[0](W, W_scale, W_zero_point)
        recurrent_matrices = self._matrices[1](R, R_scale, R_zero_point)
        Y, Y_h, Y_c = (np.zeros(shape, np.float32) for shape in ((T, D, batch, H), *[(D, batch, H)] * 2))
        for d in range(D):
            reverse = options.reverse or d == 1
            x = (arrays.reversed_steps(X, lengths) if reverse else X)[: lengths.max(initial=0)]
            sums = input_matrices[d].times(x.reshape(len(x) * batch, I)).reshape(len(x), batch, 4 * H)
            h, c = (np.zeros((batch, H), np.float32) if a is None else a[d] for a in (initial_h, initial_c))
            cell = _Cell(options, d, B, P, H)
            Y[: len(x), d], *final = _steps(cell, sums, recurrent_matrices[d], lengths, h, c)
            if reverse:
                Y[:, d] = arrays.reversed_steps(Y[:, d], lengths)
            Y_h[d], Y_c[d] = (np.where((lengths > 0)[:, None], state, 0) for state in final)
        return Y, Y_h, Y_c

    def core_options(self, peephole: bool) -> tuple[list[Any], bool] | None:
        """Return the core's options for each direction, and whether a single direction runs in reverse."""
        if self._options is None:
            return None
        options = self._options
        bidirectional = options.directions == 2
        layer = rnn.LSTM(
            1, 1, bidirectional=bidirectional, peephole=peephole, rng=NO_WEIGHTS, **options.arguments
        )
        return layer._options(), options.reverse

    def layer(self, inputs: list[Any], batch_first: bool) -> Any:
        raise ArgumentError(
            f"{described(self.onnx_node)} quantizes the whole batch dynamically, which no layer supports"
        )


def _matrices(W: AnyArray, scale: Array, zero_point: AnyArray) -> list[Matrix]:
    """Those of each direction."""
    D = len(W)
    q = W.astype(np.float64) - zero_point.astype(np.float64).reshape(D, 1, -1)
    return [Matrix(q[d], scale.reshape(D, -1)[d]) for d in range(D)]


def _steps(cell: "_Cell", sums: Array, R: Matrix, lengths: Any, h: Any, c: Any) -> tuple[Any, Any, Any]:
    """y, h and c after the steps of sums (T, B, 4H), which are the products of x."""
    y = np.zeros((*sums.shape[:2], h.shape[1]), np.float32)
    y_t = h  # zeros in rows that have ended
    for t in range(len(sums)):
        valid = (t < lengths)[:, None]
        h_t, c_t = cell(sums[t] + R.times(y_t), c)
        h, c = np.where(valid, h_t, h), np.where(valid, c_t, c)
        y[t] = y_t = np.where(valid, h_t, 0)
    return y, h, c


class _Cell:
    """One step of one direction, whose gates stand in ONNX's order i o f c."""

    def __init__(self, options: Options, d: int, B: Array | None, P: Array | None, H: int) -> None:
        layer = rnn.LSTM(1, 1, bidirectional=options.directions == 2, rng=NO_WEIGHTS, **options.arguments)
        self.gate, self.candidate, self.output = (
            Activation(*([spec] if isinstance(spec, str) else spec)) for spec in layer.functions()[d]
        )
        self.clip, self.coupled = np.float32(layer.clip or np.inf), layer.coupled
        self.biases: list[Any] = np.split(
            np.zeros(4 * H, np.float32) if B is None else B[d, : 4 * H] + B[d, 4 * H :], 4
        )
        self.peepholes: list[Any] = np.split(np.zeros(3 * H, np.float32) if P is None else P[d], 3)

    def __call__(self, sums: Any, c: Any) -> tuple[Any, Any]:
        """h and c, of what the products sum to (B, 4H) and the c before (B, H)."""
        (a_i, a_o, a_f, a_g), (b_i, b_o, b_f, b_g) = np.split(sums, 4, axis=1), self.biases
        p_i, p_o, p_f = self.peepholes
        i = self.gate(self._clipped(a_i + p_i * c + b_i))
        f = 1 - i if self.coupled else self.gate(self._clipped(a_f + p_f * c + b_f))
        c = f * c + i * self.candidate(self._clipped(a_g + b_g))
        o = self.gate(self._clipped(a_o + p_o * c + b_o))
        return o * self.output(c), c

    def _clipped(self, x: Any) -> Any:
        return np.clip(x, -self.clip, self.clip)
