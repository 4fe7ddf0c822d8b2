"""Threads: bit-identical results for any number of threads, concurrent calls, and settings."""

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bits import assert_bitwise, each_isa

import onward
from onward import _core
from onward.core.threads import _of as from_environment
from onward.errors import ArgumentError

LAYERS = {
    "rnn": lambda H: onward.RNN(5, H, 2, rng=0),
    "lstm": lambda H: onward.LSTM(5, H, 3, rng=0),
    "lstm_bidirectional": lambda H: onward.LSTM(5, H, 2, bidirectional=True, rng=0),
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
    ("T", "B", "H"), [(50, 1, 33), (20, 5, 130), (60, 1, 130), (9, 64, 70), (3, 130, 7), (0, 4, 7), (2, 1, 2)]
)
def test_any_number_of_threads_gives_the_same_bits(name: str, T: int, B: int, H: int) -> None:
    rng, fastest = np.random.default_rng(B), _core.isa()
    x, lengths = rng.standard_normal((T, B, 5)), rng.integers(0, T + 1, B)
    layer = LAYERS[name](H)
    single = [answer(layer, x, choice) for choice in (None, lengths)]
    for isa in each_isa():
        layer = LAYERS[name](H)
        for threads in (2, 3, 5) if isa == fastest else (3,):
            onward.set_num_threads(threads)
            for choice, expected in zip((None, lengths), single, strict=True):
                assert_bitwise(answer(layer, x, choice), expected, f"{isa}, {threads} threads")


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("batch", [None, 3])
def test_a_stream_gives_the_same_bits_if_the_number_of_threads_changes(kind: str, batch: int | None) -> None:
    layer = getattr(onward, kind)(7, 300, 2, rng=0)
    one, several = layer.stream(batch), layer.stream(batch)
    x = np.random.default_rng(0).standard_normal((12, 7) if batch is None else (12, batch, 7), np.float32)
    for step, threads in enumerate((1, 2, 3, 2, 1, 5, 1, 2, 2, 3)):
        onward.set_num_threads(1)
        expected = one(x[step])
        onward.set_num_threads(threads)
        np.testing.assert_array_equal(several(x[step]), expected)
    np.testing.assert_array_equal(several(x[10:]), one(x[10:]))


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


