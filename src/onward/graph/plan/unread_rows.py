"""Restrict the products of a plan to the rows that later steps read."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from .view import ARENA, View

Step = tuple[str, tuple[Any, ...]]


def without_unread_rows(steps: list[Step], array_of: Callable[[View], int]) -> list[Step]:
    """Return the steps with products that compute only the rows that other steps use.

    For example, a model may drop the first frame of a spectrum. `array_of` returns the number of the array,
    in the arena, that a view belongs to.
    """
    uses: defaultdict[int, list[tuple[int, View]]] = defaultdict(list)
    for number, (_, arguments) in enumerate(steps):
        for view in arguments:
            if isinstance(view, View) and view.space == ARENA:
                uses[array_of(view)].append((number, view))
    result = list(steps)
    for number, (step, arguments) in enumerate(steps):
        if step != "product" or arguments[-1].space != ARENA:
            continue
        *weights, x, row_axes, function, y = arguments
        extents = [view.extent() for user, view in uses[array_of(y)] if user != number]
        long_axes = [axis for axis in range(row_axes) if x.shape[axis] > 1]
        if len(long_axes) != 1 or not extents:
            continue
        first = (min(low for low, _ in extents) - y.offset) // y.strides[0]
        last = (max(high for _, high in extents) - y.offset) // y.strides[0] + 1
        if 0 <= first < last <= y.shape[0]:
            x, y = x.sliced(long_axes[0], first, last), y.sliced(0, first, last)
            result[number] = step, (*weights, x, row_axes, function, y)
    return result
