"""Quantization of floats to integers and back, and products of integers; sums of products are exact."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ...errors import DtypeError, ShapeError
from ..node import AnyArray, Node, Signature
from .casting import cast_to
from .convolutions import CONVOLUTION, conv_signature, convolve
from .products import product_shape
from .registry import Known, combining, operation, over_time
from .sliding import windows_combine, windows_over_time

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
    """Round half to even, add the zero point and clip to the range of an integer dtype."""
    bounds = integer_range(dtype)
    if bounds is None:
        raise DtypeError(f"cannot quantize to {dtype}")
    y = np.rint(x).astype(np.float64) + np.asarray(zero_point).astype(np.float64)
    return np.clip(np.nan_to_num(y, nan=0.0), *bounds).astype(dtype)


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


def _quantized_dtype(zero_point: Known | None, output_dtype: Any) -> np.dtype[Any]:
    return np.dtype(output_dtype or UINT8) if zero_point is None else zero_point.dtype


@operation(
    "QuantizeLinear",
    signature=lambda x, scale, zero_point=None, *, output_dtype=None, **rest: Signature(
        x.shape, _quantized_dtype(zero_point, output_dtype)
    ),
)
def quantize_linear(
    x: AnyArray,
    scale: AnyArray,
    zero_point: AnyArray | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: Any = None,
    precision: Any = None,
    saturate: int = 1,
) -> AnyArray:
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
    x: AnyArray,
    scale: AnyArray,
    zero_point: AnyArray | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: Any = None,
) -> AnyArray:
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


operation(
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


def integer_product(
    A: AnyArray, B: AnyArray, a_zero: AnyArray | None = None, b_zero: AnyArray | None = None
) -> AnyArray:
    """(A - a_zero) (B - b_zero) in int32; zero points of rows of A and of columns of B."""
    a_axis = -2 if A.ndim > 1 else -1
    # in float64, these sums are exact
    return _wrap(np.matmul(_steps(A, a_zero, a_axis), _steps(B, b_zero, -1)))


operation("MatMulInteger", signature=lambda A, B, *others: Signature(product_shape(A.shape, B.shape), INT32))(
    integer_product
)


def integer_convolution(
    x: AnyArray, W: AnyArray, x_zero: AnyArray | None = None, w_zero: AnyArray | None = None, **options: Any
) -> AnyArray:
    """Convolve x - x_zero with W - w_zero in int32; the padding of x is x_zero."""
    if not W.size:
        return np.zeros(conv_signature(x, W, **options).shape, np.int32)
    return _wrap(convolve(_steps(x, x_zero, 1), _steps(W, w_zero, 0), None, options))


operation(
    "ConvInteger",
    signature=lambda x, W, *others, **options: conv_signature(x, W, **options)._replace(dtype=INT32),
    attributes=CONVOLUTION,
    combines=windows_combine,
)(integer_convolution)


@operation("QLinearMatMul", signature=lambda *x: Signature(product_shape(x[0].shape, x[3].shape), x[7].dtype))
def qlinear_matmul(*inputs: AnyArray) -> AnyArray:
    """The product of two quantized arrays, quantized."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
    sums = integer_product(a, b, a_zero, b_zero).astype(np.float32)
    rows, outputs, zero_points = (_row_scales(scale, a.ndim) for scale in (a_scale, y_scale, y_zero))
    columns = b_scale.reshape(-1) if b_scale.size > 1 else b_scale.reshape(())
    return round_and_clip(sums * (rows * columns / outputs).astype(np.float32), zero_points, y_zero.dtype)


def _row_scales(scale: AnyArray, rank: int) -> AnyArray:
    """Reshape the scales of the rows of an array, or of the whole."""
    if scale.size == 1:
        return scale.reshape(())
    return scale.reshape(-1, 1) if scale.ndim == 1 and rank > 1 else scale


@operation(
    "QLinearConv",
    signature=lambda *x, **options: conv_signature(x[0], x[3], *x[8:], **options)._replace(dtype=x[7].dtype),
    attributes=CONVOLUTION,
    combines=windows_combine,
)
def qlinear_conv(*inputs: Any, **attributes: Any) -> AnyArray:
    """The convolution of two quantized arrays, quantized; bias is in steps of x_scale w_scale."""
    every: list[Any] = [*inputs, *[None] * (9 - len(inputs))]
    x, x_scale, x_zero, W, w_scale, w_zero, y_scale, y_zero, bias = every
    sums = integer_convolution(x, W, x_zero, w_zero, **attributes)
    per_channel = [-1, *[1] * (x.ndim - 2)]
    if bias is not None:
        sums = sums + bias.reshape(per_channel)
    factor = (x_scale.reshape(()) * w_scale / y_scale.reshape(())).astype(np.float32)
    factor = factor.reshape(()) if factor.size == 1 else factor.reshape(per_channel)
    return round_and_clip(sums.astype(np.float32) * factor, y_zero.reshape(()), y_zero.dtype)


def _average_signature(x: Known, *others: Known | None, channels_last: int = 0) -> Signature:
    shape = [1] * len(x.shape)
    shape[0], shape[-1 if channels_last else 1] = x.shape[0], x.shape[-1 if channels_last else 1]
    return Signature(tuple(shape), x.dtype)


@operation("QLinearGlobalAveragePool", signature=_average_signature)
def qlinear_global_average_pool(
    x: AnyArray,
    x_scale: AnyArray,
    x_zero: Any,
    y_scale: AnyArray,
    y_zero: Any = None,
    *,
    channels_last: int = 0,
) -> AnyArray:
    """The mean of each channel of a quantized array, quantized."""
    axes = tuple(range(1, x.ndim - 1) if channels_last else range(2, x.ndim))
    zero = 0 if x_zero is None else x_zero.astype(np.int64)
    sums = (x.astype(np.int64) - zero).sum(axes, keepdims=True)
    count = np.float32(math.prod(x.shape[axis] for axis in axes))
    factor = x_scale.reshape(()) / (y_scale.reshape(()) * count)
    return round_and_clip(
        sums.astype(np.float32) * factor, 0 if y_zero is None else y_zero.reshape(()), x.dtype
    )


@combining("QuantizeLinear", "DequantizeLinear")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    x, scale = inputs[:2]
    rank = len(x.shape)  # type: ignore[union-attr]  # neither x nor scale is optional
    by_axis = math.prod(scale.shape) > 1 or node.attributes.get("block_size")  # type: ignore[union-attr]
    return [[node.attributes.get("axis", 1) % rank] if by_axis else [], range(rank)]


@combining("MatMulInteger", "QLinearMatMul")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    second = 1 if node.operation == "MatMulInteger" else 3  # the other inputs are scales and zero points
    ranks = [0 if value is None else len(value.shape) for value in inputs]
    found: list[Collection[int]] = list(map(range, ranks))
    found[0], found[second] = [max(0, ranks[0] - 1)], [max(0, ranks[second] - 2)]
    return found


over_time("ConvInteger", "QLinearConv")(windows_over_time)
