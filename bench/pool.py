"""Compare a step of a pool with a batched call, and with one onnxruntime call per stream.

    python bench/pool.py                 # 10,000 streams of an LSTM, I = H = 128, and 200 of a whole model
    python bench/pool.py --cases DIR     # also Silero's voice detectors, one frame of 32 ms per stream

float32, one thread; medians of interleaved runs, in CPU time, which other processes do not change much.
"""

import ctypes
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import report
from latency import enhancer, onnxruntime_step, resident
from peers import Cell, problem

import onward

H, OPEN = 128, 10_000


def seconds(call: Callable[[], Any]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


FRAME = 0.032  # seconds of sound in a frame of Silero's detectors
SAMPLES = 576  # a frame with the context before it
# Silero's detectors: their names, files and fixed inputs.
DETECTORS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("Silero 6", "silero_v6/silero_vad_v6.onnx", {}),
    ("Silero 5", "silero_vad/silero_vad_16k_op15.onnx", {"sr": 16000}),
)


def detector(measured: report.Report, name: str, path: Path, fixed: dict[str, Any], rounds: int) -> None:
    """Compare pools of a voice detector with a session of onnxruntime that runs once for each stream."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model = onward.load(path)
    rng = np.random.default_rng(0)
    x = (0.1 * rng.standard_normal((2000, SAMPLES))).astype(np.float32)
    inputs = {d.name: d for d in session.get_inputs()}
    states = {
        name: np.zeros([n if isinstance(n, int) else 1 for n in inputs[name].shape], np.float32)
        for name in model.carries
    }
    feeds = {name: np.array(value) for name, value in fixed.items()} | {model.inputs[0]: x[:1]} | states
    pool = model.pool(2000, **fixed)
    pool.step(pool.open(1), x[:1])
    ctypes.CDLL(None).malloc_trim(0)  # memory that is free now would not count
    before = resident()
    others = [pool.copy() for _ in range(10)]
    for other in others:
        other.open(1999)
    memory = (resident() - before) * 1024 / 20_000
    del others
    ids = np.concatenate([pool.ids, pool.open(1999)])
    for n in (1, 64, 256, 2000):
        times: dict[str, list[float]] = {"pool": [], "onnxruntime": []}
        calls, steps = min(n, 64), 20 if n == 1 else 1  # in a row, as in a server of only one kind
        for _ in range(rounds):
            together = seconds(lambda n=n, steps=steps: [pool.step(ids[:n], x[:n]) for _ in range(steps)])
            apart = seconds(lambda n=calls * steps: [session.run(None, feeds) for _ in range(n)])
            times["pool"].append(together / n / steps)
            times["onnxruntime"].append(apart / calls / steps)
        pooled, single = (statistics.median(each) for each in times.values())
        found = {"onward": pooled * 1e6, "onnxruntime": single * 1e6, "ratio": single / pooled}
        measured.add(
            "detectors", model=name, streams=n, **found, live=FRAME / pooled, bytes_per_stream=round(memory)
        )


def layer_pool(measured: report.Report, rounds: int) -> None:
    """Compare pools of an LSTM with batched calls."""
    p = problem(Cell("lstm", 1, 1, H, 1))
    layer = onward.LSTM(H, H)
    layer.load_state_dict(p.weights)
    pool = layer.pool(OPEN)
    everyone = pool.open(OPEN)
    once = onnxruntime_step(p)
    rng = np.random.default_rng(0)
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
        for _ in range(rounds):
            for name, call in calls.items():
                times[name].append(seconds(call))
        pooled, forward, single = (statistics.median(times[name]) for name in calls)
        measured.add(
            "lstm",
            streams=n,
            pool=pooled * 1e6,
            batched=forward * 1e6,
            batched_ratio=forward / pooled,
            onnxruntime_ratio=single * n / 64 / pooled,
        )


def changing_pool(measured: report.Report, rounds: int) -> None:
    """Compare pools of a whole model with a batched stream, and ready sets that change with constant ones."""
    model, n, ticks = enhancer(), 200, 50
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 40, 2)).astype(np.float32)
    pool, stream = model.pool(n), model.stream(batch=n)
    ids = pool.open(n)
    ready = [rng.permutation(ids)[:size] for size in rng.integers(1, n + 1, ticks)]
    calls = {
        "pool": lambda: [pool.step(ids, x) for _ in range(ticks)],
        "batched": lambda: [stream(x) for _ in range(ticks)],
        "changing": lambda: [pool.step(some, x[: len(some)]) for some in ready],
        "constant": lambda: [pool.step(some, x[: len(some)]) for some in sorted(ready, key=len)],
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call) / ticks)
    found = {name: statistics.median(each) * 1e6 for name, each in times.items()}
    ratios = {
        "batched_ratio": found["pool"] / found["batched"],
        "ratio": found["changing"] / found["constant"],
    }
    measured.add("graphs", streams=n, **found, **ratios)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--cases", type=Path, help="a folder with silero_v6 and silero_vad")
    options = parser.parse_args()
    measured, rounds = report.Report(options, ["onnxruntime"]), 3 if options.quick else 21
    onward.set_num_threads(1)
    layer_pool(measured, rounds)
    changing_pool(measured, rounds)
    for name, file, fixed in DETECTORS if options.cases is not None else ():
        detector(measured, name, options.cases / file, fixed, rounds)


if __name__ == "__main__":
    main()
