"""Rescaling by fixed-point factors and tables against Python's exact integers, in NumPy and in the core."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from support.lowering import run_lowered

from onward.graph.operations import OPERATIONS


def both(operation: str, *inputs: Any, known: Any = ()) -> list[Any]:
    """The outputs in NumPy, which those of the core equal."""
    found = OPERATIONS[operation].compute(inputs, {})
    lowered = run_lowered(operation, inputs, {}, known)
    assert lowered is not None
    for y, expected in zip(lowered, found, strict=True):
        assert y.dtype == expected.dtype
        np.testing.assert_array_equal(y, expected)
    return list(found)


def halves_away(x: Fraction) -> int:
    """Round to nearest, ties away from zero."""
    return int(math.copysign(math.floor(abs(x) + Fraction(1, 2)), x)) if x else 0


def test_rescaling_rounds_ties_up_and_then_away_from_zero() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-(2**20), 2**20, 400).astype(np.int32)
    x[:6] = [1, -1, 3, -3, 2**20, -(2**20)]
    multiplier = rng.integers(2**30, 2**31 - 1, 400).astype(np.int32)
    multiplier[:6] = 1 << 30
    shift = rng.integers(-20, 8, 400).astype(np.int32)
    shift[:6] = 0
    bounds = [np.array(number, np.int32) for number in (0, -(2**31), 2**31 - 1)]
    (y,) = both("Rescale", x, multiplier, shift, *bounds, known=[3, 4, 5])
    for a, m, s, found in zip(x.tolist(), multiplier.tolist(), shift.tolist(), y.tolist(), strict=True):
        first = math.floor(Fraction(a * 2 ** max(s, 0) * m, 2**31) + Fraction(1, 2))
        assert found == halves_away(Fraction(first, 2 ** max(-s, 0))), (a, m, s)


def test_rescaling_int64_rounds_once_and_does_not_overflow() -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(-(2**46), 2**46, 400) >> rng.integers(0, 40, 400)
    multiplier = rng.integers(2**30, 2**31 - 1, 400).astype(np.int32)
    shift = rng.integers(-16, 8, 400).astype(np.int32)
    bounds = [np.array(number, np.int64) for number in (3, -(2**62), 2**62)]
    (y,) = both("RescaleOnce", x, multiplier, shift, *bounds, known=[3, 4, 5])
    for a, m, s, found in zip(x.tolist(), multiplier.tolist(), shift.tolist(), y.tolist(), strict=True):
        assert found == 3 + math.floor(Fraction(a * m, 2 ** (31 - s)) + Fraction(1, 2)), (a, m, s)


def test_rescaling_broadcasts_clips_and_adds_a_zero_point() -> None:
    x = np.arange(-300, 300, dtype=np.int32).reshape(2, 3, 100)
    multiplier = np.full(100, 1 << 30, np.int32)
    for dtype, low, high in ((np.int8, -128, 127), (np.uint8, 0, 255), (np.int8, -3, 20)):
        bounds = [np.array(number, dtype) for number in (7, low, high)]
        (y,) = both("Rescale", x, multiplier, np.ones(100, np.int32), *bounds, known=[3, 4, 5])
        np.testing.assert_array_equal(y, np.clip(x + 7, low, high).astype(dtype))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("values", [np.int8, np.int32, np.float32, np.float64])
def test_tables_clip_integers_beyond_them(dtype: Any, values: Any) -> None:
    table = np.random.default_rng(1).integers(-100, 100, 50).astype(values)
    x = np.arange(0, 120).reshape(4, 30).astype(dtype)
    (y,) = both("Lookup", x, table, np.array(20), known=[2])
    np.testing.assert_array_equal(y, table[np.clip(x.astype(int) - 20, 0, 49)])


def test_reciprocals_are_close_in_fixed_point() -> None:
    x = np.array([1, 2, 3, 1 << 19, (1 << 19) + 1, 123456789, 2**31 - 1], np.int32)
    multiplier, shift = both("FixedReciprocal", x)
    np.testing.assert_allclose(multiplier / 2.0**31 * 2.0**shift, 2.0**31 / x, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("operation", ["ReduceSum", "ReduceMax"])
def test_reductions_of_integers_are_exact_in_the_core(operation: str, dtype: Any) -> None:
    x = np.random.default_rng(2).integers(-(2**31), 2**31, (3, 5, 7)).astype(dtype)
    for axes in ([1], [0, 2], [-1]):
        lowered = run_lowered(operation, [x, np.array(axes)], {}, known=[1])
        assert lowered is not None
        expected = (
            x.sum(tuple(axes), dtype, keepdims=True)
            if operation == "ReduceSum"
            else x.max(tuple(axes), keepdims=True)
        )
        np.testing.assert_array_equal(lowered[0], expected)
