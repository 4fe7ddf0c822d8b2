"""Factors in fixed point of integers that stand for real numbers, and tables of functions of them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..node import AnyArray

INT16_LIMITS, INT32_LIMITS = (-(1 << 15), (1 << 15) - 1), (-(1 << 31), (1 << 31) - 1)


def factor(value: float) -> tuple[int, int]:
    """Return a factor as a multiplier of 31 fractional bits and a shift. Raises ArgumentError."""
    if not math.isfinite(value) or value < 0:
        raise ArgumentError(f"the scale {value} of its integers is not a positive number")
    if value == 0:
        return 0, 0
    fraction, shift = math.frexp(value)
    multiplier = math.floor(fraction * 2.0**31 + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    if shift < -31:
        return 0, 0
    return ((1 << 31) - 1, 30) if shift > 30 else (multiplier, shift)


def factors(values: Any) -> tuple[AnyArray, AnyArray]:
    """Return several factors as arrays of multipliers and shifts."""
    pairs = [factor(float(value)) for value in values]
    multipliers, shifts = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(multipliers, np.int32), np.array(shifts, np.int32)


def mean_factor(value: float, count: int) -> tuple[int, int]:
    """Return the factor of a sum of so many numbers, whose multiplier is divided as an integer."""
    multiplier, shift = factor(value)
    more = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << more) // count, shift - more


def rounded(x: Any) -> AnyArray:
    """Round to nearest, ties away from zero."""
    truncated = np.trunc(x)
    result: AnyArray = truncated + np.where(np.abs(x - truncated) >= 0.5, np.sign(x), 0)
    return result


def lines(
    function: Callable[[AnyArray], AnyArray], x: tuple[float, int], y_scale: float, dtype: Any = np.float64
) -> AnyArray:
    """Return 513 numbers of a function of int16 with a scale and a zero point, for lines between them.

    Each is corrected by half of the error in the middle between it and the next one. They are computed in
    `dtype`.
    """
    scale, out = dtype(x[0]), dtype(y_scale)
    low, high = (scale * dtype(bound - x[1]) for bound in INT16_LIMITS)
    step = (high - low) / dtype(512)
    lowest, highest = (out * dtype(bound) for bound in INT16_LIMITS)
    factor = dtype(65536) / (highest - lowest)

    def computed(places: Any) -> AnyArray:
        found: AnyArray = function(places.astype(np.float64)).astype(dtype) * factor
        return found

    places = low + np.arange(513).astype(dtype) * step
    places[-1] = high
    known, middle, following = (
        rounded(computed(places)),
        computed(places[:-1] + step / dtype(2)),
        computed(low + np.arange(1, 513).astype(dtype) * step),
    )
    known[:-1] -= rounded((rounded((following + known[:-1]) / 2) - rounded(middle)) / 2)
    return np.clip(known, *INT16_LIMITS).astype(np.int32)
