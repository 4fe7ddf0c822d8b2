"""Products compute only the rows that other steps read."""

from typing import Any

import pytest

from onward import _core
from onward.graph.plan.passes import without_unread_rows
from onward.graph.plan.view import FIRST_ARGUMENT, View
from onward.graph.size import Axes

ARRAY, OTHER = -1, -2  # spaces of arrays in the arena


def rows_computed(*read: View) -> tuple[Any, Any]:
    """Return x and y of a product (1, 10, 3) to (10, 16) after removal of the rows that no copy reads."""
    x, y = View.contiguous(FIRST_ARGUMENT, 0, (1, 10, 3)), View.contiguous(ARRAY, 64, (10, 16))
    steps: list[tuple[str, tuple[Any, ...]]] = [("product", (None, x, 2, None, y))]
    steps += [("copy", (view, View.contiguous(OTHER, 0, view.shape))) for view in read]
    _, (_, x, _, _, y) = without_unread_rows(steps, _core.users_of(steps, View))[0]
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


@pytest.mark.parametrize(
    ("first", "last", "computed"), [(1, 5, (1, 5)), (0, 3, (0, 3)), (2, 3, (2, 3)), (0, 5, (0, 5))]
)
@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_product_computes_the_rows_of_each_sequence_that_are_read(
    first: int, last: int, computed: tuple[int, int], is_reversed: bool
) -> None:
    x, y = View.contiguous(FIRST_ARGUMENT, 0, (7, 5, 3)), View.contiguous(ARRAY, 64, (7, 5, 16))
    read = y.sliced(1, first, last).sliced(2, 4, 11).permuted(2, 0, 1)
    read = read.reversed(2) if is_reversed else read
    steps = [
        ("product", (None, x, 2, None, y)),
        ("copy", (read, View.contiguous(OTHER, 0, read.shape))),
    ]
    _, (_, x_read, _, _, y_written) = without_unread_rows(steps, _core.users_of(steps, View))[0]
    assert (x_read, y_written) == (x.sliced(1, *computed), y.sliced(1, *computed))


def test_a_product_computes_all_rows_of_a_sequence_if_few_are_not_read_or_a_view_crosses_its_end() -> None:
    x, y = View.contiguous(FIRST_ARGUMENT, 0, (7, 9, 3)), View.contiguous(ARRAY, 64, (7, 9, 16))
    across = View.contiguous(ARRAY, 64 + 7 * 16, (4, 16))
    for read, sequences in (y.sliced(1, 1, 9), 7), (across, 2):
        steps = [
            ("product", (None, x, 2, None, y)),
            ("copy", (read, View.contiguous(OTHER, 0, read.shape))),
        ]
        _, (_, x_read, _, _, y_written) = without_unread_rows(steps, _core.users_of(steps, View))[0]
        assert (x_read, y_written) == (x.sliced(0, 0, sequences), y.sliced(0, 0, sequences))


def test_a_product_whose_rows_are_all_read_is_the_same_for_all_sizes() -> None:
    axes = Axes()
    frames = axes.add("samples", 1000) // 128 - 1
    x, y = View.contiguous(FIRST_ARGUMENT, 0, (1, frames, 3)), View.contiguous(ARRAY, 0, (frames, 16))
    step = ("product", (None, x, 2, None, y))
    steps = [step, ("unary", ("tanh", y, View.contiguous(OTHER, 0, y.shape)))]
    assert without_unread_rows(steps, _core.users_of(steps, View))[0] == step
    assert not axes.guards