def resident() -> int:
    """The bytes of resident memory of this process; 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_concurrent_calls_of_a_model_its_streams_and_a_pool_are_correct_and_leak_no_memory(
    pytestconfig: pytest.Config,
) -> None:
    onward.set_num_threads(2)
    model = onward.Sequential(onward.LSTM(5, 33, 2, rng=0), onward.Linear(33, 7, rng=1))
    T, threads = 20, 8
    inputs = np.random.default_rng(0).standard_normal((threads, T, 3, 5)).astype(np.float32)
    expected, pool = [model(x) for x in inputs], model.pool(1)
    seconds = pytestconfig.getoption("--stress-seconds")
    halfway, end = time.monotonic() + seconds / 2, time.monotonic() + seconds

    def whole(x: Any) -> Any:
        return model(x)

    def streamed(x: Any) -> Any:
        stream = model.stream(batch=3)
        return np.concatenate([stream(x[:1]), stream.copy()(x[1:])])

    def pooled(x: Any) -> Any:
        ids = pool.open(3)
        y = np.stack([pool.step(ids, x_t) for x_t in x])
        pool.close(ids)
        return y

    def work(which: int, until: float) -> int:
        ways: list[Callable[[Any], Any]] = [whole, streamed, pooled]
        wrong = count = 0
        while time.monotonic() < until:
            wrong += ways[count % 3](inputs[which]).tobytes() != expected[which].tobytes()
            count += 1
        return wrong

    with ThreadPoolExecutor(threads) as executor:
        first = list(executor.map(work, range(threads), [halfway] * threads))
        before = resident()
        second = list(executor.map(work, range(threads), [end] * threads))
    assert first == second == [0] * threads
    assert len(pool) == 0
    assert resident() - before < pytestconfig.getoption("--stress-megabytes") * 1e6


def test_weights_loaded_while_old_weights_are_being_packed_take_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, other, x = onward.LSTM(5, 40, rng=0), onward.LSTM(5, 40, rng=1), np.ones((3, 2, 5), np.float32)
    cell, pack = layer.cell, layer.cell._stack

    def pack_as_another_thread_loads(matrices: Any) -> Any:
        packed = pack(matrices)
        layer.load_state_dict(other.state_dict())
        return packed

    with monkeypatch.context() as patched:
        patched.setattr(cell, "_stack", pack_as_another_thread_loads)
        layer(x)
    assert np.array_equal(layer(x)[0], other(x)[0])


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no sched_getaffinity")
def test_calls_do_not_change_the_affinity_of_threads() -> None:
    onward.set_num_threads(3)
    layer, x = LAYERS["lstm"](33), np.ones((20, 5, 5), np.float32)
    for _ in range(20):
        layer(x)
        time.sleep(0.002)  # so that the workers sleep and are woken on some core
    cores = {frozenset(os.sched_getaffinity(int(thread))) for thread in os.listdir("/proc/self/task")}
    assert cores == {frozenset(os.sched_getaffinity(0))}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the processor time of threads from /proc")
@pytest.mark.parametrize("kind", ["sequence", "stream", "int8"])
def test_calls_stop_sharing_when_workers_get_no_core(kind: str) -> None:
    # On one core, a worker runs only while its caller waits for it.
    setup = {
        "sequence": "layer = onward.LSTM(8, 300, rng=0); call = lambda: layer(np.ones((100, 1, 8), 'f'))",
        "stream": "stream = onward.LSTM(800, 800, rng=0).stream(); call = lambda: stream(np.ones(800, 'f'))",
        "int8": "layer = onward.LSTM(8, 600, rng=0).quantize('int8')\n"
        "call = lambda: layer(np.ones((100, 1, 8), 'f'))",
    }
    code = (
        "import os, onward, numpy as np; onward.set_num_threads(2)\n"
        f"os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})\n{setup[kind]}\n"
        "def times():\n"
        "    tasks = sorted(os.listdir('/proc/self/task'), key=int)\n"
        "    return [int(open(f'/proc/self/task/{task}/schedstat').read().split()[0]) for task in tasks]\n"
        "while sum(times()) < 4e8: call()\n"
        "before = times()\n"
        "while sum(times()) - sum(before) < 5e8: call()\n"
        "own, *workers = (b - a for a, b in zip(before, times(), strict=False))\n"
        "assert sum(workers) < 0.25 * own, (workers, own)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no sched_setaffinity")
@pytest.mark.parametrize("kind", ["LSTM(8, 300, 2, rng=0)", "GRU(8, 200, bidirectional=True, rng=0)"])
def test_calls_after_one_that_a_single_thread_had_to_finish_give_the_same_bits(kind: str) -> None:
    code = (
        "import os, time, onward, numpy as np\n"
        f"layer, cores = onward.{kind}, os.sched_getaffinity(0)\n"
        "inputs = [np.random.default_rng(T).standard_normal((T, 1, 8), 'f') for T in (100, 1, 7)]\n"
        "expected = [layer(x)[0] for x in inputs]\n"
        "onward.set_num_threads(2)\n"
        "for allowed in ({min(cores)}, cores):\n"
        "    os.sched_setaffinity(0, allowed)\n"
        "    end = time.monotonic() + 0.3\n"
        "    while time.monotonic() < end:\n"
        "        for x, y in zip(inputs, expected, strict=True): assert np.array_equal(layer(x)[0], y)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS limits threads on Linux only")
def test_calls_run_on_fewer_threads_if_the_system_cannot_start_more() -> None:
    code = (
        "import resource, onward, numpy as np; layer, x = onward.LSTM(5, 33, rng=0), np.ones((20, 5, 5))\n"
        "expected = layer(x)[0]; onward.set_num_threads(64)\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (50 << 20),) * 2)\n"
        "assert all((layer(x)[0] == expected).all() for _ in range(3))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="sanitizers end the process instead of throwing")
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS limits memory on Linux only")
def test_a_thread_without_memory_raises_memory_error() -> None:
    """The exception of a worker ended the process, and that of the caller let workers use freed memory."""
    code = (
        "import resource, onward, numpy as np\n"
        "pool = onward.Sequential(onward.RNN(4, 4, rng=0), onward.Linear(4, 1 << 18, rng=0)).pool(96)\n"
        "ids, x = pool.open(96), np.ones((96, 4), np.float32)\n"
        "expected = pool.step(ids, x)[:2].copy()\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "before, failures = resource.getrlimit(resource.RLIMIT_AS), []; onward.set_num_threads(2)\n"
        "for rest in 120, 80:  # MB; for y, but not the arena of a second thread, if any; not for y\n"
        "    most = pages * resource.getpagesize() + (rest << 20)\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))\n"
        "    for _ in range(3):\n"
        "        try: pool.step(ids, x)\n"
        "        except MemoryError: failures.append(rest)\n"
        "assert failures.count(80) == 3, failures\n"
        "resource.setrlimit(resource.RLIMIT_AS, before)\n"
        "pool.reset(ids); assert (pool.step(ids, x)[:2] == expected).all()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_get_num_threads_returns_the_number_that_was_set() -> None:
    assert onward.get_num_threads() == 1
    onward.set_num_threads(3)
    assert onward.get_num_threads() == 3


def test_a_num_threads_block_restores_the_previous_number_after_an_error() -> None:
    onward.set_num_threads(3)
    with pytest.raises(KeyError), onward.num_threads(2):
        with onward.num_threads(5):
            onward.set_num_threads(4)
            assert onward.get_num_threads() == 5
        assert onward.get_num_threads() == 2
        raise KeyError
    assert onward.get_num_threads() == 4


def test_a_num_threads_block_does_not_affect_other_python_threads() -> None:
    with onward.num_threads(2), ThreadPoolExecutor(1) as executor:
        assert executor.submit(onward.get_num_threads).result() == 1


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"ONWARD_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 3),
        ({"ONWARD_NUM_THREADS": "", "OMP_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "0"}, 1),
        ({"OMP_NUM_THREADS": "many"}, 1),
        ({}, 1),
    ],
)
def test_onward_num_threads_overrides_omp_num_threads(environment: dict[str, str], threads: int) -> None:
    assert from_environment(environment) == threads


@pytest.mark.parametrize("wrong", ["0", "two", "-1", "9999"])
def test_an_invalid_number_of_threads_in_the_environment_is_an_error(wrong: str) -> None:
    with pytest.raises(ArgumentError, match="ONWARD_NUM_THREADS="):
        from_environment({"ONWARD_NUM_THREADS": wrong})


def test_the_environment_sets_the_number_of_threads_at_import() -> None:
    code = "import onward; print(onward.get_num_threads())"
    environment = os.environ | {"ONWARD_NUM_THREADS": "3"}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "3\n"


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True, 10_000])
def test_an_invalid_number_of_threads_is_an_error(n: Any) -> None:
    with pytest.raises(ArgumentError, match="must be an integer from 1"):
        onward.set_num_threads(n)
    with pytest.raises(ArgumentError, match="must be an integer from 1"), onward.num_threads(n):
        pass


class Two:
    """Two sets of weights of a model, and the outputs of both."""

    def __init__(self, layer: Any, x: Any) -> None:
        self.layer, self.x, rng = layer, x, np.random.default_rng(0)
        self.sets = [
            {name: rng.uniform(1, 2, weight.shape) for name, weight in layer.state_dict().items()}
            for _ in range(2)
        ]
        self.outputs = []
        for weights in self.sets:
            layer.load_state_dict(weights)
            self.outputs.append(layer(x).tobytes())

    def while_loading(self, check: Callable[[], bool], times: int = 300) -> int:
        """How often `check` fails while another thread alternates between the sets."""
        done = threading.Event()

        def load() -> None:
            while not done.is_set():
                for weights in self.sets:
                    self.layer.load_state_dict(weights)

        loader = threading.Thread(target=load)
        loader.start()
        try:
            return sum(not check() for _ in range(times))
        finally:
            done.set()
            loader.join()


@pytest.fixture
def switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switch_often")
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (onward.BatchNorm1d(6), (4, 6)),
        (onward.LayerNorm(6), (4, 6)),
        (onward.GroupNorm(2, 6), (4, 6)),
        (onward.Linear(6, 3), (4, 6)),
        (onward.Conv1d(6, 2, 1), (4, 6, 5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_call_while_weights_are_loaded_uses_one_set_of_them(layer: Any, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    two = Two(layer, x)
    assert two.while_loading(lambda: layer(x).tobytes() in two.outputs) == 0


@pytest.mark.usefixtures("switch_often")
def test_a_state_dict_a_file_and_a_quantized_copy_hold_one_set_of_weights(tmp_path: Path) -> None:
    net = onward.Sequential(*(onward.Linear(3, 3) for _ in range(5)), onward.GRU(3, 3))
    two = Two(net, np.ones((2, 1, 3), np.float32))

    def of_one_set(weights: dict[str, Any]) -> bool:
        return any(
            all(
                np.array_equal(w, own[name].astype(np.float32).astype(w.dtype)) for name, w in weights.items()
            )
            for own in two.sets
        )

    def saved() -> bool:
        net.save(tmp_path / "net.safetensors")
        return of_one_set(onward.load_tensors(tmp_path / "net.safetensors"))

    def quantized() -> bool:
        linear = {n: w for n, w in net.quantize("float16").state_dict().items() if not n.startswith("5.")}
        return of_one_set(linear)

    assert two.while_loading(lambda: of_one_set(net.state_dict())) == 0
    assert two.while_loading(saved, 30) == 0
    assert two.while_loading(quantized) == 0


@pytest.mark.usefixtures("switch_often")
def test_a_layer_can_be_copied_pickled_and_quantized_while_it_is_called() -> None:
    layer = onward.LSTM(3, 4, 2, rng=0)
    two = Two(onward.Sequential(layer), np.ones((2, 1, 3), np.float32))

    def copies() -> bool:
        layer(two.x)
        layer.forward(two.x)  # packs the kernels of each layer
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer.quantize("int8")):
            assert other.hidden_size == 4
        return True

    assert two.while_loading(copies) == 0
