"""Compare `onward train table` before the first epoch, which reads and checks a table, with pandas.read_csv.

    python bench/reading.py    # a million rows: two numbers, a time stamp and a text

Times are the shortest of five, of the processor, summed over threads. It needs pandas and pyarrow.
"""

import tempfile
import time
import timeit
from pathlib import Path

import numpy as np
import pandas

from onward.tables import data
from onward.tables.layout import Selection

ROWS = 1_000_000


def write(path: Path) -> None:
    rng, times = np.random.default_rng(0), np.datetime64("2010-01-01", "h") + np.arange(ROWS // 8)
    stamps = np.char.replace(np.datetime_as_string(times, "s"), "T", " ")
    numbers = rng.normal(10, 2, (8, len(times), 2))
    shops = {f"shop {n}": numbers[n] for n in range(8)}
    tables = [
        pandas.DataFrame({"time": stamps, "shop": s, "price": x[:, 0], "sold": x[:, 1]})
        for s, x in shops.items()
    ]
    pandas.concat(tables).to_csv(path, index=False, float_format="%.3f")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        write(path)
        selection = Selection(("price",), ("sold",), group="shop", time="time")
        calls = {
            "pandas.read_csv": lambda: pandas.read_csv(path),
            "Onward": lambda: data.read(path, selection, finite=True),
        }
        times = [
            [timeit.timeit(call, timer=time.process_time, number=1) for call in calls.values()]
            for _ in range(5)
        ]
    pandas_time, onward_time = (min(each) for each in zip(*times, strict=True))
    print(
        f"pandas.read_csv {pandas_time:.3f} s, Onward {onward_time:.3f} s: "
        f"{onward_time / pandas_time:.2f} times"
    )


if __name__ == "__main__":
    main()
