"""Windows whose taps a program repeats so often that they fit into no memory."""

import numpy as np
import pytest
from support.programs import plan_of

from onward import _core
from onward.graph.plan.view import View


@pytest.mark.parametrize("stride", [0, 1, 2])
@pytest.mark.parametrize("taps", [0, 2**61, 2**61 + 8, 2**63 - 1])
def test_a_number_of_taps_whose_list_has_no_size_is_refused(taps: int, stride: int) -> None:
    """The bytes of their offsets overflow, or the distance of windows that are apart is that of no taps."""
    x, y = View(1, 0, (1, taps, 2), (0, 0, 1)), View(2, 0, (1, 2), (2, 1))
    with pytest.raises((IndexError, MemoryError)):
        plan_of([("window", ("maximum", x, None, None, y))], [64, 64, 64])
    weights = [_core.Dense(np.ones((2, 2), np.float32), np.zeros(2, np.float32))]
    rows = x.with_axes((3, taps, 2), (stride, 0, 1))
    step = "pooled_product", (weights[0], rows, 1, 1, None, View(2, 0, (3, 2), (2, 1)))
    with pytest.raises((IndexError, MemoryError)):
        plan_of([step], [64, 64, 64], weights=weights)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (1, 2), (1, -1), (-1, 1), (2, 2**63 - 1), (4, 1)])
def test_a_pooled_product_needs_rows_taps_and_windows(axes: tuple[int, int]) -> None:
    weights = [_core.Dense(np.ones((2, 2), np.float32), np.zeros(2, np.float32))]
    x, y = View(1, 0, (3, 2, 2), (4, 2, 1)), View(2, 0, (3, 2), (2, 1))

    def step(row_axes: int, tap_axes: int) -> tuple[str, tuple[object, ...]]:
        return "pooled_product", (weights[0], x, row_axes, tap_axes, None, y)

    assert plan_of([step(1, 1)], [64, 64, 64], weights=weights) is not None
    with pytest.raises(IndexError):
        plan_of([step(*axes)], [64, 64, 64], weights=weights)
