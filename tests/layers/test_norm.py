"""The normalization layers, at magnitudes where squares overflow."""

import numpy as np
import pytest

import onward


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["LayerNorm", "GroupNorm"])
def test_large_numbers_neither_overflow_nor_become_zeros(kind: str, dtype: str) -> None:
    layer = onward.LayerNorm(6, dtype=dtype) if kind == "LayerNorm" else onward.GroupNorm(2, 6, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(dtype)
    scale = 1e19 if dtype == "float32" else 1e200
    np.testing.assert_allclose(layer(x * x.dtype.type(scale)), layer(x * 1e3), rtol=1e-3, atol=1e-5)
