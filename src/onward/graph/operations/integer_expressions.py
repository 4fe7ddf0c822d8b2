"""Expressions of integers that stand for real numbers."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from ..node import AnyArray
from .expressions import Expression
from .fixed_factors import INT16_LIMITS, INT32_LIMITS, factors

INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)


class IntegerExpression(Expression):
    """A value that may consist of integers which stand for real numbers."""

    def rescaled(
        self, multiplier: Any, shift: Any, dtype: Any, limits: tuple[int, int], zero: int = 0
    ) -> Any:
        """Multiply int32 by a factor, or int64 with one rounding, add a zero point and clip."""
        factor = [n if isinstance(n, Expression) else self.number(n, INT32) for n in (multiplier, shift)]
        numbers = [self.number(n, dtype) for n in (zero, *limits)]
        operation = "RescaleOnce" if self.dtype == INT64 else "Rescale"
        return self.apply(operation, *factor, *numbers, dtype=np.dtype(dtype))

    def times(
        self, value: Any, dtype: Any = INT32, limits: tuple[int, int] = INT32_LIMITS, zero: int = 0
    ) -> Any:
        """Multiply by a real number, or by one for each unit; otherwise like `rescaled`."""
        shape = np.shape(value)
        multiplier, shift = (each.reshape(shape) for each in factors(np.ravel(value)))
        return self.rescaled(multiplier, shift, dtype, limits, zero)

    def shifted(self, n: int) -> Any:
        """Return x / 2^n, rounded, ties away from zero."""
        return self.rescaled(1 << 30, 1 - n, INT32, INT32_LIMITS)

    def saturated(self) -> Any:
        """Clip to 16 bits."""
        return self.apply("Clip", *INT16_LIMITS)

    def centered(self, zero_point: int) -> Any:
        """Return the difference from a zero point in int32."""
        wide = self.cast(INT32)
        return wide - zero_point if zero_point else wide

    def product(self, W: Any, zero_point: int, W_zero_point: int = 0) -> Any:
        """Return exact products with a matrix (K, N), an array or an expression, in int32."""
        weights = W if isinstance(W, Expression) else self.number(W, W.dtype)
        zero = self.number(W_zero_point, weights.dtype) if W_zero_point else None
        return self.apply("MatMulInteger", weights, self.number(zero_point, self.dtype), zero, dtype=INT32)

    def looked_up(self, table: AnyArray, low: int, dtype: Any, bits: int = 0) -> Any:
        """Return the numbers of a table that starts at an integer, or between those 2^bits integers apart."""
        options = {"bits": bits} if bits else {}
        operands = self.number(table, dtype), self.number(low, INT32)
        return self.apply("Lookup", *operands, dtype=np.dtype(dtype), **options)

    def split(self, n: int) -> list[Any]:
        """Return n equal parts of the last axis."""
        names = self.t.add_all("Split", [self.name], n, axis=-1, num_outputs=n)
        return [type(self)(self.t, name, self.dtype) for name in names]

    def number(self, value: Any, dtype: Any) -> Self:
        """Return a constant of another dtype."""
        return type(self)(self.t, self.t.cast(value, dtype), np.dtype(dtype))
