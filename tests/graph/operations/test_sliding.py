"""The geometry of sliding windows."""

import numpy as np
import pytest

from onward.graph.operations import OPERATIONS
from onward.graph.operations.sliding import geometry


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (2, 3), (3, 5), (4, 2**62)])
def test_a_single_window_stays_single_whatever_its_stride(size: int, stride: int) -> None:
    attributes = {"strides": [stride], "pads": [1, 1]}
    g = geometry([size], [3], attributes)
    expected = (size + 2 - 3) // stride + 1
    assert g.out == (expected,)
    assert g.strides[0] <= stride
    x, W = np.ones((1, 2, size)), np.ones((3, 2, 3))  # float64 runs in NumPy
    (y,) = OPERATIONS["Conv"].compute([x, W], attributes)
    assert y.shape == (1, 3, expected)
