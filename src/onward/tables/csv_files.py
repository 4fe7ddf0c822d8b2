"""Read CSV files as sequences: select columns by name, group rows by sequence and order them by time."""

import array
import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

import numpy as np

from ..errors import FileError
from .layout import AnyArray, IntArray, Saved, Selection, Sequences, number_classes


@dataclass
class _Rows:
    """The cells of the selected columns, row by row, and the line that each row ends on."""

    inputs: "array.array[float]" = field(default_factory=lambda: array.array("d"))
    targets: list[list[str]] = field(default_factory=list)
    sequence: list[int] = field(default_factory=list)
    time: list[str] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)


def parse(file: IO[bytes], name: str, selection: Selection, saved: Saved, step_rank: int) -> Sequences:
    """Read one row per time step and one column per feature; see `data.read`. Raises FileError."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        lines = csv.reader(text)
        header = _header(name, next(lines, []))
        chosen = resolve(name, header, selection, saved.selection)
        rows = _collect(name, header, lines, chosen)
    finally:
        text.detach()
    if not rows.line:
        raise FileError(f"{name}: has a header but no rows")
    order = _order(name, rows, chosen)
    x = np.array(rows.inputs).reshape(-1, len(chosen.inputs))[order]
    counts = np.bincount(rows.sequence)
    x = _token_ids(name, x, chosen) if step_rank == 0 else x
    labels, classes, targets = None, saved.classes, None
    if chosen.targets:
        cells = [rows.targets[row] for row in order]
        lines_in_order = [rows.line[row] for row in order]
        labels, classes, targets = _predicted(name, chosen, saved, cells, lines_in_order, counts)
    cuts = [0, *np.cumsum(counts).tolist()]
    return Sequences(
        np.split(x, cuts[1:-1]),
        labels,
        targets,
        classes,
        names=list(rows.names) if chosen.group else None,
        times=[[rows.time[row] for row in order[start:end]] for start, end in itertools.pairwise(cuts)]
        if chosen.time
        else None,
        selection=chosen,
        origin=f"{name}: the input columns are {', '.join(chosen.inputs)}",
        single=chosen.group is None,
    )


def _header(name: str, cells: list[str]) -> list[str]:
    header = [column.strip() for column in cells]
    if not header or len(set(header)) < len(header) or all(map(_is_number, header)):
        line = ",".join(header)
        raise FileError(
            f"{name}, line 1: must name the columns, with a different name for each, but is {line!r}"
        )
    return header


def resolve(name: str, header: list[str], selection: Selection, saved: Selection) -> Selection:
    """Choose the columns to read: the selected ones, else those of the training table, else the defaults.

    The file may lack the target, group and time of the training table, but not its inputs. Raises FileError,
    which lists the file's columns.
    """
    for column in selection.named_columns:
        if column not in header:
            raise FileError(f"{name}: {_missing(column, header)}")

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
    for column in inputs:
        if column not in header:
            raise FileError(f"{name}: {_missing(column, header)}; the model was trained on that column")
    if not inputs:
        raise FileError(
            f"{name}, line 1: none of {', '.join(header)} is an input: select the inputs with --input"
        )
    return Selection(inputs, targets, group, time, window, horizon)


def _missing(column: str, header: list[str]) -> str:
    return (
        f"there is no column {column!r}; the columns are {', '.join(header)}: "
        "choose with --input (and --target, --group, --time)"
    )


def _collect(name: str, header: list[str], lines: Any, chosen: Selection) -> _Rows:
    places = {column: header.index(column) for column in chosen.named_columns}
    rows = _Rows()
    for cells in lines:
        if not cells:
            continue
        if len(cells) != len(header):
            raise FileError(
                f"{name}, line {lines.line_num}: has {len(cells)} values, but line 1 has {len(header)} "
                "columns"
            )
        for column in chosen.inputs:
            rows.inputs.append(_number(name, lines.line_num, column, cells[places[column]]))
        rows.targets.append([cells[places[column]].strip() for column in chosen.targets])
        group = cells[places[chosen.group]].strip() if chosen.group else ""
        rows.sequence.append(rows.names.setdefault(group, len(rows.names)))
        rows.line.append(lines.line_num)
        if chosen.time:
            rows.time.append(cells[places[chosen.time]].strip())
    return rows


def _number(name: str, line: int, column: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        hint = "" if cell.strip() == "" else ": select numeric columns with --input"
        raise FileError(f"{name}, line {line}, column {column!r}: {cell!r} is not a number{hint}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _order(name: str, rows: _Rows, chosen: Selection) -> IntArray:
    """The rows grouped by sequence, in time order or, without a time column, in file order."""
    sequence = np.array(rows.sequence)
    if not chosen.time:
        return np.argsort(sequence, kind="stable")
    time = np.array(list(_times(name, rows, chosen.time)))
    order = np.lexsort((time, sequence))
    repeated = np.flatnonzero((np.diff(time[order]) == 0) & (np.diff(sequence[order]) == 0))
    if len(repeated):
        row = int(order[repeated[0] + 1])
        raise FileError(
            f"{name}, line {rows.line[row]}, column {chosen.time!r}: {rows.time[row]!r} occurs twice in one "
            "sequence: name the column that identifies the sequence with --group, or omit --time"
        )
    return order


def _times(name: str, rows: _Rows, column: str) -> Iterator[float]:
    """Convert dates in ISO 8601 to seconds; return numbers unchanged."""
    if all(map(_is_number, rows.time)):
        yield from map(float, rows.time)
        return
    aware = None
    for line, cell in zip(rows.line, rows.time, strict=True):
        where = f"{name}, line {line}, column {column!r}: {cell!r}"
        try:
            date = datetime.fromisoformat(cell.replace("/", "-"))
        except ValueError:
            raise FileError(f"{where} is not a date: write it as 2024-01-31 or 2024-01-31 12:30:00") from None
        if aware not in (None, date.tzinfo is not None):
            raise FileError(f"{where}: dates with a time zone and dates without one cannot be ordered")
        aware = date.tzinfo is not None
        yield date.replace(tzinfo=date.tzinfo or UTC).timestamp()


def _token_ids(name: str, x: AnyArray, chosen: Selection) -> AnyArray:
    """The one input column as integers (T,)."""
    if len(chosen.inputs) != 1:
        raise FileError(
            f"{name}: the model takes token ids, one column, but the inputs are {', '.join(chosen.inputs)}: "
            "select the column with --input"
        )
    ids = x[:, 0]
    if not (np.isfinite(ids).all() and (ids == np.rint(ids)).all()):
        raise FileError(f"{name}, column {chosen.inputs[0]!r}: token ids must be integers")
    return ids.astype(np.int64)


def _predicted(
    name: str, chosen: Selection, saved: Saved, cells: list[list[str]], lines: list[int], counts: IntArray
) -> tuple[IntArray | None, tuple[str, ...], Any]:
    """Return labels, class names and targets; either the labels or the targets are None."""
    starts = np.cumsum(counts) - counts
    others = sorted({*range(len(cells))} - {*starts.tolist()})
    change = next((row for row in others if cells[row] != cells[row - 1]), None)  # within a sequence
    first = [cells[start][0] for start in starts]
    column = chosen.targets[0]
    numeric = all(_is_number(cell) for row in cells for cell in row)
    integers = all(cell.removeprefix("-").isdecimal() for cell in first)
    classifies = column == "label" or bool(saved.classes) or not numeric or (integers and change is None)
    regresses = bool(saved.selection.targets) and not saved.classes
    windowed = chosen.window is not None
    if classifies and not regresses and not windowed and len(chosen.targets) == 1:
        if change is not None:
            (before,), (cell,) = cells[change - 1 : change + 1]
            raise FileError(
                f"{name}, line {lines[change]}, column {column!r}: {cell!r} in a sequence of class "
                f"{before!r}: a class must be the same on every row of a sequence; name the "
                "column that identifies the sequence with --group"
            )
        return *number_classes(f"{name}, column {column!r}", first, saved.classes), None
    numbers = [
        [_number(name, line, target, cell) for target, cell in zip(chosen.targets, row, strict=True)]
        for line, row in zip(lines, cells, strict=True)
    ]
    values = np.array(numbers, np.float32)
    per_sequence = change is None and len(counts) > 1 and counts.max() > 1 and not windowed
    return None, (), values[starts] if per_sequence else np.split(values, starts[1:])
