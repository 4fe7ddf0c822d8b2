"""Pools: each stream gets the bits that it gets on its own, and a call that fails changes no stream."""

import copy
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.hostile import bounded, needs_bound
from support.sequence_graphs import detector, stepper

import onward
from onward.core import storage
from onward.errors import ArgumentError, DtypeError, FileError, MemoryLimitError, OnwardError, ShapeError
from onward.streaming.pool import Pool

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
def test_each_stream_matches_a_stream_on_its_own_bitwise(isa: str, name: str, threads: int) -> None:
    model = MODELS[name]()
    pool, onward_threads = model.pool(4), onward.get_num_threads()
    onward.set_num_threads(threads)
    try:
        alone = {int(id): model.stream() for id in pool.open(230)}
        for n in (1, 97, 0, 17, 230):
            ids = RNG.permutation(list(alone))[:n]
            x = inputs(name, n)
            y = pool.step(ids, x)
            expected = [alone[int(id)](row) for id, row in zip(ids, x, strict=True)]
            np.testing.assert_array_equal(y, np.array(expected).reshape(y.shape))
    finally:
        onward.set_num_threads(onward_threads)
    states = zip(*(parts(stream.state) for stream in alone.values()), strict=True)
    for part, rows in zip(parts(pool.state(list(alone))), states, strict=True):
        np.testing.assert_array_equal(part, np.stack(rows, 1))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lacks the module resource")
def test_a_pool_refuses_to_open_too_many_streams_before_it_allocates_memory() -> None:
    code = """
import resource, onward
from onward.errors import ArgumentError

pool = onward.LSTM(3, 4).pool(4, max_capacity=100)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for n in (101, 200_000_000, 10**12, 2**62, 2**63 - 1):
    try:
        pool.open(n)
    except ArgumentError:
        continue
    raise AssertionError(n)
assert len(pool) == 0 and pool.capacity == 4
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # kB
"""
    subprocess.run([sys.executable, "-c", code], check=True)


ROWS = [2**31, 2**40, 2**58, 2**62, 2**63 - 1, 2**63, 10**30]
SMALL = onward.LSTM(3, 4, rng=0)
MAKERS: dict[str, Any] = {
    "stream": SMALL.stream,
    "stream of layers": onward.Sequential(SMALL, onward.Softmax()).stream,
    "stream over time": lambda n: detector(8).stream(n),
    "stream with named carries": lambda n: stepper().stream(n, rate=1),
    "pool": SMALL.pool,
    "pool of layers": onward.Sequential(SMALL, onward.Softmax()).pool,
    "pool over time": lambda n: detector(8).pool(n),
    "open": lambda n: SMALL.pool(1).open(n),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("rows", ROWS)
def test_more_rows_than_any_memory_holds_are_refused(name: str, rows: int) -> None:
    MAKERS[name](1)
    with bounded(seconds=10), pytest.raises(OnwardError, match=str(rows)):
        MAKERS[name](rows)


@needs_bound
def test_rows_for_which_there_is_no_memory_are_named() -> None:
    for make in MAKERS.values():
        make(2)  # the first one imports modules, which `bounded` refuses
    with bounded(seconds=10):
        for name in ("stream", "stream of layers", "stream over time", "stream with named carries"):
            with pytest.raises(MemoryLimitError, match="batch=2000000000"):
                MAKERS[name](2_000_000_000)
        for name in ("pool", "pool of layers", "pool over time", "open"):
            with pytest.raises(MemoryLimitError, match="the states of the streams"):
                MAKERS[name](2_000_000_000)


@every_model
def test_no_steps_remain_at_the_end(name: str) -> None:
    model = MODELS[name]()
    pool, stream = model.pool(4), model.stream()
    ids = pool.open(3)
    pool.step(ids, inputs(name, 3))
    before, rest = pool.state(ids), pool.finish(ids[:2])
    assert [(y.shape, y.dtype) for y in rest] == [(stream.finish().shape, stream.finish().dtype)] * 2
    assert_same(pool.state(ids), before)
    assert pool.finish([]) == []
    with pytest.raises(ArgumentError, match="not open"):
        pool.finish([3])


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


def test_growing_keeps_the_states() -> None:
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


def test_reopened_ids_start_with_zero_states() -> None:
    pool = MODELS["lstm"]().pool(2)
    ids = pool.open(2)
    pool.step(ids, inputs("lstm", 2))
    pool.close(ids[:1])
    assert (len(pool), list(pool.ids)) == (1, [ids[1]])
    assert pool.open() == ids[:1]
    assert not parts(pool.state(ids[:1]))[0].any()
    assert pool.capacity == 2


def test_memory_exceeds_the_size_of_the_states_by_at_most_a_tenth() -> None:
    streams, H = 50_000, 128
    layer, x = onward.LSTM(5, H, rng=0), inputs("lstm", 64)
    layer.pool(1).step([], x[:0])  # allocates what all pools share
    with bounded(seconds=5, memory=int(streams * 2 * H * 4 * 1.1)):
        pool = layer.pool(streams)
        pool.step(pool.open(streams)[-64:], x)
    assert len(pool) == streams


def test_open_beyond_max_capacity_opens_none() -> None:
    pool = MODELS["lstm"]().pool(2, max_capacity=5)
    pool.open(3)
    assert pool.capacity == 4
    with pytest.raises(ArgumentError, match="3 more would make 6 open streams, but max_capacity is 5"):
        pool.open(3)
    assert len(pool) == 3
    pool.open(2)
    assert (len(pool), pool.capacity) == (5, 5)


def test_sizes_beyond_memory_are_rejected() -> None:
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
        ([0, 1, 0], ArgumentError, r"ids\[2\] is 0, which occurs twice"),
        ([0, 3, 1], ArgumentError, r"ids\[1\] is 3, but that stream is not open"),
        ([0, 1, 8], ArgumentError, r"ids\[2\] is 8, but the ids of this pool are 0 to 7"),
        (
            np.array([0, 1, 2**64 - 1], np.uint64),
            ArgumentError,
            r"ids\[2\] is 18446744073709551615, but the ids",
        ),
        ([0, -1, 1], ArgumentError, r"ids\[1\] is -1"),
        ([0.0, 1.0, 2.0], DtypeError, "ids has dtype float64, but must hold the integers that open returned"),
        ([[0, 1, 2]], ShapeError, r"ids has shape \(1, 3\)"),
        ([0, 1], ShapeError, r"x has shape \(3, 5\), but one step of 2 streams is \(2, 5\)"),
        (["a", "b", "c"], DtypeError, "ids has dtype <U1"),
    ],
)
def test_invalid_ids_change_no_stream(name: str, ids: Any, error: type[OnwardError], words: str) -> None:
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


