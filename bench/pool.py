"""Compare a step of a pool with a batched call, and with one onnxruntime call per stream.

    python bench/pool.py

An LSTM, I = H = 128, float32, one thread, 10,000 open streams; medians of interleaved runs.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from latency import onnxruntime_step
from peers import Cell, problem

import onward

H, OPEN, ROUNDS = 128, 10_000, 21


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    onward.set_num_threads(1)
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
