"""Read CSV files as sequences: select columns by name, group rows by sequence and order them by time."""

import array
import csv
import io
import itertools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import IO, Any

import numpy as np

from ..errors import FileError
from .layout import AnyArray, IntArray, Saved, Selection, Sequences, number_classes


def parse(file: IO[bytes], name: str, selection: Selection, saved: Saved, step_rank: int) -> Sequences:
    """Read one row per time step and one column per feature; see `data.read`. Raises FileError."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        table = _Table(name, csv.reader(text), selection, saved.selection)
    finally:
        text.detach()
    chosen = table.chosen
    groups = table.cells[chosen.group] if chosen.group else [""] * len(table.lines)
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    sequence = np.array([numbers[group] for group in groups])
    order = table.order(sequence)
    x = np.array(table.inputs).reshape(len(order), -1)[order]
    starts = np.flatnonzero(np.diff(sequence[order], prepend=-1))
    labels, classes, targets = (
        table.targets(order, starts, saved) if chosen.targets else (None, saved.classes, None)
    )
    times = None
    if chosen.time:
        in_order = [table.cells[chosen.time][row] for row in order]
        times = [in_order[start:end] for start, end in itertools.pairwise([*starts, len(order)])]
    return Sequences(
        np.split(table.token_ids(x) if step_rank == 0 else x, starts[1:]),
        labels,
        targets,
        classes,
        names=list(numbers) if chosen.group else None,
        times=times,
        selection=chosen,
        origin=f"{name}: the input columns are {', '.join(chosen.inputs)}",
        single=chosen.group is None,
    )


def resolve(name: str, header: list[str], selection: Selection, saved: Selection) -> Selection:
    """Choose the columns to read: the selected ones, else those of the training table, else the defaults.

    The file may lack the target, group and time of the training table, but not its inputs. Raises FileError,
    which lists the file's columns.
    """

    def present(columns: Iterable[str | None]) -> tuple[str, ...]:
        return tuple(column for column in columns if column in header)

    group = selection.group or next(iter(present((saved.group, "sequence"))), None)
    time = selection.time or next(iter(present((saved.time,))), None)
    defaults = [column for column in header if column == "label" or column.startswith("target")]
    targets = selection.targets or present(saved.targets)
    if not saved.inputs:
        targets = targets or (("label",) if "label" in defaults else tuple(defaults))
    window, horizon = selection.window or saved.window, selection.horizon or saved.horizon
    # a forecast also uses past values of its target
    others = {group, time, *(set(defaults) - set(targets) if window else (*targets, *defaults))}
    inputs = selection.inputs or saved.inputs or tuple(c for c in header if c not in others)
    for column in (*selection.named_columns, *inputs):
        if column not in header:
            trained = "" if column in selection.named_columns else "; the model was trained on that column"
            raise FileError(
                f"{name}: there is no column {column!r}; the columns are {', '.join(header)}: "
                f"choose with --input (and --target, --group, --time){trained}"
            )
    if not inputs:
        raise FileError(
            f"{name}, line 1: none of {', '.join(header)} is an input: select the inputs with --input"
        )
    return Selection(inputs, targets, group, time, window, horizon)


class _Table:
    """The cells of the selected columns by name, and the line that each row ends on."""

    def __init__(self, name: str, reader: Any, selection: Selection, saved: Selection) -> None:
        header = [column.strip() for column in next(reader, [])]
        if not header or len(set(header)) < len(header) or all(map(_is_number, header)):
            raise FileError(
                f"{name}, line 1: must name the columns, with a different name for each, but is "
                f"{','.join(header)!r}"
            )
        self.name, self.chosen = name, resolve(name, header, selection, saved)
        self.inputs, self.lines = array.array("d"), list[int]()
        places = {column: header.index(column) for column in self.chosen.named_columns}
        self.cells: dict[str, list[str]] = {column: [] for column in self.chosen.other_columns}
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise FileError(
                    f"{name}, line {reader.line_num}: has {len(cells)} values, but line 1 has {len(header)} "
                    "columns"
                )
            for column in self.chosen.inputs:
                self.inputs.append(self._number(reader.line_num, column, cells[places[column]]))
            for column, own in self.cells.items():
                own.append(cells[places[column]].strip())
            self.lines.append(reader.line_num)
        if not self.lines:
            raise FileError(f"{name}: has a header but no rows")

    def _place(self, line: int, column: str | None) -> str:
        return f"{self.name}, line {line}, column {column!r}"

    def _number(self, line: int, column: str, cell: str) -> float:
        try:
            return float(cell)
        except ValueError:
            hint = "" if cell.strip() == "" else ": select numeric columns with --input"
            raise FileError(f"{self._place(line, column)}: {cell!r} is not a number{hint}") from None

    def order(self, sequence: IntArray) -> IntArray:
        """Group the rows by sequence, in time order or, without a time column, in file order."""
        if not self.chosen.time:
            return np.argsort(sequence, kind="stable")
        cells = self.cells[self.chosen.time]
        time = np.array(
            [float(cell) for cell in cells] if all(map(_is_number, cells)) else self._seconds(cells)
        )
        order = np.lexsort((time, sequence))
        repeated = np.flatnonzero((np.diff(time[order]) == 0) & (np.diff(sequence[order]) == 0))
        if len(repeated):
            row = int(order[repeated[0] + 1])
            raise FileError(
                f"{self._place(self.lines[row], self.chosen.time)}: {cells[row]!r} occurs twice in one "
                "sequence: name the column that identifies the sequence with --group, or omit --time"
            )
        return order

    def _seconds(self, cells: Sequence[str]) -> list[float]:
        """Convert dates in ISO 8601 to seconds."""
        dates: list[datetime] = []
        for line, cell in zip(self.lines, cells, strict=True):
            where = f"{self._place(line, self.chosen.time)}: {cell!r}"
            try:
                date = datetime.fromisoformat(cell.replace("/", "-"))
            except ValueError:
                raise FileError(
                    f"{where} is not a date: write it as 2024-01-31 or 2024-01-31 12:30:00"
                ) from None
            if dates and (dates[0].tzinfo is None) != (date.tzinfo is None):
                raise FileError(f"{where}: dates with a time zone and dates without one cannot be ordered")
            dates.append(date)
        return [date.replace(tzinfo=date.tzinfo or UTC).timestamp() for date in dates]

    def token_ids(self, x: AnyArray) -> AnyArray:
        """Return the one input column as integers (T,)."""
        columns = self.chosen.inputs
        if len(columns) != 1:
            raise FileError(
                f"{self.name}: the model takes token ids, one column, but the inputs are "
                f"{', '.join(columns)}: select the column with --input"
            )
        ids = x[:, 0]
        if not (np.isfinite(ids).all() and (ids == np.rint(ids)).all()):
            raise FileError(f"{self.name}, column {columns[0]!r}: token ids must be integers")
        return ids.astype(np.int64)

    def targets(
        self, order: IntArray, starts: IntArray, saved: Saved
    ) -> tuple[IntArray | None, tuple[str, ...], Any]:
        """Return labels, class names and targets; either the labels or the targets are None."""
        chosen, column = self.chosen, self.chosen.targets[0]
        cells = [[self.cells[target][row] for target in chosen.targets] for row in order]
        lines = [self.lines[row] for row in order]
        later = np.delete(np.arange(len(order)), starts)
        change = next((row for row in later if cells[row] != cells[row - 1]), None)  # within a sequence
        first = [cells[start][0] for start in starts]
        numeric = all(_is_number(cell) for row in cells for cell in row)
        integers = all(cell.removeprefix("-").isdecimal() for cell in first)
        classifies = column == "label" or bool(saved.classes) or not numeric or (integers and change is None)
        regresses = bool(saved.selection.targets) and not saved.classes
        windowed = chosen.window is not None
        if classifies and not regresses and not windowed and len(chosen.targets) == 1:
            if change is not None:
                (before,), (cell,) = cells[change - 1 : change + 1]
                raise FileError(
                    f"{self._place(lines[change], column)}: {cell!r} in a sequence of class "
                    f"{before!r}: a class must be the same on every row of a sequence; name the "
                    "column that identifies the sequence with --group"
                )
            return *number_classes(f"{self.name}, column {column!r}", first, saved.classes), None
        numbers = [
            [self._number(line, target, cell) for target, cell in zip(chosen.targets, row, strict=True)]
            for line, row in zip(lines, cells, strict=True)
        ]
        values = np.array(numbers, np.float32)
        if change is None and 1 < len(starts) < len(order) and not windowed:  # the same at every step
            return None, (), values[starts]
        return None, (), np.split(values, starts[1:])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
