"""Quantization of floats to integers and back, and products of integers; sums of products are exact."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ...errors import DtypeError, ShapeError
from ...layers.conv import Filters
from ..node import AnyArray, Node, Signature
from .casting import cast_to
from .convolutions import CONVOLUTION, conv_geometry, conv_signature, pad_or_crop
from .products import product_shape
from .registry import Known, combining, operation, over_time
from .windows import windows_combine, windows_over_time

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


def saturate(x: AnyArray, zero_point: AnyArray | int, dtype: np.dtype[Any]) -> AnyArray:
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
    axis %= len(shape)
    if block_size:
        values = np.repeat(values, block_size, axis).take(np.arange(shape[axis]), axis)
    elif values.ndim == 1:
        values = values.reshape([-1 if place == axis else 1 for place in range(len(shape))])
    if np.broadcast_shapes(values.shape, tuple(shape)) != tuple(shape):
        raise ShapeError(f"scales of shape {values.shape} do not match an array of shape {tuple(shape)}")
    return values


def _zero_points(values: AnyArray | None, shape: Sequence[int], axis: int, block_size: int = 0) -> Any:
    return 0 if values is None else spread(values, shape, axis, block_size)


def quantize(
    x: AnyArray, scale: AnyArray, zero_point: Any, dtype: np.dtype[Any], saturates: bool = True
) -> AnyArray:
    """x / scale + zero_point in a dtype."""
    steps = x / scale
    if integer_range(dtype) is not None:
        return saturate(steps, zero_point, dtype)
    return cast_to(steps, dtype, saturates)


def dequantize(x: AnyArray, scale: AnyArray, zero_point: Any = None) -> AnyArray:
    """(x - zero_point) scale in float32."""
    if integer_range(x.dtype) is None:
        return x.astype(np.float32) * scale.astype(np.float32)
    steps = x.astype(np.int64) - (0 if zero_point is None else np.asarray(zero_point).astype(np.int64))
    return np.asarray(steps.astype(np.float32) * scale.astype(np.float32))


def _quantized_dtype(zero_point: Known | None, output_dtype: Any) -> np.dtype[Any]:
    if zero_point is not None:
        return zero_point.dtype
    return np.dtype(output_dtype or UINT8)


def _quantize_signature(
    x: Known, scale: Known, zero_point: Known | None = None, *, output_dtype: Any = None, **attributes: Any
) -> Signature:
    return Signature(x.shape, _quantized_dtype(zero_point, output_dtype))


@operation("QuantizeLinear", signature=_quantize_signature)
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
    zero_points = _zero_points(zero_point, x.shape, axis, block_size)
    return quantize(x.astype(computed), scales, zero_points, dtype, bool(saturate))


def _dequantize_signature(
    x: Known, scale: Known, zero_point: Known | None = None, *, output_dtype: Any = None, **attributes: Any
) -> Signature:
    return Signature(x.shape, np.dtype(output_dtype or scale.dtype))


@operation("DequantizeLinear", signature=_dequantize_signature)
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
    zero_points = _zero_points(zero_point, x.shape, axis, block_size)
    return dequantize(x, spread(scale, x.shape, axis, block_size), zero_points).astype(dtype)


def quantize_dynamically(x: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Return x in uint8, the scale and the zero point; they depend on the range of x, which includes 0."""
    low, high = x.min(initial=0), x.max(initial=0)
    scale = np.float32((high - low) / np.float32(255)) if high > low else np.float32(1)
    zero_point = np.rint(np.clip(-low / scale, 0, 255)).astype(np.uint8)
    return saturate(x / scale, zero_point, UINT8), np.asarray(scale), np.asarray(zero_point)


def _dynamic_signature(x: Known) -> list[Signature]:
    return [Signature(x.shape, UINT8), Signature((), FLOAT32), Signature((), UINT8)]


@operation("DynamicQuantizeLinear", signature=_dynamic_signature)
def dynamic_quantize_linear(x: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray]:
    """x in uint8, its scale and its zero point."""
    return quantize_dynamically(x)


