"""Forecast the next rows of a CSV file with a model that Keras or PyTorch trained, without Keras or PyTorch.

    python examples/forecast.py forecaster.keras load.csv --columns load temperature --window 48 --steps 24

MODEL (.keras, .h5, .pt2, TorchScript or .onnx) takes windows (batch, window, columns) and returns the next
row of each, or the next few. The forecast is fed back until there are enough rows, and printed as CSV.
Values are scaled to mean 0 and standard deviation 1, as is usual in training; --raw leaves them as they
are.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

import onward


def read(path: str | Path, columns: list[str]) -> np.ndarray:
    """Return columns of a CSV file, (rows, columns)."""
    with open(path, newline="", encoding="utf-8") as file:
        return np.array(
            [[float(row[column]) for column in columns] for row in csv.DictReader(file)], np.float32
        )


def forecast(
    model: Callable[[np.ndarray], np.ndarray], series: np.ndarray, window: int, steps: int
) -> np.ndarray:
    """Return the next `steps` rows of a series (rows, columns); the model sees the last `window` rows."""
    rows = series
    while len(rows) < len(series) + steps:
        following = np.reshape(model(rows[None, -window:]), (-1, series.shape[1]))
        rows = np.concatenate([rows, following.astype(np.float32)])
    return rows[len(series) :][:steps]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("table", help="a CSV file, the latest row last")
    parser.add_argument("--columns", nargs="+", required=True)
    parser.add_argument("--window", type=int, required=True, help="rows that the model sees")
    parser.add_argument("--steps", type=int, default=24, help="rows to forecast")
    parser.add_argument("--raw", action="store_true", help="do not scale the values")
    arguments = parser.parse_args()
    series = read(arguments.table, arguments.columns)
    mean, deviation = (0.0, 1.0) if arguments.raw else (series.mean(0), series.std(0))
    scaled = (series - mean) / deviation
    rows = forecast(onward.load(arguments.model), scaled, arguments.window, arguments.steps)
    print(",".join(arguments.columns))
    for row in rows * deviation + mean:
        print(",".join(f"{value:.6g}" for value in row))


if __name__ == "__main__":
    main()
