"""Functions of floats that the core computes from others, in float64 and rounded to float32."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..node import Operand
from .compositions import composing
from .elementwise import POWERS
from .expressions import cos, exp, log, maximum, reciprocal, sin, sqrt, where
from .registry import OPERATIONS

SMALL = 1e-4  # below which two terms of a series are exact in float32
LARGEST = np.finfo(np.float32).max
LIMIT = math.log(float(LARGEST) * (1 + 2**-25))  # from which on exponentials are infinite in float32
LOWEST, HIGHEST = -87.3365, 88.7228  # just within the logarithms of normal numbers


def _are_single(inputs: Sequence[Operand]) -> bool:
    return inputs[0].dtype == np.float32


def _define(name: str, formula: Callable[[Any], Any]) -> None:
    composing(OPERATIONS[name], _are_single)(lambda x: formula(x.cast(np.float64)).cast(np.float32))


def _exp(x: Any) -> Any:
    """exp(x) of numbers in float64, to the range and precision of float32.

    It is exp(r) (1 + x - r) for a number r of float32, which is near x unless the result is 0 or infinite.
    """
    r = maximum(x, LOWEST).apply("Min", HIGHEST).cast(np.float32)
    y = exp(r).cast(np.float64) * maximum(1 + (x - r.cast(np.float64)), 0)
    return where(x < LIMIT, y.apply("Min", float(LARGEST)), y)


def _sinh(x: Any) -> Any:
    """The series up to 1, where exponentials cancel, and these beyond it"""
    size, square, series = abs(x), x * x, x.constant(1)
    for k in range(6, 0, -1):
        series = 1 + square * (1 / (2 * k * (2 * k + 1))) * series
    large = _exp(size - math.log(2)) - _exp(-size - math.log(2))
    return where(size < 1, x * series, x.apply("Sign") * large.cast(np.float64))


def _arctan(x: Any) -> Any:
    """The angle of a slope, from the series of a quarter of the angle of a slope of at most 1."""
    is_steep = abs(x) > 1
    quarter = where(is_steep, reciprocal(x), x)
    for _ in range(2):
        quarter = quarter / (1 + sqrt(1 + quarter * quarter))
    square, series = quarter * quarter, quarter.constant(0)
    for k in reversed(range(10)):
        series = (-1) ** k / (2 * k + 1) + square * series
    angle = 4 * (quarter * series)
    return where(is_steep, x.apply("Sign") * (math.pi / 2) - angle, angle)


def _arcsin(x: Any) -> Any:
    return _arctan(x / sqrt((1 - x) * (1 + x)))


def _near_zero(x: Any, cubic: float, y: Any) -> Any:
    """y, or the first terms of its series x (1 + cubic x^2)"""
    return where(abs(x) < SMALL, x * (1 + cubic * (x * x)), y)


_define("Tan", lambda x: sin(x) / cos(x))
_define("Atan", _arctan)
_define("Asin", _arcsin)
_define("Acos", lambda x: math.pi / 2 - _arcsin(x))
_define("Sinh", _sinh)
_define("Cosh", lambda x: _exp(abs(x) - math.log(2)) + _exp(-abs(x) - math.log(2)))
_define("Asinh", lambda x: _near_zero(x, -1 / 6, x.apply("Sign") * log(abs(x) + sqrt(x * x + 1))))
_define("Acosh", lambda x: log(x + sqrt(x - 1) * sqrt(x + 1)))
_define("Atanh", lambda x: _near_zero(x, 1 / 3, log((1 + x) / (1 - x)) * 0.5))


def _is_general(inputs: Sequence[Operand]) -> bool:
    """Whether a power has no formula of its own."""
    exponent = inputs[1]
    is_known = isinstance(exponent, np.ndarray) and exponent.size == 1 and float(exponent.item()) in POWERS
    return _are_single(inputs) and not is_known


@composing(OPERATIONS["Pow"], _is_general)
def power(x: Any, exponent: Any) -> Any:
    """|x|^p, with the sign of an odd power of a negative number, and without a value if p is no integer"""
    x, p = x.cast(np.float64), exponent.cast(np.float64)
    size = abs(x)
    is_odd, is_integer = (p - 2 * (p * 0.5).apply("Floor")).equals(1), p.apply("Floor").equals(p)
    is_below = (x < 0) | (reciprocal(x) < 0)  # also -0
    y = where(p.equals(0), 1, where(size.equals(1), 1, _exp(p * log(size))))
    y = where(is_odd & is_below, -y, y)
    return where((x < 0) & (size < np.inf) & ~is_integer, np.nan, y).cast(np.float32)
