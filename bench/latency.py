"""Measure the latency of one step per call: single layers, stacks of an FPGA benchmark, and whole models.

    python bench/latency.py                # a million calls of single layers, 50,000 of stacks
    python bench/latency.py --cases DIR    # also 20,000 blocks of whole models, those in DIR and a policy

"Bytes" is the memory that Python and NumPy allocate during a call.
"""

import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import report
from peers import Cell, Problem, onnx_model, problem
from roofline import Roofline

import onward
from onward import _core
from onward.graph import Graph, Input, Model

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the tests are not a package

SIZES = (32, 128, 256)
CHUNK = 10_000
# Layers, hidden size, and the mean microseconds per call that Myrtle.ai published for Vollo, on FPGAs
# (https://vollo.myrtle.ai/25.1.2/benchmark-lstm.html). The input is as wide as the layers; 32 outputs.
VOLLO = ((2, 128, "1.9 to 2.8"), (3, 256, "3.0 to 3.3"), (3, 480, "4.2 to 4.3"))


def microseconds(call: Callable[[], Any], calls: int) -> np.ndarray:
    """The time of each of `calls` calls."""
    clock = time.perf_counter_ns
    times = np.empty(calls)
    for first in range(0, calls, CHUNK):
        n = min(CHUNK, calls - first)
        stamps = [0] * (n + 1)
        stamps[0] = clock()
        for i in range(1, n + 1):
            call()
            stamps[i] = clock()
        times[first : first + n] = np.diff(stamps)
    return times / 1e3


