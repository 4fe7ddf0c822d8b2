"""Helpers for tests: the table of cases, oracles, models and damaged files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]  # the checkout
DATA = ROOT / "tests" / "data"


def arrays_of(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an .npz file, and close it."""
    with np.load(path) as arrays:
        return dict(arrays)
