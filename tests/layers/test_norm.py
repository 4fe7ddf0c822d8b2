"""LayerNorm and GroupNorm on inputs whose squares overflow: correct outputs and no warnings."""

from typing import Any

import numpy as np
import pytest

import onward


def expected(x: Any, eps: float) -> Any:
    """Divided by the largest element first: a long double holds the squares on some systems only."""
    x = np.asarray(x, np.longdouble)
    largest = np.maximum(np.abs(x).max(-1, keepdims=True), 1)
    centered = x / largest - (x / largest).mean(-1, keepdims=True)
    return centered / np.sqrt((centered * centered).mean(-1, keepdims=True) + eps / largest / largest)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("dtype", "large"), [("float32", (1e19, 3e38)), ("float64", (1e160, 1e308))])
def test_large_inputs_do_not_overflow(dtype: str, large: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    for scale in large:
        x = (rng.uniform(-1, 1, (3, 7)) * [[1], [scale], [scale / 3]]).astype(dtype)
        y = onward.LayerNorm(7, dtype=dtype)(x)
        np.testing.assert_allclose(
            y, expected(x, 1e-5), rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-6
        )
        np.testing.assert_array_equal(y[0], onward.LayerNorm(7, dtype=dtype)(x[0]))
        groups = np.stack([x, x[::-1]], axis=1)  # (3, 2, 7)
        y = onward.GroupNorm(2, 2, dtype=dtype)(groups)
        np.testing.assert_allclose(y, expected(groups, 1e-5), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_equal_large_inputs_give_zeros_and_nan_stays_in_its_row() -> None:
    norm = onward.LayerNorm(4)
    np.testing.assert_array_equal(norm(np.full((2, 4), 3e38)), 0)
    y = norm(np.array([[np.inf, 1, 2, 3], [np.nan, 1, 2, 3], [1, 2, 3, 4]], np.float32))
    assert np.isnan(y[:2]).all()
    assert np.isfinite(y[2]).all()
