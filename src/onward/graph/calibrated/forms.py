"""How integers stand for real numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..node import AnyArray
from ..operations.integer_expressions import IntegerExpression


class Form(NamedTuple):
    """Integers q that stand for scale (q - zero_point). Those of 16 bits are in int32."""

    scale: float
    zero_point: int = 0
    bits: int = 8

    @classmethod
    def of(cls, low: float, high: float) -> Form:
        """Return the form of 8 bits for numbers from low to high, which include 0."""
        scale = float(np.float32((high - low) / 255)) or 1.0
        return cls(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))

    @classmethod
    def of_16_bits(cls, size: float) -> Form:
        """Return the form for numbers from -size to size, whose scale is a power of two."""
        exponent = int(np.ceil(np.log2(max(size, 2.0**-8))))
        return cls(2.0 ** (exponent - 15), 0, 16)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the integers."""
        return np.dtype(np.int8 if self.bits == 8 else np.int32)

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer."""
        return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1

    def quantized(self, x: AnyArray) -> AnyArray:
        """Return real numbers as integers."""
        steps = np.rint(np.nan_to_num(x.astype(np.float64)) / self.scale) + self.zero_point
        found: AnyArray = np.clip(steps, *self.limits).astype(self.dtype)
        return found

    def real(self, q: AnyArray) -> AnyArray:
        """Return integers as real numbers."""
        return ((q.astype(np.float64) - self.zero_point) * self.scale).astype(np.float32)


Q15 = Form(2.0**-15, 0, 16)  # from -1 to 1
Q12 = 2.0**-12  # the scale of the arguments of gates, which reach from -8 to 8


def matrix(W: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Return rows as int8, from -127 to 127, and their scales."""
    largest = np.abs(W.reshape(len(W), -1)).max(1, initial=0).astype(np.float64)
    scales = np.where(largest > 0, largest / 127, 1.0)
    q = np.rint(W / scales.reshape(-1, *[1] * (W.ndim - 1)))
    return np.clip(q, -127, 127).astype(np.int8), scales


class Integers(IntegerExpression):
    """Integers in a graph that is being written."""

    def scaled(self, value: Any, form: Form, limits: tuple[int, int] | None = None) -> Any:
        """Return int32 times a factor, or one for each unit, in the integers of a form."""
        return self.times(value, form.dtype, limits or form.limits, form.zero_point)


def times(x: Integers, form: Form, rows: AnyArray, bias: AnyArray) -> tuple[Any, AnyArray]:
    """Return exact sums of the products of x with rows, plus a bias, and the scales of the units."""
    W, scales = matrix(rows)
    scales = scales * form.scale
    sums = x.product(W.T, form.zero_point)
    start = steps_of(bias, scales)
    return (sums + sums.number(start, np.int32) if start.any() else sums), scales


def steps_of(bias: AnyArray, scales: AnyArray) -> AnyArray:
    """Return a bias in steps of the scales."""
    return np.clip(np.rint(bias / scales), -(2**30), 2**30).astype(np.int32)
