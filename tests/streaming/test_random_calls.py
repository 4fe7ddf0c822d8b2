"""Random calls of streams and pools compute what each stream does on its own; those that fail change none."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.randomized import random_cases
from support.sequence_graphs import RandomGraph, detector, normal, stepper

import onward
from onward.errors import OnwardError

COUNT = 70  # of streams: they run in two parts


class Given:
    """An object that NumPy converts; it calls a function meanwhile."""

    def __init__(self, array: Any, function: Callable[[], Any] = lambda: None) -> None:
        self.array, self.function = array, function

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self.function()
        return self.array


def misaligned(x: Any) -> Any:
    return np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape)


def read_only(x: Any) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


GUISES: tuple[Callable[[Any], Any], ...] = (
    lambda x: x,
    lambda x: x.tolist() if x.size else x,
    lambda x: tuple(x.tolist()) if x.size else x,
    lambda x: x.astype(np.float64) if x.dtype.kind == "f" else x.astype(np.uint8),
    lambda x: x.astype(x.dtype.newbyteorder()),
    lambda x: x[::-1].copy()[::-1],
    lambda x: np.repeat(x, 2, axis=0)[::2],
    lambda x: np.broadcast_to(x, x.shape),
    lambda x: x.view(np.recarray),
    lambda x: x.astype(np.int16 if x.dtype.kind == "i" else np.float64)[..., ::-1].copy()[..., ::-1],
    np.asfortranarray,
    misaligned,
    read_only,
    Given,
)


def table() -> Any:
    return onward.Sequential(onward.Embedding(9, 5, rng=0), onward.GRU(5, 7, rng=1), onward.Softmax())


class Calls:
    """A pool, a stream of one sequence and one of a batch, each beside streams that take plain arrays."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        kinds: list[Callable[[], tuple[Any, int, dict[str, Any]]]] = [
            lambda: (onward.LSTM(5, 6, 2, rng=0), 5, {}),
            lambda: (onward.GRU(5, 7, rng=0, dtype="float64", batch_first=True), 5, {}),
            lambda: (onward.Sequential(onward.RNN(5, 4, rng=0), onward.Linear(4, 3, rng=1)), 5, {}),
            lambda: (table(), 0, {}),
            lambda: (detector(8), 8, {}),
            lambda: (RandomGraph(seed).build(int(rng.integers(1, 6)), has_checks=True), 5, {"time_axis": 1}),
            lambda: (stepper(), 4, {"rate": 1}),
        ]
        kind = rng.integers(len(kinds))
        self.model, self.features, self.options = kinds[kind]()
        self.has_steps = "rate" not in self.options  # otherwise, each call is a step
        self.time_first = kind in (0, 2, 3)
        self.pool = self.model.pool(3, **self.options)
        self.alone = {int(id): self.new() for id in self.pool.open(COUNT)}

    def new(self, batch: int | None = None) -> Any:
        return self.model.stream(batch, **self.options)

    def chosen(self, most: int = COUNT) -> Any:
        return self.rng.permutation(list(self.alone))[: self.rng.integers(0, most + 1)]

    def block(self, *rows: int) -> Any:
        """Draw a step or a block of some rows; without rows, that of a single sequence."""
        steps = [int(self.rng.integers(0, 5))] if self.has_steps and self.rng.random() < 0.5 else []
        if not self.features:
            return self.rng.integers(0, 9, (*rows, *steps))
        return normal(self.rng, *rows, *steps, self.features)

    def given(self, x: Any) -> Any:
        return GUISES[self.rng.integers(len(GUISES))](x) if x.ndim and self.rng.random() < 0.7 else x

    def check(self) -> None:
        """Each stream of the pool has the state of the stream that ran alone."""
        assert self.pool.ids.tolist() == sorted(self.alone)
        for id, stream in self.alone.items():
            np.testing.assert_equal(one_row(self.pool.state([id])), stream.state)

    def step(self) -> None:
        ids = self.chosen()
        x = self.block(len(ids))
        y = self.pool.step(self.given(ids), self.given(x))
        y = y if self.has_steps else np.moveaxis(y, self.pool.output_axes[0], 0)
        assert len(y) == len(ids)
        for id, row, own in zip(ids, x, y, strict=True):
            expected = self.alone[int(id)](row if self.has_steps else row[None])
            np.testing.assert_array_equal(own, expected if self.has_steps else expected[:, 0])

    def failing_step(self) -> None:
        ids = self.chosen(len(self.alone) - 1)
        x, rng, some = self.block(len(ids)), self.rng, list(map(int, ids))
        other = next(id for id in self.alone if id not in some)
        x_of_other = self.block(len(ids) + 1)
        wrong_ids: list[Any] = [
            *([*some, some[0]] if some else [-1], [*some, other + 1000], [*some, -1], [*some, 2**63]),
            *(np.append(ids, other).astype(float), [[*some, other]], [*map(str, some), "x"], None, other),
            np.array([*some, 2**64 - 1], np.uint64),
        ]
        wrong_x: list[Any] = [
            *(x[..., None, None], np.zeros((len(ids), 3, 3, 3)), x.astype(complex), x.astype(str), None, "x"),
            Given(x, lambda: self.pool.step([other], self.block(1))) if not self.has_steps else x[None, None],
            *(x_of_other, [[1], [1, 2]], Given(x, lambda: 1 / 0)),
        ]
        if not self.features and len(ids):
            bad = x.copy()
            bad.reshape(len(ids), -1)[-1:, -1:] = 9
            wrong_x.append(bad if bad.size else None)
        if rng.random() < 0.5:
            arguments = wrong_ids[rng.integers(len(wrong_ids))], x_of_other
        else:
            arguments = ids, wrong_x[rng.integers(len(wrong_x))]
        with pytest.raises((OnwardError, ZeroDivisionError)):
            self.pool.step(*arguments)

    def put(self) -> None:
        """Copy the states of some streams to others."""
        to = self.chosen()
        rng = self.rng
        if not len(to) or rng.random() < 0.3:
            self.pool.reset(self.given(to))
            self.alone |= {int(id): self.new() for id in to}
            return
        origins = rng.choice(list(self.alone), len(to))
        twins = {int(a): self.alone[int(b)].copy() for a, b in zip(to, origins, strict=True)}
        if len(set(origins.tolist())) < len(to):
            for a, b in zip(to, origins, strict=True):
                if a not in origins:
                    self.pool.set_state([a], self.pool.state([b]))
                    self.alone[int(a)] = twins[int(a)]
            return
        self.pool.set_state(self.given(to), self.pool.state(self.given(origins)))
        self.alone |= twins

    def open_and_close(self) -> None:
        ids = self.chosen(COUNT // 2)
        self.pool.close(self.given(ids))
        for id in ids:
            del self.alone[int(id)]
        self.alone |= {int(id): self.new() for id in self.pool.open(int(self.rng.integers(1, COUNT)))}

    def copy(self, path: Path) -> None:
        if self.rng.random() < 0.5:
            old, self.pool = self.pool, self.pool.copy()
        else:
            self.pool.save(path)
            old, self.pool = self.pool, self.model.pool(1, **self.options)
            self.pool.load(path)
        old.step(ids := old.ids[:2], self.block(len(ids)))  # changes the original alone


def one_row(state: Any) -> Any:
    """Return the state of one stream of a pool as its stream would."""
    if isinstance(state, np.ndarray):
        return state[:, 0]
    if isinstance(state, list) and isinstance(state[0], dict):  # of a graph
        return state[0]
    return type(state)(map(one_row, state))


@pytest.mark.parametrize("seed", range(random_cases(6)))
def test_random_calls_of_pools(seed: int, tmp_path: Path) -> None:
    calls = Calls(seed)
    for _ in range(14):
        operations = [calls.step, calls.step, calls.failing_step, calls.failing_step, calls.put]
        operations += [calls.open_and_close, lambda: calls.copy(tmp_path / "pool")]
        operations[calls.rng.integers(len(operations))]()
        calls.check()


@pytest.mark.parametrize("seed", range(random_cases(12)))
def test_random_calls_of_streams(seed: int, tmp_path: Path) -> None:
    calls = Calls(seed)
    rng, batch = calls.rng, [None, 1, 3][calls.rng.integers(3)]
    stream, alone, rows = calls.new(batch), calls.new(batch), [] if batch is None else [batch]
    for _ in range(24):
        x = calls.block(*(rows if calls.has_steps else [batch or 1]))
        if rows and calls.time_first and x.ndim == 2 + bool(calls.features):
            x = x.swapaxes(0, 1)
        given, twin = calls.given(x), stream.copy()
        choice = rng.integers(6)
        if choice == 0:
            wrong = [x[None, None, None], x.astype(complex), x.astype(str), None, "x", [[1], [1, 2]]]
            wrong += [Given(x, lambda: 1 / 0), Given(x, partial(stream, x)), given, given]
            outs: list[Any] = [None] * (len(wrong) - 2) + [np.zeros((3, 2, 1), np.float32), "y"]
            place = rng.integers(len(wrong))
            with pytest.raises((OnwardError, ZeroDivisionError)):
                stream(wrong[place], out=outs[place])
        else:
            expected = alone(np.array(x, order="C"))
            out = None if choice < 4 else np.full((2, *expected.shape), 7, expected.dtype)[choice % 2]
            if choice == 5 and expected.ndim and rng.random() < 0.5:
                out = np.repeat(out, 2, axis=-1)[..., ::2]
            y = stream(given, out=out)
            assert out is None or y is out
            np.testing.assert_array_equal(y, expected)
            if isinstance(given, np.ndarray) and given.flags.writeable:
                given[...] = 3  # the stream holds no view of the block
            y[...] = 5
        np.testing.assert_equal(stream.state, alone.state)
        if choice == 1:
            if rng.random() < 0.5:
                stream = stream.copy()
            else:
                stream.save(tmp_path / "stream")
                twin.load(tmp_path / "stream")
                stream = twin
