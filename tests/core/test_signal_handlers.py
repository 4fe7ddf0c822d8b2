"""Signal handlers see and change streams, pools and models only between calls, or not at all."""

import sys

import pytest
from support import ROOT
from support.interrupts import HANDLER, Run, run

__all__ = ["run"]  # a fixture

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="os.kill cannot send Ctrl-C on Windows")

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
    "block of many rows": """
stream, x = onward.LSTM(8, 128, 2, rng=0).stream(batch=200), np.ones((3, 200, 8), np.float32)
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
    "history": """
from onward.graph import Graph, Model
W = np.random.default_rng(0).normal(size=(64, 64, 2)).astype(np.float32) / 16
graph = Graph()
y = graph.add_input("x", np.float32, (1, 64, "time"))
for _ in range(4):
    y = graph.add("Conv", y, graph.add_constant(W), dilations=[3000], pads=[3000, 0])
graph.outputs = (y,)
stream, x = Model(graph).stream(time_axis=2), np.ones((64, 2000), np.float32)
call, state = lambda: stream(x), lambda: stream.state
check_calls(call, state, state)
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


CONVOLUTION = """
from onward.graph import Graph, Model
graph = Graph()
x = graph.add("Transpose", graph.add_input("x", np.float32, ("batch", "time", 8)), perm=[0, 2, 1])
taps = graph.add_constant(np.ones((8, 1, 2), np.float32))
y = graph.add("Conv", x, taps, dilations=[1000], pads=[1000, 0], group=8)
graph.outputs = (graph.add("Transpose", y, perm=[0, 2, 1]),)
"""
LARGE_STATES = {
    "stream of layers": """
stream = onward.Sequential(onward.LSTM(1, 2048, proj_size=1, rng=0), onward.Softmax()).stream(500)
x = np.ones((500, 1), np.float32)
call, state, lock = lambda: stream(x), lambda: stream.state, stream._lock
""",
    "stream of a converted block": """
stream, x = onward.LSTM(4000, 1, rng=0).stream(500), np.ones((500, 4000))
call, state, lock = lambda: stream(x), lambda: stream.state, stream._lock
""",
    "stream of a converted block of a graph": f"""
{CONVOLUTION}stream, x = Model(graph).stream(100, time_axis=1), np.ones((100, 1, 8))
call, state, lock = lambda: stream(x), lambda: stream.state, stream._lock
""",
    "pool of layers": """
pool = onward.Sequential(onward.LSTM(1, 2048, proj_size=1, rng=0), onward.Softmax()).pool(500)
ids, x = pool.open(500), np.ones((500, 1), np.float32)
call, state, lock = lambda: pool.step(ids, x), lambda: pool.state(ids), pool._lock
""",
    "pool of a converted step": """
pool = onward.LSTM(4000, 1, rng=0).pool(500)
ids, x = pool.open(500), np.ones((500, 4000))
call, state, lock = lambda: pool.step(ids, x), lambda: pool.state(ids), pool._lock
""",
    "pool that opens streams": """
pool = onward.LSTM(1, 64, rng=0).pool(100_000)
call, state, lock = lambda: pool.open(100_000), lambda: len(pool), pool._lock
""",
    "pool": """
pool = onward.LSTM(1, 2048, proj_size=1, rng=0).pool(500)
ids, x = pool.open(500), np.ones((500, 1), np.float32)
call, state, lock = lambda: pool.step(ids, x), lambda: pool.state(ids), pool._lock
""",
    "pool of a graph": f"""
{CONVOLUTION}pool = Model(graph).pool(100, time_axis=1)
ids, x = pool.open(100), np.ones((100, 8), np.float32)
call, state, lock = lambda: pool.step(ids, x), lambda: pool.state(ids), pool._lock
""",
}