def _steps(x: AnyArray, zero_point: AnyArray | None, axis: int) -> AnyArray:
    """Return x - zero_point, which has one element or one for each slice of an axis, in float64."""
    if zero_point is None:
        return x.astype(np.float64)
    if zero_point.size == 1:
        zero_point = zero_point.reshape(())
    elif zero_point.ndim == 1:
        zero_point = zero_point.reshape([-1 if place == axis % x.ndim else 1 for place in range(x.ndim)])
    return np.asarray(x.astype(np.float64) - zero_point.astype(np.float64))


def _wrap(x: AnyArray) -> AnyArray:
    """Return integers in float64 as int32, modulo 2^32."""
    return x.astype(np.int64).astype(np.int32)


def integer_product(A: AnyArray, B: AnyArray, a_zero: AnyArray | None, b_zero: AnyArray | None) -> AnyArray:
    """(A - a_zero) (B - b_zero) in int32; zero points of rows of A and of columns of B."""
    a_axis = -2 if A.ndim > 1 else -1
    return _wrap(
        np.matmul(_steps(A, a_zero, a_axis), _steps(B, b_zero, -1))
    )  # in float64, these sums are exact


def _integer_signature(A: Known, B: Known, *zero_points: Known | None) -> Signature:
    return Signature(product_shape(A.shape, B.shape), INT32)


@operation("MatMulInteger", signature=_integer_signature)
def matmul_integer(
    A: AnyArray, B: AnyArray, a_zero: AnyArray | None = None, b_zero: AnyArray | None = None
) -> AnyArray:
    """(A - a_zero) (B - b_zero) in int32."""
    return integer_product(A, B, a_zero, b_zero)


def integer_convolution(
    x: AnyArray, W: AnyArray, x_zero: AnyArray | None, w_zero: AnyArray | None, attributes: dict[str, Any]
) -> AnyArray:
    """Convolve x - x_zero with W - w_zero in int32; the padding of x is x_zero."""
    g = conv_geometry(x, W, attributes)
    y = np.zeros((x.shape[0], W.shape[0], *g.out))
    if y.size and W.size:
        filters = Filters(np.ascontiguousarray(_steps(W, w_zero, 0)), None, attributes.get("group", 1))
        padded = pad_or_crop(_steps(x, x_zero, 1), g.sides)
        y = filters(padded, g.strides, [(0, 0)] * len(g.kernel), g.dilations)
    return _wrap(y)


def _conv_integer_signature(x: Known, W: Known, *zero_points: Known | None, **attributes: Any) -> Signature:
    return conv_signature(x, W, **attributes)._replace(dtype=INT32)


@operation("ConvInteger", signature=_conv_integer_signature, attributes=CONVOLUTION)
def conv_integer(
    x: AnyArray,
    W: AnyArray,
    x_zero: AnyArray | None = None,
    w_zero: AnyArray | None = None,
    **attributes: Any,
) -> AnyArray:
    """The convolution of x - x_zero with W - w_zero in int32."""
    return integer_convolution(x, W, x_zero, w_zero, attributes)


def _qlinear_matmul_signature(a: Known, a_scale: Known, a_zero: Known, b: Known, *rest: Known) -> Signature:
    return Signature(product_shape(a.shape, b.shape), rest[3].dtype)


@operation("QLinearMatMul", signature=_qlinear_matmul_signature)
def qlinear_matmul(
    a: AnyArray,
    a_scale: AnyArray,
    a_zero: AnyArray,
    b: AnyArray,
    b_scale: AnyArray,
    b_zero: AnyArray,
    y_scale: AnyArray,
    y_zero: AnyArray,
) -> AnyArray:
    """The product of two quantized arrays, quantized."""
    sums = integer_product(a, b, a_zero, b_zero).astype(np.float32)
    rows, columns, outputs = (
        _row_scales(a_scale, a.ndim),
        b_scale.reshape(-1) if b_scale.size > 1 else b_scale.reshape(()),
        y_scale.reshape(()) if y_scale.size == 1 else _row_scales(y_scale, a.ndim),
    )
    factor = (rows * columns / outputs).astype(np.float32)
    return saturate(sums * factor, _row_scales(y_zero, a.ndim), y_zero.dtype)


