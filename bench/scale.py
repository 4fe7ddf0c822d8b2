"""Measure the throughput of scoring a table: a plain loop, Parquet with one and two workers, and Ray.

    python bench/scale.py

The model is an LSTM with 12 features and 64 units, Last, and a Linear to 9; sequences have 1,000 steps of
float32, and every worker computes on one thread. Each method scores a table of n and one of 3n sequences; the
difference of the times excludes fixed costs. The fastest of three rounds counts.

Before that, a whole ONNX model scores 20,000 sequences of 30 to 90 steps, and as many of equal length with
the same steps in all, as `onward run` does with arrays. Needs onward[bench].
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
import ray.data
import report
from pyarrow import parquet as pq

import onward
from onward.tables import inference, parquet, scorer

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the tests are not a package

STEPS, FEATURES = 1000, 12
NET = onward.Sequential(onward.LSTM(FEATURES, 64, rng=0), onward.Last(), onward.Linear(64, 9, rng=1))


def write_table(path: Path, rows: int) -> Path:
    """Write a Parquet file of random sequences, 512 in each row group."""
    rng = np.random.default_rng(0)
    kind = pa.list_(pa.list_(pa.float32(), FEATURES), STEPS)
    with pq.ParquetWriter(path, pa.schema([("x", kind)]), use_dictionary=False, compression="none") as writer:
        for _ in range(0, rows, 512):
            numbers = rng.standard_normal(512 * STEPS * FEATURES, np.float32)
            steps = pa.FixedSizeListArray.from_arrays(pa.array(numbers), FEATURES)
            writer.write_table(pa.table({"x": pa.FixedSizeListArray.from_arrays(steps, STEPS)}))
    return path


def loop(path: Path) -> None:
    """Call the model on 64 sequences at a time, from arrays that are in memory."""
    x = np.zeros((STEPS, 64, FEATURES), np.float32)
    for _ in range(pq.read_metadata(path).num_rows // 64):
        NET(x)


def read(path: Path) -> None:
    """Read the table and do nothing with it."""
    for group in parquet.row_groups(str(path)):
        for _ in group.tables():
            pass


def one_process(workers: int) -> Callable[[Path], None]:
    """Score from Parquet to Parquet."""

    def run(path: Path) -> None:
        table_scorer = scorer.Scorer(NET, row=parquet.ROW_NUMBER)
        out = path.with_suffix(".scored")
        parquet.score(str(path), out, table_scorer, lambda rows: None, workers=workers)

    return run


def actors(count: int) -> Callable[[Path], None]:
    """Score Parquet with Ray and collect the outputs."""

    def run(path: Path) -> None:
        table_scorer = scorer.Scorer(NET, row=parquet.ROW_NUMBER)
        scored = onward.ray.score_parquet(str(path), table_scorer, actors=count)
        rows = sum(len(batch["y"]) for batch in scored.iter_batches())
        assert rows == pq.read_metadata(path).num_rows

    return run


def seconds(run: Callable[[Path], None], path: Path) -> float:
    start = time.perf_counter()
    run(path)
    return time.perf_counter() - start


def ragged(measured: report.Report, rows: int, rounds: int) -> None:
    """Compare sequences of many lengths with sequences of one length, in CPU time on one thread."""
    from support import modules

    rng, whole = np.random.default_rng(0), modules.WHOLE["attention pooling"]
    with tempfile.TemporaryDirectory() as folder:
        path, axes = Path(folder, "model.onnx"), {"x": {0: "batch", 1: "time"}}
        path.write_bytes(
            modules.exported(whole.module(), modules.inputs_of(whole.inputs, 0), dynamic_axes=axes)
        )
        model = inference.runnable(onward.load(path))
    lengths = rng.integers(30, 91, rows)
    equal = np.diff(np.linspace(0, lengths.sum(), rows + 1).astype(int)).max()
    sequences = {
        "ragged": [rng.standard_normal((length, 40)).astype(np.float32) for length in lengths],
        "equal": [rng.standard_normal((equal, 40)).astype(np.float32) for _ in range(rows)],
    }
    times: dict[str, list[float]] = {name: [] for name in sequences}
    for _ in range(rounds):
        for name, each in sequences.items():
            start = time.thread_time()
            inference.outputs(model, each)
            steps = sum(map(len, each))
            times[name].append((time.thread_time() - start) * lengths.sum() / steps)
    rates = {name: rows / float(min(each)) for name, each in times.items()}
    measured.add("ragged", sequences=rows, **rates, ratio=rates["ragged"] / rates["equal"])


def main() -> None:
    options = report.parser(__doc__).parse_args()
    rows, rounds = (512, 1) if options.quick else (2048, 3)
    measured = report.Report(options, ["pyarrow", "ray"])
    onward.set_num_threads(1)
    ragged(measured, 2_000 if options.quick else 20_000, rounds)
    ray.init(num_cpus=max(3, os.cpu_count() or 1), include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ways = {
        "a plain loop over arrays, 64 rows per call": loop,
        "only reading Parquet": read,
        "Parquet to Parquet, 1 worker": one_process(1),
        "Parquet to Parquet, 2 workers": one_process(2),
        "Ray, 1 actor": actors(1),
        "Ray, 2 actors": actors(2),
    }
    with tempfile.TemporaryDirectory() as folder:
        small, large = (write_table(Path(folder, f"{n}.parquet"), n * rows) for n in (1, 3))
        times = [
            {name: (seconds(run, small), seconds(run, large)) for name, run in ways.items()}
            for _ in range(rounds)
        ]
    fastest = {
        name: [min(column) for column in zip(*(timed[name] for timed in times), strict=True)] for name in ways
    }
    each = {name: (second - first) / (2 * rows) for name, (first, second) in fastest.items()}
    loop_time = next(iter(each.values()))
    for name, time_each in each.items():
        if min(time_each, loop_time) <= 0:  # other work on the machine took more time than the sequences
            measured.add("rates", way=name)
            continue
        once = max(0.0, fastest[name][0] - time_each * rows)
        relative = loop_time / time_each
        measured.add("rates", way=name, per_second=1 / time_each, relative=relative, once=once)
    ray.shutdown()


if __name__ == "__main__":
    main()
