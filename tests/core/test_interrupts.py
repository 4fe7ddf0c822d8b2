"""Ctrl-C during a long call of the core ends the call and leaves streams and pools as they were before."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from support import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="os.kill cannot send Ctrl-C on Windows")

Run = Callable[..., None]

# Every interrupted call would take 10 seconds or more. Its arrays are zeros, so that most of their memory is
# never allocated.
PRELUDE = """
import functools, json, os, signal, sys, threading, time, traceback
import numpy as np
import onward

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process starts with SIGINT ignored


def interrupt(call, ready=None):
    "Send SIGINT while `call` runs, once `ready` is set. Check that it raises KeyboardInterrupt, and soon."
    sent = []

    def send():
        if ready:
            ready.wait()
        time.sleep(0.15)
        sent.append(time.process_time())  # which other processes do not affect
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send).start()
    try:
        call()
    except KeyboardInterrupt:
        seconds = time.process_time() - sent[0]
        assert seconds < 5, f"stopped only after {seconds:.1f} s of processor time"
    else:
        raise AssertionError("not interrupted")


def zeros(*shape):
    return np.zeros(shape, np.float32)


def same(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@functools.cache
def deep_lstm():
    return onward.LSTM(1, 512, 4, rng=0)


@functools.cache
def dense_model():
    "Much work, little state."
    return onward.Sequential(onward.LSTM(1, 8, rng=0), onward.Linear(8, 4096, rng=1),
                             onward.Linear(4096, 4096, rng=2), onward.Linear(4096, 1, rng=3))
"""

# Raise an error in a signal handler at a random time of calls of some milliseconds.
HANDLER = """
import random


class Late(Exception):
    pass


def check_calls(call, state, read=None):
    "Check that a call changes nothing if a handler raises an error meanwhile."
    durations = []
    for _ in range(4):
        begin = time.perf_counter()
        y = call()
        durations.append(time.perf_counter() - begin)
    found = []

    def handler(number, frame):
        found.append(read and read())
        raise Late

    signal.signal(signal.SIGALRM, handler)
    random.seed(0)
    interrupted = 0
    for _ in range(8):
        before, y = state(), None
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.02, 0.5) * min(durations))
            y = call()
            time.sleep(1)  # waits for the signal
        except Late:
            pass
        if y is not None:  # the call was shorter than before
            continue
        interrupted += 1
        np.testing.assert_equal(state(), before)
        if read:
            np.testing.assert_equal(found[-1], before)
    assert interrupted >= 4
"""

# Runs one test after the other: reads its code and prints the error, or nothing.
LOOP = """
for line in sys.stdin:
    try:
        code, threads = json.loads(line)
        onward.set_num_threads(threads)
        exec(code, dict(globals()))
        error = ""
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps(error), flush=True)
"""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run code in a process, in which an interrupt does not end pytest."""
    command = [sys.executable, "-c", PRELUDE + LOOP]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        to, answers = process.stdin, process.stdout

        def execute(code: str, threads: int = 1) -> None:
            print(json.dumps((code, threads)), file=to, flush=True)
            error = json.loads(answers.readline())
            assert not error, error

        yield execute
        to.close()


SHORT_CALLS = {
    "stream": """
stream, x = onward.LSTM(8, 128, 2, rng=0).stream(), np.ones((300, 8), np.float32)
call, state = lambda: stream(x), lambda: stream.state
check_calls(call, state, state)
""",
    "step": """
stream, x = onward.LSTM(8, 512, 2, rng=0).stream(batch=40), np.ones((40, 8), np.float32)
call, state = lambda: stream(x), lambda: stream.state
check_calls(call, state, state)
""",
    "layers": """
model = onward.Sequential(onward.LSTM(8, 128, 2, rng=0), onward.Softmax())
stream, x = model.stream(), np.ones((300, 8), np.float32)
check_calls(lambda: stream(x), lambda: stream.state)
""",
    "graph": """
sys.path.append(TESTS)
from support.sequence_graphs import detector
stream, x = detector(64).stream(time_axis=1), np.ones((9000, 64), np.float32)
check_calls(lambda: stream(x), lambda: stream.state)
""",
    "pool": """
pool = onward.LSTM(8, 128, rng=0).pool(1000)
ids, x = pool.open(1000), np.ones((1000, 8), np.float32)
check_calls(lambda: pool.step(ids, x), lambda: pool.state(ids), lambda: pool.state(pool.ids))
""",
    "pool of a graph": """
sys.path.append(TESTS)
from support.sequence_graphs import detector
pool = detector(64).pool(100, time_axis=1)
ids, x = pool.open(100), np.ones((100, 200, 64), np.float32)
check_calls(lambda: pool.step(ids, x), lambda: pool.state(ids))
""",
}


