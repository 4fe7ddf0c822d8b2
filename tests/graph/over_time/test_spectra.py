"""Spectra of frames, and signals that are added up from frames, stream with the bits of a whole call."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.sequence_graphs import blocks, normal

from onward.errors import ArgumentError
from onward.graph import Graph, Model

CASES = range(16)
END = np.iinfo(np.int64).max


class Numbers(Graph):
    """A graph whose nodes also take lists of integers and numbers as constants."""

    def add(self, operation: str, *inputs: Any, **attributes: Any) -> str:
        names = [
            x if isinstance(x, str) else "" if x is None else self.add_constant(np.asarray(x)) for x in inputs
        ]
        return super().add(operation, *names, **attributes)


class Spectra:
    """A random graph from signals (2, T) to spectra (2, frames, bins, 2), or back to signals (2, T')."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.n, self.onesided, self.inverts = int(rng.integers(2, 40)), int(rng.integers(2)), bool(seed % 2)
        if self.inverts:
            self.n, self.onesided = self.n // 2 * 2, 1
        self.hop = int(rng.integers(1, self.n + 1))
        self.window = (rng.random(self.n) + 0.1).astype(np.float32)
        self.graph = Numbers()
        self.rank = int(rng.integers(2, 4))

    def build(self) -> Model:
        g, n, bins = self.graph, self.n, self.n // 2 + 1 if self.onesided else self.n
        x: Any = g.add_input("x", np.float32, ("batch", "time", *[1] * (self.rank - 2)))
        if self.rng.integers(2):  # center=True
            mode = str(self.rng.choice(["reflect", "constant", "edge"]))
            x = g.add("Pad", x, [n // 2] * 2, None, [1], mode=mode)
        x = g.add("STFT", x, self.hop, g.add_constant(self.window), n, onesided=self.onesided)
        gains = self.rng.standard_normal((bins, 1)).astype(np.float32)
        x = g.add("Mul", x, g.add_constant(gains))
        if self.rng.integers(3) == 0:  # changes from frame to frame
            x = g.add("Sub", g.add("Slice", x, [1], [END], [1]), g.add("Slice", x, [0], [-1], [1]))
        g.outputs = (self.signal(x) if self.inverts else x,)
        return Model(g)

    def signal(self, x: Any) -> Any:
        """Add up the frames, and divide by the sum of the squared windows."""
        g, n = self.graph, self.n
        frames = g.add("DFT", x, n, 2, inverse=1, onesided=1)
        frames = g.add("Transpose", g.add("Squeeze", frames, [3]), perm=[0, 2, 1])
        window = g.add_constant(self.window[:, None])
        count = g.add("Shape", frames, start=2, end=3)
        shape = g.add("Concat", [n], count, axis=0)
        squares = g.add("Unsqueeze", g.add("Expand", g.add("Mul", window, window), shape), [0])
        total = g.add("Add", g.add("Mul", g.add("Sub", count, [1]), [self.hop]), [n])
        sizes = g.add("Concat", [1], total, axis=0)
        sums = [
            g.add("Col2Im", each, sizes, [1, n], strides=[1, self.hop])
            for each in (g.add("Mul", frames, window), squares)
        ]
        cut = int(self.rng.integers(n // 2 + 1))
        bounds = [cut], [-cut if cut else END], [3]
        return g.add("Div", *(g.add("Slice", each, *bounds) for each in sums))


def streamed(model: Model, x: NDArray[Any], sizes: list[slice], axis: int) -> NDArray[Any]:
    stream = model.stream(len(x), time_axis=1)
    parts = [stream(x[:, block]) for block in sizes]
    return np.concatenate([*parts, stream.finish()], axis)


@pytest.mark.parametrize("seed", CASES)
def test_blocks_of_any_size_give_the_bits_of_the_whole_signal(seed: int) -> None:
    case = Spectra(seed)
    model = case.build()
    T = case.n * 2 + int(case.rng.integers(100))
    x = normal(case.rng, 2, T, *[1] * (case.rank - 2))
    whole = model(x)
    axis = 3 if case.inverts else 1
    assert whole.shape[axis] > 0
    y = streamed(model, x, blocks(case.rng, T), axis)
    np.testing.assert_array_equal(y.view(np.int32), whole.view(np.int32), strict=True)


@pytest.mark.parametrize("seed", [3, 4, 5, 8])
def test_a_pool_gives_the_bits_of_streams(seed: int) -> None:
    case = Spectra(seed)
    model = case.build()
    x = normal(case.rng, 3, 6 * case.hop, *[1] * (case.rank - 2))
    pool, streams = model.pool(3, time_axis=1), [model.stream(1, time_axis=1) for _ in x]
    ids = pool.open(3)
    for start in range(0, x.shape[1], 2 * case.hop):
        order = case.rng.permutation(3)[: 3 if start else 2]
        block = x[order, start : start + 2 * case.hop]
        found = pool.step(ids[order], block)
        for y, place, part in zip(found, order, block, strict=True):
            np.testing.assert_array_equal(y, streams[place](part[None])[0])


def test_spectra_are_those_of_numpy() -> None:
    graph, rng = Numbers(), np.random.default_rng(0)
    x = normal(rng, 2, 50)
    y = graph.add("STFT", graph.add_input("x", np.float32, ("batch", "time")), 7, None, 20)
    graph.outputs = (y,)
    starts = range(0, 31, 7)
    expected = np.stack([np.fft.rfft(x[:, start : start + 20].astype(np.float64)) for start in starts], 1)
    found = streamed(Model(graph), x, blocks(rng, 50), 1)
    np.testing.assert_allclose(found[..., 0] + 1j * found[..., 1], expected, atol=1e-5)


def test_frames_with_gaps_between_them_do_not_stream_as_a_signal() -> None:
    graph = Numbers()
    frames = graph.add_input("x", np.float32, (1, 3, "time"))
    total = graph.add("Add", graph.add("Mul", graph.add("Shape", frames, start=2, end=3), [5]), [-2])
    sizes = graph.add("Concat", [1], total, axis=0)
    graph.outputs = (graph.add("Col2Im", frames, sizes, [1, 3], strides=[1, 5]),)
    with pytest.raises(ArgumentError, match="leave gaps"):
        Model(graph).stream(time_axis=2)
