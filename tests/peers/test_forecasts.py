"""Forecasts with the default settings, which take a minute to train, against naive forecasts."""

from pathlib import Path

import numpy as np
import pytest
from support import stores

from onward.recipes import forecasts
from onward.tables import data, inference, windows
from onward.tables.data import Selection

HOURS = 1000


@pytest.mark.parametrize("last", ["store 0", "store 7"])
def test_a_store_is_forecast_wherever_it_is_listed(tmp_path: Path, last: str) -> None:
    series = stores.stores(HOURS + stores.HORIZON, seed=1)
    order = [*(name for name in series if name != last), last]
    stores.write(tmp_path / "x.csv", {name: values[:HOURS] for name, values in series.items()}, order)
    selection = Selection((), ("sold",), "store", "time", window=168, horizon=stores.HORIZON)
    model, _, report = forecasts.fit_forecasts(data.read(tmp_path / "x.csv", selection), progress=False)
    newest = windows.latest(data.read(tmp_path / "x.csv", selection, future=True))
    outputs = inference.outputs(model, newest.items)
    assert stores.wins(dict(zip(order, outputs, strict=True)), series, HOURS) >= 7
    assert "is better" in report["verdict"]


@pytest.mark.parametrize("slope", [0.0, 0.05, -0.05])
def test_a_trend_with_a_daily_season_is_forecast_better_than_by_repetition(slope: float) -> None:
    t = np.arange(2000 + 24)
    rng = np.random.default_rng(0)
    values = 100 + slope * t + 10 * np.sin(2 * np.pi * t / 24) + rng.normal(size=len(t))
    item = values[:2000, None]
    series = data.Sequences([item], targets=[item], selection=Selection(("y",), ("y",)), single=True)
    model, _, _ = forecasts.fit_forecasts(windows.cut(series, 48, 24, future=False), progress=False)
    (forecast,) = inference.outputs(model, [item[-48:]])
    errors = [np.abs(each - values[2000:]).mean() for each in (forecast, values[1999], values[1976:2000])]
    assert errors[0] < 0.95 * min(errors[1:])
