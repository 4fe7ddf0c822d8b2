"""Quantization of floats to integers and back, and products of integers; sums of products are exact."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

import onward._core as _core

from ...core.arrays import contiguous
from ...core.windows import geometry
from ...errors import DtypeError, ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.steps import OutputStage
from ..plan.view import DTYPES, View
from .casting import cast_to
from .compositions import composed
from .convolutions import CONVOLUTION, conv_signature, convolve, filter_matrix, windows_of_groups
from .products import last_size, product_shape, split_rows
from .registry import Inputs, combining, lowering, operation, over_time
from .sliding import (
    channels_first,
    channels_last,
    filter_size,
    pad_view,
    window_view,
    windows_combine,
    windows_over_time,
)
from .value import typed_view, view

UINT8, INT32, FLOAT32 = np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.float32)


def integer_range(dtype: np.dtype[Any]) -> tuple[int, int] | None:
    """Return the smallest and the largest integer of a dtype, or None if it is not one of integers."""
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    name, _, bits = dtype.name.partition("int")
    if bits in ("2", "4"):
        n = int(bits)
        return (0, 2**n - 1) if name == "u" else (-(2 ** (n - 1)), 2 ** (n - 1) - 1)
    return None


def round_and_clip(x: AnyArray, zero_point: AnyArray | int, dtype: np.dtype[Any]) -> AnyArray:
    """Round half to even, add the zero point and clip to the range of an integer dtype, NaN to its least."""
    bounds = integer_range(dtype)
    if bounds is None:
        raise DtypeError(f"cannot quantize to {dtype}")
    y = np.rint(x).astype(np.float64) + np.asarray(zero_point).astype(np.float64)
    return np.clip(np.nan_to_num(y, nan=bounds[0]), *bounds).astype(dtype)


def spread(values: AnyArray, shape: Sequence[int], axis: int, block_size: int = 0) -> AnyArray:
    """Reshape scales or zero points, one for all, for each slice or each block, so that they broadcast."""
    if values.size == 1 and not block_size:
        return values.reshape(())
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"axis {axis} does not exist in the shape {tuple(shape)}")
    if block_size:
        values = np.repeat(values, block_size, axis).take(np.arange(shape[axis]), axis)
    else:
        values = _along(values, len(shape), axis)
    if np.broadcast_shapes(values.shape, tuple(shape)) != tuple(shape):
        raise ShapeError(f"scales of shape {values.shape} do not match an array of shape {tuple(shape)}")
    return values


def _quantized_dtype(zero_point: Operand | None, output_dtype: Any) -> np.dtype[Any]:
    return np.dtype(output_dtype or UINT8) if zero_point is None else zero_point.dtype


@operation(
    "QuantizeLinear",
    signature=lambda x, scale, zero_point=None, *, output_dtype=None, **rest: Signature(
        x.shape, _quantized_dtype(zero_point, output_dtype)
    ),
)
def quantize_linear(
    x: AnyArray, scale: AnyArray, zero_point: AnyArray | None = None, *, axis: int = 1, block_size: int = 0,
    output_dtype: Any = None, precision: Any = None, saturate: int = 1,
) -> AnyArray:  # fmt: skip
    """x / scale, rounded half to even, + zero_point; clipped to the range of the integers."""
    dtype = _quantized_dtype(zero_point, output_dtype)
    computed = np.dtype(precision or (np.float64 if x.dtype == np.float64 else np.float32))
    scales = spread(scale, x.shape, axis, block_size).astype(computed)
    zero_points = 0 if zero_point is None else spread(zero_point, x.shape, axis, block_size)
    steps = x.astype(computed) / scales
    if integer_range(dtype) is None:
        return cast_to(steps, dtype, bool(saturate))
    return round_and_clip(steps, zero_points, dtype)


@operation(
    "DequantizeLinear",
    signature=lambda x, scale, *others, output_dtype=None, **rest: Signature(
        x.shape, np.dtype(output_dtype or scale.dtype)
    ),
)
def dequantize_linear(
    x: AnyArray, scale: AnyArray, zero_point: AnyArray | None = None, *, axis: int = 1, block_size: int = 0,
    output_dtype: Any = None,
) -> AnyArray:  # fmt: skip
    """(x - zero_point) scale."""
    dtype = np.dtype(output_dtype or scale.dtype)
    steps, scales = x, spread(scale, x.shape, axis, block_size).astype(np.float32)
    if integer_range(x.dtype) is not None:
        zero_points = 0 if zero_point is None else spread(zero_point, x.shape, axis, block_size)
        steps = x.astype(np.int64) - np.asarray(zero_points).astype(np.int64)
    return (steps.astype(np.float32) * scales).astype(dtype)


def quantize_dynamically(x: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Return x in uint8, the scale and the zero point; they depend on the range of x, which includes 0."""
    low, high = x.min(initial=0), x.max(initial=0)
    scale = np.float32((high - low) / np.float32(255)) if high > low else np.float32(1)
    zero_point = np.rint(np.clip(-low / scale, 0, 255)).astype(np.uint8)
    return round_and_clip(x / scale, zero_point, UINT8), np.asarray(scale), np.asarray(zero_point)