def processor_time(call: Callable[[], Any], calls: int) -> float:
    """The mean time of a call in microseconds, without other programs: the median of ten turns."""
    times = []
    for _ in range(10):
        start = time.thread_time()
        for _ in range(calls // 10):
            call()
        times.append((time.thread_time() - start) / (calls // 10) * 1e6)
    return statistics.median(times)


def allocated(call: Callable[[], Any]) -> int:
    """The peak number of bytes that a call allocates."""
    result = call()
    tracemalloc.start()
    try:
        result = call()
        del result
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        result = call()  # noqa: F841  # the result is part of the allocation
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def onnxruntime_step(p: Problem) -> Callable[[], Any]:
    """A call that feeds the state back into the session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_model(p), options, providers=["CPUExecutionProvider"])
    feeds = {"x": p.x, "h": p.state[0], "c": p.state[1]}

    def step() -> Any:
        y, feeds["h"], feeds["c"] = session.run(None, feeds)
        return y

    return step


def contestants(H: int) -> dict[str, Callable[[], Any]]:
    p = problem(Cell("lstm", 1, 1, H, 1))
    layer = onward.LSTM(H, H)
    layer.load_state_dict(p.weights)
    stream, into, x, y = layer.stream(), layer.stream(), p.x[0, 0], np.empty(H, np.float32)
    nothing = x[:0]
    return {
        "an empty call of the core": lambda: _core.sum(nothing),
        "stream(x)": lambda: stream(x),
        "stream(x, out=y)": lambda: into(x, out=y),
        "onnxruntime": onnxruntime_step(p),
    }


def percentiles(times: np.ndarray) -> dict[str, float]:
    p50, p99, p999 = np.percentile(times, (50, 99, 99.9))
    return {"p50": p50, "p99": p99, "p99.9": p999, "max": times.max()}


def single_calls(measured: report.Report, calls: int) -> None:
    """Single calls of an LSTM, I = H, float32, on one thread."""
    for H in SIZES:
        for name, call in contestants(H).items():
            size = allocated(call)
            microseconds(call, 1000)
            measured.add("calls", H=H, call=name, **percentiles(microseconds(call, calls)), bytes=size)


def stacks(measured: report.Report, calls: int) -> None:
    """LSTM stacks with 32 outputs, one step per call, on one thread: the processor time of a call.

    `reading` is the time to read the weights in int8 at the rate of this machine for so many bytes.
    """
    rates = Roofline.measure()
    for layers, H, published in VOLLO:
        net = onward.Sequential(onward.LSTM(H, H, layers, rng=0), onward.Linear(H, 32, rng=1))
        x = np.random.default_rng(0).standard_normal(H).astype(np.float32)
        means = {}
        for precision, model in (("float32", net), ("int8", net.quantize("int8"))):
            stream = model.stream()
            step = partial(stream, x)
            means[precision] = processor_time(step, calls)
        size = layers * 2 * 4 * H * H
        reading = size / rates.bandwidth(size) * 1e6
        measured.add("stacks", layers=layers, H=H, **means, reading=reading, vollo=published)


class Whole(NamedTuple):
    """A whole model that returns the next values of some inputs: {input: output}."""

    name: str
    path: Path
    shape: tuple[int, ...]  # the first input's
    carries: dict[str, str]
    fixed: dict[str, Any] = {}  # noqa: RUF012  # the class is a tuple


def whole_models(cases: Path, folder: Path) -> Iterator[Whole]:
    """The models in the folder of cases, and a policy with random weights, exported to another folder."""
    from support import modules  # needs PyTorch

    silero, dtln, policy = cases / "silero_v6" / "silero_vad_v6.onnx", cases / "dtln", folder / "policy.onnx"
    yield Whole("Silero 6", silero, (1, 576), {"h": "hn", "c": "cn"})
    silero = cases / "silero_vad" / "silero_vad_16k_op15.onnx"
    yield Whole("Silero 5", silero, (1, 576), {"state": "stateN"}, {"sr": 16000})
    for number, shape in enumerate(((1, 1, 257), (1, 1, 512)), start=1):
        pair = {f"input_{2 * number + 1}": f"tf_op_layer_stack_{3 * number - 1}"}
        yield Whole(f"DTLN, stage {number}", dtln / f"model_{number}.onnx", shape, pair)
    whole = modules.WHOLE["policy"]
    policy.write_bytes(modules.exported(whole.module(), modules.inputs_of(whole.inputs, 0)))
    *_, h, c = onward.load(policy).outputs
    yield Whole("policy", policy, whole.inputs["x"], {"h": h, "c": c})


def whole_call(model: Whole) -> dict[str, Callable[[], Any]]:
    """Return calls with one block: a stream, a stream that writes into arrays, and onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.path, options, providers=["CPUExecutionProvider"])
    loaded = onward.load(model.path)
    stream, into = (loaded.stream(carry=model.carries, **model.fixed) for _ in range(2))
    x = (0.1 * np.random.default_rng(0).standard_normal(model.shape)).astype(np.float32)
    feeds = {loaded.inputs[0]: x, **stream.state} | {n: np.array(value) for n, value in model.fixed.items()}
    names = [output.name for output in session.get_outputs()]

    def step() -> Any:
        found = dict(zip(names, session.run(None, feeds), strict=True))
        feeds.update({name: found.pop(output) for name, output in model.carries.items()})
        return list(found.values())

    y = into(x)
    out = y if isinstance(y, np.ndarray) else tuple(y)
    stream(x)
    for ours, theirs in zip([out] if isinstance(out, np.ndarray) else out, step(), strict=True):
        assert np.abs(ours - theirs).max() < 1e-4 * max(1.0, float(np.abs(theirs).max())), model.name
    return {"stream(x)": lambda: stream(x), "stream(x, out=y)": lambda: into(x, out=out), "onnxruntime": step}


def resident() -> int:
    """The resident memory of this process in kB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def blocks(measured: report.Report, cases: Path, calls: int) -> None:
    """One block of a whole model per call, float32, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        for model in whole_models(cases, Path(folder)):
            contestants = whole_call(model)
            sizes = {name: allocated(call) for name, call in contestants.items()}
            times: dict[str, list[np.ndarray]] = {name: [] for name in contestants}
            grown = dict.fromkeys(contestants, 0)
            for call in contestants.values():
                microseconds(call, 1000)
            for _ in range(10):  # interleaved, so that the machine's other work meets all of them
                for name, call in contestants.items():
                    before = resident()
                    times[name].append(microseconds(call, calls // 10))
                    grown[name] += resident() - before
            joined = {name: np.concatenate(parts) for name, parts in times.items()}
            theirs = np.median(joined["onnxruntime"])
            for name, each in joined.items():
                found = {**percentiles(each), "bytes": sizes[name], "grown_kB": grown[name]}
                ratio = {} if name == "onnxruntime" else {"ratio": np.median(each) / theirs}
                measured.add("blocks", model=model.name, call=name, **found, **ratio)


def enhancer() -> Model:
    """Return causal convolutions and a GRU with random weights over x (batch, 40, time)."""
    rng, graph, channels = np.random.default_rng(0), Graph(), 64

    def constant(*shape: int) -> str:
        return graph.add_constant((rng.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32))

    y = graph.add_input("x", np.dtype(np.float32), ("batch", 40, "time"))
    for dilation, size in ((1, 40), (2, channels)):
        y = graph.add("Pad", y, graph.add_constant(np.array([0, 0, 2 * dilation, 0, 0, 0])))
        y = graph.add("Relu", graph.add("Conv", y, constant(channels, size, 3), dilations=[dilation]))
    y = graph.add("Transpose", y, perm=[2, 0, 1])
    y = graph.add("Recurrent", y, cell=onward.GRU(channels, channels, rng=0).cell)
    y = graph.add("Transpose", y, perm=[1, 2, 0])
    graph.outputs = (graph.add("Sigmoid", graph.add("Conv", y, constant(40, channels, 1))),)
    graph.declared_outputs = (Input("y", np.dtype(np.float32)),)
    return Model(graph)


def lengths(measured: report.Report, rounds: int) -> None:
    """Blocks of 1 to 50 steps: in random order, and all blocks of one length in a row."""
    stream, rng = enhancer().stream(), np.random.default_rng(0)
    blocks = [rng.standard_normal((40, steps)).astype(np.float32) for steps in range(1, 51)]
    order = rng.integers(0, 50, 500)
    for block in blocks:
        stream(block)
    times: dict[str, list[float]] = {"random": [], "constant": []}
    for _ in range(rounds):
        for name, turns in (("random", order), ("constant", np.sort(order))):
            start = time.thread_time()
            for turn in turns:
                stream(blocks[turn])
            times[name].append((time.thread_time() - start) / len(order))
    mixed, constant = (statistics.median(each) for each in times.values())
    measured.add("lengths", random=mixed * 1e6, constant=constant * 1e6, ratio=mixed / constant)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--cases", type=Path, help="a folder with silero_v6, silero_vad and dtln")
    options = parser.parse_args()
    measured = report.Report(options, ["onnxruntime"])
    onward.set_num_threads(1)
    single_calls(measured, 20_000 if options.quick else 1_000_000)
    stacks(measured, 1_000 if options.quick else 50_000)
    lengths(measured, 3 if options.quick else 21)
    if options.cases is not None:
        blocks(measured, options.cases, 1_000 if options.quick else 20_000)


if __name__ == "__main__":
    main()
