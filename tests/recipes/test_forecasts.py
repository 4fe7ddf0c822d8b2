"""Forecasts: the graph of a trained model, and series of any level and order against naive forecasts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import stores

import onward
from onward.recipes import forecasts
from onward.recipes.forecasts import Fitted, LinearMap, Scaling
from onward.tables import data, inference, windows
from onward.tables.data import Selection, Sequences
from onward.train import History

HOURS = 312


@pytest.mark.parametrize("order", ["01234567", "76543210", "36014752"])
def test_stores_are_forecast_better_than_by_repetition_in_any_order(tmp_path: Path, order: str) -> None:
    series = stores.stores(HOURS + stores.HORIZON)
    names = [f"store {number}" for number in order]
    stores.write(tmp_path / "x.csv", {name: values[:HOURS] for name, values in series.items()}, names)
    selection = Selection((), ("sold",), "store", "time", window=168, horizon=stores.HORIZON)
    table = data.read(tmp_path / "x.csv", selection)
    model, _, report = forecasts.fit_forecasts(
        table, hold_out=0.3, epochs=1, hidden_size=8, refit=False, progress=False
    )
    newest = windows.latest(data.read(tmp_path / "x.csv", selection, future=True))
    outputs = inference.outputs(model, newest.items)
    assert stores.wins(dict(zip(names, outputs, strict=True)), series, HOURS) >= 7
    assert report["season"] == 24
    assert [row["name"] for row in report["forecasts"]] == ["model", "naive", "seasonal naive"]
    assert "is better" in report["verdict"]


def test_a_target_in_arrays_is_known_by_its_values(tmp_path: Path) -> None:
    series = stores.stores(HOURS + stores.HORIZON)
    y = np.stack([values[:HOURS, None] for values in series.values()])
    noise = np.random.default_rng(0).normal(size=y.shape)
    np.savez(tmp_path / "x.npz", x=np.concatenate([noise, y], axis=2), y=y)
    table = data.read(tmp_path / "x.npz", Selection(window=168, horizon=stores.HORIZON))
    assert table.series is not None and forecasts.inputs_of_targets(table.series) == (1,)
    model, _, report = forecasts.fit_forecasts(
        table, hold_out=0.3, epochs=1, hidden_size=8, refit=False, progress=False
    )
    outputs = inference.outputs(model, [item[-168:] for item in table.series.items])
    assert stores.wins(dict(zip(series, outputs, strict=True)), series, HOURS) >= 7
    assert report["level"] in ("mean", "last")


@pytest.mark.parametrize("level", ["mean", "last", "table"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("known", [0, 1])
def test_the_graph_computes_the_equation(level: str, bidirectional: bool, known: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    W, H, F, targets = 6, 3, 4, 2
    table = (rng.normal(size=F), rng.uniform(1, 2, F)), (rng.normal(size=targets), rng.uniform(1, 2, targets))
    scaling = Scaling(level, (2, 0), *table, known=known, horizon=H)
    linear = LinearMap(rng.normal(size=(targets, W + known * H, H)), rng.normal(size=(targets, H)))
    layers: list[Any] = [onward.GRU(F, 5, bidirectional=bidirectional, rng=0)]
    if bidirectional:
        layers.append(onward.GRU(10, 5, rng=1))
    network = onward.Sequential(*layers, onward.Last(), onward.Linear(5, H * targets, rng=1))
    model = forecasts.assemble(
        scaling, Fitted(linear, network, 2.0, (0.35, 1.0, 1.0), History()), Selection(window=W, horizon=H)
    )
    raw = rng.normal(5, 3, (7, W, F))
    raw[3, :, 0] = 7.3  # a constant target
    scaled = scaling.of(Sequences(list(raw), targets=np.zeros((7, H * targets))), np.arange(7))
    own = raw[:, :, [2, 0]]
    mean, spread = own.mean(axis=1, keepdims=True), own.std(axis=1, keepdims=True)
    spread[spread < 1e-9] = 0
    centre = {"mean": mean, "last": own[:, -1:], "table": scaling.targets[0]}[level]
    deviation = scaling.targets[1] if level == "table" else spread
    ahead = scaled.x[:, -H:, F - known :].reshape(7, -1, 1)
    z = np.concatenate([scaled.x[:, :, [2, 0]], ahead.repeat(2, axis=2)], axis=1)
    A = np.einsum("nwo,owh->nho", z, linear.A) + linear.b.T
    rest = 0.7 * network(scaled.x.swapaxes(0, 1).astype(np.float32)).reshape(7, H, targets)
    expected = (centre + deviation * (A + rest)).reshape(7, -1)
    x = raw.swapaxes(0, 1).astype(np.float32)
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=2e-5)
    if level != "table":
        np.testing.assert_allclose(model(x)[3, 1::2], 7.3, rtol=1e-6)  # without the network's output
    model.save(tmp_path / "m.safetensors")
    restored: Any = onward.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(np.stack(inference.outputs(restored, list(raw))), model(x))


def test_ridge_regression_solves_its_normal_equations() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 1, (50, 4, 1)), rng.normal(3, 1, (50, 2, 1))
    scaling = Scaling("table", (0,), (np.zeros(1), np.ones(1)), (np.zeros(1), np.ones(1)))
    z = np.c_[x[:, :, 0] - x[:, :, 0].mean(axis=0)]
    for ridge, (A, b) in zip(
        forecasts.RIDGES, forecasts.linear_maps(forecasts.Scaled(x, y), scaling), strict=True
    ):
        penalty = ridge * np.trace(z.T @ z) / 4 * np.eye(4)
        expected = np.linalg.solve(z.T @ z + penalty, z.T @ (y[:, :, 0] - y[:, :, 0].mean(axis=0)))
        np.testing.assert_allclose(A[0], expected, atol=1e-12)
        np.testing.assert_allclose(x[:, :, 0].mean(axis=0) @ A[0] + b[0], y[:, :, 0].mean(axis=0), atol=1e-12)


def test_bounds_contain_their_share_and_known_and_static_features_are_used(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["shop,region,day,promotion,sold"]
    for number, level in enumerate((10, 2000)):
        promotion = (rng.random(207) < 0.3).astype(int)
        sold = level * (1 + 0.5 * promotion + 0.05 * rng.normal(size=207))
        known = [f"{value:.4f}" if day < 200 else "" for day, value in enumerate(sold)]
        days = np.datetime64("2024-01-01") + np.arange(207)
        rows += [f"s{number},r{number},{d},{p},{v}" for d, p, v in zip(days, promotion, known, strict=True)]
    (tmp_path / "x.csv").write_text("\n".join(rows))
    selection = Selection(
        (),
        ("sold",),
        "shop",
        "day",
        window=14,
        horizon=7,
        known=("promotion",),
        static=("region",),
        interval=0.8,
    )
    table = data.read(tmp_path / "x.csv", selection)
    assert table.items[0].shape == (14, 4) and table.categories == {"region": ("r0", "r1")}
    model, _, report = forecasts.fit_forecasts(table, epochs=12, hidden_size=8, refit=False, progress=False)
    errors = {row["name"]: row["mase"] for row in report["forecasts"]}
    assert errors["model"] < 0.4 * errors["naive"]
    assert 0.6 < report["coverage"] < 0.95
    newest = windows.latest(data.read(tmp_path / "x.csv", selection, future=True))
    header, forecast = windows.forecast_rows(newest, inference.outputs(model, newest.items))
    assert header == ["shop", "from", "day", "sold", "sold_low", "sold_high"]
    assert [row[2] for row in forecast[:2]] == ["2024-07-19", "2024-07-20"]
    for shop, _, day, value, low, high in forecast:
        assert low <= value <= high
        is_promoted = (
            next(line for line in rows if line.startswith(shop) and day in line).split(",")[3] == "1"
        )
        assert (value / (10 if shop == "s0" else 2000) > 1.25) == is_promoted
