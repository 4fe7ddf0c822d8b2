"""Models in forked and spawned processes, also while other threads run."""

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
from support.randomized import random_cases

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
    """A model after a call with two threads, which started the pool of threads."""
    onward.set_num_threads(2)
    model = model_of()
    model(X)
    yield model
    onward.set_num_threads(1)


def exit_code_of_child(succeeds: Callable[[], bool]) -> int:
    """The exit code of a forked process: 0 if `succeeds` returns True. A signal ends a process that hangs."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(not succeeds())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def scored(model: Any, x: Any) -> bytes:
    with onward.num_threads(2):
        return bytes(model(x).tobytes())


def test_a_forked_child_does_not_wait_for_the_threads_of_its_parent(model: onward.Sequential) -> None:
    expected = model(X).tobytes()
    grandchild = partial(exit_code_of_child, lambda: model(X).tobytes() == expected)
    assert exit_code_of_child(lambda: model(X).tobytes() == expected and grandchild() == 0) == 0
    assert model(X).tobytes() == expected


def test_a_child_forked_during_calls_of_other_threads_works(model: onward.Sequential) -> None:
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


def test_a_child_does_not_inherit_a_lock_that_guards_the_memory_of_short_calls() -> None:
    # In a process of its own, because forking a small process is faster.
    code = """
import os, signal, threading
import numpy as np
import onward
from onward.layers.graphs import graph_of
from onward.graph.plan.planner import Planner

x, layer = np.ones((1, 1, 1), np.float32), onward.GRU(1, 1, rng=0)
graph = Planner(graph_of(onward.Linear(1, 1)))
layer(x), graph(x)

def repeat(call):
    while True:
        call(x)

for call in (layer, layer, graph, graph):
    threading.Thread(target=repeat, args=(call,), daemon=True).start()
for _ in range(200):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        layer(x), graph(x)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_streams_and_pools_continue_in_a_forked_child(model: onward.Sequential) -> None:
    stream, pool, y = model.stream(batch=5), model.pool(8), model(X)
    ids = pool.open(5)

    def advance(t: int) -> bool:
        return (stream(X[t]) == y[t]).all() and (pool.step(ids, X[t]) == y[t]).all()

    assert advance(0)
    assert exit_code_of_child(lambda: advance(1) and advance(2)) == 0
    assert advance(1)  # the child does not affect the parent


@start_methods
def test_a_multiprocessing_worker_gives_the_same_bits(method: str, model: onward.Sequential) -> None:
    with multiprocessing.get_context(method).Pool(1) as workers:
        assert isinstance(workers, Pool)
        assert workers.map(partial(scored, model), [X, X[:3]]) == [scored(model, X), scored(model, X[:3])]


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_executors_give_the_same_bits(kind: Any, model: onward.Sequential) -> None:
    executor: Executor
    with kind(2) as executor:
        assert list(executor.map(scored, [model] * 4, [X] * 4)) == [scored(model, X)] * 4


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
@pytest.mark.parametrize("precision", [None, "float16", "int8"])
def test_a_pickle_gives_the_same_bits_and_omits_the_packed_weights(
    pickler: Any, precision: str | None
) -> None:
    model = model_of()
    model = model.quantize(precision) if precision else model
    model(X)
    content = pickler.dumps(model)
    weights = sum(weight.nbytes for weight in model.state_dict().values())
    assert len(content) < weights + 4000
    assert pickle.loads(content)(X).tobytes() == model(X).tobytes()


def test_cloudpickle_sends_a_closure_over_a_model_to_another_python() -> None:
    model = model_of("float64")
    content = cloudpickle.dumps((lambda x: model(x).tobytes(), X))
    code = "import pickle, sys; f, x = pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(f(x))"
    process = subprocess.run([sys.executable, "-c", code], input=content, check=True, capture_output=True)
    assert process.stdout == model(X).tobytes()


CALLS = {
    "layer": ("f = onward.LSTM(64, 128)", "f(x)"),
    "converted": ("f, x = onward.LSTM(64, 8).stream(), x[0].tolist()", "f(x)"),
    "plan": ("f, x = onward.Sequential(onward.Linear(64, 8), onward.GRU(8, 8)), x[:8, None]", "f(x)"),
}


@pytest.mark.parametrize("call", CALLS)
def test_python_exits_while_a_daemon_thread_is_inside_a_call(call: str) -> None:
    """Python ends the thread when it asks for the GIL, which aborted the process."""
    prepare, repeated = CALLS[call]
    code = (
        "import threading, time, numpy as np, onward\n"
        f"x = np.ones((500, 64), np.float32); {prepare}\n"
        "def work():\n"
        f"    while True: {repeated}\n"
        "for _ in range(3): threading.Thread(target=work, daemon=True).start()\n"
        "time.sleep(0.1)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="sanitizers end the process instead of throwing")
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS limits memory on Linux only")
def test_the_first_exception_of_a_process_can_be_that_there_is_no_memory() -> None:
    """The process ended with "cannot allocate memory for thread-local data"."""
    code = (
        "import os, resource, onward; lstm = onward.LSTM(3, 4)\n"
        "def child(most):\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "    try: lstm.stream(batch=1_000_000)\n"
        "    except MemoryError: os._exit(0)\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        f"for kilobytes in range(30_000, 50_000, {20_000 // random_cases(10)}):\n"
        "    if (process := os.fork()) == 0: child(pages * resource.getpagesize() + (kilobytes << 10))\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True
    )
    assert set(result.stdout.split()) == {"0"} and result.stderr == ""
