"""Arrays that take outputs: refused if an element would be overwritten, and hardly ever otherwise."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.core.arrays import check_separate
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
