"""Functions of PyTorch files at signed zeros, infinities, NaN and the ends of the range."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.script_archives import model

LARGE = np.finfo(np.float32).max
NUMBERS = np.array([0.0, -0.0, 1.5, -1.5, 1e30, -LARGE, np.inf, -np.inf, np.nan], np.float32)
X, Y = (each.ravel() for each in np.meshgrid(NUMBERS, NUMBERS))


@pytest.mark.parametrize(
    ("name", "function"),
    [("atan2", np.arctan2), ("hypot", np.hypot), ("fmax", np.fmax), ("fmin", np.fmin)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_special_numbers_give_the_angle_the_distance_and_the_number_that_is_not_nan(
    name: str, function: Any, tmp_path: Path
) -> None:
    """The angle of (-0, 1) had the wrong sign, and that of two infinities was NaN."""
    program = model(tmp_path, f"return torch.{name}(x, y)", signature="self, x: Tensor, y: Tensor")
    with np.errstate(all="ignore"):
        expected = function(X, Y)
    if name == "hypot":  # NumPy prefers infinity to NaN
        expected = np.where(np.isnan(X) | np.isnan(Y), np.nan, expected).astype(np.float32)
    y = program(X, Y)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    if name == "atan2":
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(y[known]), np.signbit(expected[known]))


def test_nan_is_above_every_boundary(tmp_path: Path) -> None:
    edges = np.array([-1, 0, 2], np.float32)
    for side, right in (("left", False), ("right", True)):
        line = f"return torch.bucketize(x, y, right={right})"
        program = model(tmp_path, line, signature="self, x: Tensor, y: Tensor")
        np.testing.assert_array_equal(program(NUMBERS, edges), np.searchsorted(edges, NUMBERS, side))
