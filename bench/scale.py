"""A table of sequences scored by a plain loop, by one process from Parquet, and by actors of Ray.

    python bench/scale.py

An LSTM of 12 features and 64 units, its last step, a Linear to 9; 1,000 steps a sequence, float32, one thread
each. Two tables, of n and 3n sequences: the time of the second less that of the first is free of what starts
only once. Of each, the fastest of two rounds.
"""

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
import ray.data
from pyarrow import parquet as pq

import onward
from onward.tables import parquet, scorer

ROWS, STEPS, FEATURES, ROUNDS = 2048, 1000, 12, 2
NET = onward.Sequential(onward.LSTM(FEATURES, 64, rng=0), onward.Last(), onward.Linear(64, 9, rng=1))


def written(path: Path, rows: int) -> Path:
    """A Parquet file of random sequences, 512 in a row group."""
    rng = np.random.default_rng(0)
    kind = pa.list_(pa.list_(pa.float32(), FEATURES), STEPS)
    with pq.ParquetWriter(path, pa.schema([("x", kind)]), use_dictionary=False, compression="none") as writer:
        for _ in range(0, rows, 512):
            numbers = rng.standard_normal(512 * STEPS * FEATURES, np.float32)
            steps = pa.FixedSizeListArray.from_arrays(pa.array(numbers), FEATURES)
            writer.write_table(pa.table({"x": pa.FixedSizeListArray.from_arrays(steps, STEPS)}))
    return path


def loop(path: Path) -> None:
    """64 rows a call, of arrays that are there already."""
    x = np.zeros((STEPS, 64, FEATURES), np.float32)
    for _ in range(pq.read_metadata(path).num_rows // 64):
        NET(x)


def read(path: Path) -> None:
    """Nothing but the reading."""
    for group in parquet.row_groups(str(path)):
        for _ in group.tables():
            pass


def one_process(path: Path) -> None:
    table_scorer = scorer.Scorer(NET, row=parquet.NUMBER)
    parquet.score(str(path), path.with_suffix(".scored"), table_scorer, lambda rows: None)


def actors(count: int) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        groups = parquet.row_groups(str(path))
        pieces = ray.data.from_items([{"group": k} for k in range(len(groups))])
        rows = pieces.map_batches(
            lambda numbers: (t for k in numbers["group"] for t in groups[k].tables()),
            batch_size=1,
            num_cpus=onward.ray.IO_CPUS,
        )
        scored = onward.ray.score(rows, NET, actors=count).select_columns(["y"])
        assert sum(len(batch["y"]) for batch in scored.iter_batches()) == sum(group.rows for group in groups)

    return run


def seconds(run: Callable[[Path], None], path: Path) -> float:
    start = time.perf_counter()
    run(path)
    return time.perf_counter() - start


def main() -> None:
    onward.set_num_threads(1)
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ways = {
        "a plain loop": loop,
        "reading alone": read,
        "one process": one_process,
        "Ray, 1 actor": actors(1),
        "Ray, 2 actors": actors(2),
    }
    with tempfile.TemporaryDirectory() as folder:
        small, large = (written(Path(folder, f"{n}.parquet"), n * ROWS) for n in (1, 3))
        times = [
            {name: (seconds(run, small), seconds(run, large)) for name, run in ways.items()}
            for _ in range(ROUNDS)
        ]
    print("| | sequences a second | once, s |\n|---|---|---|")
    for name in ways:
        first, second = (min(each) for each in zip(*(round_[name] for round_ in times), strict=True))
        each = (second - first) / (2 * ROWS)
        print(f"| {name} | {1 / each:,.0f} | {first - each * ROWS:.1f} |")
    ray.shutdown()


if __name__ == "__main__":
    main()
