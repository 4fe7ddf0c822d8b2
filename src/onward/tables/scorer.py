"""A model over the sequences in a column of Arrow tables; its outputs become another column.

Needs pyarrow: pip install 'onward[parquet]'.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from ..core.arrays import Array, Shape
from ..errors import ArgumentError, OnwardError
from ..layers.base import Layer
from . import scoring
from .data import AnyArray, Integers


class Scorer:
    """Gives a table a column of a model's outputs: `scored = scorer(table)`, rows in the same order.

    input: the column of sequences, lists of T steps: numbers where a step is one number, else lists of
    numbers, or tensors; or the names of several columns of numbers, the steps of which a sequence is made.
    lengths: a column of how many steps of each row count. output: the new column, (O,) or (T, O) a row.
    on_error: "fail" raises ArgumentError, which names the first bad row and its column; "keep" makes the
    output null and adds a column `<output>_error` that says why. row: a column that numbers the rows in such
    messages; without it they are counted within the table.

    It can be pickled. Raises ArgumentError for columns that are missing or of another type.
    """

    def __init__(
        self,
        model: Layer,
        input: str | Sequence[str] = "x",
        lengths: str | None = None,
        output: str = "y",
        on_error: Literal["fail", "keep"] = "fail",
        row: str | None = None,
    ) -> None:
        if on_error not in ("fail", "keep"):
            raise ArgumentError(f"on_error={on_error!r}, but must be 'fail' or 'keep'")
        if model.step_shape is None or len(model.step_shape) > 1:
            raise ArgumentError(f"{model!r} cannot score tables: its steps are no numbers, or rows of them")
        self.model = model
        self.features = model.step_shape
        self.input = input
        self.lengths = lengths
        self.output = output
        self.on_error = on_error
        self.row = row
        ((_, (self.example,)),) = scoring.outputs(model, [np.zeros((1, *self.features), np.int64)])

    def __call__(self, table: pa.Table) -> pa.Table:
        """The table with the new columns. Raises ArgumentError."""
        self._check(table)
        items, bad = self._sequences(table)
        ys = self._outputs(items, bad)
        if bad and self.on_error == "fail":
            row = min(bad)
            which = row if self.row is None else table[self.row][row].as_py()
            raise ArgumentError(f"row {which}, {bad[row]}")
        table = table.append_column(self.output, self._column(ys))
        if self.on_error == "keep":
            why = pa.array([bad.get(row) for row in range(len(ys))], pa.string())
            table = table.append_column(f"{self.output}_error", why)
        return table

    def _check(self, table: pa.Table) -> None:
        inputs = [self.input] if isinstance(self.input, str) else self.input
        for name in [*inputs, *filter(None, (self.lengths, self.row))]:
            if name not in table.column_names:
                raise ArgumentError(f"there is no column {name!r}, but {', '.join(table.column_names)}")
        for name in (self.output, f"{self.output}_error"):
            if name in table.column_names:
                raise ArgumentError(f"there is a column {name!r} already: name the output differently")

    def _sequences(self, table: pa.Table) -> tuple[list[AnyArray], dict[int, str]]:
        """The sequence of each row and, for rows that have none, why."""
        if isinstance(self.input, str):
            items, bad = _lists(table[self.input].combine_chunks(), self.features, self.input)
        else:
            items, bad = _side_by_side(table, self.input, self.features)
        if self.lengths is not None:
            column = table[self.lengths].combine_chunks()
            if not kinds.is_integer(column.type):
                raise ArgumentError(f"column {self.lengths!r} is of {column.type}, but must hold integers")
            for row, length in enumerate(column.to_pylist()):
                steps = len(items[row])
                if row not in bad and (length is None or not 0 <= length <= steps):
                    bad[row] = f"column {self.lengths!r}: {length}, but the sequence has {steps} steps"
                items[row] = items[row][:length]
        return items, bad

    def _outputs(self, items: list[AnyArray], bad: dict[int, str]) -> list[Array | None]:
        """The output of each row that is not bad. Rows that the model refuses become bad."""
        ys: list[Array | None] = [None] * len(items)
        good = [row for row in range(len(items)) if row not in bad]
        try:
            for numbers, answers in scoring.outputs(self.model, [items[row] for row in good]):
                for number, y in zip(numbers, answers, strict=True):
                    ys[good[number]] = y
        except OnwardError:
            for row in good:  # one after the other, to find out which
                try:
                    ((_, (ys[row],)),) = scoring.outputs(self.model, [items[row]])
                except OnwardError as error:
                    bad[row] = f"column {self.input!r}: {error}"
        return ys

    def _column(self, ys: Sequence[Array | None]) -> pa.Array:
        """Lists of O numbers, or lists of such lists, null where there is no output."""
        per_step, width = self.example.ndim == 2, self.example.shape[-1]
        nothing = self.example[:0] if per_step else np.zeros_like(self.example)
        filled = [nothing if y is None else y for y in ys]
        numbers = pa.array(np.concatenate([self.example.reshape(-1)[:0], *(y.reshape(-1) for y in filled)]))
        null = pa.array([y is None for y in ys], pa.bool_())
        if not per_step:
            return pa.FixedSizeListArray.from_arrays(numbers, width, mask=null)
        offsets = pa.array(np.cumsum([0, *map(len, filled)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, pa.FixedSizeListArray.from_arrays(numbers, width), mask=null)


def _side_by_side(
    table: pa.Table, names: Sequence[str], features: Shape
) -> tuple[list[AnyArray], dict[int, str]]:
    """The numbers in several columns of each row, as its sequence (T, *features); the rows with a null."""
    columns: list[AnyArray] = []
    bad: dict[int, str] = {}
    for name in names:
        column = table[name].combine_chunks()
        if not _is_number(column.type) or len(names) % math.prod(features):
            raise _unfit(name, f"{column.type}, one of {len(names)} columns", features)
        bad |= {
            int(row): f"column {name!r}: null" for row in np.flatnonzero(_nulls(column)) if row not in bad
        }
        columns.append(_numbers(column))
    return list(np.column_stack(columns).reshape(len(table), -1, *features)), bad


def _lists(column: Any, features: Shape, name: str) -> tuple[list[AnyArray], dict[int, str]]:
    """The lists in a column, or tensors, as sequences (T, *features); the rows that hold none, and why."""
    bad: dict[int, str] = {}

    def refuse(rows: Iterable[int], why: str) -> None:
        for row in rows:
            bad.setdefault(int(row), f"column {name!r}: {why}")

    refuse(np.flatnonzero(_nulls(column)), "null")
    flat = features in ((), (1,))  # whether a list in a row holds numbers, else steps
    values = column
    if isinstance(column, pa.ExtensionArray):  # tensors: of one shape, or each with its own beside it
        values, flat = column.storage, True
        shapes = [getattr(column.type, "shape", None)] * len(column)
        if kinds.is_struct(values.type):
            by_name = dict(zip([field.name for field in values.type], values.flatten(), strict=True))
            values, shapes = by_name.get("data", values), by_name.get("shape", values).to_pylist()
        wrong = (row for row, shape in enumerate(shapes) if tuple(shape or ())[1:] != features)
        refuse(wrong, f"an array of another shape than (T, {', '.join(map(str, features))})")
    if not _is_list(values.type):
        raise _unfit(name, column.type, features)
    bounds, values = _inside(values)
    if _is_list(values.type) and features:
        starts, numbers = _inside(values)
        wrong = _nulls(values) | (np.diff(starts) != features[0])
        refuse(_rows(wrong, bounds), f"a step that is no list of {features[0]} numbers")
        bounds, values, flat = starts[bounds], numbers, True
    if not _is_number(values.type) or not flat:
        raise _unfit(name, column.type, features)
    refuse(_rows(_nulls(values), bounds), "a null among its numbers")
    numbers = _numbers(values)
    nothing = np.zeros((0, *features), numbers.dtype)
    return [
        nothing if row in bad else numbers[bounds[row] : bounds[row + 1]].reshape(-1, *features)
        for row in range(len(column))
    ], bad


def _inside(array: Any) -> tuple[Integers, Any]:
    """Where each list begins, and the last ends, among the values inside; and those."""
    if len(array) == 0:
        return np.zeros(1, np.int64), array.values[:0]
    if kinds.is_fixed_size_list(array.type):
        offsets = (array.offset + np.arange(len(array) + 1)) * array.type.list_size
    else:
        offsets = array.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], array.values.slice(offsets[0], offsets[-1] - offsets[0])


def _rows(wrong: AnyArray, bounds: Integers) -> Integers:
    """The rows, which begin and end at bounds, that have something wrong inside."""
    return np.unique(np.searchsorted(bounds, np.flatnonzero(wrong), side="right") - 1)


def _nulls(array: Any) -> AnyArray:
    if array.null_count == 0:
        return np.zeros(len(array), bool)
    nulls: AnyArray = array.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _numbers(array: Any) -> AnyArray:
    """Numbers as an array, 0 where there is null."""
    filled = array if array.null_count == 0 else array.fill_null(0)
    numbers: AnyArray = filled.to_numpy(zero_copy_only=False)
    return numbers


def _is_list(kind: Any) -> bool:
    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind))


def _unfit(name: str, kind: object, features: Shape) -> ArgumentError:
    steps = f"lists of lists of {features[0]} numbers" if features else "lists of integers"
    return ArgumentError(f"column {name!r} is of {kind}, but the model takes {steps}, or tensors of them")
