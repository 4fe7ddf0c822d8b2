"""Threads: the same bits for any number of them, no call in another's way, and life after a fork."""

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError

LAYERS = {
    "rnn": lambda H: onward.RNN(5, H, 2, rng=0),
    "lstm": lambda H: onward.LSTM(5, H, 3, rng=0),
    "lstm_both_ways": lambda H: onward.LSTM(5, H, 2, bidirectional=True, rng=0),
    "lstm_projected": lambda H: onward.LSTM(5, H, 2, proj_size=H // 2, bidirectional=True, rng=0),
    "lstm_options": lambda H: onward.LSTM(
        5, H, 2, bidirectional=True, peephole=True, clip=0.5, activations=("silu", "elu", "tanh"), rng=0
    ),
    "gru": lambda H: onward.GRU(5, H, 2, rng=0, dtype="float64"),
    "gru_reset_before": lambda H: onward.GRU(5, H, 2, reset_after=False, bidirectional=True, rng=0),
}


@pytest.fixture(autouse=True)
def one_thread_afterwards() -> Iterator[None]:
    yield
    onward.set_num_threads(1)


def answer(layer: Any, x: Any, lengths: Any) -> list[Any]:
    y, state = layer(x, lengths=lengths)
    return [y, *(state if isinstance(state, tuple) else (state,))]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    ("T", "B", "H"), [(50, 1, 33), (20, 5, 70), (9, 64, 33), (3, 130, 7), (0, 4, 7), (2, 1, 2)]
)
def test_any_number_of_threads_gives_the_same_bits(isa: str, name: str, T: int, B: int, H: int) -> None:
    rng = np.random.default_rng(B)
    layer, x, lengths = LAYERS[name](H), rng.standard_normal((T, B, 5)), rng.integers(0, T + 1, B)
    for given in (None, lengths):
        onward.set_num_threads(1)
        alone = answer(layer, x, given)
        for threads in (2, 3, 5):
            onward.set_num_threads(threads)
            for mine, expected in zip(answer(layer, x, given), alone, strict=True):
                assert mine.tobytes() == expected.tobytes()


def test_calls_from_several_threads_at_once_do_not_share_buffers() -> None:
    onward.set_num_threads(2)
    layer = LAYERS["lstm"](33)
    inputs = np.random.default_rng(0).standard_normal((4, 20, 5, 5)).astype(np.float32)
    expected = [layer(x)[0] for x in inputs]
    wrong = []

    def work(which: int) -> None:
        wrong.extend(which for _ in range(50) if not np.array_equal(layer(inputs[which])[0], expected[which]))

    workers = [threading.Thread(target=work, args=(which,)) for which in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_threads_that_it_has_not() -> None:
    onward.set_num_threads(2)
    layer, x = LAYERS["lstm"](33), np.ones((20, 5, 5), np.float32)
    expected = layer(x)[0]
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(layer(x)[0], expected) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not tell")
def test_threads_may_use_the_same_cores_after_a_call_as_before() -> None:
    onward.set_num_threads(3)
    layer, x = LAYERS["lstm"](33), np.ones((20, 5, 5), np.float32)
    for _ in range(20):
        layer(x)
        time.sleep(0.002)  # for the workers to fall asleep, and be woken somewhere
    cores = {frozenset(os.sched_getaffinity(int(thread))) for thread in os.listdir("/proc/self/task")}
    assert cores == {frozenset(os.sched_getaffinity(0))}


def test_the_number_of_threads_is_what_was_set() -> None:
    assert onward.get_num_threads() == 1
    onward.set_num_threads(3)
    assert onward.get_num_threads() == 3


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True, 10_000])
def test_a_wrong_number_of_threads_is_refused(n: Any) -> None:
    with pytest.raises(ArgumentError, match="must be an integer from 1"):
        onward.set_num_threads(n)
