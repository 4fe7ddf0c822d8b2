"""Pools: each stream gets bitwise what it would get alone, and a call that fails changes none."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.hostile import bounded

import onward
from onward.errors import ArgumentError, DtypeError, FileError, OnwardError, ShapeError

MODELS = {
    "rnn": lambda: onward.RNN(5, 7, 2, rng=0),
    "lstm": lambda: onward.LSTM(5, 33, 2, rng=0),
    "projected": lambda: onward.LSTM(5, 9, 2, proj_size=4, rng=0),
    "gru": lambda: onward.GRU(5, 7, rng=0, dtype="float64"),
    "gru_reset_before": lambda: onward.GRU(5, 7, reset_after=False, rng=0),
    "chain": lambda: onward.Sequential(onward.GRU(5, 7, rng=0), onward.Last(), onward.Linear(7, 3, rng=1)),
    "softmax": lambda: onward.Sequential(onward.LSTM(5, 7, rng=0), onward.Linear(7, 3), onward.Softmax()),
    "batch_first": lambda: onward.Sequential(onward.LSTM(5, 7, rng=0, batch_first=True), onward.Softmax()),
    "embedding": lambda: onward.Sequential(onward.Embedding(9, 5, rng=0), onward.LSTM(5, 7, rng=1)),
}
every_model = pytest.mark.parametrize("name", MODELS)
RNG = np.random.default_rng(3)


def inputs(name: str, n: int) -> Any:
    return RNG.integers(0, 9, n) if name == "embedding" else RNG.standard_normal((n, 5))


def parts(state: Any) -> list[Any]:
    if isinstance(state, np.ndarray):
        return [state]
    return [part for inner in state for part in parts(inner)]


def assert_same(state: Any, other: Any) -> None:
    for mine, its in zip(parts(state), parts(other), strict=True):
        np.testing.assert_array_equal(mine, its)


@every_model
@pytest.mark.parametrize("threads", [1, 2])
def test_each_stream_gets_bitwise_what_it_would_get_alone(isa: str, name: str, threads: int) -> None:
    model = MODELS[name]()
    pool, onward_threads = model.pool(4), onward.get_num_threads()
    onward.set_num_threads(threads)
    try:
        alone = {int(id): model.stream() for id in pool.open(230)}
        for n in (1, 230, 0, 17, 97, 230):
            ids = RNG.permutation(list(alone))[:n]
            x = inputs(name, n)
            y = pool.step(ids, x)
            for row, id in enumerate(ids):
                np.testing.assert_array_equal(y[row], alone[int(id)](x[row]))
    finally:
        onward.set_num_threads(onward_threads)
    for id, stream in alone.items():
        assert_same([part[:, 0] for part in parts(pool.state([id]))], stream.state)


@every_model
def test_states_are_copies_that_can_be_set_and_reset(name: str) -> None:
    pool = MODELS[name]().pool(8)
    a, b, c = pool.open(3)
    x = inputs(name, 1)
    for _ in range(3):
        pool.step([a], x)
    state = pool.state([a])
    pool.set_state([b], state)
    for part in parts(state):
        part[:] = 9
    np.testing.assert_array_equal(pool.step([a], x), pool.step([b], x))
    pool.reset([b])
    np.testing.assert_array_equal(pool.step([b], x), pool.step([c], x))


def test_capacity_doubles_and_states_move_with_it() -> None:
    pool = MODELS["lstm"]().pool(3)
    ids = pool.open(3)
    x = inputs("lstm", 3)
    pool.step(ids, x)
    before = pool.state(ids)
    assert (len(pool), pool.capacity) == (3, 3)
    assert set(pool.open(1)).isdisjoint(ids)
    assert (len(pool), pool.capacity) == (4, 6)
    assert_same(pool.state(ids), before)
    pool.open(20)
    assert (len(pool), pool.capacity) == (24, 24)


def test_closed_ids_are_opened_again_with_states_of_zeros() -> None:
    pool = MODELS["lstm"]().pool(2)
    ids = pool.open(2)
    pool.step(ids, inputs("lstm", 2))
    pool.close(ids[:1])
    assert (len(pool), list(pool.ids)) == (1, [ids[1]])
    assert pool.open() == ids[:1]
    assert not parts(pool.state(ids[:1]))[0].any()
    assert pool.capacity == 2


def test_states_take_what_their_numbers_take_and_a_tenth_at_most() -> None:
    streams, H = 50_000, 128
    layer, x = onward.LSTM(5, H, rng=0), inputs("lstm", 64)
    layer.pool(1).step([], x[:0])  # what is made once, for all pools
    with bounded(seconds=5, memory=int(streams * 2 * H * 4 * 1.1)):
        pool = layer.pool(streams)
        pool.step(pool.open(streams)[-64:], x)
    assert len(pool) == streams


def test_max_capacity_is_kept_and_a_refused_open_opens_none() -> None:
    pool = MODELS["lstm"]().pool(2, max_capacity=5)
    pool.open(3)
    assert pool.capacity == 4
    with pytest.raises(ArgumentError, match="3 more would make 6 open streams, but max_capacity is 5"):
        pool.open(3)
    assert len(pool) == 3
    pool.open(2)
    assert (len(pool), pool.capacity) == (5, 5)


def test_sizes_beyond_memory_are_refused_and_change_nothing() -> None:
    layer = MODELS["lstm"]()
    with pytest.raises((ArgumentError, MemoryError)):
        layer.pool(2**60)
    pool = layer.pool(2)
    for n in (2**60, 2**62):
        with pytest.raises((ArgumentError, MemoryError)):
            pool.open(n)
    assert (len(pool), pool.capacity) == (0, 2)


@every_model
@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        ([0, 1, 0], ArgumentError, r"ids\[2\] is 0, which is named twice"),
        ([0, 3, 1], ArgumentError, r"ids\[1\] is 3, a stream that is not open"),
        ([0, 1, 8], ArgumentError, r"ids\[2\] is 8, but this pool has ids from 0 to 7"),
        ([0, -1, 1], ArgumentError, r"ids\[1\] is -1"),
        ([0.0, 1.0, 2.0], DtypeError, "ids has dtype float64, but must hold the integers that open returned"),
        ([[0, 1, 2]], ShapeError, r"ids has shape \(1, 3\)"),
        ([0, 1], ShapeError, r"x has shape \(3, 5\), but one step of 2 streams is \(2, 5\)"),
        (["a", "b", "c"], DtypeError, "ids has dtype <U1"),
    ],
)
def test_wrong_ids_change_no_stream(name: str, ids: Any, error: type[OnwardError], words: str) -> None:
    pool = MODELS[name]().pool(8)
    good = pool.open(4)
    pool.close(good[3:])
    x = inputs(name, 3)
    pool.step(good[:3], x)
    before = pool.state(good[:3])
    with pytest.raises(error, match=words if "x has" not in words or x.ndim == 2 else "x has shape"):
        pool.step(ids, x)
    if error is not ShapeError or "ids" in words:
        for refused in (pool.close, pool.reset, pool.state):
            with pytest.raises(error, match=words):
                refused(ids)
    assert_same(pool.state(good[:3]), before)
    assert len(pool) == 3


def test_a_wrong_x_or_state_changes_no_stream() -> None:
    pool = MODELS["lstm"]().pool(8)
    ids = pool.open(3)
    pool.step(ids, inputs("lstm", 3))
    before = pool.state(ids)
    with pytest.raises(DtypeError, match="complex"):
        pool.step(ids, np.zeros((3, 5), complex))
    with pytest.raises(ShapeError, match=r"h has shape \(2, 3, 32\)"):
        pool.set_state(ids, (np.zeros((2, 3, 32)), np.zeros((2, 3, 33))))
    with pytest.raises(ArgumentError, match="pair"):
        pool.set_state(ids, np.zeros((2, 3, 33)))
    assert_same(pool.state(ids), before)


@every_model
def test_a_saved_pool_goes_on_with_the_same_ids(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    pool, other = model.pool(8), model.pool(2)
    ids = pool.open(6)
    pool.close(ids[1:3])
    ids = np.delete(ids, [1, 2])
    pool.step(ids, inputs(name, 4))
    pool.save(tmp_path / "pool")
    other.open(2)
    other.load(tmp_path / "pool")
    assert list(other.ids) == list(ids)
    x = inputs(name, 4)
    np.testing.assert_array_equal(other.step(ids, x), pool.step(ids, x))
    assert set(other.open(3)).isdisjoint(ids)


def test_a_pool_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    model, path = MODELS["lstm"](), tmp_path / "pool"
    pool = model.pool(8)
    pool.open(6)
    pool.save(path)
    content = path.read_bytes()
    small = model.pool(2, max_capacity=3)
    ids = small.open(2)
    with pytest.raises(ArgumentError, match="ids up to 5, but max_capacity is 3"):
        small.load(path)
    for other, words in (
        ("rnn", "another model"),
        ("gru", "a model in 'float32', but this one is in 'float64'"),
    ):
        with pytest.raises(FileError, match=words):
            MODELS[other]().pool(2).load(path)
    with pytest.raises(FileError, match="a model in 'float32', but this one is in 'int8'"):
        model.quantize("int8").pool(2).load(path)
    with pytest.raises(FileError, match="no state of a stream"):
        model.stream().load(path)
    path.write_bytes(content.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    with pytest.raises(FileError, match="format 9, but this Onward reads format 1"):
        small.load(path)
    path.write_bytes(content[:-1])
    with pytest.raises(FileError, match="not a complete safetensors file"):
        small.load(path)
    assert list(small.ids) == list(ids)


@pytest.mark.parametrize("name", ["chain", "softmax"])
def test_threads_take_turns_and_each_call_is_whole(name: str) -> None:
    model = MODELS[name]()
    pool = model.pool(4)
    shared, own = pool.open(1), [pool.open(60), pool.open(60)]
    x = inputs(name, 61)
    failed: list[Exception] = []

    def work(mine: Any) -> None:
        try:
            for _ in range(50):
                pool.step([*mine, *shared], x)
                pool.close(pool.open(5))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(ids,)) for ids in own]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for ids, steps, rows in ((own[0], 50, x[:60]), (own[1], 50, x[:60]), (shared, 100, x[60:])):
        _, state = model(rows[None].repeat(steps, 0), return_state=True)
        assert_same(pool.state(ids), state)


@pytest.mark.parametrize("name", ["lstm", "softmax"])
def test_a_load_never_comes_between_the_steps_of_another_thread(name: str, tmp_path: Path) -> None:
    """Else a stream would step from zeros, or from the state of its neighbours before the load."""
    model, n, x = MODELS[name](), 300, inputs(name, 1)
    pool = model.pool(n)
    ids = pool.open(n)
    every = x.repeat(n, 0)
    for _ in range(3):
        pool.step(ids, every)
    pool.save(tmp_path / "pool")
    alone = model.stream()
    reachable = np.stack([alone(x[0]) for _ in range(3 + 50)])[3:]
    answers: list[Any] = []
    stepping = threading.Thread(target=lambda: [answers.append(pool.step(ids, every)) for _ in range(50)])
    stepping.start()
    while stepping.is_alive():
        pool.load(tmp_path / "pool")
    for y in answers:
        assert (y == y[0]).all()
        assert (y[0] == reachable).all(axis=1).any()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a shell: what a script starts in the background is deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("name", ["lstm", "softmax"])
def test_an_interrupt_leaves_every_stream_at_a_whole_step(name: str) -> None:
    model, n, x = MODELS[name](), 200, inputs(name, 1)
    pool = model.pool(n)
    ids = pool.open(n)
    alone, steps = model.stream(), 0
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        while True:
            pool.step(ids, x.repeat(n, 0))
            steps += 1
    timer.join()
    for _ in range(steps):
        alone(x[0])
    before, now = parts(alone.state), parts(pool.state(ids))
    alone(x[0])  # the last step may have been done, though its answer was lost
    assert any(
        all((part == whole[:, None]).all() for part, whole in zip(now, state, strict=True))
        for state in (before, parts(alone.state))
    )
