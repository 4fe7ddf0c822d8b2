"""Operators of integers as operators of real numbers, between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ...graph.node import AnyArray
from ...graph.operations.quantization import spread
from .read import NO_SCALES, NO_ZERO_POINTS, Operator, Tensor
from .registry import ANY, FLOAT32, FLOATS, Call, Value, operator

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
    """The real numbers of constant integers."""

    integers: AnyArray | None = None
    tensor: Tensor
    axis = 0  # that of the scales

    @property
    def known(self) -> AnyArray | None:
        """Their array."""
        if self.integers is None:
            return super().known
        numbers = _numbers(self.tensor, np.int64)
        scales, zeros = (spread(each, self.integers.shape, self.axis) for each in numbers)
        found: AnyArray = (self.integers - zeros).astype(np.float32) * scales
        return found

    def permuted(self, *perm: int) -> Value:
        """Return the axes in another order; the integers are stored in it."""
        if self.integers is None:
            return super().permuted(*perm)
        return _weights(self.t, self.integers.transpose(perm), self.tensor, perm.index(self.axis))


def _weights(t: Any, integers: AnyArray, tensor: Tensor, axis: int) -> Value:
    operands = [integers, *_numbers(tensor, integers.dtype)]
    names = [t.cast(each, each.dtype) for each in operands[: 3 - (integers.dtype == np.int32)]]
    found = Weights(t, t.add("DequantizeLinear", *names, axis=axis), FLOAT32)
    found.integers, found.tensor, found.axis = integers, tensor, axis
    return found


def _numbers(tensor: Tensor, dtype: Any) -> tuple[AnyArray, AnyArray]:
    """Return the scales and the zero points, one for all or one for each slice of the axis."""
    scales = tensor.per_channel.astype(np.float32)
    zeros = tensor.zero_points if len(tensor.zero_points) > 1 else np.full(scales.shape, tensor.zero_point)
    return scales, zeros.astype(dtype)


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
    if x.known is not None and x.dtype != np.int64:
        return _weights(x.t, x.known, tensor, tensor.axis)
    _check(tensor)
    constants = [Value(x.t, x.t.cast(n, n.dtype), n.dtype) for n in _numbers(tensor, x.dtype)]
    return x.apply("DequantizeLinear", *constants, dtype=FLOAT32, axis=tensor.axis)


def representable(y: Any, tensor: Tensor) -> Any:
    """Return the nearest numbers that the integers of a tensor stand for, if those are its own."""
    integers = tensor.integers
    return y if integers is None else dequantized(quantized(y, integers), integers)


def quantized(y: Any, tensor: Tensor) -> Any:
    """Return the nearest integers that stand for real numbers, if the tensor has integers."""
    if not tensor.is_quantized or y.dtype.kind != "f":
        return y
    _check(tensor)
    constants = [Value(y.t, y.t.cast(n, n.dtype), n.dtype) for n in _numbers(tensor, tensor.dtype)]
    return y.apply("QuantizeLinear", *constants, dtype=tensor.dtype, axis=tensor.axis)
