"""onnxruntime's operations on quantized arrays: dequantize, compute in float32, quantize."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ...errors import ShapeError
from ...layers.activation import Activation
from ..node import AnyArray, Node, Signature
from .normalization import softmax
from .pooling import average_pool
from .products import product_shape
from .quantization import (
    dequantize,
    integer_product,
    product_combines,
    quantize,
    quantize_dynamically,
    saturate,
)
from .registry import Known, combining, elementwise, operation


def _requantize(y: AnyArray, scale: AnyArray, zero_point: AnyArray | None, dtype: np.dtype[Any]) -> AnyArray:
    return quantize(y, scale.reshape(()), 0 if zero_point is None else zero_point.reshape(()), dtype)


def _scaled_product(sums: AnyArray, a_scale: AnyArray, b_scale: AnyArray, bias: AnyArray | None) -> AnyArray:
    """Return the integer sums in float32; b_scale may be of columns."""
    columns = b_scale.reshape(()) if b_scale.size == 1 else b_scale
    y = sums.astype(np.float32) * (a_scale.reshape(()) * columns)
    return np.asarray(y if bias is None else y + bias)


def _float_product_signature(A: Known, B: Known, *others: Known | None) -> Signature:
    return Signature(product_shape(A.shape, B.shape), np.dtype(np.float32))


@operation("MatMulIntegerToFloat", signature=_float_product_signature)
def matmul_integer_to_float(
    A: AnyArray,
    B: AnyArray,
    a_scale: AnyArray,
    b_scale: AnyArray,
    a_zero: AnyArray | None = None,
    b_zero: AnyArray | None = None,
    bias: AnyArray | None = None,
) -> AnyArray:
    """a_scale b_scale (A - a_zero) (B - b_zero) + bias."""
    return _scaled_product(integer_product(A, B, a_zero, b_zero), a_scale, b_scale, bias)


@operation("DynamicQuantizeMatMul", signature=_float_product_signature)
def dynamic_quantize_matmul(
    A: AnyArray, B: AnyArray, b_scale: AnyArray, b_zero: AnyArray | None = None, bias: AnyArray | None = None
) -> AnyArray:
    """b_scale A (B - b_zero) + bias, with A quantized to uint8 as a whole."""
    quantized, a_scale, a_zero = quantize_dynamically(A)
    return _scaled_product(integer_product(quantized, B, a_zero, b_zero), a_scale, b_scale, bias)


def _gemm_signature(
    A: Known,
    a_scale: Known,
    a_zero: Known,
    B: Known,
    b_scale: Known,
    b_zero: Known,
    C: Known | None = None,
    y_scale: Known | None = None,
    y_zero: Known | None = None,
    *,
    transA: int = 0,
    transB: int = 0,
    **attributes: Any,
) -> Signature:
    rows, columns = A.shape[::-1] if transA else A.shape, B.shape[::-1] if transB else B.shape
    return Signature(product_shape(rows, columns), np.dtype(np.float32) if y_zero is None else y_zero.dtype)


@operation("QGemm", signature=_gemm_signature)
def qgemm(
    A: AnyArray,
    a_scale: AnyArray,
    a_zero: AnyArray,
    B: AnyArray,
    b_scale: AnyArray,
    b_zero: AnyArray,
    C: AnyArray | None = None,
    y_scale: AnyArray | None = None,
    y_zero: AnyArray | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> AnyArray:
    """alpha a_scale b_scale ((A - a_zero) (B - b_zero) + C), in float32 or quantized."""
    sums = integer_product(A.T if transA else A, B.T if transB else B, a_zero, b_zero)
    y = _scaled_product(sums if C is None else sums + C, np.float32(alpha) * a_scale, b_scale, None)
    return y if y_scale is None or y_zero is None else _requantize(y, y_scale, y_zero, y_zero.dtype)


def _binary_signature(
    A: Known, a_scale: Known, a_zero: Known | None, B: Known, *rest: Known | None
) -> Signature:
    return Signature(np.broadcast_shapes(A.shape, B.shape), A.dtype)


def _register_binary(name: str, function: Any) -> None:
    @operation(name, signature=_binary_signature)
    def binary(
        A: AnyArray,
        a_scale: AnyArray,
        a_zero: AnyArray | None,
        B: AnyArray,
        b_scale: AnyArray,
        b_zero: AnyArray | None,
        y_scale: AnyArray,
        y_zero: AnyArray | None = None,
    ) -> AnyArray:
        y = function(dequantize(A, a_scale, a_zero), dequantize(B, b_scale, b_zero))
        return _requantize(y, y_scale, y_zero, A.dtype)


_register_binary("QLinearAdd", np.add)
_register_binary("QLinearMul", np.multiply)


def _unary_signature(x: Known, *others: Known | None, **attributes: Any) -> Signature:
    return Signature.of(x)


@operation("QLinearSigmoid", signature=_unary_signature)
def qlinear_sigmoid(
    x: AnyArray,
    x_scale: AnyArray,
    x_zero: AnyArray | None,
    y_scale: AnyArray,
    y_zero: AnyArray | None = None,
) -> AnyArray:
    """The sigmoid of a quantized array, quantized."""
    return _requantize(Activation("sigmoid")(dequantize(x, x_scale, x_zero)), y_scale, y_zero, x.dtype)


@operation("QLinearLeakyRelu", signature=_unary_signature)
def qlinear_leaky_relu(
    x: AnyArray,
    x_scale: AnyArray,
    x_zero: AnyArray | None,
    y_scale: AnyArray,
    y_zero: AnyArray | None = None,
    *,
    alpha: float = 0.01,
) -> AnyArray:
    """x, or alpha x where x < 0, of a quantized array, quantized."""
    y = Activation("leaky_relu", alpha)(dequantize(x, x_scale, x_zero))
    return _requantize(y, y_scale, y_zero, x.dtype)


@operation("QLinearSoftmax", signature=_unary_signature)
def qlinear_softmax(
    x: AnyArray,
    x_scale: AnyArray,
    x_zero: AnyArray | None,
    y_scale: AnyArray,
    y_zero: AnyArray | None = None,
    *,
    axis: int = -1,
    opset: int = 13,
) -> AnyArray:
    """The softmax of a quantized array, quantized; before opset 13, over all axes from `axis` on."""
    floats = dequantize(x, x_scale, x_zero)
    if opset < 13:
        axis %= max(1, x.ndim)
        rows = floats.reshape(*x.shape[:axis], -1) if x.size else floats
        (y,) = softmax.compute([rows], {"axis": -1})
    else:
        (y,) = softmax.compute([floats], {"axis": axis})
    return _requantize(y.reshape(x.shape), y_scale, y_zero, x.dtype)


def _pool_signature(x: Known, *others: Known | None, channels_last: int = 0, **attributes: Any) -> Signature:
    first = Signature(_channels_first(x.shape), x.dtype) if channels_last else x
    found = average_pool.signatures([Signature.of(first)], attributes)
    if found is None:
        raise ShapeError(f"x has shape {x.shape}; expected (N, C, ...)")
    shape = found[0].shape
    return Signature((shape[0], *shape[2:], shape[1]) if channels_last else shape, x.dtype)


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[-1], *shape[1:-1])


@operation("QLinearAveragePool", signature=_pool_signature)
def qlinear_average_pool(
    x: AnyArray,
    x_scale: AnyArray,
    x_zero: AnyArray | None,
    y_scale: AnyArray,
    y_zero: AnyArray | None = None,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> AnyArray:
    """The average of each window of a quantized array, quantized."""
    options = {
        **{"kernel_shape": kernel_shape, "auto_pad": auto_pad, "ceil_mode": ceil_mode, "pads": pads},
        **{"count_include_pad": count_include_pad, "strides": strides},
    }
    floats = dequantize(x, x_scale, x_zero)
    (y,) = average_pool.compute([np.moveaxis(floats, -1, 1) if channels_last else floats], options)
    return _requantize(np.moveaxis(y, 1, -1) if channels_last else y, y_scale, y_zero, x.dtype)


def _global_signature(x: Known, *others: Known | None, channels_last: int = 0) -> Signature:
    ones = [1] * (len(x.shape) - 2)
    shape = (x.shape[0], *ones, x.shape[-1]) if channels_last else (*x.shape[:2], *ones)
    return Signature(shape, x.dtype)


@operation("QLinearGlobalAveragePool", signature=_global_signature)
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


def _concat_signature(y_scale: Known, y_zero: Known, *inputs: Known, axis: int) -> Signature:
    arrays = inputs[::3]
    shape = list(arrays[0].shape)
    shape[axis] = sum(a.shape[axis] for a in arrays)
    return Signature(tuple(shape), y_zero.dtype)


@operation("QLinearConcat", signature=_concat_signature)
def qlinear_concat(y_scale: AnyArray, y_zero: AnyArray, *inputs: AnyArray, axis: int) -> AnyArray:
    """Quantized arrays joined along an axis; `inputs` are an array, its scale and its zero point in turn."""
    parts = [
        _requantize(dequantize(x, scale, zero), y_scale, y_zero, y_zero.dtype)
        for x, scale, zero in zip(inputs[::3], inputs[1::3], inputs[2::3], strict=True)
    ]
    return np.concatenate(parts, axis)


combining("MatMulIntegerToFloat", "QGemm")(product_combines)
combining("QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu")(elementwise)


@combining("QLinearConcat")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    return [[node.attributes["axis"] % len(inputs[2].shape)]]  # type: ignore[union-attr]  # it is not optional


@combining("DynamicQuantizeMatMul")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    """The scale of A depends on all its elements."""
    return [range(len(inputs[0].shape)), range(len(inputs[1].shape)), ()]  # type: ignore[union-attr]  # as above
