"""Time stamps: read them, find their step, count missing steps and name the steps that follow."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, FileError
from .columns import Columns, is_missing
from .layout import IntArray

DAY_FIRST = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})(.*)")
DAY = 86400
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
MONTHS = {"M": 1, "y": 12}
CALENDAR = {"d", "w", "b", *MONTHS}  # units that a clock of the time zone counts: a day may have 23 hours
UNITS = {
    "seconds": "s",
    "minutes": "min",
    "hours": "h",
    "days": "d",
    "weeks": "w",
    "months": "M",
    "years": "y",
}
EVERY = re.compile(r"(\d*\.?\d+)?\s*(\w*)")
LARGEST_MONTH = 31
MOST_MISSING = 0.5  # of all steps: with more, the rows do not have a common step
CLOSE = 1e-6
MICROSECONDS = 6  # digits after the point of seconds
MOST_DECIMALS = 15


@dataclass(frozen=True)
class Step:
    """The time from one step to the next: `count` times a unit, which is "" for plain numbers."""

    count: float
    unit: str = ""

    @staticmethod
    def parse(text: str) -> Step:
        """Read "1h", "15min", "1d", "1M" (a month) or a number.

        >>> Step.parse("15min"), str(Step.parse("M"))
        (Step(count=15.0, unit='min'), '1M')
        """
        match = EVERY.fullmatch(text.strip())
        count, unit = (float(match[1] or 1), match[2]) if match else (0.0, "")
        unit = UNITS.get(unit if unit.endswith("s") else f"{unit}s", unit)
        if (
            count <= 0
            or unit not in {"", "b", *SECONDS, *MONTHS}
            or (unit not in SECONDS and unit and count % 1)
        ):
            raise ArgumentError(
                f"every={text!r} is not a time step: expected a number or, for dates, a number and a unit, "
                f"such as 15min: {', '.join([*SECONDS, *MONTHS])}, or b for days from Monday to Friday"
            )
        return Step(count, unit)

    def __str__(self) -> str:
        return f"{_plain(Decimal(repr(self.count)))}{self.unit}"

    def positions(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how many steps each time is after the first one; not whole for times between two steps.

        times: (T, 2), as in `Cells`.
        """
        values = times[:, int(self.unit in CALENDAR)]
        if self.unit in MONTHS:
            months = np.array([_months(value) for value in values.tolist()])
            return np.asarray((months - months[0]) / (self.count * MONTHS[self.unit]))
        if self.unit == "b":
            return np.asarray(np.busday_count(_days(values[:1]), _days(values)) / self.count)
        return np.asarray((values - values[0]) / (self.count * SECONDS.get(self.unit, 1)))


def _plain(number: Decimal) -> str:
    """Write a number without an exponent, which `Step.parse` would not read."""
    return f"{number.normalize():f}"


def _weekdays(values: NDArray[np.float64]) -> IntArray:
    """Return the weekday of each time, 0 for Monday."""
    return (np.floor(values / DAY).astype(np.int64) + 3) % 7


def _days(values: NDArray[np.float64]) -> NDArray[np.datetime64]:
    return np.floor(values / DAY).astype("datetime64[D]")


def _months(value: float) -> float:
    """Return the months since year 0 of a time, with the last day of each month as one day."""
    time = datetime.fromtimestamp(value, UTC)
    is_last = (time + timedelta(days=1)).month != time.month
    day = LARGEST_MONTH - 1 if is_last else time.day - 1
    return 12 * time.year + time.month - 1 + (day + (value % 86400) / 86400) / LARGEST_MONTH


