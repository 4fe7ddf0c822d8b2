"""Windows of long sequences and the targets that follow them."""

from pathlib import Path

import numpy as np
import pytest
from support.in_one_test import in_one_test
from support.random_tables import series as random_series
from support.randomized import random_cases

from onward.errors import ArgumentError
from onward.tables import data, windows
from onward.tables.data import Saved, Selection, Sequences

FORECAST = Selection(("a", "y"), ("y",), window=3, horizon=2)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = "".join(f"2024-01-{day:02},{day},{day * day}\n" for day in range(8, 0, -1))  # backwards
    (tmp_path / "x.csv").write_text("day,a,y\n" + rows)
    return tmp_path / "x.csv"


def test_every_window_has_the_targets_of_the_steps_that_follow(table: Path) -> None:
    selection = Selection(("a", "y"), ("y",), time="day", window=3, horizon=2)
    sequences = data.read(table, selection)
    assert len(sequences.items) == 4
    assert isinstance(sequences.targets, np.ndarray)
    for start, (item, target) in enumerate(zip(sequences.items, sequences.targets, strict=True), 1):
        np.testing.assert_array_equal(item, [[day, day * day] for day in range(start, start + 3)])
        assert target.tolist() == [(start + 3) ** 2, (start + 4) ** 2]
    assert list(map(sequences.name, range(4))) == [f"2024-01-0{day}" for day in (3, 4, 5, 6)]


def test_windows_whose_future_is_unknown_are_read_on_request(table: Path) -> None:
    selection = Selection(("a",), ("y",), time="day", window=3, horizon=2)
    targets = data.read(table, selection, future=True).targets
    assert isinstance(targets, np.ndarray)
    np.testing.assert_array_equal(targets[-3:], [[49, 64], [64, np.nan], [np.nan, np.nan]])


def test_without_input_the_target_is_an_input_too(table: Path) -> None:
    sequences = data.read(table, Selection((), ("y",), time="day", window=3))
    assert sequences.selection.inputs == ("a", "y")


def test_windows_do_not_cross_sequences(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(
        "shop,a,y\n" + "".join(f"{'pq'[n >= 4]},{n},{n / 2}\n" for n in range(4 + 6))
    )
    sequences = data.read(tmp_path / "x.csv", Selection(("a",), ("y",), "shop", window=3))
    starts = [int(item[0, 0]) for item in sequences.items]
    assert starts == [0, 4, 5, 6]
    assert list(map(sequences.name, range(4))) == ["p:2", "q:2", "q:3", "q:4"]


def test_the_window_that_a_model_was_trained_with_is_used(table: Path) -> None:
    sequences = data.read(table, saved=Saved(FORECAST))
    assert sequences.items[0].shape == (3, 2) and sequences.selection.horizon == 2


def test_arrays_are_cut_into_windows(tmp_path: Path) -> None:
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10.0)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    sequences = data.read(tmp_path / "x.npz", Selection(window=4, horizon=3))
    assert isinstance(sequences.targets, np.ndarray)
    np.testing.assert_array_equal(sequences.targets, [[4 + k, 5 + k, 6 + k] for k in range(4)])


@pytest.mark.parametrize(
    ("text", "selection", "words"),
    [
        ("a,y\n1,2\n3,4\n", FORECAST, "longest sequence has 2 steps, but --window 3 and --horizon 2 need 5"),
        ("a,y\n1,p\n3,p\n", FORECAST, "column 'y': 'p' is not a number"),
        ("a,y\n1,2\n3,4\n", Selection(horizon=2), "--horizon needs --window"),
    ],
)
def test_tables_that_cannot_be_cut_are_errors(
    tmp_path: Path, text: str, selection: Selection, words: str
) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises((ArgumentError, OSError), match=words):
        data.read(tmp_path / "x.csv", selection)


