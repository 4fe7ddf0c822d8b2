"""Compare a step of a pool with a batched call, and with one onnxruntime call per stream.

    python bench/pool.py                 # an LSTM, I = H = 128, with 10,000 open streams
    python bench/pool.py --cases DIR     # also Silero's voice detectors, one frame of 32 ms per stream

float32, one thread; medians of interleaved runs, in CPU time, which other processes do not change much.
"""

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from latency import onnxruntime_step
from peers import Cell, problem

import onward

H, OPEN, ROUNDS = 128, 10_000, 21


def seconds(call: Callable[[], Any]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


FRAME = 0.032  # seconds of sound in a frame of Silero's detectors
# A file of Silero's detectors, its frame with the context before it, and its fixed inputs.
DETECTORS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("silero_v6/silero_vad_v6.onnx", 576, {}),
    ("silero_vad/silero_vad_16k_op15.onnx", 576, {"sr": 16000}),
)


def detector(path: Path, samples: int, fixed: dict[str, Any]) -> None:
    """Compare pools of a voice detector with a session of onnxruntime that runs once for each stream."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model = onward.load(path)
    rng = np.random.default_rng(0)
    x = (0.1 * rng.standard_normal((2000, samples))).astype(np.float32)
    inputs = {d.name: d for d in session.get_inputs()}
    states = {
        name: np.zeros([n if isinstance(n, int) else 1 for n in inputs[name].shape], np.float32)
        for name in model.carries
    }
    feeds = {name: np.array(value) for name, value in fixed.items()} | {model.inputs[0]: x[:1]} | states
    pool = model.pool(2000, **fixed)
    pool.step(pool.open(1), x[:1])
    tracemalloc.start()
    other = pool.copy()
    other.open(1999)
    memory = tracemalloc.get_traced_memory()[0] / 2000
    tracemalloc.stop()
    del other
    ids = np.concatenate([pool.ids, pool.open(1999)])
    print(f"\n{path.name}, one frame of 32 ms per stream, {memory:,.0f} bytes per stream:\n")
    print("| streams per step | per stream, µs | live streams per core | onnxruntime, µs | ratio |")
    print("|---|---|---|---|---|")
    for n in (1, 64, 256, 2000):
        times: dict[str, list[float]] = {"pool": [], "onnxruntime": []}
        calls, steps = min(n, 64), 20 if n == 1 else 1  # in a row, as in a server of only one kind
        for _ in range(ROUNDS):
            together = seconds(lambda n=n, steps=steps: [pool.step(ids[:n], x[:n]) for _ in range(steps)])
            apart = seconds(lambda n=calls * steps: [session.run(None, feeds) for _ in range(n)])
            times["pool"].append(together / n / steps)
            times["onnxruntime"].append(apart / calls / steps)
        pooled, single = (statistics.median(each) for each in times.values())
        print(
            f"| {n:,} | {pooled * 1e6:.1f} | {FRAME / pooled:,.0f} | {single * 1e6:.1f} "
            f"| {single / pooled:.1f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=Path, help="a folder with silero_v6 and silero_vad")
    cases = parser.parse_args().cases
    onward.set_num_threads(1)
    layer_pool()
    for file, samples, fixed in DETECTORS if cases is not None else ():
        detector(cases / file, samples, fixed)


def layer_pool() -> None:
    """Compare pools of an LSTM with batched calls."""
    p = problem(Cell("lstm", 1, 1, H, 1))
    layer = onward.LSTM(H, H)
    layer.load_state_dict(p.weights)
    pool = layer.pool(OPEN)
    everyone = pool.open(OPEN)
    once = onnxruntime_step(p)
    rng = np.random.default_rng(0)
    print("| streams per step | pool, µs | batched call, µs | batched / pool | onnxruntime / pool |")
    print("|---|---|---|---|---|")
    for n in (64, 1024, OPEN):
        ids = rng.permutation(everyone)[:n]
        x = rng.standard_normal((n, H)).astype(np.float32)
        state = tuple(rng.standard_normal((2, 1, n, H)).astype(np.float32))
        calls = {
            "pool": lambda ids=ids, x=x: pool.step(ids, x),
            "forward": lambda x=x, state=state: layer(x[None], state),
            "onnxruntime": lambda: [once() for _ in range(64)],
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                times[name].append(seconds(call))
        pooled, forward, single = (statistics.median(times[name]) for name in calls)
        print(
            f"| {n:,} | {pooled * 1e6:,.0f} | {forward * 1e6:,.0f} | {forward / pooled:.2f} "
            f"| {single * n / 64 / pooled:.1f} |"
        )
    print(f"\nState: {2 * H * 4} bytes per stream, plus at most 9 for its id.")


if __name__ == "__main__":
    main()
