"""The arrays into which a stream writes may not share memory with its inputs or with each other."""

from typing import Any

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError


def numbers(*shape: int) -> Any:
    """Random numbers."""
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("end", [(), (onward.Softmax(),)], ids=["core", "layers"])
@pytest.mark.parametrize("seed", range(20))
def test_out_may_not_share_memory_with_x(end: tuple[Any, ...], seed: int) -> None:
    """Steps would be overwritten before they are read, or outputs by later ones."""
    rng, memory = np.random.default_rng(seed), numbers(40, 20)
    net = onward.Sequential(onward.LSTM(5, 5, rng=0), *end)
    x = memory[3:23, 5:10] if seed % 2 else memory[3:23, :5].reshape(20, 5)
    first, column = (int(n) for n in rng.integers(0, (20, 15)))
    out = memory[first : first + 20, column : column + 5][:: rng.choice((1, -1))]
    expected, stream = net(x), net.stream()
    if np.shares_memory(x, out):
        with pytest.raises(ArgumentError, match="out shares memory with"):
            stream(x, out=out)
        np.testing.assert_equal(stream.state, net.stream().state)
        out = np.empty_like(x)
    assert stream(x, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("end", [(), (onward.Softmax(),)], ids=["core", "layers"])
def test_the_elements_of_out_may_not_overlap(end: tuple[Any, ...]) -> None:
    net, memory = onward.Sequential(onward.LSTM(5, 5, rng=0), *end), np.zeros(200, np.float32)
    for strides in ((0, 4), (16, 4), (-16, 4)):
        out = np.lib.stride_tricks.as_strided(memory[100:], (9, 5), strides)
        with pytest.raises(ArgumentError, match="the elements of out may overlap"):
            net.stream()(numbers(9, 5), out=out)