@pytest.mark.parametrize("missing", [None, "skip"])
@pytest.mark.parametrize("future", [False, True])
def test_windows_cut_at_once_are_those_of_a_loop(missing: str | None, future: bool) -> None:
    rng = np.random.default_rng(1)
    for window, horizon in rng.integers(1, 6, (20, 2)).tolist():
        items = [rng.normal(size=(length, 2)) for length in rng.integers(1, 30, 3)]
        targets = [rng.normal(size=(len(item), 3)) for item in items]
        for values in (*items, *targets):
            values[rng.random(values.shape) < 0.05] = np.nan
        table = Sequences(items, targets=targets, names=["a", "b", "c"], selection=Selection(missing=missing))
        expected = []
        for row, item in enumerate(items):
            for end in range(window, len(item) + 1):
                following = np.full((horizon, 3), np.nan)
                known = targets[row][end : end + horizon]
                following[: len(known)] = known
                incomplete = missing == "skip" and np.isnan(item[end - window : end]).any()
                if not incomplete and (future or not np.isnan(following).any()):
                    name = f"{'abc'[row]}:{end - 1}"
                    expected.append((name, [row, end], item[end - window : end], following.reshape(-1)))
        if not expected:
            continue
        found = windows.cut(table, window, horizon, future)
        assert found.ends is not None and isinstance(found.targets, np.ndarray)
        names, ends, inputs, following_targets = zip(*expected, strict=True)
        assert [found.name(row) for row in range(len(names))] == list(names)
        assert found.ends.tolist() == list(ends)
        np.testing.assert_array_equal(found.targets, following_targets)
        for one, other in zip(found.items, inputs, strict=True):
            np.testing.assert_array_equal(one, other)


def series_of(rng: np.random.Generator, lengths: list[int], horizon: int) -> Sequences:
    """Return windows of three steps of random series, whose target is the first of two inputs."""
    items = [rng.normal(size=(length, 2)) for length in lengths]
    table = Sequences(items, targets=[item[:, :1] for item in items], names=[f"s{n}" for n in range(9)])
    return windows.cut(table, 3, horizon, future=False)


@pytest.mark.parametrize("seed", range(10))
def test_the_end_of_each_series_is_held_out_by_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    horizon = int(rng.integers(1, 5))
    lengths = rng.integers(3 + 2 * horizon, 60, 4).tolist()
    table = series_of(rng, lengths, horizon)
    training, selection, reported = windows.hold_out(table, 0.2)
    assert table.ends is not None
    for number, length in enumerate(lengths):
        of_series = [mask & (table.ends[:, 0] == number) for mask in (training, selection, reported)]
        targets = [
            {end + ahead for end in table.ends[mask, 1].tolist() for ahead in range(horizon)}
            for mask in of_series
        ]
        held = max(horizon, round(0.2 * length))
        assert max(targets[0]) == length - held - 1  # nothing between the parts is lost
        assert max(targets[2]) == length - 1
        assert max(targets[0]) < min(targets[1])
        if held >= 2 * horizon:
            assert max(targets[1]) < min(targets[2])
        assert targets[1] | targets[2] <= set(range(length - held, length))


def test_a_series_that_is_too_short_to_be_divided_is_trained_on() -> None:
    table = series_of(np.random.default_rng(0), [5, 40, 2], 2)
    training, selection, reported = windows.hold_out(table, 0.2)
    assert table.ends is not None
    short = table.ends[:, 0] == 0
    assert training[short].all() and not (selection | reported)[short].any()
    assert windows.left_out(table) == (["s2 (2)"], 3)
    with pytest.raises(
        ArgumentError, match="the longest series has 6 steps, but holding out its end needs 7"
    ):
        windows.hold_out(series_of(np.random.default_rng(0), [6], 2), 0.2)


@pytest.mark.parametrize("season", [1, 2, 3, 5])
def test_naive_forecasts_repeat_the_last_season(season: int) -> None:
    table = series_of(np.random.default_rng(0), [9, 7], 4)
    assert table.ends is not None and table.series is not None
    for forecast, (number, end) in zip(windows.naive(table, season), table.ends, strict=True):
        known = table.series.items[number][:end, 0].tolist()
        for value in forecast:
            known.append(known[-season] if end >= season else known[-1])
            assert value == known[-1]


