"""Time stamps: the step between them, missing steps, and the names of the steps that follow."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from support.in_one_test import in_one_test
from support.randomized import random_cases

from onward.errors import ArgumentError, FileError
from onward.tables import data, times
from onward.tables.columns import Columns
from onward.tables.data import Selection, Sequences
from onward.tables.times import Step


def months(count: int, day: int = 1) -> list[str]:
    return [str(date(2023 + n // 12, n % 12 + 1, day)) for n in range(count)]


def month_ends(count: int) -> list[str]:
    return [str(date.fromisoformat(first) - timedelta(1)) for first in months(count + 1)[1:]]


WEEKDAYS = [str(day) for n in range(30) if (day := date(2024, 1, 1) + timedelta(n)).weekday() < 5]


def read(tmp_path: Path, cells: list[str], **options: str | int) -> Sequences:
    rows = "".join(f"{cell},{n}\n" for n, cell in enumerate(cells))
    (tmp_path / "x.csv").write_text("t,a\n" + rows)
    selection = Selection(("a",), ("a",), time="t", window=2, **options)  # type: ignore[arg-type]
    found = data.read(tmp_path / "x.csv", selection).series
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("cells", "step", "following"),
    [
        (["1", "3", "5", "7"], "2", ["9", "11"]),
        (["0.5", "0.75", "1"], "0.25", ["1.25", "1.5"]),
        (["2024-02-27", "2024-02-28", "2024-02-29"], "1d", ["2024-03-01", "2024-03-02"]),
        (
            ["2024-01-01 23:00", "2024-01-01 23:15", "2024-01-01 23:30"],
            "15min",
            ["2024-01-01 23:45", "2024-01-02 00:00"],
        ),
        (["2024-01-01T00:00Z", "2024-01-01T06:00Z", "2024-01-01T12:00Z"], "6h", ["2024-01-01T18:00Z"]),
        (["2024-01-01", "2024-01-08", "2024-01-15"], "1w", ["2024-01-22"]),
        (months(14), "1M", ["2024-03-01", "2024-04-01"]),
        (months(14, 15), "1M", ["2024-03-15"]),
        (month_ends(14), "1M", ["2024-03-31", "2024-04-30"]),
        (months(14)[::3], "3M", ["2024-04-01"]),
        (["2020-01-01", "2021-01-01", "2022-01-01"], "12M", ["2023-01-01"]),
        (WEEKDAYS, "1b", ["2024-01-31", "2024-02-01", "2024-02-02", "2024-02-05"]),
    ],
)
def test_the_step_is_inferred_and_continued(
    tmp_path: Path, cells: list[str], step: str, following: list[str]
) -> None:
    found = read(tmp_path, cells)
    assert found.selection.every == step
    assert len(found.items[0]) == len(cells)  # no step is missing
    assert [times.after(cells[-1], Step.parse(step), n + 1) for n in range(len(following))] == following


@pytest.mark.parametrize("zone", ["", "Z", "+00:00", "-03:30", "+0200", "-0330", "+02"])
@pytest.mark.parametrize("clock", ["T%H", " %H", "T%H:%M", " %H:%M", "T%H:%M:%S", " %H:%M:%S"])
def test_steps_that_follow_have_the_form_of_the_file(clock: str, zone: str) -> None:
    """Forecasts of 2024-02-28T23 were for 2024-02-29T00:00:00, which joins with no row of such a file."""
    start = datetime(2024, 2, 28, 22)
    cells = [(start + timedelta(hours=n)).strftime(f"%Y-%m-%d{clock}") + zone for n in range(30)]
    assert [times.after(cells[0], Step(1, "h"), n) for n in range(30)] == cells
    assert times.parse_date(times.after(cells[0], Step(90, "s"), 1)) == times.parse_date(
        cells[0]
    ) + timedelta(seconds=90)


@in_one_test("seed", range(random_cases(60)))
def test_days_of_a_zone_with_summer_time_have_a_step(tmp_path: Path, seed: int) -> None:
    """Days of 23 and 25 hours had no step in common, so that no gap among them was found."""
    rng = np.random.default_rng(seed)
    clock, unit = timedelta(minutes=int(rng.integers(0, 1440))), str(rng.choice(["d", "b", "w", "M", "h"]))
    summer = [datetime(2023, 3, 26, 2), datetime(2023, 10, 29, 3)]

    def stamp(local: datetime, is_late: bool) -> str:
        is_summer = summer[0] <= local < summer[1] and not is_late
        return f"{local.isoformat(' ')}+0{2 if is_summer else 1}:00"

    if unit == "h":  # each a time of the summer, then of the winter
        instants = [datetime(2023, 10, 28, 20) + timedelta(hours=n) for n in range(30)]
        is_late = [n >= 29 - 24 for n, _ in enumerate(instants)]
        every = [
            stamp(t + timedelta(hours=1 if late else 2), late)
            for t, late in zip(instants, is_late, strict=True)
        ]
    elif unit == "M":
        every = [stamp(datetime(2022 + n // 12, n % 12 + 1, 1) + clock, False) for n in range(30)]
    else:
        days = [datetime(2023, 3, 13) + timedelta(n * (7 if unit == "w" else 1)) + clock for n in range(250)]
        every = [stamp(day, False) for day in days if unit != "b" or day.weekday() < 5]
    first = int(rng.integers(0, max(1, len(every) - 60)))
    every = every[first : first + 60]
    kept = np.sort(
        np.r_[0, 1, 2, len(every) - 1, rng.choice(np.arange(3, len(every) - 1), len(every) * 3 // 4, False)]
    )
    found = read(tmp_path, [every[n] for n in kept], missing="fill")
    assert found.selection.every == f"1{unit}"
    assert len(found.items[0]) == len(every)
    last = np.searchsorted(kept, np.arange(len(every)), side="right") - 1
    np.testing.assert_array_equal(found.items[0][:, 0], last)


@in_one_test("seed", range(random_cases(60)))
def test_numbers_of_any_size_keep_all_digits(tmp_path: Path, seed: int) -> None:
    """Nanoseconds since 1970 were 256 apart, and a step of a million was saved as 1e+06."""
    rng = np.random.default_rng(seed)
    step = Decimal(int(rng.integers(1, 10**7))).scaleb(int(rng.integers(-7, 4)))
    first = Decimal(int(rng.integers(-(10**18), 10**18))).scaleb(int(rng.integers(-9, 1)))
    every = [f"{first + n * step:f}" for n in range(20)]
    kept = {0, 19, *rng.choice(20, 15, replace=False).tolist()}
    found = read(tmp_path, [every[n] for n in sorted(kept)], missing="fill")
    assert found.times is not None and found.selection.every is not None
    assert Decimal(found.selection.every) == step
    assert list(map(Decimal, found.times[0])) == list(map(Decimal, every))
    assert Decimal(times.after(every[-1], Step.parse(found.selection.every), 3)) == first + 22 * step


@pytest.mark.parametrize("wrong", ["", "nan", "NA", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("other", ["{}", "2024-01-0{}"])
def test_a_missing_or_infinite_time_is_refused(tmp_path: Path, wrong: str, other: str) -> None:
    """Rows from a time of nan on stayed in the order of the file."""
    cells = [wrong if n == 4 else other.format(n) for n in (3, 4, 1, 2)]
    with pytest.raises(FileError, match=f"line 3, column 't': '{wrong}' is (no time|infinite|not a date)"):
        read(tmp_path, cells)


def test_times_without_a_common_step_are_rows(tmp_path: Path) -> None:
    found = read(tmp_path, ["2024-01-01", "2024-01-02", "2024-01-02 05:17", "2024-03-09"])
    assert found.selection.every is None and len(found.items[0]) == 4


@pytest.mark.parametrize("seed", range(20))
def test_missing_steps_are_inserted_at_their_times(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    length = [3600, 86400, 900][seed % 3]
    every = [str(datetime(2024, 1, 1) + timedelta(seconds=length * n)) for n in range(40)]
    kept = np.sort(np.r_[0, 39, rng.choice(np.arange(1, 39), 30, replace=False)])
    found = read(tmp_path, [every[n] for n in kept], missing="fill")
    assert found.times is not None
    assert [str(datetime.fromisoformat(time)) for time in found.times[0]] == every
    last = np.searchsorted(kept, np.arange(40), side="right") - 1
    np.testing.assert_array_equal(found.items[0][:, 0], last)
    assert isinstance(found.targets, list)
    np.testing.assert_array_equal(np.isnan(found.targets[0][:, 0]), ~np.isin(np.arange(40), kept))
    skipped = data.read(tmp_path / "x.csv", Selection(("a",), ("a",), time="t", window=2, missing="skip"))
    assert skipped.ends is not None
    whole = [end for end in range(2, 40) if {end - 2, end - 1, end} <= set(kept.tolist())]
    assert skipped.ends[:, 1].tolist() == whole


def test_a_gap_of_a_billion_steps_takes_no_memory(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="with a step of 1s, most of the steps are missing"):
        read(tmp_path, ["1970-01-01", "1970-01-02", "2024-01-01"], every="1s", missing="fill")


def test_a_gap_that_nothing_is_said_about_is_an_error_with_its_place(tmp_path: Path) -> None:
    cells = ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-05", "2024-01-06"]
    with pytest.raises(
        FileError, match="line 5, column 't': before '2024-01-05', 1 step is missing, with a step of 1d"
    ):
        read(tmp_path, cells)
    with pytest.raises(
        FileError, match="'2024-01-02' is not a whole number of steps of 2d after '2024-01-01'"
    ):
        read(tmp_path, cells, every="2d")
    with pytest.raises(ArgumentError, match="every='1 fortnight' is not a time step"):
        read(tmp_path, cells, every="1 fortnight")
    with pytest.raises(FileError, match="--every is 1, but the times in 't' are dates, which need a unit"):
        read(tmp_path, cells, every="1")
    with pytest.raises(FileError, match="--every is 1d, but the times in 't' are numbers, without a unit"):
        read(tmp_path, ["1", "2", "3"], every="1d")


@pytest.mark.parametrize(
    ("text", "step"), [("1h", "1h"), ("hour", "1h"), ("15 minutes", "15min"), ("M", "1M"), ("0.5", "0.5")]
)
def test_steps_are_written_in_several_ways(text: str, step: str) -> None:
    assert str(Step.parse(text)) == step


def test_dates_with_the_day_first(tmp_path: Path) -> None:
    cells = ["1.2.2024", "31.1.2024", "02/02/2024"]
    found = read(tmp_path, cells, day_first=True)
    assert [list(each) for each in found.times or []] == [["2024-01-31", "2024-02-01", "2024-02-02"]]
    with pytest.raises(FileError, match=r"'31.1.2024' is not a date: .*--day-first"):
        read(tmp_path, cells[1:])


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M:%S"])
def test_dates_read_at_once_are_those_read_one_by_one(form: str) -> None:
    rng = np.random.default_rng(0)
    dates = [datetime(1, 1, 1) + timedelta(seconds=int(s)) for s in rng.integers(0, 3 * 10**11, 200)]
    cells = [each.strftime(form).rjust(len(datetime(2000, 1, 1).strftime(form)), "0") for each in dates]
    columns = Columns("x.csv", ["t"], {"t": cells}, ".", str)
    found = times.read(columns, "t", day_first=False)
    alone = [times.parse_date(cell).replace(tzinfo=UTC).timestamp() for cell in cells]
    assert found.times[:, 0].tolist() == alone and found.are_dates
    assert [found[row] for row in range(len(cells))] == cells


@pytest.mark.parametrize("wrong", ["2024-02-30", "2024-1-001", "0000-01-01", "2024-01_01", "2024-13-01"])
def test_what_is_no_date_is_refused_among_dates(wrong: str) -> None:
    columns = Columns("x.csv", ["t"], {"t": ["2024-01-31", wrong]}, ".", lambda row: f"line {row + 2}")
    with pytest.raises(FileError, match=f"line 3, column 't': '{wrong}' is not a date"):
        times.read(columns, "t", day_first=False)
