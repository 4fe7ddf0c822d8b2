"""Formulas of ATen operators: values of a graph that Python's operators combine."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .promotion import promoted
from .registry import BOOL, FLOAT32, Operand, Symbol, Tensor, Translator, aten

Formula = Callable[..., Any]


def floating(*values: Operand) -> np.dtype[Any]:
    """Return the promoted dtype, or float32 if that is not a dtype of floats."""
    dtype = promoted(*values)
    return dtype if dtype.kind in "fc" else FLOAT32


class Expression:
    """A value of a graph; operands are expressions of the same dtype, and numbers."""

    def __init__(self, t: Translator, name: str, dtype: np.dtype[Any]) -> None:
        self.t, self.name, self.dtype = t, name, dtype

    def apply(self, operation: str, *others: Any, dtype: Any = None, **attributes: Any) -> Expression:
        """Return an operation on this value and others."""
        names = [x.name if isinstance(x, Expression) else self.t.cast(x, self.dtype) for x in others]
        found = self.t.add(operation, self.name, *names, **attributes)
        return Expression(self.t, found, self.dtype if dtype is None else dtype)

    def constant(self, value: float) -> Expression:
        """Return a number of this dtype."""
        return Expression(self.t, self.t.cast(value, self.dtype), self.dtype)

    def reduce(self, operation: str, axes: Any = None, keepdims: bool = False) -> Expression:
        """Return a reduction over axes, by default over all."""
        places = None if axes is None else self.t.constant(list(axes), np.int64)
        found = self.t.add(operation, self.name, places, keepdims=int(keepdims))
        return Expression(self.t, found, self.dtype)

    def cast(self, dtype: Any) -> Expression:
        """Return the value in another dtype."""
        wanted = np.dtype(dtype)
        name = self.name if wanted == self.dtype else self.t.add("Cast", self.name, to=wanted)
        return Expression(self.t, name, wanted)

    def _swapped(self, operation: str, other: Any) -> Expression:
        return self.constant(other).apply(operation, self)

    def __add__(self, other: Any) -> Expression:
        return self.apply("Add", other)

    def __radd__(self, other: Any) -> Expression:
        return self._swapped("Add", other)

    def __sub__(self, other: Any) -> Expression:
        return self.apply("Sub", other)

    def __rsub__(self, other: Any) -> Expression:
        return self._swapped("Sub", other)

    def __mul__(self, other: Any) -> Expression:
        return self.apply("Mul", other)

    def __rmul__(self, other: Any) -> Expression:
        return self._swapped("Mul", other)

    def __truediv__(self, other: Any) -> Expression:
        return self.apply("Div", other)

    def __rtruediv__(self, other: Any) -> Expression:
        return self._swapped("Div", other)

    def __pow__(self, other: Any) -> Expression:
        return self.apply("Pow", other)

    def __neg__(self) -> Expression:
        return self.apply("Neg")

    def __abs__(self) -> Expression:
        return self.apply("Abs")

    def __lt__(self, other: Any) -> Expression:
        return self.apply("Less", other, dtype=BOOL)

    def __le__(self, other: Any) -> Expression:
        return self.apply("LessOrEqual", other, dtype=BOOL)

    def __gt__(self, other: Any) -> Expression:
        return self.apply("Greater", other, dtype=BOOL)

    def __ge__(self, other: Any) -> Expression:
        return self.apply("GreaterOrEqual", other, dtype=BOOL)

    def equals(self, other: Any) -> Expression:
        """Return whether the elements are equal."""
        return self.apply("Equal", other, dtype=BOOL)

    def __and__(self, other: Expression) -> Expression:
        return self.apply("And", other)

    def __or__(self, other: Expression) -> Expression:
        return self.apply("Or", other)

    def __invert__(self) -> Expression:
        return self.apply("Not")


def unary(operation: str, dtype: Any = None) -> Callable[[Expression], Expression]:
    """Return a function of one number as a formula."""
    return lambda self: self.apply(operation, dtype=dtype)


exp, log, sqrt, erf, sin, atan, softplus, reciprocal = map(
    unary, ("Exp", "Log", "Sqrt", "Erf", "Sin", "Atan", "Softplus", "Reciprocal")
)
is_nan, is_infinite = unary("IsNaN", BOOL), unary("IsInf", BOOL)


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
    return Expression(like.t, like.t.add("Where", condition.name, *names), like.dtype)


def x_times(x: Expression, y: Expression) -> Expression:
    """x y, and 0 where x is 0, whatever y is."""
    return where(x.equals(0), 0, x * y)


def expression(t: Translator, value: Operand, dtype: Any) -> Expression:
    """Return a tensor, symbol or number as an expression."""
    return Expression(t, t.cast(value, dtype), np.dtype(dtype))


def formula(function: Formula, dtype: Callable[..., Any] = floating) -> Formula:
    """Return a formula as an operator.

    Its tensors, symbols and parameters without a default become expressions of one dtype, by default a dtype
    of floats.
    """
    parameters = inspect.signature(function).parameters
    needed = {name for name, p in parameters.items() if p.default is p.empty}

    def operator(t: Translator, *ordered: Any, **named: Any) -> Any:
        arguments = {**dict(zip(parameters, ordered, strict=False)), **named}
        operands = {
            name: value
            for name, value in arguments.items()
            if value is not None and (name in needed or isinstance(value, Tensor | Symbol))
        }
        common = dtype(*operands.values())
        ready = {name: expression(t, value, common) for name, value in operands.items()}
        return function(**{**arguments, **ready}).name

    first = inspect.Parameter("t", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    operator.__signature__ = inspect.Signature([first, *parameters.values()])  # type: ignore[attr-defined]
    return operator


def define(formulas: Mapping[str, Formula], dtype: Callable[..., Any] = floating) -> None:
    """Register formulas as operators; a key names several of them, separated by spaces."""
    for names, function in formulas.items():
        aten(*names.split())(formula(function, dtype))
