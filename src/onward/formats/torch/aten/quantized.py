"""Quantized values in programs of PyTorch 2 Export: integers x / scale + zero point, rounded half to even."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ....graph.operations.expressions import Expression, maximum, where
from .creation import filled
from .expressions import expression, promoted
from .registry import FLOAT32, INT64, Operand, Tensor, define
from .translator import Translator

SMALLEST = 1e-5  # 127 times the least scale of a row
EPSILON = float(np.finfo(np.float32).eps)  # the least scale of a row with a zero point


def _number(t: Translator, value: Operand, dtype: Any) -> Expression:
    """Return a number, or the only element of a tensor."""
    number = expression(t, value, dtype)
    return number.apply("Reshape", []) if isinstance(value, Tensor) and value.rank else number


def _along(numbers: Expression, x: Tensor, axis: int) -> Expression:
    """Return the numbers of an axis so that they broadcast against a tensor."""
    return numbers.apply("Reshape", [-1, *[1] * (x.rank - x.axis(axis) - 1)])


def _quantized(
    x: Expression,
    scale: Expression,
    zero_point: Expression,
    low: Any,
    high: Any,
    dtype: Any,
    rounds_sum: bool = False,
) -> str:
    steps = x * (1 / scale).cast(x.dtype)
    shifted = (steps + zero_point).apply("Round") if rounds_sum else steps.apply("Round") + zero_point
    return shifted.apply("Clip", low, high).cast(dtype).name


def quantize(
    t: Translator, x: Tensor, scale: Operand, zero_point: Operand, low: Operand, high: Operand, dtype: Any
) -> str:
    offset, first, last = (_number(t, value, FLOAT32) for value in (zero_point, low, high))
    return _quantized(expression(t, x, FLOAT32), _number(t, scale, np.float64), offset, first, last, dtype)


def quantize_channels(
    t: Translator, x: Tensor, scales: Tensor, zero_points: Tensor, axis: int, low: int, high: int, dtype: Any
) -> str:
    common = promoted(x, scales)
    numbers = expression(t, scales, scales.dtype), expression(t, zero_points, common)
    scale, offset = (_along(each, x, axis) for each in numbers)
    return _quantized(expression(t, x, common), scale, offset, low, high, dtype)


def quantize_rows(
    t: Translator, x: Tensor, scales: Tensor, zero_points: Tensor, low: int, high: int, dtype: Any
) -> str:
    common = promoted(x, scales)
    numbers = expression(t, scales, scales.dtype), expression(t, zero_points, common)
    return _quantized(expression(t, x, common), *numbers, low, high, dtype, rounds_sum=True)


def _dequantized(t: Translator, x: Tensor, scale: Expression, zero_point: Expression, axis: int) -> str:
    """Dequantize integers to float32; return "" unless the zero point is a constant of their dtype."""
    offset = t.known(zero_point.name)
    with np.errstate(all="ignore"):
        if offset is None or not np.array_equal(offset, offset.astype(x.dtype)):
            return ""
    integers = zero_point.cast(x.dtype).name
    return t.add("DequantizeLinear", x, scale.cast(FLOAT32).name, integers, axis=axis)


def dequantize(
    t: Translator, x: Tensor, scale: Operand, zero_point: Operand, low: Operand, high: Operand, dtype: Any,
    out_dtype: Any = None,
) -> str:  # fmt: skip
    wanted = FLOAT32 if out_dtype is None else out_dtype
    offset = _number(t, zero_point, zero_point.dtype if isinstance(zero_point, Tensor) else INT64)
    factor = _number(t, scale, wanted)
    if wanted == FLOAT32 and (found := _dequantized(t, x, factor, offset, 0)):
        return found
    return ((expression(t, x, wanted) - offset.cast(wanted)) * factor).name


def dequantize_channels(
    t: Translator, x: Tensor, scales: Tensor, zero_points: Tensor | None, axis: int, low: int, high: int,
    dtype: Any, out_dtype: Any = None,
) -> str:  # fmt: skip
    wanted, factors = FLOAT32 if out_dtype is None else out_dtype, expression(t, scales, scales.dtype)
    if zero_points is None:
        offsets = Expression(t, filled(t, t.sizes(scales), 0, x.dtype), x.dtype)
    else:
        offsets = expression(t, zero_points, zero_points.dtype)
    if wanted == FLOAT32 and factors.dtype != np.float16:
        if found := _dequantized(t, x, factors, offsets, x.axis(axis)):
            return found
    common = promoted(scales) if zero_points is None else promoted(scales, zero_points)
    steps = expression(t, x, common) - _along(offsets.cast(common), x, axis)
    return (steps * _along(factors.cast(common), x, axis)).cast(wanted).name


def dequantize_rows(
    t: Translator, x: Tensor, scales: Tensor, zero_points: Tensor, low: int, high: int, dtype: Any,
    out_dtype: Any = FLOAT32,
) -> str:  # fmt: skip
    factors = expression(t, scales, scales.dtype)
    steps = expression(t, x, factors.dtype) - expression(t, zero_points, factors.dtype)
    return (steps * factors).cast(out_dtype).name


def dequantize_groups(
    t: Translator, x: Tensor, scales: Tensor, zero_points: Tensor | None, low: int, high: int, dtype: Any,
    group_size: int, out_dtype: Any = FLOAT32,
) -> str:  # fmt: skip
    """The rows of a matrix, each group of columns with a scale and a zero point of its own."""
    size = min(group_size, x.shape[-1] or group_size)
    factors = expression(t, scales, scales.dtype).apply("Reshape", [-1, 1])
    steps = expression(t, x, factors.dtype).apply("Reshape", [-1, size])
    if zero_points is not None:
        steps = steps - expression(t, zero_points, factors.dtype).apply("Reshape", [-1, 1])
    return (steps * factors).apply("Reshape", t.shape(x)).cast(out_dtype).name


def _bounds(x: Expression, axes: Any = None) -> tuple[Expression, Expression]:
    """Return the least and the largest element over axes, of which 0 is always one."""
    keepdims = axes is not None
    least = x.reduce("ReduceMin", axes, keepdims).apply("Min", 0)
    return least, maximum(x.reduce("ReduceMax", axes, keepdims), 0)


def choose(
    t: Translator, x: Tensor, low: int, high: int, epsilon: float, dtype: Any, *, is_symmetric: bool = False
) -> tuple[str, ...]:
    """Return the scale and the zero point with which the integers cover the range of a tensor."""
    least, largest = _bounds(expression(t, x, x.dtype))
    if is_symmetric:
        scale = maximum((maximum(-least, largest) / ((high - low) / 2)).cast(FLOAT32), epsilon)
        zero_point = scale.constant(128 if dtype == np.uint8 else 0)
    else:
        scale = maximum(((largest - least) / (high - low)).cast(FLOAT32), epsilon)
        zero_point = (low - (least.cast(FLOAT32) / scale).apply("Round")).apply("Clip", low, high)
    return tuple(y.apply("Reshape", [1]).name for y in (scale.cast(np.float64), zero_point.cast(INT64)))


def choose_for_rows(t: Translator, x: Tensor, dtype: Any) -> tuple[str, str]:
    largest = abs(expression(t, x, FLOAT32)).reduce("ReduceMax", [-1], True)
    scales = (maximum(largest, SMALLEST) / 127).cast(np.float64)  # which programs declare
    return scales.name, (scales * 0).cast(INT64).name


def choose_zero_points_for_rows(t: Translator, x: Tensor, dtype: Any) -> tuple[str, str]:
    low, high = -128, 127
    least, largest = _bounds(expression(t, x, x.dtype), [-1])
    scales = maximum((largest - least) / (high - low), EPSILON)
    first, last = least / scales, largest / scales
    is_nearer = (low + first) + (high + last) > 0  # the zero point that follows from the least element
    zero_points = where(is_nearer, low - first, high - last).apply("Clip", low, high).apply("Round")
    return scales.cast(np.float64).name, zero_points.cast(INT64).name


# Parameters are numbers, tensors of one number, or these and the ends of the range as tensors.
OF_TENSORS: dict[str, Callable[..., Any]] = {
    f"{name}_per_tensor.{kind}": function
    for name, function in (("quantize", quantize), ("dequantize", dequantize))
    for kind in ("default", "tensor", "tensor2")
}
OPERATORS: dict[str, Callable[..., Any]] = {
    **OF_TENSORS,
    "quantize_per_channel.default": quantize_channels,
    "dequantize_per_channel.default": dequantize_channels,
    "quantize_per_token.default": quantize_rows,
    "dequantize_per_token.default": dequantize_rows,
    "dequantize_per_channel_group.default": dequantize_groups,
    "choose_qparams.tensor": choose,
    "choose_qparams_symmetric.tensor": partial(choose, is_symmetric=True),
    "choose_qparams_per_token.default": choose_for_rows,
    "choose_qparams_per_token_asymmetric.default": choose_zero_points_for_rows,
    "_choose_qparams_per_token_asymmetric_impl.default": choose_zero_points_for_rows,
}
define({f"quantized_decomposed.{name}": function for name, function in OPERATORS.items()})
