"""Measure the latency of one step per call: single layers, with onnxruntime, and stacks of an FPGA benchmark.

    python bench/latency.py            # a million calls of each
    python bench/latency.py --quick    # 20,000

"Bytes" is the memory that Python and NumPy allocate during a call.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from peers import Cell, Problem, onnx_model, problem

import onward
from onward import _core

SIZES = (32, 128, 256)
CHUNK = 10_000
# Layers, hidden size, and the mean microseconds per call that Myrtle.ai published for Vollo, on FPGAs. The
# input is as wide as the layers, and there are 32 outputs.
VOLLO = ((2, 128, "1.9 to 2.8"), (3, 256, "3.0 to 3.3"), (3, 480, "4.2 to 4.4"))


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


def row(name: str, times: np.ndarray, size: int) -> str:
    p50, p99, p999 = np.percentile(times, (50, 99, 99.9))
    return f"| {name} | {p50:.2f} | {p99:.2f} | {p999:.2f} | {times.max():.0f} | {size} |"


def histogram(times: np.ndarray) -> str:
    """A histogram of the times with one bar per power of two."""
    edges = 2.0 ** np.arange(np.floor(np.log2(times.min())), np.ceil(np.log2(times.max())) + 1)
    counts, _ = np.histogram(times, edges)
    lines = []
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            bar = "#" * int(np.ceil(50 * np.log1p(count) / np.log1p(len(times))))
            lines.append(f"    {low:9.2f} to {high:9.2f} µs {count:9d} {bar}")
    return "\n".join(lines)


def single_calls(calls: int) -> None:
    print("Single calls of an LSTM, I = H, float32, one thread, µs:\n")
    print("| H, call | p50 | p99 | p99.9 | max | bytes |\n|---|---|---|---|---|---|")
    histograms = []
    for H in SIZES:
        for name, call in contestants(H).items():
            size = allocated(call)
            microseconds(call, 1000)
            times = microseconds(call, calls)
            print(row(f"{H}, {name}", times, size), flush=True)
            if name == "stream(x)":
                histograms.append(f"  H = {H}, stream(x), logarithmic bars:\n{histogram(times)}")
    print("\n" + "\n\n".join(histograms))


def stacks(calls: int) -> None:
    print("\nLSTM stacks with 32 outputs, one step per call from Python, one thread, mean µs per call:\n")
    print("| layers | float32 | int8 | Vollo, published |\n|---|---|---|---|")
    for layers, H, published in VOLLO:
        net = onward.Sequential(onward.LSTM(H, H, layers, rng=0), onward.Linear(H, 32, rng=1))
        x = np.random.default_rng(0).standard_normal(H).astype(np.float32)
        means = []
        for model in (net, net.quantize("int8")) if hasattr(net, "quantize") else (net,):
            stream = model.stream()
            microseconds(lambda: stream(x), 1000)  # noqa: B023  # called at once
            means.append(f"{microseconds(lambda: stream(x), max(1, calls // 20)).mean():.1f}")  # noqa: B023
        print(f"| {layers} x {H} | {means[0]} | {(means[1:] or ['-'])[0]} | {published} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="20,000 calls instead of a million")
    calls = 20_000 if parser.parse_args().quick else 1_000_000
    onward.set_num_threads(1)
    single_calls(calls)
    stacks(calls)


if __name__ == "__main__":
    main()
