"""Sales of stores at levels from 10 to 10,000, with a daily season, as a table and as a CSV file."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Series = Mapping[str, NDArray[np.float64]]
HORIZON = 24


def stores(hours: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Hourly sales of eight stores with a daily season, a trend and noise, in proportion to their levels."""
    rng, t = np.random.default_rng(seed), np.arange(hours)
    found = {}
    for number, level in enumerate(np.geomspace(10, 10_000, 8)):
        season = 0.3 * np.sin(2 * np.pi * (t + rng.uniform(0, 24)) / 24)
        trend = 0.0003 * t * rng.normal()
        found[f"store {number}"] = level * (1 + season + trend + 0.05 * rng.normal(size=hours))
    return found


def write(path: Path, series: Series, order: Iterable[str]) -> None:
    """Write a row for each hour and store, one store after another."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["store", "time", "sold"])
        for name in order:
            for hour, value in enumerate(series[name]):
                rows.writerow([name, np.datetime64("2024-01-01T00:00") + np.timedelta64(hour, "h"), value])


def wins(forecasts: Series, series: Series, hours: int) -> int:
    """How many forecasts of what follows `hours` are better than the last value and than the last day."""
    count = 0
    for name, forecast in forecasts.items():
        known, true = series[name][:hours], series[name][hours : hours + HORIZON]
        errors = [np.abs(each - true).mean() for each in (forecast, known[-1], known[-HORIZON:])]
        count += errors[0] < min(errors[1:])
    return count