def after(last: str, step: Step, count: int) -> str:
    """Name the time `count` steps after another one, in the same form.

    >>> after("2024-01-31", Step(1, "M"), 1), after("2024-01-01 23:00", Step(1, "h"), 2)
    ('2024-02-29', '2024-01-02 01:00')
    """
    if not step.unit:
        return _plain(Decimal(last) + count * Decimal(repr(step.count)))
    time = parse_date(last)
    if step.unit in MONTHS:
        is_last = (time + timedelta(days=1)).month != time.month
        months = 12 * time.year + time.month - 1 + count * int(step.count) * MONTHS[step.unit]
        first = time.replace(year=months // 12, month=months % 12 + 1, day=1)
        following = (first.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        time = following if is_last else first.replace(day=min(time.day, following.day))
    elif step.unit == "b":
        start = np.datetime64(time.date(), "D")
        moved = np.busday_offset(start, int(count * step.count), roll="forward") - start
        time += timedelta(days=int(moved.astype(np.int64)))
    else:
        time += timedelta(seconds=count * step.count * SECONDS[step.unit])
    is_date = len(last.strip()) <= len("2024-01-31") and not (time.hour or time.minute or time.second)
    if is_date:
        return time.date().isoformat()
    clock = re.split("[Z+-]", last.strip()[len("2024-01-31T") :])[0]
    needed = 2 if time.second or time.microsecond else 1 if time.minute else 0
    precision = ("hours", "minutes", "auto")[max(needed, clock.count(":"))]
    found = time.isoformat("T" if "T" in last else " ", precision)
    if time.tzinfo and (offset := re.search(r"[+-]\d\d(\d\d)?$", last.strip())):  # as pyarrow writes it
        found = found[:-6] + found[-6:].replace(":", "")[: len(offset[0])]
    return found.replace("+00:00", "Z") if last.strip().endswith("Z") else found


def parse_date(cell: str, day_first: bool = False) -> datetime:
    """Read a date in ISO 8601 or, with `day_first`, as 31.1.2024 or 31/1/2024. Raises ValueError."""
    match = DAY_FIRST.fullmatch(cell) if day_first else None
    if match:
        cell = f"{match[3]}-{match[2]:>02}-{match[1]:>02}{match[4]}"
    return datetime.fromisoformat(cell.replace("/", "-"))


@dataclass(frozen=True)
class Cells:
    """A column of times, and `text`, which returns the cell of a row, dates in ISO 8601.

    times: (N, 2), the seconds of dates since 1970, in UTC and by the clock of their time zone; or numbers,
    twice, from the first one on, so that large ones keep all digits. decimals: how many digits after the
    point the times have; None for more than float64 holds.
    """

    times: NDArray[np.float64]
    text: Callable[[int], str]
    are_dates: bool
    decimals: int | None = MICROSECONDS

    def __getitem__(self, row: int) -> str:
        return self.text(row)


@dataclass(frozen=True)
class StepNames(Sequence[str]):
    """The times of the steps of a sequence as texts: the cells of its rows, -1 for a step without a row."""

    cells: Cells
    rows: IntArray
    step: Step | None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: Any) -> Any:
        row = int(self.rows[number])
        if row >= 0:
            return self.cells[row]
        assert self.step is not None
        return after(self[0], self.step, number)


def read(columns: Columns, column: str, day_first: bool) -> Cells:
    """Return a column of numbers or dates. Raises FileError, which names the line."""
    fixed = None if day_first else columns.of_one_length(column)
    found = None if fixed is None else _iso_seconds(fixed)
    if fixed is not None and found is not None:
        return Cells(_twice(found), lambda row: str(fixed[row].decode()), True)
    codes, cells = columns.codes(column)
    names = list(cells)

    def place(number: int) -> str:
        row = int(np.flatnonzero(codes == number)[0])
        return f"{columns.place(row, column)}: {cells[number]!r}"

    if (numbers := _from_the_first(cells)) is not None:
        found, decimals = numbers
        for number in np.flatnonzero(~np.isfinite(found)).tolist():
            what = "no time: write it" if is_missing(cells[number]) else "infinite: correct it"
            raise FileError(f"{place(number)} is {what}, or remove the row")
        return Cells(_twice(found[codes]), lambda row: names[codes[row]], False, decimals)
    for number in filter(lambda number: is_missing(cells[number]), range(len(cells))):
        raise FileError(f"{place(number)} is no time: write it, or remove the row")
    values = np.zeros((len(cells), 2))
    first: datetime | None = None
    for number, cell in enumerate(cells):
        try:
            date = parse_date(cell, day_first)
        except ValueError:
            hint = "31.01.2024" if day_first else "2024-01-31 or 2024-01-31 12:30:00, or pass --day-first"
            raise FileError(f"{place(number)} is not a date: write it as {hint}") from None
        first = first or date
        if (first.tzinfo is None) != (date.tzinfo is None):
            raise FileError(
                f"{place(number)}: dates with a time zone and dates without one cannot be ordered"
            )
        values[number] = [date.replace(tzinfo=zone).timestamp() for zone in (date.tzinfo or UTC, UTC)]
        if day_first:
            is_date = len(cell) <= len("31.01.2024")
            names[number] = date.date().isoformat() if is_date else date.isoformat(" ")
    return Cells(values[codes], lambda row: names[codes[row]], True)


def _from_the_first(cells: Sequence[str]) -> tuple[NDArray[np.float64], int | None] | None:
    """Return numbers from the first one on, and their decimals as in `Cells`; None if one is no number."""
    try:
        exact: list[Any] = list(map(int, cells))
    except ValueError:
        try:
            exact = list(map(Decimal, cells))
        except InvalidOperation:
            return None
    if not all(map(math.isfinite, exact)):
        return np.array(list(map(float, exact))), None
    found = np.array([float(each - exact[0]) for each in exact])
    decimals = max((-int(each.as_tuple().exponent) for each in exact if isinstance(each, Decimal)), default=0)
    return found, max(0, decimals) if decimals <= MOST_DECIMALS else None


def _twice(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([values, values], axis=1)


def _iso_seconds(cells: NDArray[np.bytes_]) -> NDArray[np.float64] | None:
    """Return the seconds since 1970 of dates in one form of ISO 8601 without a time zone; None for others."""
    length = cells.itemsize
    if length not in (10, 16, 19):
        return None
    characters = cells.view(np.uint8).reshape(-1, length)
    is_sign = np.isin(np.arange(length), (4, 7, 10, 13, 16))
    signs, is_digit = characters[:, is_sign], characters - np.uint8(ord("0")) <= 9
    form = signs[0].tobytes()  # the same in all cells, whose other characters are digits
    if not (b"--T::".startswith(form) or b"-- ::".startswith(form)) or (signs != signs[0]).any():
        return None
    if np.count_nonzero(is_digit) != is_digit.size - signs.size:
        return None
    try:
        dates = cells.astype("datetime64[s]")
    except ValueError:  # such as the 31st of February
        return None
    return dates.astype(np.float64) if dates.min() >= np.datetime64("0001") else None


def infer_step(series: Sequence[NDArray[np.float64]], are_dates: bool, decimals: int | None) -> Step | None:
    """Return the step of series of increasing times (T, 2); None if they have none in common.

    It is the most frequent difference, or a number of months, if most times are whole steps apart.
    """
    differences = np.concatenate([np.diff(times, axis=0) for times in series] or [np.zeros((0, 2))])
    if decimals is not None:  # without the rounding of the subtraction
        differences = differences.round(decimals)
    if not len(differences):
        return None
    usual, by_clock = map(_most_frequent, differences.T)
    candidates = [_step(usual)] if are_dates else [Step(usual)]
    if are_dates and by_clock >= DAY:
        candidates.insert(0, _step(by_clock))
    if (
        are_dates
        and by_clock == DAY < differences[:, 1].max()
        and all(np.isin(_weekdays(times[:, 1]), range(5)).all() for times in series)
    ):
        candidates.insert(0, Step(1, "b"))
    if are_dates and by_clock >= 28 * DAY:
        candidates = [Step(months, "M") for months in (12, 6, 3, 1)] + candidates
    for step in candidates:
        gaps = [np.diff(step.positions(each)) for each in series if len(each) > 1]
        every = np.concatenate(gaps)
        whole = np.abs(every - np.rint(every)).max() < CLOSE and every.min() > 1 - CLOSE
        if whole and every.sum() * (1 - MOST_MISSING) <= len(every):
            return step
    return None


def _most_frequent(values: NDArray[np.float64]) -> float:
    different, counts = np.unique(values, return_counts=True)
    return float(different[counts.argmax()])


def _step(length: float) -> Step:
    """Return a number of seconds as a step in the largest unit that divides it.

    >>> str(_step(7200)), str(_step(90))
    ('2h', '90s')
    """
    unit = next(unit for unit in ("w", "d", "h", "min", "s") if length % SECONDS[unit] == 0 or unit == "s")
    return Step(length / SECONDS[unit], unit)


def whole_positions(step: Step, times: NDArray[np.float64]) -> IntArray | None:
    """Return the positions of increasing times (T, 2), or None if some are not whole steps apart."""
    positions = step.positions(times)
    rounded = np.rint(positions)
    if np.abs(positions - rounded).max() > CLOSE * max(1.0, float(rounded[-1])):
        return None
    return rounded.astype(np.int64)
