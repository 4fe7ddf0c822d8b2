"""Values that Python's operators combine, and functions of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

BOOL: np.dtype[Any] = np.dtype(np.bool_)
OPERANDS = str, list, tuple, range, np.ndarray  # besides expressions and numbers: names and integers


def _method(
    operation: str, dtype: Any = None, is_swapped: bool = False
) -> Callable[[Expression, Any], Expression]:
    """Return an operation on two values as a method, whose result has their dtype or the given one."""
    if is_swapped:
        return lambda self, other: self.constant(other).apply(operation, self)
    return lambda self, other: self.apply(operation, other, dtype=dtype)


class Expression:
    """A value of a graph; operands are expressions of the same dtype, and numbers."""

    __slots__ = ("dtype", "name", "t")

    def __init__(self, t: Any, name: str, dtype: np.dtype[Any]) -> None:
        self.t, self.name, self.dtype = t, name, dtype

    def apply(self, operation: str, *others: Any, dtype: Any = None, **attributes: Any) -> Expression:
        """Return an operation on this value and others: expressions, numbers, lists of integers, or None."""
        found = self.t.add(operation, self.name, *map(self._operand, others), **attributes)
        return type(self)(self.t, found, self.dtype if dtype is None else dtype)

    def _operand(self, x: Any) -> Any:
        if isinstance(x, Expression):
            return x.name
        return x if x is None or isinstance(x, OPERANDS) else self.t.cast(x, self.dtype)

    def constant(self, value: Any) -> Expression:
        """Return a number, or an array of them, of this dtype."""
        return type(self)(self.t, self.t.cast(value, self.dtype), self.dtype)

    def reduce(self, operation: str, axes: Any = None, keepdims: bool = False) -> Expression:
        """Return a reduction over axes, by default over all."""
        return self.apply(operation, axes, keepdims=int(keepdims))

    def cast(self, dtype: Any) -> Expression:
        """Return the value in another dtype."""
        wanted = np.dtype(dtype)
        return self if wanted == self.dtype else self.apply("Cast", dtype=wanted, to=wanted)

    __add__, __radd__ = _method("Add"), _method("Add", is_swapped=True)
    __sub__, __rsub__ = _method("Sub"), _method("Sub", is_swapped=True)
    __mul__, __rmul__ = _method("Mul"), _method("Mul", is_swapped=True)
    __truediv__, __rtruediv__ = _method("Div"), _method("Div", is_swapped=True)
    __pow__, __and__, __or__ = _method("Pow"), _method("And"), _method("Or")
    __lt__, __le__ = _method("Less", BOOL), _method("LessOrEqual", BOOL)
    __gt__, __ge__ = _method("Greater", BOOL), _method("GreaterOrEqual", BOOL)
    equals = _method("Equal", BOOL)

    def __neg__(self) -> Expression:
        return self.apply("Neg")

    def __abs__(self) -> Expression:
        return self.apply("Abs")

    def __invert__(self) -> Expression:
        return self.apply("Not")


def unary(operation: str, dtype: Any = None) -> Callable[[Expression], Expression]:
    """Return a function of one number as a formula."""
    return lambda self: self.apply(operation, dtype=dtype)


exp, log, erf, sin, cos, atan, tanh, softplus, reciprocal = map(
    unary, ("Exp", "Log", "Erf", "Sin", "Cos", "Atan", "Tanh", "Softplus", "Reciprocal")
)
is_nan, is_infinite = unary("IsNaN", BOOL), unary("IsInf", BOOL)


def sqrt(x: Any) -> Any:
    """The square root of an expression or an array."""
    return x.apply("Sqrt") if isinstance(x, Expression) else np.sqrt(x)


def square(x: Expression) -> Expression:
    """x^2"""
    return x * x


def maximum(x: Expression, y: Any) -> Expression:
    """The larger of two numbers."""
    return x.apply("Max", y)


def where(condition: Expression, x: Any, y: Any) -> Expression:
    """x where a condition holds, elsewhere y; at least one of them is an expression."""
    (like,) = [value for value in (x, y) if isinstance(value, Expression)][:1]
    names = [(each if isinstance(each, Expression) else like.constant(each)).name for each in (x, y)]
    return type(like)(like.t, like.t.add("Where", condition.name, *names), like.dtype)


def log1p(x: Expression) -> Expression:
    """log(1 + x), corrected for the rounding of the sum."""
    y = x + 1
    rounded = y - 1
    return where(rounded.equals(x), log(y), log(y) - (rounded - x) / y)


def expm1(x: Expression) -> Expression:
    """exp(x) - 1, without cancellation."""
    t = tanh(x * 0.5)
    return where(abs(x) < 1, (t + t) / (1 - t), exp(x) - 1)


def x_times(x: Expression, y: Expression) -> Expression:
    """x y, and 0 where x is 0, whatever y is."""
    return where(x.equals(0), 0, x * y)
