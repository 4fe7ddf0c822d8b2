"""The arrays into which a stream writes may not share memory with its inputs or with each other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError, OnwardError


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
    stream.reset()
    assert stream(x, out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("end", [(), (onward.Softmax(),)], ids=["core", "layers"])
def test_the_elements_of_out_may_not_overlap(end: tuple[Any, ...]) -> None:
    net, memory = onward.Sequential(onward.LSTM(5, 5, rng=0), *end), np.zeros(200, np.float32)
    for strides in ((0, 4), (16, 4), (-16, 4)):
        out = np.lib.stride_tricks.as_strided(memory[100:], (9, 5), strides)
        with pytest.raises(ArgumentError, match="the elements of out may overlap"):
            net.stream()(numbers(9, 5), out=out)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "with gaps": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backward": lambda x: x[::-1].copy()[::-1],
    "columns first": np.asfortranarray,
    "misaligned": lambda x: np.frombuffer(bytearray(b"\0" + x.tobytes()), x.dtype, offset=1).reshape(x.shape),
    "of the other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "of the other precision": lambda x: x.astype(np.float64),
    "of a subclass": lambda x: x.view(np.recarray),
}


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_core_reads_and_writes_arrays_of_all_layouts_as_numpy_does(
    layout: str, batch: int | None
) -> None:
    """It takes their memory, strides, flags and dtypes from the structs of NumPy's C API."""
    lstm = onward.LSTM(3, 4, rng=0, batch_first=True)
    x = numbers(*([] if batch is None else [batch]), 5, 3)
    expected, changed = lstm.stream(batch)(x), LAYOUTS[layout]
    np.testing.assert_array_equal(lstm.stream(batch)(changed(x)), expected)
    out = changed(np.zeros_like(expected))
    if layout in ("of the other byte order", "of the other precision"):
        with pytest.raises(OnwardError):
            lstm.stream(batch)(x, out=out)
        np.testing.assert_array_equal(out, 0)
    else:
        assert lstm.stream(batch)(changed(x), out=out) is out
        np.testing.assert_array_equal(out, expected)
