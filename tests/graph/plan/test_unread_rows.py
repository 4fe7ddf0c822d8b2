"""Products compute only the rows that other steps read."""

from typing import Any

import pytest

from onward.graph.plan.passes import users_of, without_unread_rows
from onward.graph.plan.view import FIRST_ARGUMENT, View

ARRAY, OTHER = -1, -2  # spaces of arrays in the arena


def rows_computed(*read: View) -> tuple[Any, Any]:
    """Return x and y of a product (1, 10, 3) to (10, 16) after removal of the rows that no copy reads."""
    x, y = View.contiguous(FIRST_ARGUMENT, 0, (1, 10, 3)), View.contiguous(ARRAY, 64, (10, 16))
    steps: list[tuple[str, tuple[Any, ...]]] = [("product", (None, x, 2, None, y))]
    steps += [("copy", (view, View.contiguous(OTHER, 0, view.shape))) for view in read]
    _, (_, x, _, _, y) = without_unread_rows(steps, users_of(steps))[0]
    return x, y


def rows(first: int, last: int) -> View:
    return View.contiguous(ARRAY, 64 + 16 * first, (last - first, 16))


@pytest.mark.parametrize(
    ("read", "first", "last"),
    [
        ([rows(2, 5)], 2, 5),
        ([rows(7, 8), rows(3, 4)], 3, 8),
        ([rows(4, 9).reversed(0)], 4, 9),
        ([rows(4, 9).sliced(1, 3, 5).permuted(1, 0)], 4, 9),
        ([rows(0, 10)], 0, 10),
        ([], 0, 10),
    ],
)
def test_a_product_computes_the_rows_from_the_first_to_the_last_that_is_read(
    read: list[View], first: int, last: int
) -> None:
    x, y = rows_computed(*read)
    assert x == View(FIRST_ARGUMENT, 3 * first, (1, last - first, 3), (30, 3, 1))
    assert y == View(ARRAY, 64 + 16 * first, (last - first, 16), (16, 1))
