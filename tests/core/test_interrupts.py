"""Ctrl-C during a long call of the core ends the call and leaves streams and pools as they were before."""

import subprocess
import sys

import pytest
from support.interrupts import PRELUDE, Run, run

__all__ = ["run"]  # a fixture

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="os.kill cannot send Ctrl-C on Windows")


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
interrupt(lambda: layer.cell.backward_kernels[0].run(
    zeros(T, 1, H), zeros(T, 1, 1), zeros(T, 1, H), None, None, None, None, None, zeros(1, T, 1, 5, H),
    zeros(T, 1, 1), zeros(1, 1, H), zeros(1, 1, H), gradients))
"""
    run(code, threads)


@pytest.mark.parametrize(
    "code",
    [
        "layer = onward.Linear(4096, 4096, rng=0); interrupt(lambda: layer(zeros(60_000, 4096)))",
        (
            "from onward import _core; "
            "dy, x = np.ones((60_000, 1024), np.float32), zeros(60_000, 16_384); "  # it skips rows of zeros
            "interrupt(lambda: _core.add_gradients(dy, x, zeros(1024, 16_384), None))"
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
x = y = graph.add_input("x", np.float32, (2000, 2000))
for _ in range(7):
    y = graph.add("MatMul", y, x)
graph.outputs = (y,)
model, x = Model(graph), zeros(2000, 2000)
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
x = np.random.default_rng(0).standard_normal((9, batch or 1, 1)).astype(np.float32)
y, after = model(x)
x, block = (x[:, 0], zeros(50_000, 1)) if batch is None else (x, zeros(50_000, batch, 1))
y, after = (y[:, 0], [a[:, 0] for a in after]) if batch is None else (y, after)
stream = model.stream(batch=batch)
stream(x[:4])
before = stream.state
interrupt(lambda: stream(block))
assert same(stream.state, before)
assert stream(x[4:]).tobytes() == y[4:].tobytes()
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
