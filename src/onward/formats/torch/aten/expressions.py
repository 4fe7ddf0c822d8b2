"""Formulas of ATen operators: values of a graph that Python's operators combine."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .registry import BOOL, FLOAT32, INT64, Operand, Symbol, Tensor, Translator, define

Formula = Callable[..., Any]
NUMBERS: dict[type, np.dtype[Any]] = {bool: BOOL, int: INT64, float: FLOAT32}  # the dtypes of numbers


def _category(dtype: np.dtype[Any]) -> int:
    """Return the rank of a kind of dtypes in promotions: booleans, integers, floats, complex numbers."""
    return {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}[dtype.kind]


def dtype_of(value: Operand) -> np.dtype[Any]:
    """Return the dtype of an operand; numbers have torch's default dtypes."""
    if isinstance(value, Tensor | Symbol):
        return value.dtype if isinstance(value, Tensor) or value.dtype.kind != "f" else FLOAT32
    return next((dtype for kind, dtype in NUMBERS.items() if isinstance(value, kind)), np.dtype(np.complex64))


def promoted(*values: Operand) -> np.dtype[Any]:
    """Return torch's dtype of a result: tensors with axes come first, then those without, then numbers."""
    groups: list[list[np.dtype[Any]]] = [[], [], []]
    for value in values:
        if value is not None:
            groups[2 if not isinstance(value, Tensor) else 0 if value.rank else 1].append(dtype_of(value))
    result = None
    for group in groups:
        for dtype in group:
            if result is None:
                result = dtype
            elif _category(dtype) > _category(result):
                result = _with_precision(dtype, result)
            elif _category(dtype) == _category(result) and group is (groups[0] or groups[1]):
                result = np.promote_types(dtype, result)
    assert result is not None
    return result


def _with_precision(dtype: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
    """A complex dtype keeps the precision of the floats that it meets."""
    return np.dtype(np.complex128) if dtype.kind == "c" and other == np.float64 else dtype


def floating(*values: Operand) -> np.dtype[Any]:
    """Return the promoted dtype, or float32 if that is not a dtype of floats."""
    dtype = promoted(*values)
    return dtype if dtype.kind in "fc" else FLOAT32


def _method(
    operation: str, dtype: Any = None, is_swapped: bool = False
) -> Callable[[Expression, Any], Expression]:
    """Return an operation on two values as a method, whose result has their dtype or the given one."""
    if is_swapped:
        return lambda self, other: self.constant(other).apply(operation, self)
    return lambda self, other: self.apply(operation, other, dtype=dtype)


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
        return Expression(self.t, self.t.add(operation, self.name, axes, keepdims=int(keepdims)), self.dtype)

    def cast(self, dtype: Any) -> Expression:
        """Return the value in another dtype."""
        wanted = np.dtype(dtype)
        name = self.name if wanted == self.dtype else self.t.add("Cast", self.name, to=wanted)
        return Expression(self.t, name, wanted)

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


def define_formulas(formulas: Mapping[str, Formula], dtype: Callable[..., Any] = floating) -> None:
    """Register formulas as operators; a key names several of them, separated by spaces."""
    define({names: formula(function, dtype) for names, function in formulas.items()})
