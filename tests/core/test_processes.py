"""One model in other processes: forked, spawned, or sent to, while threads are at work or not."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing.pool import Pool
from typing import Any

import cloudpickle
import numpy as np
import pytest

import onward

X = np.random.default_rng(0).standard_normal((20, 5, 5)).astype(np.float32)

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]
start_methods = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


def model_of(dtype: str = "float32") -> onward.Sequential:
    return onward.Sequential(
        onward.LSTM(5, 33, 2, dtype=dtype, rng=0), onward.Linear(33, 7, dtype=dtype, rng=1)
    )


@pytest.fixture
def model() -> Iterator[onward.Sequential]:
    """A model that has been called by two threads, so that the pool of threads has been started."""
    onward.set_num_threads(2)
    model = model_of()
    model(X)
    yield model
    onward.set_num_threads(1)


def exit_code_of_child(succeeds: Callable[[], bool]) -> int:
    """That of a forked process: 0 if it succeeds; one that hangs is ended by a signal."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(not succeeds())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def scored(model: Any, x: Any) -> bytes:
    with onward.num_threads(2):
        return bytes(model(x).tobytes())


def test_a_forked_child_does_not_wait_for_threads_that_it_has_not(model: onward.Sequential) -> None:
    expected = model(X).tobytes()
    child_of_child = partial(exit_code_of_child, lambda: model(X).tobytes() == expected)
    assert exit_code_of_child(lambda: model(X).tobytes() == expected and child_of_child() == 0) == 0
    assert model(X).tobytes() == expected


def test_a_fork_while_other_threads_are_in_calls_leaves_the_child_whole(model: onward.Sequential) -> None:
    expected, done = model(X).tobytes(), threading.Event()

    def call() -> None:
        while not done.is_set():
            model(X)
            model[0].load_state_dict(model[0].state_dict())

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        codes = [exit_code_of_child(lambda: model(X).tobytes() == expected) for _ in range(20)]
    finally:
        done.set()
        for caller in callers:
            caller.join()
    assert codes == [0] * 20


def test_streams_and_pools_go_on_in_a_child_as_in_the_parent(model: onward.Sequential) -> None:
    stream, pool, y = model.stream(batch=5), model.pool(8), model(X)
    ids = pool.open(5)

    def advance(t: int) -> bool:
        return (stream(X[t]) == y[t]).all() and (pool.step(ids, X[t]) == y[t]).all()

    assert advance(0)
    assert exit_code_of_child(lambda: advance(1) and advance(2)) == 0
    assert advance(1)  # what a child does changes nothing here


@start_methods
def test_a_worker_of_multiprocessing_gives_the_same_bits(method: str, model: onward.Sequential) -> None:
    with multiprocessing.get_context(method).Pool(1) as workers:
        assert isinstance(workers, Pool)
        assert workers.map(partial(scored, model), [X, X[:3]]) == [scored(model, X), scored(model, X[:3])]


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_a_pool_of_futures_gives_the_same_bits(kind: Any, model: onward.Sequential) -> None:
    executor: Executor
    with kind(2) as executor:
        assert list(executor.map(scored, [model] * 4, [X] * 4)) == [scored(model, X)] * 4


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
@pytest.mark.parametrize("precision", [None, "float16", "int8"])
def test_a_pickled_model_is_the_same_without_the_packed_copy(pickler: Any, precision: str | None) -> None:
    model = model_of()
    model = model.quantize(precision) if precision else model
    model(X)
    content = pickler.dumps(model)
    weights = sum(weight.nbytes for weight in model.state_dict().values())
    assert len(content) < weights + 4000
    assert pickle.loads(content)(X).tobytes() == model(X).tobytes()


def test_a_function_that_holds_a_model_is_pickled_by_cloudpickle_for_another_python() -> None:
    model = model_of("float64")
    content = cloudpickle.dumps((lambda x: model(x).tobytes(), X))
    code = "import pickle, sys; f, x = pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(f(x))"
    process = subprocess.run([sys.executable, "-c", code], input=content, check=True, capture_output=True)
    assert process.stdout == model(X).tobytes()
