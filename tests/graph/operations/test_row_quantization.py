"""Rows quantized as they come, against exact fractions, in NumPy and in the core."""

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
    found = list(found) if isinstance(found, tuple) else [found]
    lowered = run_lowered(operation, inputs, {}, known)
    assert lowered is not None
    for y, expected in zip(lowered, found, strict=True):
        assert y.dtype == expected.dtype
        np.testing.assert_array_equal(y, expected)
    return found


def rows(n: int) -> Any:
    """Rows of many sizes, of zeros, and of ties between two integers."""
    x = np.random.default_rng(n).standard_normal((7, n)).astype(np.float32)
    x *= np.float32([[1e-3], [1], [100], [0], [1], [-1], [1]])
    x[4] = np.arange(n) % 255 / 2 - 63.5
    x[5:] = np.abs(x[5:]) * [[-1], [1]]  # one side of 0
    x[4, 0] = 127
    return x


def away(x: Fraction) -> int:
    """Round to nearest, ties away from zero."""
    return int(math.copysign(math.floor(abs(x) + Fraction(1, 2)), x))


@pytest.mark.parametrize("n", [1, 5, 16, 33, 200])
def test_symmetric_rows_round_ties_away_from_zero(n: int, isa: str) -> None:
    x = rows(n)
    q, scale = both("QuantizeRows", x)
    for row, steps, one in zip(x, q.tolist(), scale.ravel(), strict=True):
        largest = np.abs(row).max() or np.float32(127)
        assert one == largest / np.float32(127)
        factor = np.float32(127) / largest
        assert steps == [max(-127, min(127, away(Fraction(float(v * factor))))) for v in row]


@pytest.mark.parametrize("n", [1, 5, 16, 33, 200])
def test_the_zero_point_of_a_row_is_exact(n: int, isa: str) -> None:
    x = rows(n)
    q, scale, zero = both("QuantizeRowsWithZero", x)
    numbers = (q.astype(np.float64) - zero) * scale
    assert (abs(numbers - x) <= 0.51 * scale).all() and (zero[3] == 0).all()
    for row, steps, at_zero in zip(x, q, zero, strict=True):
        assert (steps[row == 0] == at_zero).all()


@pytest.mark.parametrize("operation", ["QuantizeRows", "QuantizeRowsWithZero"])
def test_rows_with_nan_or_infinity_do_not_become_numbers(operation: str, isa: str) -> None:
    x = np.ones((3, 20), np.float32)
    x[0, 3], x[1, 4], x[1, 5], x[2, 19] = np.nan, np.inf, -np.inf, np.nan
    _, scale, *_ = both(operation, x)
    assert not np.isfinite(scale).any()


@pytest.mark.parametrize("per_column", [False, True])
def test_row_products_are_exact_before_they_are_scaled(per_column: bool, isa: str) -> None:
    rng = np.random.default_rng(1)
    for B, K, N in ((1, 7, 5), (3, 64, 33)):
        q, W = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((2, B, K), (K, N)))
        zero = rng.integers(-128, 128, (2, B, 1)).astype(np.int8)
        row_scale = rng.random((2, B, 1), np.float32)
        scale = rng.random(N if per_column else (), np.float32)
        (y,) = both("RowProduct", q, W, row_scale, zero, np.asarray(scale), known=[1, 4])
        exact = np.einsum("abk,kn->abn", q.astype(np.int64) - zero, W.astype(np.int64))
        np.testing.assert_array_equal(y, exact.astype(np.float32) * row_scale * scale)
