"""Expressions of integers that stand for real numbers."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from ..node import AnyArray
from .expressions import Expression

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

    def looked_up(self, table: AnyArray, low: int, dtype: Any, bits: int = 0) -> Any:
        """Return the numbers of a table that starts at an integer, or between those 2^bits integers apart."""
        options = {"bits": bits} if bits else {}
        operands = self.number(table, dtype), self.number(low, INT32)
        return self.apply("Lookup", *operands, dtype=np.dtype(dtype), **options)

    def number(self, value: Any, dtype: Any) -> Self:
        """Return a constant of another dtype."""
        return type(self)(self.t, self.t.cast(value, dtype), np.dtype(dtype))
