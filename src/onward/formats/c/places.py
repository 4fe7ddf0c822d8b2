"""Where the elements of views are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...graph.plan.view import View


def sizes_of(numbers: Sequence[Any]) -> list[int]:
    """Return sizes or strides as plain integers."""
    return list(map(int, numbers))


def offsets_of(view: View, first: int, last: int) -> NDArray[np.int64]:
    """Return the offsets of the elements of some axes of a view, in order."""
    return View(0, 0, view.shape[first:last], view.strides[first:last]).offsets().ravel()


def row_steps(y: View, rows: list[int]) -> list[int]:
    """Return the steps in the result of a product along the axes of its rows, which may be a single one."""
    if len(y.shape) == len(rows) + 1:
        return sizes_of(y.strides[:-1])
    return [int(y.strides[0]) * int(stride) for stride in View.contiguous(0, 0, tuple(rows)).strides]


def pieces_of(view: View, first: int) -> tuple[NDArray[np.int64], int]:
    """Return the offsets and the length of the contiguous pieces of the axes of a view from `first` on."""
    last, length = len(view.shape), 1
    while last > first and (view.strides[last - 1] == length or view.shape[last - 1] == 1):
        last -= 1
        length *= int(view.shape[last])
    return offsets_of(view, first, last), length
