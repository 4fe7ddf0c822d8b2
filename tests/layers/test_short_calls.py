"""Calls of one thread reuse memory of earlier calls; no state of one call reaches another."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import onward


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}])
def test_short_calls_give_the_same_bits_in_any_order(kind: str, options: Any) -> None:
    rng = np.random.default_rng(0)
    layer = getattr(onward, kind)(5, 33, rng=0, **options)
    inputs = [rng.standard_normal((T, B, 5)).astype(np.float32) for T in (1, 2, 5) for B in (1, 3)]
    expected = [getattr(onward, kind)(5, 33, rng=0, **options)(x)[0] for x in inputs]
    for number in rng.integers(len(inputs), size=50):
        np.testing.assert_array_equal(layer(inputs[number])[0], expected[number])


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 3}, {"bidirectional": True}])
def test_calls_of_changing_lengths_and_batches_share_memory_but_no_state(kind: str, options: Any) -> None:
    rng, lengths, batches = np.random.default_rng(0), (0, 1, 7, 17, 40, 130), (1, 2, 3, 9, 31, 96, 97)
    layer = getattr(onward, kind)(5, 33, rng=0, **options)
    inputs = [rng.standard_normal((T, B, 5)).astype(np.float32) for T in lengths for B in batches]
    for number in rng.permutation(np.repeat(np.arange(len(inputs)), 3)):
        x = inputs[number]
        for y, expected in zip(layer(x), getattr(onward, kind)(5, 33, rng=0, **options)(x), strict=True):
            np.testing.assert_array_equal(y, expected)


def test_concurrent_short_calls_do_not_share_memory() -> None:
    layer = onward.LSTM(8, 64, rng=0)
    inputs = [np.full((2, 1, 8), i / 10, np.float32) for i in range(8)]
    expected = [layer(x)[0] for x in inputs]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(50):
            for mine, first in zip(threads.map(lambda x: layer(x)[0], inputs), expected, strict=True):
                np.testing.assert_array_equal(mine, first)