def _row_scales(scale: AnyArray, rank: int) -> AnyArray:
    """Reshape the scales of the rows of an array, or of the whole."""
    if scale.size == 1:
        return scale.reshape(())
    return scale.reshape(-1, 1) if scale.ndim == 1 and rank > 1 else scale


def _qlinear_conv_signature(
    x: Known, x_scale: Known, x_zero: Known, W: Known, *rest: Known, **attributes: Any
) -> Signature:
    bias = rest[4] if len(rest) > 4 else None
    return conv_signature(x, W, bias, **attributes)._replace(dtype=rest[3].dtype)


@operation("QLinearConv", signature=_qlinear_conv_signature, attributes=CONVOLUTION)
def qlinear_conv(
    x: AnyArray,
    x_scale: AnyArray,
    x_zero: AnyArray,
    W: AnyArray,
    w_scale: AnyArray,
    w_zero: AnyArray,
    y_scale: AnyArray,
    y_zero: AnyArray,
    bias: AnyArray | None = None,
    **attributes: Any,
) -> AnyArray:
    """The convolution of two quantized arrays, quantized; bias is in steps of x_scale w_scale."""
    sums = integer_convolution(x, W, x_zero, w_zero, attributes)
    per_channel = [-1, *[1] * (x.ndim - 2)]
    if bias is not None:
        sums = sums + bias.reshape(per_channel)
    factor = (x_scale.reshape(()) * w_scale / y_scale.reshape(())).astype(np.float32)
    factor = factor.reshape(()) if factor.size == 1 else factor.reshape(per_channel)
    return saturate(sums.astype(np.float32) * factor, y_zero.reshape(()), y_zero.dtype)


def _average_signature(x: Known, *others: Known | None, channels_last: int = 0) -> Signature:
    ones = [1] * (len(x.shape) - 2)
    shape = (x.shape[0], *ones, x.shape[-1]) if channels_last else (*x.shape[:2], *ones)
    return Signature(shape, x.dtype)


@operation("QLinearGlobalAveragePool", signature=_average_signature)
def qlinear_global_average_pool(
    x: AnyArray,
    x_scale: AnyArray,
    x_zero: AnyArray | None,
    y_scale: AnyArray,
    y_zero: AnyArray | None = None,
    *,
    channels_last: int = 0,
) -> AnyArray:
    """The mean of each channel of a quantized array, quantized."""
    axes = tuple(range(1, x.ndim - 1) if channels_last else range(2, x.ndim))
    zero = 0 if x_zero is None else x_zero.astype(np.int64)
    sums = (x.astype(np.int64) - zero).sum(axes, keepdims=True)
    count = np.float32(math.prod(x.shape[axis] for axis in axes))
    factor = x_scale.reshape(()) / (y_scale.reshape(()) * count)
    return saturate(sums.astype(np.float32) * factor, 0 if y_zero is None else y_zero.reshape(()), x.dtype)


@combining("QuantizeLinear", "DequantizeLinear")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    x, scale = inputs[:2]
    assert x is not None
    assert scale is not None
    by_axis = math.prod(scale.shape) > 1 or node.attributes.get("block_size")
    return [[node.attributes.get("axis", 1) % len(x.shape)] if by_axis else [], range(len(x.shape))]


@combining("DynamicQuantizeLinear")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    """The scale depends on all elements."""
    return [range(len(inputs[0].shape))]  # type: ignore[union-attr]  # x is not optional


FACTORS = {"MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}  # the other inputs are scales and zero points


@combining(*FACTORS)
def product_combines(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    """Return the axes that quantized products sum over."""
    ranks = [0 if value is None else len(value.shape) for value in inputs]
    found: list[Collection[int]] = [range(rank) for rank in ranks]
    for place, axis in zip(FACTORS[node.operation], (-1, -2), strict=True):
        found[place] = [max(0, ranks[place] + axis)]
    return found


combining("ConvInteger", "QLinearConv")(windows_combine)
over_time("ConvInteger", "QLinearConv")(windows_over_time)
