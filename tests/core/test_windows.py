"""Filters of convolutions: the order of their columns in the core."""

from typing import Any

import numpy as np
import pytest
from support.in_one_test import in_one_test

from onward import _core


def numbers(dtype: Any, *shape: int) -> Any:
    rng = np.random.default_rng(sum(shape))
    if dtype == np.int8:
        return rng.integers(-127, 128, shape, np.int8)
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(
    ("units", "C", "taps"),
    [(1, 1, 1), (16, 16, 3), (37, 5, 7), (50, 33, 2), (16, 1, 48), (35, 64, 1), (4, 3, 0)],
)
@in_one_test("dtype", [np.float32, np.float64, np.float16, np.int8])
def test_filters_are_packed_tap_by_tap(isa: str, dtype: Any, units: int, C: int, taps: int) -> None:
    """Their columns would be multiplied by other numbers of the row, in whole squares or at their edges."""
    W = numbers(dtype, units, C, taps)
    real = np.float64 if dtype == np.float64 else np.float32
    x, bias = numbers(real, 3, taps * C), numbers(real, units)
    others = [bias, np.abs(numbers(real, units))] if dtype == np.int8 else [bias]
    found, expected = np.empty((2, 3, units), real)
    _core.Dense(W, *others).forward(x, found)
    rows = np.ascontiguousarray(W.transpose(0, 2, 1)).reshape(units, taps * C)
    _core.Dense(rows, *others).forward(x, expected)
    np.testing.assert_array_equal(found, expected)