dynamic_quantize_linear = operation(
    "DynamicQuantizeLinear",
    signature=lambda x: [Signature(x.shape, UINT8), Signature((), FLOAT32), Signature((), UINT8)],
    combines=lambda node, inputs: [range(len(inputs[0].shape))],  # the scale depends on all elements
)(quantize_dynamically)


def _steps(x: AnyArray, zero_point: AnyArray | None, axis: int) -> AnyArray:
    """Return x - zero_point, which has one element or one for each slice of an axis, in float64."""
    if zero_point is None:
        return x.astype(np.float64)
    return np.asarray(x.astype(np.float64) - _along(zero_point, x.ndim, axis).astype(np.float64))


def _along(values: AnyArray, rank: int, axis: int) -> AnyArray:
    """Reshape one value, or one for each slice of an axis, so that it broadcasts against an array."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim != 1:
        return values
    return values.reshape([-1 if place == axis % rank else 1 for place in range(rank)])


def _wrap(x: AnyArray) -> AnyArray:
    """Return integers in float64 as int32, modulo 2^32."""
    return x.astype(np.int64).astype(np.int32)


@operation("MatMulInteger", signature=lambda A, B, *zeros: Signature(product_shape(A.shape, B.shape), INT32))
def matmul_integer(
    A: AnyArray, B: AnyArray, a_zero: AnyArray | None = None, b_zero: AnyArray | None = None
) -> AnyArray:
    """(A - a_zero) (B - b_zero) in int32; zero points of rows of A and of columns of B."""
    a_axis = -2 if A.ndim > 1 else -1
    # in float64, these sums are exact
    return _wrap(np.matmul(_steps(A, a_zero, a_axis), _steps(B, b_zero, -1)))


@operation(
    "ConvInteger",
    signature=lambda x, W, x_zero=None, w_zero=None, bias=None, **options: conv_signature(
        x, W, bias, **options
    ).of_dtype(INT32),
    attributes=CONVOLUTION,
    combines=windows_combine,
)
def conv_integer(
    x: AnyArray, W: AnyArray, x_zero: AnyArray | None = None, w_zero: AnyArray | None = None, bias: AnyArray |
    None = None, **options: Any,
) -> AnyArray:  # fmt: skip
    """Convolve x - x_zero with W - w_zero in int32, and add a bias; the padding of x is x_zero."""
    shape = conv_signature(x, W, bias, **options).shape
    steps = _steps(x, x_zero, 1), _steps(W, w_zero, 0)
    sums = _wrap(convolve(*steps, None, options)) if W.size else np.zeros(shape, np.int32)
    return sums if bias is None else sums + bias.reshape(-1, *[1] * (x.ndim - 2))


@combining("QuantizeLinear", "DequantizeLinear")
def _(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    x, scale = inputs[:2]
    rank = len(x.shape)
    by_axis = math.prod(scale.shape) > 1 or node.attributes.get("block_size")
    return [[node.attributes.get("axis", 1) % rank] if by_axis else [], range(rank)]


@combining("MatMulInteger")
def _(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    A, B, *zero_points = (0 if value is None else len(value.shape) for value in inputs)
    return [[max(0, A - 1)], [max(0, B - 2)], *map(range, zero_points)]


over_time("ConvInteger")(windows_over_time)


# The steps in the core.


@dynamic_quantize_linear.steps()
def _(b: Builder, x: View) -> list[View]:
    """Quantize x to uint8; return the bytes, their scale and their zero point."""
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
        is_supported = x.dtype == "float32" and dtype in ("int8", "uint8")
    else:
        step, dtype, y_dtype = "dequantize", x.dtype, "float32"
        is_supported = dtype in ("int8", "uint8", "int32")
    offset = b.scalar(0, dtype) if zero is None else typed_view(b, zero)
    if not is_supported or offset is None:
        return None
    following = len(x.shape) - node.attributes.get("axis", 1) % len(x.shape) - 1
    parameters = []  # broadcast along all axes of x except one
    for parameter in (scale, offset):
        if math.prod(parameter.shape) == 1:
            parameters.append(parameter.with_axes((), ()))
        elif len(parameter.shape) == 1:
            shape, strides = (*parameter.shape, *[1] * following), (*parameter.strides, *[0] * following)
            parameters.append(parameter.with_axes(shape, strides))
        else:
            return None
    y = b.like(x, y_dtype or dtype)
    b.add(step, x, *parameters, y)
    return [y]


def packed_integers(
    b: Builder,
    W: AnyArray,
    zero_points: AnyArray | None,
    variant: Any,
    rows: Callable[[], AnyArray],
) -> _core.IntegerMatrix:
    """Pack the matrix (O, K) that `rows` returns, made of W, with one zero point or one for each row."""

    def make() -> _core.IntegerMatrix:
        q, center = contiguous(rows()), 128 if W.dtype == np.uint8 else 0
        zeros = np.int32(0) if zero_points is None else zero_points.ravel().astype(np.int32)
        centered = (q ^ np.array(center, q.dtype)).astype(np.int8)  # q - center, which wraps around
        each = np.ascontiguousarray(np.broadcast_to(zeros - center, len(q)))
        matrix: _core.IntegerMatrix = b.core.IntegerMatrix(centered, each)
        return matrix

    return b.shared((W, zero_points), ("integers", variant), make)


def _zero_point(b: Builder, zero: View | None, x: View) -> View | None:
    """Return the zero point of x, 0 if omitted, or None if it has several."""
    found = zero or b.scalar(0, x.dtype)
    return found.with_axes((), ()) if math.prod(found.shape) == 1 else None


@matmul_integer.steps(DTYPES, views=(0, 2))
def _(b: Builder, x: View, W: AnyArray, x_zero: View | None = None, W_zero: Any = None) -> View | None:
    """Multiply x (.., K) by a constant W (K, O)."""
    zero_point = _zero_point(b, x_zero, x)
    if zero_point is None or W.ndim != 2 or not _fits(W_zero, W.shape[1]):
        return None
    matrix = packed_integers(b, W, W_zero, "matrix", lambda: W.T)
    leading = x.shape[:-1]
    y = b.new(math.prod(leading), W.shape[1], dtype="int32")
    b.add("integer_product", matrix, x, len(leading), zero_point, *OutputStage(), y)
    return split_rows(y, leading)


@conv_integer.steps(DTYPES, views=(0, 2))
def _(
    b: Builder, x: View, W: AnyArray, x_zero: View | None = None, W_zero: Any = None, bias: Any = None,
    **attributes: Any,
) -> View | None:  # fmt: skip
    """Convolve x (N, C, *in) with constant W (M, C / groups, *kernel)."""
    zero_point, groups, axes = _zero_point(b, x_zero, x), attributes.get("group", 1), W.ndim - 2
    g, M, (N, C) = geometry(x.shape[2:], W.shape[2:], attributes), len(W), x.shape[:2]
    if zero_point is None or any(min(side) < 0 for side in g.sides) or not _fits(W_zero, M):
        return None
    last = pad_view(b, channels_last(x), g.sides, zero_point)
    places = (N, *g.out)
    y = b.new(math.prod(places), M, dtype="int32")
    start = None if bias is None else b.constant(bias)
    if groups == C == M:
        center = 0 if W_zero is None else W_zero.astype(np.int32).reshape(-1, *[1] * (axes + 1))
        centered = (W.astype(np.int32) - center).reshape(M, -1).T
        rows = window_view(last if last.strides[-1] == 1 else b.contiguous(last), g)
        taps = b.constant(np.ascontiguousarray(centered))
        b.add("integer_window", taps, rows, 1 + axes, zero_point, *OutputStage(bias=start), y)
        return channels_first(split_rows(y, places))
    for group, own, rows in windows_of_groups(last, g, groups, M):
        zeros = W_zero if W_zero is None or W_zero.size == 1 else W_zero[own]
        filters = packed_integers(b, W, zeros, ("filters", group), lambda own=own: filter_matrix(W[own]))  # type: ignore[misc]
        first = start and start.sliced(0, own.start, own.stop)
        target = y.sliced(1, own.start, own.stop)
        b.add("integer_product", filters, rows, 1 + axes, zero_point, *OutputStage(bias=first), target)
    return channels_first(split_rows(y, places))


def _fits(parameter: AnyArray | None, units: int) -> bool:
    """Whether a parameter has one number, or one for each unit."""
    return parameter is None or parameter.size == 1 or parameter.shape == (units,)


# Products of quantized arrays, whose results are quantized.


def _quantized(sums: Any, factor: Any, zero_point: Any, axis: int = 1) -> Any:
    """Return exact sums times a factor, rounded and added to a zero point."""
    scaled = sums.cast(np.float32) * factor.cast(np.float32)
    return scaled.apply("QuantizeLinear", scaled.constant(1), zero_point, axis=axis, dtype=zero_point.dtype)


def _reshaped(parameter: Any, *shape: int) -> Any:
    """Reshape a scale if it has several elements, otherwise remove its axes."""
    return parameter.apply("Reshape", list(shape) if math.prod(parameter.shape) > 1 else [])


@composed("QLinearMatMul")
def qlinear_matmul(
    a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, y_scale: Any, y_zero: Any
) -> Any:
    """The product of two quantized arrays, quantized; scales of rows of a and y and of columns of b."""
    rows, outputs = (
        _reshaped(scale, -1, 1) if scale.rank == 1 and a.rank > 1 else scale for scale in (a_scale, y_scale)
    )
    factor = rows * _reshaped(b_scale, -1) / outputs
    return _quantized(a.apply("MatMulInteger", b, a_zero, b_zero), factor, y_zero, -2 if a.rank > 1 else -1)


@composed("QLinearConv", attributes=CONVOLUTION)
def qlinear_conv(
    x: Any, x_scale: Any, x_zero: Any, W: Any, w_scale: Any, w_zero: Any, y_scale: Any, y_zero: Any,
    bias: Any = None, **attributes: Any,
) -> Any:  # fmt: skip
    """The convolution of two quantized arrays, quantized; bias is in steps of x_scale w_scale."""
    sums = x.apply("ConvInteger", W, x_zero, w_zero, bias, **attributes)
    factor = _reshaped(x_scale) * w_scale / _reshaped(y_scale)
    return _quantized(sums, _reshaped(factor, -1, *[1] * (x.rank - 2)), _reshaped(y_zero))


@composed("QLinearGlobalAveragePool")
def qlinear_global_average_pool(
    x: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any = None, *, channels_last: int = 0
) -> Any:
    """The mean of each channel of a quantized array, quantized."""
    axes = list(range(1, x.rank - 1) if channels_last else range(2, x.rank))
    wide = x.cast(np.int64)
    wide = wide if x_zero is None else wide - x_zero.cast(np.int64)
    sizes = x.apply("Shape").apply("Gather", axes)
    count = sizes.reduce("ReduceProd").cast(np.float32)
    factor = _reshaped(x_scale) / (_reshaped(y_scale) * count)
    zero_point = x.constant(0) if y_zero is None else _reshaped(y_zero)
    return _quantized(wide.reduce("ReduceSum", axes, True), factor, zero_point)


matmul_integer.reading(last_size)
conv_integer.reading(filter_size)