@pytest.mark.parametrize("kind", SHORT_CALLS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_short_call_that_a_handler_ends_changes_nothing(run: Run, kind: str, threads: int) -> None:
    run(f"TESTS = {str(ROOT / 'tests')!r}\n{HANDLER}\n{SHORT_CALLS[kind]}", threads)


LARGE_STATES = {
    "pool": """
pool = onward.LSTM(1, 2048, proj_size=1, rng=0).pool(500)
ids, x = pool.open(500), np.ones((500, 1), np.float32)
call, state = lambda: pool.step(ids, x), lambda: pool.state(ids)
""",
    "pool of a graph": """
from onward.graph import Graph, Model
graph = Graph()
x = graph.add("Transpose", graph.add_input("x", np.float32, ("batch", "time", 8)), perm=[0, 2, 1])
taps = graph.add_constant(np.ones((8, 1, 2), np.float32))
y = graph.add("Conv", x, taps, dilations=[1000], pads=[1000, 0], group=8)
graph.outputs = (graph.add("Transpose", y, perm=[0, 2, 1]),)
pool = Model(graph).pool(100, time_axis=1)
ids, x = pool.open(100), np.ones((100, 8), np.float32)
call, state = lambda: pool.step(ids, x), lambda: pool.state(ids)
""",
}


@pytest.mark.parametrize("kind", LARGE_STATES)
def test_a_handler_that_raises_never_separates_the_output_from_the_state(run: Run, kind: str) -> None:
    """A signal that arrived while many states were replaced lost the output, but advanced the states."""
    code = f"""
{LARGE_STATES[kind]}
durations = []
for _ in range(6):
    begin = time.perf_counter()
    call()
    durations.append(time.perf_counter() - begin)
found = []

class Late(Exception):
    pass

def handler(number, frame):
    found.append(frame)
    raise Late

signal.signal(signal.SIGALRM, handler)
numbers, interrupted = np.random.default_rng(0), 0
for _ in range(16):
    before, y = state(), None
    try:
        signal.setitimer(signal.ITIMER_REAL, numbers.uniform(0.3, 1) * min(durations))
        y = call()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Late:
        interrupted += 1
        if y is None:
            np.testing.assert_equal(state(), before)
assert interrupted > 3
"""
    run(code)


@pytest.mark.parametrize(
    "change", ["stream(x)", "stream.reset()", "pool.step(ids, x)", "pool.open()", "pool.close(ids)"]
)
def test_a_handler_cannot_change_what_it_interrupts(run: Run, change: str) -> None:
    code = f"""
model, x = onward.LSTM(8, 384, 2, rng=0), np.ones((1000, 8), np.float32)
stream, pool = model.stream(), model.pool(1000)
ids = pool.open(1000)
errors = []

def handler(number, frame):
    try:
        {change}
    except onward.errors.ArgumentError as error:
        errors.append(str(error))

signal.signal(signal.SIGALRM, handler)
expected, found = model.stream()(x), None
signal.setitimer(signal.ITIMER_REAL, 0.005)
if "stream" in {change!r}:
    found = stream(x)  # at once: importing numpy.testing would take longer than the timer
    np.testing.assert_array_equal(found, expected)
else:
    pool.step(ids, x)
    assert len(pool) == 1000
    np.testing.assert_array_equal(pool.step(ids[:1], x[:1])[0], expected[1])
assert len(errors) == 1 and "can read states, but not change them" in errors[0], errors
"""
    run(code)


CALLS_IN_PYTHON = {
    "stream of layers": """
stream = onward.Sequential(onward.LSTM(8, 384, 2, rng=0), onward.Softmax()).stream()
x, changes = np.ones((3000, 8), np.float32), [lambda: stream(x), stream.reset, stream.finish]
call, reads = lambda: stream(x), [lambda: stream.state, stream.copy, lambda: stream.save(os.devnull)]
""",
    "stream of a graph": """
stream, x = detector(64).stream(time_axis=1), np.ones((20_000, 64), np.float32)
call, reads = lambda: stream(x), [lambda: stream.state, stream.copy, lambda: stream.save(os.devnull)]
changes = [lambda: stream(x), stream.reset, stream.finish]
""",
    "pool of layers": """
pool = onward.Sequential(onward.LSTM(8, 384, 2, rng=0), onward.Softmax()).pool(100)
ids, x = pool.open(100), np.ones((100, 8), np.float32)
call, reads = lambda: pool.step(ids, x), [lambda: pool.state(ids), pool.copy, lambda: pool.save(os.devnull)]
changes = [call, pool.open, lambda: pool.close(ids), lambda: pool.reset(ids)]
""",
    "pool of a graph": """
pool = detector(64).pool(100, time_axis=1)
ids, x = pool.open(100), np.ones((100, 200, 64), np.float32)
call, reads = lambda: pool.step(ids, x), [lambda: pool.state(ids), pool.copy, lambda: pool.save(os.devnull)]
changes = [call, pool.open, lambda: pool.close(ids), lambda: pool.reset(ids), lambda: pool.finish(ids)]
""",
}


@pytest.mark.parametrize("kind", CALLS_IN_PYTHON)
def test_a_handler_reads_what_it_interrupts_and_cannot_change_it(run: Run, kind: str) -> None:
    """Streams and pools that run in Python waited for the lock that their own thread held."""
    code = f"""
sys.path.append({str(ROOT / "tests")!r})
from support.sequence_graphs import detector
{CALLS_IN_PYTHON[kind]}
call()
read, errors = [], []

def handler(number, frame):
    for each in reads:
        read.append(each())
    for each in changes:
        try:
            each()
        except onward.errors.ArgumentError as error:
            errors.append(str(error))

signal.signal(signal.SIGALRM, handler)
before = reads[0]()
signal.setitimer(signal.ITIMER_REAL, 0.003)
call()
np.testing.assert_equal(read[0], before)
assert len(errors) == len(changes) and all("can read states, but" in error for error in errors), errors
"""
    run(code)


def test_a_handler_calls_a_model_whose_first_call_it_interrupts(run: Run) -> None:
    """The call waited for the lock that the compilation held."""
    code = f"""
sys.path.append({str(ROOT / "tests")!r})
from support.sequence_graphs import detector
model, x, answers = detector(64), np.ones((1, 40, 64), np.float32), []
plan = type(model._planner)._compiled

def compiled(self, *args):
    type(model._planner)._compiled = plan
    answers.append(model(x))  # as a handler of a signal that arrives now
    return plan(self, *args)

type(model._planner)._compiled = compiled
np.testing.assert_array_equal(model(x), answers[0])
np.testing.assert_array_equal(model(x), answers[0])
"""
    run(code)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "code",
    [
        "layer = deep_lstm(); interrupt(lambda: layer(zeros(50_000, 1, 1)))",
        (
            "layer = onward.GRU(1, 512, 2, bidirectional=True, rng=0); "
            "interrupt(lambda: layer(zeros(80_000, 1, 1)))"
        ),
        (
            "layer, x = onward.LSTM(1, 512, proj_size=7, rng=0), zeros(2000, 1000, 1); "
            "interrupt(lambda: layer(x, lengths=np.arange(1001, 2001)))"
        ),
        "layer = onward.RNN(1, 1024, 2, rng=0); interrupt(lambda: layer.trace(zeros(50_000, 4, 1)))",
    ],
    ids=["stack", "bidirectional", "batch", "recording"],
)
def test_an_interrupt_ends_a_whole_sequence(run: Run, code: str, threads: int) -> None:
    run(code, threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_ends_a_backward_pass(run: Run, threads: int) -> None:
    code = """
T, H = 60_000, 1024
layer = onward.LSTM(1, H, rng=0)
gradients = [(zeros(4 * H, 1), zeros(4 * H, H), zeros(4 * H), zeros(4 * H), None)]
interrupt(lambda: layer._backward_kernels[0].run(
    zeros(T, 1, H), zeros(T, 1, 1), zeros(T, 1, H), None, None, None, None, None, zeros(1, T, 1, 5, H),
    zeros(T, 1, 1), zeros(1, 1, H), zeros(1, 1, H), gradients))
"""
    run(code, threads)


@pytest.mark.parametrize(
    "code",
    [
        "layer = onward.Linear(4096, 4096, rng=0); interrupt(lambda: layer(zeros(60_000, 4096)))",
        (
            "from onward import _core; dy = np.ones((60_000, 4096), np.float32); "
            "interrupt(lambda: _core.add_gradients(dy, zeros(60_000, 4096), zeros(4096, 4096), None))"
        ),
    ],
    ids=["forward", "gradients"],
)
def test_an_interrupt_ends_a_dense_layer_on_many_rows(run: Run, code: str) -> None:
    run(code)


def test_an_interrupt_ends_a_plan_of_a_few_long_steps(run: Run) -> None:
    """A plan of fewer than 8 steps never looked for one."""
    code = """
from onward.graph import Graph, Model
graph = Graph()
x = y = graph.add_input("x", np.float32, (1250, 1250))
for _ in range(7):
    y = graph.add("MatMul", y, x)
graph.outputs = (y,)
model, x = Model(graph), zeros(1250, 1250)
model(x)
begin = time.process_time()
model(x)
whole = time.process_time() - begin
begin = time.process_time()
interrupt(lambda: model(x))
assert time.process_time() - begin < 0.8 * whole
"""
    run(code)


@pytest.mark.parametrize(("batch", "threads"), [(None, 1), (1, 1), (200, 2)])
def test_an_interrupted_stream_keeps_the_state_before_the_call(
    run: Run, batch: int | None, threads: int
) -> None:
    code = f"""
batch, model = {batch}, deep_lstm()
x = np.random.default_rng(0).standard_normal((60, batch or 1, 1)).astype(np.float32)
y, after = model(x)
x, block = (x[:, 0], zeros(50_000, 1)) if batch is None else (x, zeros(50_000, batch, 1))
y, after = (y[:, 0], [a[:, 0] for a in after]) if batch is None else (y, after)
stream = model.stream(batch=batch)
stream(x[:25])
before = stream.state
interrupt(lambda: stream(block))
assert same(stream.state, before)
assert stream(x[25:]).tobytes() == y[25:].tobytes()
assert same(stream.state, after)
"""
    run(code, threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupted_step_of_a_pool_changes_no_stream(run: Run, threads: int) -> None:
    code = """
model, n = dense_model(), 30_000
pool = model.pool(n)
ids = pool.open(n)
h = np.random.default_rng(0).standard_normal((2, 1, n, 8)).astype(np.float32)
pool.set_state(ids, [tuple(h)])
interrupt(lambda: pool.step(ids, zeros(n, 1)))
assert same(pool.state(ids)[0], h)
assert pool.step(ids[:5], zeros(5, 1)).shape == (5, 1)
"""
    run(code, threads)


@pytest.mark.parametrize("wait", ["stream(zeros(1))", "stream.state"])
def test_a_thread_that_waits_for_a_stream_does_not_hold_the_gil(run: Run, wait: str) -> None:
    # With the GIL held, neither the other thread nor the check for signals could run before the block ends.
    code = f"""
stream = deep_lstm().stream()
waiting = threading.Event()

def wait():
    time.sleep(0.05)
    waiting.set()
    {wait}

thread = threading.Thread(target=wait)
thread.start()
interrupt(lambda: stream(zeros(50_000, 1)), waiting)
thread.join()
"""
    run(code)


@pytest.mark.parametrize(
    "wait", ["pool.step(ids[:1], zeros(1, 1))", "len(pool)", "pool.capacity", "pool.ids", "pool.open()"]
)
def test_a_thread_that_waits_for_a_pool_does_not_hold_the_gil(run: Run, wait: str) -> None:
    code = f"""
n = 30_000
pool = dense_model().pool(n)
ids = pool.open(n)
waiting = threading.Event()

def wait():
    time.sleep(0.05)
    waiting.set()
    {wait}

thread = threading.Thread(target=wait)
thread.start()
interrupt(lambda: pool.step(ids, zeros(n, 1)), waiting)
thread.join()
"""
    run(code)


def test_an_interrupt_ends_the_wait_for_a_stream() -> None:
    code = """
stream = deep_lstm().stream()
threading.Thread(target=lambda: stream(zeros(50_000, 1)), daemon=True).start()
time.sleep(0.2)
interrupt(lambda: stream(zeros(1)))
os._exit(0)  # without waiting for the thread
"""
    subprocess.run([sys.executable, "-c", PRELUDE + code], check=True)


def test_an_error_raised_by_a_signal_handler_ends_a_call(run: Run) -> None:
    code = """
def handler(number, frame):
    raise TimeoutError("too slow")

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.15)
try:
    deep_lstm()(zeros(50_000, 1, 1))
except TimeoutError as error:
    assert str(error) == "too slow"
else:
    raise AssertionError("not interrupted")
"""
    run(code)


def test_a_signal_handler_that_returns_does_not_disturb_a_call(run: Run) -> None:
    code = """
count = 0

def handler(number, frame):
    global count
    count += 1

layer, x = onward.LSTM(1, 256, 2, rng=0), np.random.default_rng(0).standard_normal((3000, 2, 1))
expected = layer(x)[0]
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
while count < 10:
    assert layer(x)[0].tobytes() == expected.tobytes()
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    run(code)
