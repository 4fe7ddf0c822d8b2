"""Views match NumPy's for the same permutations, slices and shapes."""

import itertools
import math

import numpy as np
import pytest
from support.randomized import random_cases

from onward.graph.plan.view import View

NUMBERS = np.arange(1000)
WHOLE = View.contiguous(0, 3, (4, 5, 6), "int64")


def numbers(view: View) -> np.ndarray:
    return NUMBERS[view.offsets()]


ARRAY = NUMBERS[3:123].reshape(4, 5, 6)


@pytest.mark.parametrize(
    ("view", "array"),
    [
        (WHOLE, ARRAY),
        (WHOLE.permuted(2, 0, 1), ARRAY.transpose(2, 0, 1)),
        (WHOLE.sliced(1, 1, 5, 2), ARRAY[:, 1:5:2]),
        (WHOLE.reversed(0), ARRAY[::-1]),
        (WHOLE.reversed(0).sliced(0, 1, 3).permuted(1, 0, 2), ARRAY[::-1][1:3].transpose(1, 0, 2)),
        (WHOLE.reshaped(20, 6), ARRAY.reshape(20, 6)),
        (WHOLE.sliced(2, 0, 1).reshaped(4, 5), ARRAY[:, :, 0]),
        (WHOLE.sliced(2, 1, 4).reshaped(20, 3), ARRAY[:, :, 1:4].reshape(20, 3)),
    ],
)
def test_a_view_matches_the_array_of_numpy(view: View, array: np.ndarray) -> None:
    np.testing.assert_array_equal(numbers(view), array)


def test_a_reshape_that_needs_a_copy_is_not_a_view() -> None:
    assert WHOLE.permuted(1, 0, 2).reshaped(20, 6) is None
    assert WHOLE.sliced(2, 1, 4).reshaped(4, 15) is None


def test_contiguous_ignores_the_strides_of_axes_of_size_one() -> None:
    assert WHOLE.sliced(0, 0, 1).is_contiguous()
    assert not WHOLE.sliced(2, 0, 1).is_contiguous()


def test_a_view_is_like_another_one_with_its_axes_permuted_and_split() -> None:
    """Axes that are parts of an axis had no counterpart."""
    for seed in range(random_cases(100)):
        rng = np.random.default_rng(seed)
        parts = [rng.integers(1, 4, rng.integers(1, 3)).tolist() for _ in range(rng.integers(1, 4))]
        shape = [math.prod(part) for part in parts]
        orders = [rng.permutation(len(shape)).tolist() for _ in range(2)]
        x, y = (
            View.contiguous(space, 3, tuple([shape[axis] for axis in order])).permuted(*np.argsort(order))
            for space, order in enumerate(orders)
        )
        split = [x, y]
        for place, view in enumerate(split):
            strides = [
                math.prod(part[i + 1 :]) * stride
                for part, stride in zip(parts, view.strides, strict=True)
                for i in range(len(part))
            ]
            split[place] = view.with_axes(itertools.chain(*parts), strides)
        numbers_of_parts = itertools.count()
        places = [[next(numbers_of_parts) for _ in part] for part in parts]
        order = list(itertools.chain(*(places[axis] for axis in rng.permutation(len(parts)))))
        own, expected = (view.permuted(*order) for view in split)
        result = own.like(x, y)
        assert result is not None, seed
        np.testing.assert_array_equal(result.offsets(), expected.offsets())