@pytest.mark.parametrize("kind", LARGE_STATES)
def test_a_handler_that_raises_never_separates_the_output_from_the_state(run: Run, kind: str) -> None:
    """A signal that arrived while many states were replaced lost the output, but advanced the states.

    A handler that a call runs ends the call, which then changes nothing. Python runs the handlers of later
    signals. It may do so between the return of a call and the store of its output, which nothing can prevent,
    but which happens in less than one of a thousand calls.
    """
    code = f"""
{LARGE_STATES[kind]}
durations = []
for _ in range(6):
    begin = time.perf_counter()
    call()
    durations.append(time.perf_counter() - begin)
is_within = []

class Late(Exception):
    pass

def handler(number, frame):
    is_within.append(lock.is_mine())
    raise Late

def is_unchanged():
    try:
        np.testing.assert_equal(state(), before)
    except AssertionError:
        return False
    return True

signal.signal(signal.SIGALRM, handler)
numbers, lost = np.random.default_rng(0), 0
for _ in range(20):
    before, y = state(), None
    try:
        signal.setitimer(signal.ITIMER_REAL, numbers.uniform(0.3, 1) * min(durations))
        y = call()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Late:
        if is_within[-1]:
            assert y is None
            np.testing.assert_equal(state(), before)
        else:
            lost += y is None and not is_unchanged()
assert sum(is_within) > 3
assert lost < 3, f"{{lost}} of {{len(is_within)}} signals lost the output"
"""
    run(code)


@pytest.mark.parametrize(
    "change", ["stream(x)", "stream.reset()", "pool.step(ids, x)", "pool.open()", "pool.close(ids)"]
)
def test_a_handler_cannot_change_what_it_interrupts(run: Run, change: str) -> None:
    code = f"""
model, x = onward.LSTM(8, 384, 2, rng=0), np.ones((1000, 8), np.float32)
expected, refused = model.stream()(x), 0

def handler(number, frame):
    try:
        {change}
    except onward.errors.ArgumentError as error:
        errors.append(str(error))

signal.signal(signal.SIGALRM, handler)
for _ in range(10):
    stream, pool, errors = model.stream(), model.pool(1000), []
    ids = pool.open(1000)
    signal.setitimer(signal.ITIMER_REAL, 0.005)
    if "stream" in {change!r}:
        found = stream(x)  # at once: importing numpy.testing would take longer than the timer
    else:
        found = pool.step(ids, x)
    if not errors:  # the signal came before the call or after it
        signal.setitimer(signal.ITIMER_REAL, 0)
        continue
    refused += 1
    assert len(errors) == 1 and "can read states, but not change them" in errors[0], errors
    if "stream" in {change!r}:
        np.testing.assert_array_equal(found, expected)
    else:
        assert len(pool) == 1000
        np.testing.assert_array_equal(pool.step(ids[:1], x[:1])[0], expected[1])
assert refused > 0
"""
    run(code)


CALLS_IN_PYTHON = {
    "stream of layers": """
stream = onward.Sequential(onward.LSTM(8, 384, 2, rng=0), onward.Softmax()).stream()
x, changes = np.ones((3000, 8), np.float32), [lambda: stream(x), stream.reset, stream.finish]
call, reads = lambda: stream(x), [lambda: stream.state, stream.copy, lambda: stream.save(os.devnull)]
""",
    "stream of many rows, the last of which have not begun the block": """
stream, x = onward.LSTM(8, 384, 2, rng=0).stream(batch=200), np.ones((40, 200, 8), np.float32)
call, reads = lambda: stream(x), [lambda: stream.state, stream.copy, lambda: stream.save(os.devnull)]
changes = [lambda: stream(x), stream.reset]
""",
    "stream of a graph": """
stream, x = detector(64).stream(time_axis=1), np.ones((80_000, 64), np.float32)
call, reads = lambda: stream(x), [lambda: stream.state, stream.copy, lambda: stream.save(os.devnull)]
changes = [lambda: stream(x), stream.reset, stream.finish]
""",
    "pool of layers": """
pool = onward.Sequential(onward.LSTM(8, 384, 2, rng=0), onward.Softmax()).pool(2000)
ids, x = pool.open(2000), np.ones((2000, 8), np.float32)
call, reads = lambda: pool.step(ids, x), [lambda: pool.state(ids), pool.copy, lambda: pool.save(os.devnull)]
changes = [call, pool.open, lambda: pool.close(ids), lambda: pool.reset(ids)]
""",
    "pool of a graph": """
pool = detector(64).pool(100, time_axis=1)
ids, x = pool.open(100), np.ones((100, 1000, 64), np.float32)
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
plan = type(model.planner)._new

def compiled(self, *args):
    type(model.planner)._new = plan
    answers.append(model(x))  # as a handler of a signal that arrives now
    return plan(self, *args)

type(model.planner)._new = compiled
np.testing.assert_array_equal(model(x), answers[0])
np.testing.assert_array_equal(model(x), answers[0])
"""
    run(code)
