"""Operations on bytes with scales and zero points: quantization, and products with exact integer sums."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _core
from ...core.gates import reorder
from ..node import Node
from ..plan.builder import Builder
from ..plan.view import View
from .convolutions import depthwise, filter_matrix, windows_of_groups
from .products import split_rows
from .quantized_recurrent import core_options
from .registry import Inputs, Value, is_known, known, lowering, typed_view, view
from .sliding import geometry, pad_view

BYTES = ("int8", "uint8")


# ---- Quantization ----------------------------------------------------------------------------------------


@lowering("DynamicQuantizeLinear")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Quantize x to uint8; return the bytes, their scale and their zero point."""
    x = view(b, inputs[0])
    if x is None:
        return None
    y, scale, zero_point = b.new(*x.shape, dtype="uint8"), b.new(), b.new(dtype="uint8")
    b.add("quantize_dynamically", b.contiguous(x), y, scale, zero_point)
    return [y, scale, zero_point]


@lowering("QuantizeLinear", "DequantizeLinear")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Round x / scale + zero point to bytes, or compute (x - zero point) scale.

    There is one scale and zero point, or one for each index of an axis.
    """
    x, scale, zero = typed_view(b, inputs[0]), view(b, inputs[1]), (*inputs, None)[2]
    if x is None or scale is None or node.attributes.get("block_size"):
        return None
    if node.operation == "QuantizeLinear":
        step, dtype, y_dtype = "quantize", "uint8" if zero is None else zero.dtype.name, None
        is_supported = x.dtype == "float32" and dtype in BYTES
    else:
        step, dtype, y_dtype = "dequantize", x.dtype, "float32"
        is_supported = dtype in (*BYTES, "int32")
    offset = b.scalar(0, dtype) if zero is None else typed_view(b, zero)
    if not is_supported or offset is None:
        return None
    following = len(x.shape) - node.attributes.get("axis", 1) % len(x.shape) - 1
    parameters = []  # broadcast along all axes of x except one
    for parameter in (scale, offset):
        if math.prod(parameter.shape) == 1:
            parameters.append(parameter._replace(shape=(), strides=()))
        elif len(parameter.shape) == 1:
            shape, strides = (*parameter.shape, *[1] * following), (*parameter.strides, *[0] * following)
            parameters.append(parameter._replace(shape=shape, strides=strides))
        else:
            return None
    y = b.like(x, y_dtype or dtype)
    b.add(step, x, *parameters, y)
    return [y]


# ---- Products --------------------------------------------------------------------------------------------


def _packed(
    b: Builder,
    W: NDArray[Any],
    zero_points: NDArray[Any] | None,
    variant: Any,
    rows: Callable[[], NDArray[Any]],
) -> _core.IntegerMatrix:
    """Pack the matrix (O, K) that `rows` returns, made of W, with one zero point or one for each row."""

    def make() -> _core.IntegerMatrix:
        q, center = rows().astype(np.int16), 128 if W.dtype == np.uint8 else 0
        zeros = np.int32(0) if zero_points is None else zero_points.ravel().astype(np.int32)
        centered = np.ascontiguousarray(q - center, np.int8)
        each = np.ascontiguousarray(np.broadcast_to(zeros - center, len(q)))
        matrix: _core.IntegerMatrix = b.core.IntegerMatrix(centered, each)
        return matrix

    return b.shared((W, zero_points), ("integers", variant), make)


def _zero_point(b: Builder, value: Value | None, x: View) -> View | None:
    """Return the zero point of x, 0 if omitted, or None if it has several."""
    found = b.scalar(0, x.dtype) if value is None else typed_view(b, value)
    return None if found is None or math.prod(found.shape) != 1 else found._replace(shape=(), strides=())


def _product(
    b: Builder,
    A: Value | None,
    A_zero: Value | None,
    B: Value | None,
    B_zero: Value | None,
    scale: NDArray[Any] | None = None,
) -> View | None:
    """Multiply A (.., K) by a constant B (K, O); return (.., O), as int32 or, with a scale, as float32."""
    x, W, W_zero = typed_view(b, A), known(B), known(B_zero)
    zero_point = None if x is None else _zero_point(b, A_zero, x)
    if x is None or zero_point is None or W is None or W.ndim != 2 or not is_known(B_zero):
        return None
    if not _fits(W_zero, W.shape[1]) or not _fits(scale, W.shape[1]):
        return None
    matrix = _packed(b, W, W_zero, "matrix", lambda: W.T)
    leading = x.shape[:-1]
    y = b.new(math.prod(leading), W.shape[1], dtype="int32" if scale is None else "float32")
    factor = None if scale is None else b.constant(scale)
    b.add("integer_product", matrix, x, len(leading), zero_point, factor, None, y)
    return split_rows(y, leading)


@lowering("MatMulInteger")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    A, B, A_zero, B_zero = (*inputs, None, None)[:4]
    y = _product(b, A, A_zero, B, B_zero)
    return y and [y]


@lowering("QLinearMatMul")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    A, A_scale, A_zero, B, B_scale, B_zero, y_scale, y_zero = inputs
    if not all(map(is_known, inputs[1:])):
        return None
    y = _product(b, A, A_zero, B, B_zero, _multiplier(A_scale, B_scale, y_scale))
    return y and _requantized(b, y, y_zero)


@lowering("ConvInteger")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, W, x_zero, W_zero = (*inputs, None, None)[:4]
    if not (is_known(W) and is_known(W_zero)):
        return None
    y = _conv(b, node, x, x_zero, known(W), known(W_zero))
    return y and [y]


@lowering("QLinearConv")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, x_scale, x_zero, W, W_scale, W_zero, y_scale, y_zero, bias = (*inputs, None)[:9]
    if not all(map(is_known, inputs[1:])):
        return None
    scale = _multiplier(x_scale, W_scale, y_scale)
    y = _conv(b, node, x, x_zero, known(W), known(W_zero), known(bias), scale)
    return y and _requantized(b, y, y_zero)


def _conv(
    b: Builder,
    node: Node,
    X: Value | None,
    x_zero: Value | None,
    W: NDArray[Any],
    W_zero: NDArray[Any] | None,
    bias: NDArray[Any] | None = None,
    scale: NDArray[Any] | None = None,
) -> View | None:
    """Convolve X (N, C, *in) with W (M, C / groups, *kernel), as int32 or, with a scale, as float32."""
    x, M, kernel = typed_view(b, X), W.shape[0], W.shape[2:]
    zero_point = None if x is None else _zero_point(b, x_zero, x)
    if x is None or zero_point is None or not _fits(W_zero, M) or (scale is not None and not _fits(scale, M)):
        return None
    groups, axes, (N, C) = node.attributes.get("group", 1), len(kernel), x.shape[:2]
    g = geometry(x.shape[2:], kernel, node.attributes)
    if any(min(side) < 0 for side in g.sides):
        return None
    last = pad_view(b, x.permuted(0, *range(2, 2 + axes), 1), g.sides, zero_point)
    places = (N, *g.out)
    if groups == C == M and _is_exact_in_float32(W, bias):
        center = 0 if W_zero is None else W_zero.astype(np.float32).reshape(-1, *[1] * (axes + 1))
        floats, added = b.like(last, "float32"), None if bias is None else bias.astype(np.float32)
        b.add("dequantize", last, b.scalar(1.0), zero_point, floats)
        y = depthwise(b, floats, W.astype(np.float32) - center, added, g)
        if scale is None:
            y = b.cast(y, "int32")
            b.exact_casts.add(y)
        else:
            y = b.binary("multiply", y, b.constant(scale))
        return y.permuted(0, axes + 1, *range(1, axes + 1))
    y = b.new(math.prod(places), M, dtype="int32" if scale is None else "float32")
    for group, own, rows in windows_of_groups(last, g, groups, M):
        zeros, scales = (a if a is None or a.size == 1 else a[own] for a in (W_zero, scale))
        filters = _packed(b, W, zeros, ("filters", group), lambda own=own: filter_matrix(W[own]))  # type: ignore[misc]
        start, factor = (None if a is None else b.constant(a) for a in (bias, scales))
        if start is not None:
            start = start.sliced(0, own.start, own.stop)
        target = y.sliced(1, own.start, own.stop)
        b.add("integer_product", filters, rows, 1 + axes, zero_point, factor, start, target)
    return split_rows(y, places).permuted(0, axes + 1, *range(1, axes + 1))


def _is_exact_in_float32(W: NDArray[Any], bias: NDArray[Any] | None) -> bool:
    """Whether all sums over one channel are whole numbers that float32 represents exactly."""
    largest = 255**2 * math.prod(W.shape[2:])
    if bias is not None:
        largest += int(np.abs(bias.astype(np.int64)).max())
    return largest <= 2**24


def _fits(parameter: NDArray[Any] | None, units: int) -> bool:
    """Whether a parameter has one number, or one for each unit."""
    return parameter is None or parameter.size == 1 or parameter.shape == (units,)


def _multiplier(x_scale: Value | None, W_scale: Value | None, y_scale: Value | None) -> NDArray[Any]:
    """Return the factor between exact sums and quantized outputs."""
    return np.asarray(known(x_scale) * known(W_scale) / known(y_scale), np.float32)


def _requantized(b: Builder, y: View, zero_point: Value | None) -> list[View] | None:
    """Round to the nearest bytes, after adding the zero point."""
    zero = typed_view(b, zero_point)
    if zero is None or math.prod(zero.shape) != 1:
        return None
    q = b.like(y, zero.dtype)
    b.add("quantize", y, b.scalar(1.0), zero._replace(shape=(), strides=()), q)
    return [q]


# ---- Recurrent layers -------------------------------------------------------------------------------------


@lowering("DynamicQuantizeLSTM")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Map X (T, B, I) to Y (T, D, B, H), Y_h and Y_c (D, B, H)."""
    X, W, R, bias, lengths, h0, c0, P, *quantization = inputs
    x, states = view(b, X), [view(b, value) for value in (h0, c0)]
    missing = any(value is not None and state is None for value, state in zip((h0, c0), states, strict=True))
    weights = (W, R, bias, P, *quantization)
    if x is None or missing or not all(map(is_known, (lengths, *weights))):
        return None
    arrays = tuple(map(known, weights))
    if lengths is not None and (lengths.array != x.shape[0]).any():
        return None
    options = core_options(arrays[0], arrays[1], arrays[3], node.attributes)
    packed = b.shared(
        arrays, ("lstm", options[1]), lambda: b.core.QuantizedLSTM(_directions(*arrays), *options)
    )
    (T, B, _), D, H = x.shape, len(arrays[1]), arrays[1].shape[1]
    outputs = [b.new(T, D, B, H), b.new(D, B, H), b.new(D, B, H)]
    h, c = (state and b.contiguous(state) for state in states)
    b.add("quantized_lstm", packed, b.contiguous(x), h, c, *outputs)
    return outputs


def _directions(W: Any, R: Any, bias: Any, P: Any, *quantization: Any) -> list[tuple[Any, ...]]:
    """Return the weights of each direction with their gates in the core's order."""
    D, G = len(W), W.shape[2]

    def matrix(d: int, q: Any, scale: Any, zero_point: Any) -> list[Any]:
        center = 128 if q.dtype == np.uint8 else 0
        scales = np.broadcast_to(scale.reshape(D, -1)[d], G)
        zeros = np.broadcast_to(zero_point.astype(np.int32).reshape(D, -1)[d] - center, G)
        centered = (q[d].T.astype(np.int16) - center).astype(np.int8)
        return [
            reorder(np.ascontiguousarray(array), "lstm", "onnx", "torch")
            for array in (centered, scales, zeros)
        ]

    directions = []
    for d in range(D):
        total = np.zeros(G, np.float32) if bias is None else bias[d, :G] + bias[d, G:]
        peephole = None if P is None else reorder(P[d], "peephole", "onnx", "torch")
        matrices = (*matrix(d, W, *quantization[:2]), *matrix(d, R, *quantization[2:]))
        directions.append((*matrices, reorder(total, "lstm", "onnx", "torch"), peephole))
    return directions