def test_errors_are_those_of_the_textbook_and_a_model_that_loses_is_told() -> None:
    rng = np.random.default_rng(0)
    table = series_of(rng, [30, 20], 2)
    y = table.targets
    assert isinstance(y, np.ndarray) and table.ends is not None and table.series is not None
    forecasts = {"model": y + rng.normal(size=y.shape), "naive": y + 0.1}
    report = windows.compare(table, forecasts, 1)
    model, naive = report["forecasts"]
    error = forecasts["model"] - y
    assert naive["mae"] == pytest.approx(0.1) and naive["rmse"] == pytest.approx(0.1)
    assert model["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    parts = [table.ends[:, 0] == n for n in range(2)]
    spread = sum(((y[part] - y[part].mean()) ** 2).sum() for part in parts)
    assert model["r2"] == pytest.approx(1 - (error**2).sum() / spread)
    changes = [np.abs(np.diff(item[:3, 0])).mean() for item in table.series.items]
    mases = [np.abs(error[part]).mean() / change for part, change in zip(parts, changes, strict=True)]
    assert model["mase"] == pytest.approx(np.mean(mases))
    assert report["verdict"].startswith("The model loses to the naive forecast (MASE ")
    forecasts["model"] = np.where(parts[0][:, None], y, y + 0.11)
    assert (
        "loses to a naive forecast for 1 of 2 series: s1" in windows.compare(table, forecasts, 1)["verdict"]
    )


def test_a_model_is_not_said_to_lose_by_less_than_the_message_shows() -> None:
    """It lost with "MASE 1.02 against 1.02"."""
    table = series_of(np.random.default_rng(0), [30], 2)
    y = table.targets
    assert isinstance(y, np.ndarray)
    for factor, loses in ((1.0001, False), (1.1, True)):
        report = windows.compare(table, {"model": y + factor, "naive": y + 1}, 1)
        assert report["verdict"].startswith("The model loses to the naive forecast (MASE") == loses


def test_a_model_that_equals_a_naive_forecast_does_not_lose_to_it() -> None:
    table = series_of(np.random.default_rng(0), [30, 20], 2)
    y = table.targets
    assert isinstance(y, np.ndarray) and table.ends is not None
    naive = np.where(table.ends[:, :1] == 0, y, y + 1)
    report = windows.compare(table, {"model": y, "naive": naive}, 1)
    assert report["verdict"] == "The model is at least as good as the naive forecast for each of 2 series."
    constant = windows.cut(Sequences([np.ones((9, 1))], targets=[np.ones((9, 1))]), 3, 2, future=False)
    assert isinstance(constant.targets, np.ndarray)
    report = windows.compare(constant, dict.fromkeys(("model", "naive"), constant.targets), 1)
    assert report["verdict"] == "The model is at least as good as the naive forecast."


@pytest.mark.parametrize("season", [1, 3])
def test_steps_without_a_target_before_the_first_one_are_its_mean(season: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 1))
    values[[0, 1, 20]] = np.nan
    table = windows.cut(Sequences([np.nan_to_num(values)], targets=[values]), 3, 2, future=False)
    assert table.ends is not None and 1 <= windows.find_season(table) <= 3
    known = [values[n, 0] for n in range(40)]
    for n in range(40):
        if np.isnan(known[n]):
            known[n] = known[n - 1] if n > 1 else np.nanmean(values)
    for forecast, (_, end) in zip(windows.naive(table, season), table.ends, strict=True):
        repeated = known[end - season : end] if end >= season else known[end - 1 : end]
        np.testing.assert_allclose(forecast, (repeated * 2)[:2])
    changes = [abs(values[n, 0] - values[n - season, 0]) for n in range(season, int(table.ends[0, 1]))]
    if np.isnan(changes).all():  # the whole series, where too little precedes the first target
        changes = [abs(values[n, 0] - values[n - season, 0]) for n in range(season, 40)]
    np.testing.assert_allclose(windows.scales(table, season), np.nanmean(changes))


def test_the_season_is_the_shortest_that_repeats_the_series() -> None:
    t = np.arange(200)
    item = np.sin(2 * np.pi * t / 12)[:, None] + 0.01 * np.random.default_rng(0).normal(size=(200, 1))
    table = windows.cut(Sequences([item], targets=[item], single=True), 40, 3, future=False)
    assert windows.find_season(table) == 12
    assert windows.find_season(series_of(np.random.default_rng(0), [5] * 9, 1)) <= 3


