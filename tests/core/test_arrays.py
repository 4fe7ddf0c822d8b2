"""Arrays that take outputs: refused if an element would be overwritten, and hardly ever otherwise; copies."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onward.core.arrays import check_separate, contiguous
from onward.errors import ArgumentError


def view(rng: np.random.Generator, memory: NDArray[Any]) -> NDArray[Any]:
    """Return a random view of up to 3 axes, which may step over elements, run backward or repeat elements."""
    part = memory[int(rng.integers(40)) :]
    shape = tuple(int(size) for size in rng.integers(0, 4, int(rng.integers(4))))
    strides = [int(stride) for stride in rng.choice((0, 1, 1, 2, 3, 4, 9), len(shape))]
    array = np.lib.stride_tricks.as_strided(part, shape, [4 * stride for stride in strides])
    return array[(..., *(slice(None, None, int(step)) for step in rng.choice((1, -1, 2), len(shape))))]


def addresses(array: NDArray[Any]) -> list[int]:
    start = array.__array_interface__["data"][0]
    return [start + sum(map(int.__mul__, place, array.strides)) for place in np.ndindex(array.shape)]


def test_memory_that_an_output_shares_is_refused() -> None:
    memory, refused, doubtful = np.zeros(200, np.float32), 0, 0
    for seed in range(500):
        rng = np.random.default_rng(seed)
        *outputs, x = (view(rng, memory) for _ in range(int(rng.integers(2, 4))))
        written = [place for out in outputs for place in addresses(out)]
        shared = len(set(written)) < len(written) or not set(written).isdisjoint(addresses(x))
        try:
            check_separate(outputs, [x, 1.0, [2.0], np.zeros(3)])
        except ArgumentError as error:
            refused += shared
            doubtful += not shared
            assert shared or "may overlap" in str(error)  # axes that step between each other's elements
        else:
            assert not shared
    assert 100 < refused < 400
    assert doubtful < 100


@pytest.mark.parametrize("dtype", [np.int8, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 7), (31, 70), (65, 32), (300, 257)])
def test_transposed_matrices_of_any_size_are_copied_whole(dtype: type, shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)
    for view in (matrix.T, matrix[::2].T, matrix[:, ::-1].T, np.broadcast_to(matrix[:1], shape).T):
        copy = contiguous(view)
        np.testing.assert_array_equal(copy, view)
        assert copy.flags.c_contiguous and copy.flags.aligned and copy.dtype == dtype