def test_invalid_x_or_state_changes_no_stream() -> None:
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
def test_loaded_pool_continues_with_the_same_ids(name: str, tmp_path: Path) -> None:
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


def test_pool_file_of_another_model_or_version_is_rejected(tmp_path: Path) -> None:
    model, path = MODELS["lstm"](), tmp_path / "pool"
    pool = model.pool(8)
    pool.open(6)
    pool.save(path)
    content = path.read_bytes()
    small = model.pool(2, max_capacity=3)
    ids = small.open(2)
    with pytest.raises(ArgumentError, match="the largest id is 5, but max_capacity is 3"):
        small.load(path)
    for other, words in (
        ("rnn", "another model"),
        ("gru", "a model in 'float32', but this one is in 'float64'"),
    ):
        with pytest.raises(FileError, match=words):
            MODELS[other]().pool(2).load(path)
    with pytest.raises(FileError, match="a model in 'float32', but this one is in 'int8'"):
        model.quantize("int8").pool(2).load(path)
    with pytest.raises(FileError, match="not the state of a stream"):
        model.stream().load(path)
    path.write_bytes(content.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    with pytest.raises(FileError, match="format 9, but this Onward reads format 1"):
        small.load(path)
    path.write_bytes(content[:-1])
    with pytest.raises(FileError, match="not a complete safetensors file"):
        small.load(path)
    assert list(small.ids) == list(ids)


@pytest.mark.parametrize("name", ["lstm", "softmax"])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, Pool.copy])
def test_copied_pool_is_independent_of_the_original(name: str, copied: Any) -> None:
    pool = MODELS[name]().pool(3, max_capacity=7)
    ids = pool.open(5)
    pool.close(ids[1:3])
    ids = np.delete(ids, [1, 2])
    pool.step(ids, inputs(name, 3))
    before = pool.state(ids)
    twin = copied(pool)
    assert (list(twin.ids), twin.capacity) == (list(ids), pool.capacity)
    x = inputs(name, 3)
    np.testing.assert_array_equal(twin.step(ids, x), pool.step(ids, x))
    pool.set_state(ids, before)
    twin.close(ids)
    assert len(pool) == 3 and set(twin.open(7)) == set(range(7))
    assert_same(pool.state(ids), before)
    with pytest.raises(ArgumentError, match="max_capacity is 7"):
        twin.open(1)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (slice(-1, None), r"ids up to 19999999, .* capacity=20000000"),
        (slice(None), r"h has shape \(1, 1, 64\)"),
    ],
    ids=["one", "all"],
)
def test_pool_file_with_a_long_mask_does_not_request_gigabytes(
    ids: slice, message: str, tmp_path: Path
) -> None:
    path, model = tmp_path / "pool", onward.GRU(5, 64, rng=0)
    pool = model.pool(2)
    pool.open()
    pool.save(path)
    tensors, metadata = storage.read(path)
    tensors["open"] = np.zeros(20_000_000, bool)
    tensors["open"][ids] = True
    storage.write(path, tensors, metadata)
    with bounded(seconds=5), pytest.raises(FileError, match=message):
        pool.load(path)
    assert list(pool.ids) == [0] and pool.capacity == 2


def test_sparse_pool_file_loads_into_a_pool_with_its_capacity(tmp_path: Path) -> None:
    model = onward.GRU(5, 64, rng=0)
    pool, other = model.pool(70_000), model.pool(70_000)
    pool.close(pool.open(70_000)[:-1])
    pool.save(tmp_path / "pool")
    other.load(tmp_path / "pool")
    assert list(other.ids) == [69_999]
    with pytest.raises(FileError, match="capacity=70000"):
        model.pool(2).load(tmp_path / "pool")


@pytest.mark.parametrize("name", ["chain", "softmax"])
def test_calls_from_several_threads_are_atomic(name: str) -> None:
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
def test_load_never_interleaves_with_a_step(name: str, tmp_path: Path) -> None:
    """A stream could otherwise step from zeros, or from the state of another stream."""
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
    """Ctrl-C as in a shell: a process started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill cannot send Ctrl-C on Windows")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("name", ["lstm", "softmax"])
def test_interrupt_leaves_every_stream_between_steps(name: str) -> None:
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
    alone(x[0])  # the last step may have completed although its output was lost
    assert any(
        all((part == whole[:, None]).all() for part, whole in zip(now, state, strict=True))
        for state in (before, parts(alone.state))
    )
