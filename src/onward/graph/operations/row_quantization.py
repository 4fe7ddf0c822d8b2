"""Rows of real numbers that are quantized as they come, as in TensorFlow Lite's hybrid operators.

The last axis is a row. Each has a scale and, unless it is symmetric, a zero point. Ties are rounded away
from zero.
"""

import math

import numpy as np

from ...errors import DtypeError
from ..node import AnyArray, Operand, Signature
from ..plan.builder import Builder
from ..plan.steps import OutputStage
from ..plan.view import DTYPES, View
from .fixed_factors import rounded
from .integer_fusion import per_unit
from .products import last_size, product_shape, split_rows
from .quantization import packed_integers
from .registry import along_axis, operation

INT8, FLOAT32 = np.dtype(np.int8), np.dtype(np.float32)


def _signature(x: Operand) -> list[Signature]:
    if x.dtype != FLOAT32:
        raise DtypeError(f"x has dtype {x.dtype}; expected float32")
    rows = (*x.shape[:-1], 1)
    return [Signature(x.shape, INT8), Signature(rows, FLOAT32), Signature(rows, INT8)]


def _rounded(steps: AnyArray, low: int) -> AnyArray:
    """Clip to bytes and round, ties away from zero; NaN becomes the lowest number."""
    return rounded(np.clip(np.nan_to_num(steps, nan=low), low, 127)).astype(np.int8)


@operation("QuantizeRows", signature=lambda x: _signature(x)[:2], combines=along_axis(-1))
def quantize_rows(x: AnyArray) -> tuple[AnyArray, AnyArray]:
    """x / scale from -127 to 127, and the scales."""
    largest = np.abs(x).max(-1, keepdims=True, initial=0)
    safe = np.where(largest == 0, np.float32(127), largest)
    return _rounded(x * (np.float32(127) / safe), -127), safe / np.float32(127)


@operation("QuantizeRowsWithZero", signature=_signature, combines=along_axis(-1))
def quantize_rows_with_zero(x: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray]:
    """x / scale + zero point from -128 to 127, the scales and the zero points."""
    low = x.min(-1, keepdims=True, initial=0).astype(np.float64)
    high = x.max(-1, keepdims=True, initial=0).astype(np.float64)
    scale = np.where(low == high, 1, (high - low) / 255)
    is_low = 128 - low / scale < 127 + high / scale
    zero = np.clip(np.where(is_low, -128 - low / scale, 127 - high / scale), -128, 127)
    zero = np.where((low == high) | np.isnan(zero), 0, np.trunc(zero + np.copysign(0.5, zero)))
    factor = np.float32(1) / scale.astype(np.float32)
    steps = x * factor + zero.astype(np.float32)
    return _rounded(steps, -128), scale.astype(np.float32), zero.astype(np.int8)


def _steps(b: Builder, x: View, is_symmetric: bool) -> list[View]:
    rows = (*x.shape[:-1], 1)
    views = [b.new(*x.shape, dtype="int8"), b.new(*rows), b.new(*rows, dtype="int8")]
    b.add("quantize_rows", is_symmetric, b.contiguous(x), *views)
    return views


quantize_rows.steps()(lambda b, x: _steps(b, x, True)[:2])
quantize_rows_with_zero.steps()(lambda b, x: _steps(b, x, False))


@operation(
    "RowProduct",
    signature=lambda q, W, row_scale, zero, scale: Signature(product_shape(q.shape, W.shape), FLOAT32),
    combines=lambda node, inputs: [[len(inputs[0].shape) - 1], [0, 1], (), (), ()],
)
def row_product(q: AnyArray, W: AnyArray, row_scale: AnyArray, zero: AnyArray, scale: AnyArray) -> AnyArray:
    """(q - zero) W row_scale scale: exact sums, times the scales of rows, then those of columns."""
    exact = (q.astype(np.float64) - zero) @ W.astype(np.float64)
    product: AnyArray = exact.astype(np.int64).astype(np.int32).astype(np.float32) * row_scale * scale
    return product


row_product.reading(last_size)


@row_product.steps(DTYPES, views=(0, 2, 3, 4))
def _(b: Builder, q: View, W: AnyArray, row_scale: View, zero: View, scale: View) -> View | None:
    if W.ndim != 2 or W.dtype != INT8:
        return None
    leading = q.shape[:-1]
    matrix = packed_integers(b, W, None, "matrix", lambda: W.T)
    y = b.new(math.prod(leading), W.shape[1])
    unit_scale = per_unit(scale, y, y)
    if unit_scale is None:
        return None
    stage = OutputStage(row_scale=b.contiguous(row_scale), scale=unit_scale)
    b.add("integer_product", matrix, q, len(leading), b.contiguous(zero), *stage, y)
    return split_rows(y, leading)