@pytest.mark.parametrize("seed", range(10))
def test_a_trend_does_not_change_the_season(seed: int) -> None:
    rng = np.random.default_rng(seed)
    season, horizon, t = int(rng.integers(4, 25)), int(rng.integers(1, 30)), np.arange(400)
    items = []
    for size in 10 ** rng.uniform(-2, 4, 3):  # series of other levels, amplitudes and trends
        line, noise = rng.normal() * 10 ** rng.uniform(-2, 0) * t, 0.05 * rng.normal(size=400)
        items.append(size * (5 + line + np.sin(2 * np.pi * t / season + rng.uniform(0, 6)) + noise)[:, None])
    items.append(np.full((400, 1), 5000.1))
    table = windows.cut(Sequences(items, targets=items), 2 * season + 1, horizon, future=False)
    assert windows.find_season(table) == season


def test_neighbors_of_a_smooth_season_are_not_the_season() -> None:
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        season, t = int(rng.integers(24, 61)), np.arange(600)
        items = []
        for size in 10 ** rng.uniform(-2, 4, 3):
            wave = np.sin(2 * np.pi * t / season + rng.uniform(0, 6))
            items.append(size * (5 + wave + rng.uniform(0.1, 0.3) * rng.normal(size=600))[:, None])
        table = windows.cut(Sequences(items, targets=items), season + 5, season, future=False)
        found.append(windows.find_season(table) == season)
    assert sum(found) >= 18  # noise may decide between two neighbors


def test_a_single_change_does_not_scale_the_errors_of_a_whole_table() -> None:
    values = np.random.default_rng(0).normal(size=(200, 1))
    table = windows.cut(Sequences([values], targets=[values]), 25, 2, future=False)  # one step and a season
    changes = np.abs(values[24:] - values[:-24]).mean()
    np.testing.assert_allclose(windows.scales(table, 24), changes)


@pytest.mark.parametrize("slope", [0, 0.3])
def test_a_straight_line_has_no_season(slope: float) -> None:
    line = 5000.1 + slope * np.arange(60)[:, None]
    assert windows.find_season(windows.cut(Sequences([line], targets=[line]), 9, 3, future=False)) == 1


@in_one_test("seed", range(random_cases(100)))
def test_random_windows_are_those_of_a_plain_loop(seed: int, tmp_path: Path) -> None:
    text, selection, expected = random_series(np.random.default_rng(seed))
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8")
    if not expected:
        with pytest.raises(ArgumentError, match=r"the longest sequence has|has a missing value"):
            data.read(path, selection)
        return
    found = data.read(path, selection)
    assert found.series is not None and found.series.names is not None and found.ends is not None
    ends = [(found.series.names[number], end) for number, end in found.ends.tolist()]
    assert sorted(ends) == sorted(expected)
    for end, item, targets in zip(ends, found.items, np.asarray(found.targets), strict=True):
        np.testing.assert_allclose(item, expected[end][0], rtol=1e-6)
        np.testing.assert_allclose(targets.ravel(), expected[end][1], rtol=1e-6)


def test_the_error_says_if_missing_values_leave_no_window(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("x,y\n" + "\n".join(f"{'' if t % 2 else t},{t}" for t in range(9)))
    with pytest.raises(ArgumentError, match=r"every window of 3 steps, .* has a missing value"):
        data.read(tmp_path / "x.csv", Selection(("x",), ("y",), window=3, missing="skip"))


def test_a_series_shorter_than_the_horizon_may_come_before_others(tmp_path: Path) -> None:
    rows = ["a,0,1,2,3", *(f"b,{t},{t},{t},{t}" for t in range(9))]
    (tmp_path / "x.csv").write_text("name,day,x,known,y\n" + "\n".join(rows))
    selection = Selection(("x",), ("y",), "name", "day", window=3, horizon=3, known=("known",))
    assert len(data.read(tmp_path / "x.csv", selection).items) == 4
