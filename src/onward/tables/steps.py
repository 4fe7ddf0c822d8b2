"""Make sequences of the columns of a table: group rows, order them by time, fill gaps, find targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import FileError
from . import times, windows
from .columns import Columns
from .layout import AnyArray, IntArray, Saved, Selection, Sequences, number_classes

MOST_NUMBERS, LARGEST_RATIO = 20_000_000, 100  # with missing steps: in all inputs, or steps for each row
LARGEST = 1e30  # number to train on, whose products float32 holds
LARGEST_ID = 2**53  # up to which float64 holds every integer
GAP = "fill them with --missing fill, or leave out the windows that contain them with --missing skip"
EMPTY = "fill such values with --missing fill, mark them with mask, or leave out these steps with skip"


def sequences(
    columns: Columns, chosen: Selection, saved: Saved, step_rank: int, suffix: str, finite: bool
) -> Sequences:
    """Return a sequence for each group, or the whole table as one; see `data.read`. Raises FileError."""
    if columns.lists:
        return _sequences_of_rows(columns, chosen, saved, suffix)
    table = _Table(columns, chosen, finite)
    table.expand()
    categories: dict[str, tuple[str, ...]] = {}
    x = table.numbers(chosen.inputs)
    if step_rank == 0:
        x = _token_ids(table, x)
    else:
        x = table.without_missing(x)
        x = table.with_static(x, categories := _categories(table, saved))
        x = table.with_known(x)
    found = Sequences(
        table.split(x),
        classes=saved.classes,
        categories=categories,
        names=table.groups if chosen.group else None,
        times=table.times(),
        selection=replace(chosen, every=None if table.step is None else str(table.step)),
        origin=f"{columns.name}: the input columns are {', '.join(chosen.inputs)}",
        suffix=suffix,
        single=chosen.group is None,
    )
    return _completed(found, table, saved)


def _completed(found: Sequences, table: _Table, saved: Saved) -> Sequences:
    """Add the weights and the targets."""
    column = table.chosen.weight
    if column is not None:
        weights = table.columns.numbers(column)[table.first_rows]
        for row in table.first_rows[np.isnan(weights)].tolist():
            raise FileError(f"{table.columns.place(row, column)}: the weight is missing")
        found = replace(found, weights=weights)
    return _Targets(table, saved).add(found) if table.chosen.targets else found


def _categories(table: _Table, saved: Saved) -> dict[str, tuple[str, ...]]:
    """The categories of the static columns of text: those of the training, or those of the first rows."""
    found = {}
    for column in table.chosen.static:
        if not table.columns.are_numbers(column):
            codes, names = table.columns.codes(column)
            present = {names[code] for code in codes[table.first_rows].tolist()}
            found[column] = saved.categories.get(column, tuple(sorted(present - {""})))
    return found


def _sequences_of_rows(columns: Columns, chosen: Selection, saved: Saved, suffix: str) -> Sequences:
    """Return the sequence in each row of a column of lists."""
    (column, items), *others = columns.lists.items()
    if others or chosen.inputs != (column,):
        raise FileError(
            f"{columns.name}: a sequence for each row is in one column of lists, but the inputs are "
            f"{', '.join(chosen.inputs)}: select it with --input"
        )
    table = _Table(columns, replace(chosen, group=None, time=None))
    table.starts = table.first_rows = table.target_rows = np.arange(len(items))
    names = columns.texts(chosen.group) if chosen.group else None
    origin = f"{columns.name}: the input column is {column}"
    found = Sequences(
        items, classes=saved.classes, names=names, selection=chosen, origin=origin, suffix=suffix
    )
    return _completed(found, table, saved)


def _token_ids(table: _Table, x: AnyArray) -> AnyArray:
    """Return the one input column as integers (T,)."""
    name, inputs = table.columns.name, table.chosen.inputs
    if len(inputs) != 1:
        raise FileError(
            f"{name}: the model takes token ids, one column, but the inputs are "
            f"{', '.join(inputs)}: select the column with --input"
        )
    if table.chosen.missing == "mask":
        raise FileError(f"{name}: token ids cannot be marked: leave out missing ones with --missing skip")
    ids = table.without_missing(x)[:, 0]
    if not (ids == np.rint(ids)).all() or np.abs(ids).max(initial=0) > LARGEST_ID:
        raise FileError(f"{name}, column {inputs[0]!r}: token ids must be integers of at most {LARGEST_ID:,}")
    return ids.astype(np.int64)


class _Table:
    """The order of the rows: by sequence, then by time, with -1 for each step that has no row."""

    def __init__(self, columns: Columns, chosen: Selection, finite: bool = False) -> None:
        self.columns, self.chosen, self.finite = columns, chosen, finite
        self.sequence, self.groups = np.zeros(len(columns), np.int64), [""]
        if chosen.group:
            self.sequence, self.groups = columns.codes(chosen.group)
        self.step: times.Step | None = None
        self.cells: times.Cells | None = None
        self.order = np.argsort(self.sequence, kind="stable")
        if chosen.time:
            self.cells = times.read(columns, chosen.time, chosen.day_first)
            self.time = self.cells.times[:, 0]
            change = np.diff(self.sequence)
            if ((change < 0) | ((change == 0) & (np.diff(self.time) <= 0))).any():
                self.order = np.lexsort((self.time, self.sequence))
                self._refuse_repeated(chosen.time)
        self.starts = np.concatenate([[0], np.flatnonzero(np.diff(self.sequence[self.order])) + 1])
        self.first_rows = self.order[self.starts]
        self.target_rows = self.first_rows.copy()  # the first of the remaining steps, if there is one

    def _refuse_repeated(self, column: str) -> None:
        assert self.cells is not None
        in_order, sequence = self.time[self.order], self.sequence[self.order]
        repeated = np.flatnonzero((np.diff(in_order) == 0) & (np.diff(sequence) == 0))
        if len(repeated):
            row = int(self.order[repeated[0] + 1])
            group = repr(self.groups[sequence[repeated[0]]]) if self.chosen.group else "one sequence"
            raise FileError(
                f"{self.columns.place(row, column)}: {self.cells[row]!r} occurs twice in {group}: "
                f"{self.or_group('keep one of the rows')}"
            )

    def or_group(self, advice: str) -> str:
        """Return advice about rows that do not fit into one sequence, for an error message."""
        other = ", or name the column that tells the sequences apart with --group"
        return advice + ("" if self.chosen.group else other)

    def split(self, values: AnyArray) -> list[AnyArray]:
        """Return the part of each sequence of values in order."""
        return np.split(values, self.starts[1:])

    def in_order(self, values: AnyArray, absent: Any) -> AnyArray:
        """Return values of the rows (rows, ...) for each step, `absent` where there is no row."""
        order = self.order
        if len(values) == len(order) and (order[:1] == 0).all() and (order[1:] > order[:-1]).all():
            return values
        found = values[order]
        found[order < 0] = absent
        return found

    def numbers(self, names: Sequence[str]) -> AnyArray:
        """Return columns for each step, NaN for missing values. Raises FileError, which names the line."""
        values = self.in_order(self.columns.matrix(names), np.nan)
        if self.finite and (too_large := np.abs(values) > LARGEST).any():
            step, place = np.argwhere(too_large)[0]
            found = f"{self.value_at(step, names[place])} is {values[step, place]:g}"
            raise FileError(
                f"{found}: correct it, remove the row, or choose a unit with numbers of at most {LARGEST:g}"
            )
        return values

    def value_at(self, step: int, column: str) -> str:
        """Name a value by its line, column and sequence."""
        name = f" of {self.groups[self.sequence[self.order[step]]]!r}" if self.chosen.group else ""
        return f"{self.columns.place(int(self.order[step]), column)}: the value{name}"

    def expand(self) -> None:
        """Find the time between two steps, and insert the missing steps. Raises FileError."""
        chosen = self.chosen
        if chosen.time is None or not (chosen.every or chosen.window):
            return
        assert self.cells is not None
        rows = np.split(self.order, self.starts[1:])
        series = [self.cells.times[each] for each in rows]
        self.step = times.Step.parse(chosen.every) if chosen.every else None
        if self.step is not None and bool(self.step.unit) != self.cells.are_dates:
            kind = (
                "dates, which need a unit, such as 1h" if self.cells.are_dates else "numbers, without a unit"
            )
            raise FileError(
                f"{self.columns.name}: --every is {self.step}, but the times in {chosen.time!r} are {kind}"
            )
        if self.step is None:
            self.step = times.infer_step(series, self.cells.are_dates, self.cells.decimals)
        if self.step is None:
            return
        expanded, room = [], max(MOST_NUMBERS // len(chosen.inputs), LARGEST_RATIO * len(self.order))
        for number, (each, values) in enumerate(zip(rows, series, strict=True)):
            positions = times.whole_positions(self.step, values)
            self._check(number, each, values, positions)
            assert positions is not None
            room -= int(positions[-1]) + 1
            if room < 0:
                raise FileError(
                    f"{self.columns.name}: with a step of {self.step}, most of the steps are missing, "
                    f"{-room:,} more than can be filled: choose a longer one with --every"
                )
            full = np.full(int(positions[-1]) + 1, -1)
            full[positions] = each
            expanded.append(full)
        self.order = np.concatenate(expanded)
        self.starts = np.cumsum([0, *map(len, expanded[:-1])])

    def _check(self, number: int, rows: IntArray, values: AnyArray, positions: IntArray | None) -> None:
        """Raise FileError for times between two steps, and for gaps unless an option treats them."""
        assert self.cells is not None and self.chosen.time is not None and self.step is not None
        name = f" in {self.groups[number]!r}" if self.chosen.group else ""
        if positions is None or (np.diff(positions) == 0).any():
            exact = self.step.positions(values)
            gaps = np.diff(np.rint(exact), prepend=-1)
            wrong = int(np.flatnonzero((np.abs(exact - np.rint(exact)) > times.CLOSE) | (gaps == 0))[0])
            row = int(rows[wrong])
            raise FileError(
                f"{self.columns.place(row, self.chosen.time)}: {self.cells[row]!r}{name} is not a whole "
                f"number of steps of {self.step} after {self.cells[int(rows[0])]!r}: choose it with --every"
            )
        gaps = np.flatnonzero(np.diff(positions) > 1)
        if len(gaps) and self.chosen.missing in (None, "error"):
            first, row = int(gaps[0]), int(rows[gaps[0] + 1])
            lost = int(positions[first + 1] - positions[first]) - 1
            raise FileError(
                f"{self.columns.place(row, self.chosen.time)}: before {self.cells[row]!r}{name}, "
                f"{lost} step{'s are' if lost > 1 else ' is'} missing, with a step of {self.step}: {GAP}; "
                "--every gives another step"
            )

    def times(self) -> list[Sequence[str]] | None:
        """Return the time of each step of each sequence; None without a time column."""
        if self.cells is None:
            return None
        return [times.StepNames(self.cells, rows, self.step) for rows in self.split(self.order)]

    def without_missing(self, x: AnyArray) -> AnyArray:
        """Treat missing inputs as the selection says. Raises FileError, which names the line."""
        absent: AnyArray = np.isnan(x)
        if self.chosen.known:  # after the last target, only the known features are present
            absent &= ~self.after_targets()[:, None]
        if self.chosen.missing == "mask":
            return np.concatenate([self.filled(x), absent], axis=1)
        if self.chosen.missing == "skip" and self.chosen.window is None:
            incomplete: AnyArray = np.any(absent, axis=1)
            self.drop(incomplete)
            return x[~incomplete]
        return self.complete(x, absent, self.chosen.inputs)

    def complete(self, x: AnyArray, absent: AnyArray, columns: Sequence[str]) -> AnyArray:
        """Return x filled, or as it is if windows are to be skipped. Raises FileError."""
        if not absent.any() or self.chosen.missing in ("keep", "skip"):
            return x
        if self.chosen.missing in ("fill", "mask"):
            return self.filled(x)
        step, place = np.argwhere(absent)[0]
        raise FileError(f"{self.value_at(step, columns[place])} is missing: {EMPTY}")

    def with_static(self, x: AnyArray, categories: dict[str, tuple[str, ...]]) -> AnyArray:
        """Append the static features on the first row of a series: a number, or 0 and 1 per category."""
        parts = [x]
        lengths = np.diff([*self.starts, len(self.order)])
        for column in self.chosen.static:
            first = self.first_rows
            if column in categories:
                known, (codes, names) = categories[column], self.columns.codes(column)
                values = np.array([[name == each for each in known] for name in names], float)
                values[[not name for name in names]] = np.nan
                values = values[codes]
                if len(new := first[~values[first].any(axis=1)]):
                    place, name = self.columns.place(int(new[0]), column), str(names[codes[new[0]]])
                    raise FileError(f"{place}: {name!r} was not in the training, but {', '.join(known)} were")
            else:
                values = self.columns.numbers(column)[:, None]
            for row in first[np.isnan(values[first]).any(axis=1)].tolist():
                missing = "a static feature is missing: write it on the first row of each series"
                raise FileError(f"{self.columns.place(row, column)}: {missing}")
            parts.append(np.repeat(values[first], lengths, axis=0))
        return np.concatenate(parts, axis=1) if len(parts) > 1 else x

    def with_known(self, x: AnyArray) -> AnyArray:
        """Append the known features, each a horizon early, and drop the steps after the last target.

        A model that reads a window thereby reads the known features of the steps that it forecasts.
        """
        chosen = self.chosen
        if not chosen.known:
            return x
        horizon = chosen.horizon or 1
        if chosen.window is None or chosen.window < horizon:
            raise FileError(f"{self.columns.name}: --known needs a --window of at least the --horizon")
        known = self.numbers(chosen.known)
        known = self.complete(known, np.isnan(known), chosen.known)
        early = np.full_like(known, np.nan)
        for start, end in pairwise([*self.starts.tolist(), len(x)]):
            early[start : max(start, end - horizon)] = known[start + horizon : end]
        later = self.after_targets()
        self.drop(later)
        return np.concatenate([x, early], axis=1)[~later]

    def after_targets(self) -> AnyArray:
        """Whether each step comes after the last target of its series."""
        targets = self.numbers(self.chosen.targets)
        absent: AnyArray = np.all(np.isnan(targets), axis=1)
        later = np.zeros(len(absent), bool)
        for start, end in pairwise([*self.starts.tolist(), len(absent)]):
            present = np.flatnonzero(~absent[start:end])
            later[start + (int(present[-1]) + 1 if len(present) else 0) : end] = True
        return later

    def drop(self, steps: AnyArray) -> None:
        """Remove steps; a sequence keeps its place if it has none left."""
        before = np.concatenate([[0], np.cumsum(~steps)])
        self.order, self.starts = self.order[~steps], before[self.starts]
        remains = np.diff([*self.starts, len(self.order)]) > 0
        self.target_rows[remains] = self.order[self.starts[remains]]

    def filled(self, x: AnyArray) -> AnyArray:
        """Return x with the last value of the sequence for NaN, or its mean before the first value."""
        whole = np.nan_to_num(windows.mean(x))
        return np.concatenate([windows.filled(part, whole) for part in self.split(x)])


@dataclass(frozen=True)
class _Targets:
    """The target columns as classes or numbers, for each sequence or each step."""

    table: _Table
    saved: Saved

    def add(self, found: Sequences) -> Sequences:
        """Return sequences with labels or targets. Raises FileError."""
        table, chosen = self.table, self.table.chosen
        task = chosen.task or self._guess()
        if task == "regress":
            return self._with_numbers(found)
        if len(chosen.targets) > 1:
            raise FileError(
                f"{table.columns.name}: classes are in one column, but the targets are "
                f"{', '.join(chosen.targets)}: select one with --target, or pass --task regress"
            )
        if chosen.window is not None:
            raise FileError(f"{table.columns.name}: --window forecasts numbers: pass --task regress")
        cells = table.in_order(texts := np.array(table.columns.texts(chosen.targets[0]), object), "")
        name = f"{table.columns.name}, column {chosen.targets[0]!r}"
        if task == "label-steps":
            numbers, classes = number_classes(name, cells.tolist(), self.saved.classes)
            return replace(found, step_labels=table.split(numbers), classes=classes)
        change = self._change([cells])
        if change is not None:
            place = table.columns.place(int(table.order[change]), chosen.targets[0])
            raise FileError(
                f"{place}: {cells[change]!r} in a sequence of class {cells[change - 1]!r}: a class must be "
                f"the same on every row of a sequence; {table.or_group('pass --task label-steps')}"
            )
        labels, classes = number_classes(name, texts[table.target_rows].tolist(), self.saved.classes)
        return replace(found, labels=labels, classes=classes)

    def _change(self, columns: Sequence[AnyArray]) -> int | None:
        """The first step in order whose targets differ from the step before in the same sequence.

        Missing numbers count as equal.
        """
        differs = np.zeros(len(self.table.order), bool)
        for cells in columns:
            absent = cells != cells
            differs[1:] |= (cells[1:] != cells[:-1]) & ~(absent[1:] & absent[:-1])
        differs[self.table.starts[self.table.starts < len(differs)]] = False
        found = np.flatnonzero(differs)
        return int(found[0]) if len(found) else None

    def _guess(self) -> str:
        """The task of the model, or by the cells: text and integers constant in a sequence are classes."""
        chosen, saved, columns = self.table.chosen, self.saved, self.table.columns
        if chosen.window is not None or (saved.selection.targets and not saved.classes):
            return "regress"
        is_text = len(chosen.targets) == 1 and not columns.are_numbers(chosen.targets[0])
        if chosen.targets[0] == "label" or saved.classes or is_text:
            return "classify"
        numbers = self.table.numbers(chosen.targets)
        first = columns.matrix(chosen.targets)[self.table.target_rows]
        known = ~(np.isnan(first).any(axis=1) & self.table.finite)  # a class is missing from a training alone
        if (
            not known.any()
            or (first != np.rint(first))[known].any()
            or self._change(list(numbers.T)) is not None
        ):
            return "regress"  # before their text is compared, which takes seconds for a million rows
        texts = columns.texts(chosen.targets[0])
        rows = self.table.target_rows[known].tolist()
        integers = all(texts[row].removeprefix("-").isdecimal() for row in rows)
        return "classify" if integers and len(chosen.targets) == 1 else "regress"

    def _with_numbers(self, found: Sequences) -> Sequences:
        table, chosen, columns = self.table, self.table.chosen, self.table.columns
        values = table.numbers(chosen.targets).astype(np.float32)
        if not self.saved.selection.inputs and chosen.missing in (None, "error") and np.isnan(values).any():
            step, place = np.argwhere(np.isnan(values))[0]
            where = table.value_at(step, chosen.targets[place])
            raise FileError(f"{where} is missing: pass --missing skip to leave it out")
        # the targets of a trained model take the form of its outputs, whatever few sequences have in common
        may_be_constant = chosen.group and not chosen.window and not self.saved.selection.inputs
        if columns.lists or (may_be_constant and self._change(list(values.T)) is None):
            return replace(
                found, targets=columns.matrix(chosen.targets)[table.target_rows].astype(np.float32)
            )
        return replace(found, targets=table.split(values))
