"""Formulas of ATen operators: expressions of tensors, symbols and numbers of one dtype."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from ....graph.operations.expressions import Expression, maximum
from .registry import BOOL, FLOAT32, INT64, Operand, Symbol, Tensor, define
from .translator import Translator

Formula = Callable[..., Any]
CATEGORIES = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}  # of dtypes in promotions, by their kinds
NUMBERS: dict[type, np.dtype[Any]] = {bool: BOOL, int: INT64, float: FLOAT32}  # the dtypes of numbers


def _category(dtype: np.dtype[Any]) -> int:
    """Return the rank of a kind of dtypes in promotions: booleans, integers, floats, complex numbers."""
    return CATEGORIES[dtype.kind]


def dtype_of(value: Operand) -> np.dtype[Any]:
    """Return the dtype of an operand; numbers have torch's default dtypes."""
    if isinstance(value, Tensor | Symbol):
        return FLOAT32 if value.dtype.kind == "f" and _precedence(value) == 2 else value.dtype
    return next((dtype for kind, dtype in NUMBERS.items() if isinstance(value, kind)), np.dtype(np.complex64))


def _precedence(value: Operand) -> int:
    """Return 0 for tensors with axes, 1 for those without, and 2 for numbers, also those in tensors."""
    if not isinstance(value, Tensor) or value.is_number:
        return 2
    return 0 if value.rank else 1


def promoted(*values: Operand) -> np.dtype[Any]:
    """Return torch's dtype of a result: tensors with axes come first, then those without, then numbers."""
    groups: list[list[np.dtype[Any]]] = [[], [], []]
    for value in values:
        if value is not None:
            groups[_precedence(value)].append(dtype_of(value))
    first, *others = (reduce(joined, group) for group in groups if group)
    for other in others:
        if _category(other) > _category(first):
            first = joined(first, other)
    return first


def joined(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """Return torch's common dtype of two: that of the higher category, and the wider one within it."""
    low, high = sorted((a, b), key=_category)
    if _category(low) == _category(high):
        return np.promote_types(a, b)
    return np.dtype(np.complex128) if high.kind == "c" and low == np.float64 else high


def floating(*values: Operand) -> np.dtype[Any]:
    """Return the promoted dtype, or float32 if that is not a dtype of floats."""
    dtype = promoted(*values)
    return dtype if dtype.kind in "fc" else FLOAT32


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


def p_norm(x: Expression, p: float, axes: Sequence[int], keepdim: bool = False) -> Expression:
    """The p-norm over axes, which of half precision, whose squares overflow, is computed in float32."""
    if x.dtype == np.float16:
        return p_norm(x.cast(np.float32), p, axes, keepdim).cast(np.float16)
    if p in (1, 2):
        return x.reduce(f"ReduceL{int(p)}", axes, keepdim)
    size = abs(x)
    if p == math.inf:  # that of no elements is 0
        return maximum(size.reduce("ReduceMax", axes, keepdim), 0)
    if p == -math.inf:
        return size.reduce("ReduceMin", axes, keepdim)
    if p == 0:  # the number of elements that are not 0
        return (~x.equals(0)).cast(x.dtype).reduce("ReduceSum", axes, keepdim)
    return (size**p).reduce("ReduceSum", axes, keepdim) ** (1 / p)


def define_formulas(formulas: Mapping[str, Formula], dtype: Callable[..., Any] = floating) -> None:
    """Register formulas as operators; a key names several of them, separated by spaces."""
    define({names: formula(function, dtype) for names, function in formulas.items()})
