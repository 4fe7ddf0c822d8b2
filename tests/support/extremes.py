"""Numbers at which implementations of one function differ first, and the comparison of their bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def extremes(dtype: Any, *shape: int, seed: int = 0) -> NDArray[Any]:
    """Random numbers, half of which are special."""
    info, rng = np.finfo(dtype), np.random.default_rng(seed)
    special = [
        0.0,
        info.smallest_subnormal,
        info.tiny / 2,
        info.tiny,
        info.max,
        info.max / 3,
        np.inf,
        1.0,
        88.5,
        1e-7,
    ]
    signed = np.array([*special, *(-a for a in special), np.nan], dtype)
    return np.where(
        rng.random(shape) < 0.5, rng.choice(signed, shape), rng.standard_normal(shape).astype(dtype) * 4
    )


def bits(y: Any) -> bytes:
    """The bits of an array, in which NaN has one form."""
    y = np.asarray(y)
    return np.where(np.isnan(y), np.array(np.nan, y.dtype), y).tobytes() + f"{y.dtype}{y.shape}".encode()


def integer_extremes(dtype: Any, *shape: int, seed: int = 0) -> NDArray[Any]:
    """Random integers, most of which are near 0, near the ends of the range, or special numbers of bits."""
    info, rng = np.iinfo(dtype), np.random.default_rng(seed)
    special = [*range(-7, 8), 31, 32, 33, 63, 64, info.min, info.min + 1, info.max - 1, info.max]
    drawn = rng.choice(np.array([n for n in special if info.min <= n <= info.max], dtype), shape)
    return np.where(
        rng.random(shape) < 0.7, drawn, rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    )
