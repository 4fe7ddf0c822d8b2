"""Operators of integers as operators of real numbers, between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import ArgumentError
from .read import NO_SCALES, NO_ZERO_POINTS, Operator, Tensor
from .registry import ANY, FLOAT32, FLOATS, INT32, Call, Value, operator

CONTROL = ("WHILE", "IF", "CALL_ONCE")


def are_needed(operator: Operator, tensors: Sequence[Tensor | None]) -> bool:
    """Whether an operator computes with what integers stand for, rather than moving those of one scale."""
    found = {(x.type, *x.scales, *x.zero_points) for x in tensors if x is not None and x.is_quantized}
    return len(found) > (operator.kind in ANY) and operator.kind not in CONTROL


def plain(tensor: Any) -> Any:
    """Return the tensor of the real numbers that integers stand for, or None, or another tensor as it is."""
    if tensor is None or not tensor.is_quantized:
        return tensor
    return replace(tensor, type="float32", scales=NO_SCALES, zero_points=NO_ZERO_POINTS, integers=tensor)


class Weights(Value):
    """The real numbers of constant integers, which are stored in the order of their axes."""

    integers: Any = None
    tensor: Tensor
    axis = 0  # that of the scales

    def permuted(self, *perm: int) -> Value:
        """Return the axes in another order."""
        if self.integers is None:
            return super().permuted(*perm)
        return real(self.integers.permuted(*perm), self.tensor, perm.index(self.axis))


def real(x: Any, tensor: Tensor, axis: int) -> Value:
    """Return the real numbers that integers of a tensor stand for, with the scales along an axis."""
    numbers = _numbers(x, tensor)
    numbers = numbers[:1] if x.dtype == INT32 and not tensor.zero_points.any() else numbers
    found = Weights(x.t, x.apply("DequantizeLinear", *numbers, axis=axis).name, FLOAT32)
    if x.known is not None:
        found.integers, found.tensor, found.axis = x, tensor, axis
    return found


def _numbers(x: Any, tensor: Tensor) -> list[Any]:
    """Return the scales and the zero points, one for all or one for each slice of the axis."""
    scales = tensor.per_channel
    zeros = tensor.zero_points if len(tensor.zero_points) > 1 else np.full(scales.shape, tensor.zero_point)
    return [x.number(scales, np.float32), x.number(zeros, tensor.inner_dtype)]


def _check(tensor: Tensor) -> None:
    if tensor.type not in ("int8", "uint8"):
        raise ArgumentError(
            f"qdq=True: the tensor {tensor.name} has the type {tensor.type}; expected int8 or uint8. "
            "Load the file without qdq"
        )


@operator(FLOATS, "QUANTIZE")
def quantize(call: Call, x: Value) -> Value:
    """The same numbers: `quantized` rounds what an operator returns."""
    if call.y.type != x.dtype:
        raise call.refuse(f"a conversion of {x.dtype} to {call.y.type} without scales")
    return x


def dequantized(x: Any, tensor: Tensor | None) -> Any:
    """Return the real numbers that integers stand for, or a value that is none of integers."""
    if x is None or tensor is None or not tensor.is_quantized or x.dtype.kind == "f":
        return x
    if x.known is None or x.dtype == np.int64:
        _check(tensor)
    return real(x, tensor, tensor.axis)


def representable(y: Any, tensor: Tensor) -> Any:
    """Return the nearest numbers that the integers of a tensor stand for, if those are its own."""
    integers = tensor.integers
    return y if integers is None else dequantized(quantized(y, integers), integers)


def quantized(y: Any, tensor: Tensor) -> Any:
    """Return the nearest integers that stand for real numbers, if the tensor has integers."""
    if not tensor.is_quantized or y.dtype.kind != "f":
        return y
    _check(tensor)
    return y.apply("QuantizeLinear", *_numbers(y, tensor), dtype=tensor.dtype, axis=tensor.axis)
