"""Add a model's outputs to Arrow tables as a column. Needs pyarrow: pip install 'onward[parquet]'."""

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from threading import Event
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from ..core.arrays import Array, Shape
from ..errors import ArgumentError, OnwardError
from ..layers.base_model import BaseModel
from . import inference
from .layout import AnyArray, IntArray
from .rows import Rows

KEEP_HINT = "set bad rows aside with --on-error keep, or on_error='keep' in Python"


class Scorer:
    """Adds a column of outputs to a table: `scored = scorer(table)`. The rows keep their order.

    input: the column of sequences, either tensors or lists of T steps; a step is a list of numbers, or one
    number if the model takes one number per step. Alternatively, the names of several columns of numbers,
    which together form the sequence of a row. lengths: a column with the number of valid steps of each row.
    output: the name of the new column, with (O,) or (T, O) per row. on_error: "fail" raises
    ArgumentError for the first bad row; "keep" makes its output null and adds a column `<output>_error` with
    the reason. A row is bad if its sequence is missing or malformed, if the model rejects it, or if an output
    is NaN. row: a column of row numbers to use in messages; without it, rows are counted within the table.

    Scorers can be pickled. Raises ArgumentError for columns that are missing or have another type.

    >>> from onward import GRU, Last, Sequential
    >>> scorer = Scorer(Sequential(GRU(2, 4, rng=0), Last()), output="score")
    >>> scorer(pa.table({"id": [7], "x": [[[1.0, 2.0], [3.0, 4.0]]]})).column_names
    ['id', 'x', 'score']
    """

    def __init__(
        self,
        model: BaseModel | Rows,
        input: str | Sequence[str] = "x",
        lengths: str | None = None,
        output: str = "y",
        on_error: Literal["fail", "keep"] = "fail",
        row: str | None = None,
    ) -> None:
        if on_error not in ("fail", "keep"):
            raise ArgumentError(f"on_error={on_error!r}, but must be 'fail' or 'keep'")
        shape = model.step_shape
        if shape is None or len(shape) > 1 or None in shape:
            raise ArgumentError(f"{model!r} cannot score tables: a step must be a number or a row of numbers")
        self.model = model
        self.features: Shape = tuple(size for size in shape if size is not None)
        self.input = input
        self.lengths = lengths
        self.output = output
        self.on_error = on_error
        self.row = row
        example = model.example() if isinstance(model, Rows) else np.zeros((1, *self.features), np.int64)
        (self.example,) = inference.outputs_of_steps(model, [example])

    @property
    def columns(self) -> list[str]:
        """The columns that the scorer reads."""
        inputs = [self.input] if isinstance(self.input, str) else self.input
        return [*inputs, *filter(None, (self.lengths, self.row))]

    def __call__(self, table: pa.Table, cancelled: Event | None = None) -> pa.Table:
        """Return the table with the new columns. Raises ArgumentError.

        cancelled: once this event is set, the call raises CancelledError after the current batch.
        """
        self.check_columns(table.column_names)
        for name in (self.output, f"{self.output}_error"):
            if name in table.column_names:
                raise ArgumentError(
                    f"the table already has a column {name!r}: name the output differently with --output, or "
                    "output= in Python"
                )
        sequences, bad = self._sequences(table)
        outputs = self._outputs(sequences, bad, cancelled)
        if bad and self.on_error == "fail":
            row = min(bad)
            number = row if self.row is None else table[self.row][row].as_py()
            raise ArgumentError(f"row {number}, {bad[row]} ({KEEP_HINT})")
        table = table.append_column(self.output, _output_column(outputs, self.example))
        if self.on_error == "keep":
            reasons = pa.array([bad.get(row) for row in range(len(outputs))], pa.string())
            table = table.append_column(f"{self.output}_error", reasons)
        return table

    def check_columns(self, names: Sequence[str]) -> None:
        """Raise ArgumentError unless a table with these columns has all that the scorer reads."""
        for name in self.columns:
            if name not in names:
                listed = ", ".join(column for column in names if column != self.row)
                raise ArgumentError(
                    f"there is no column {name!r}; the columns are {listed}: choose with --input, or "
                    "input= in Python"
                )

    def _sequences(self, table: pa.Table) -> tuple[list[AnyArray] | AnyArray, dict[int, str]]:
        """The sequence of each row, and why each bad row is bad."""
        if isinstance(self.input, str):
            sequences, bad = _read_list_column(table[self.input], self.features, self.input)
        else:
            sequences, bad = _read_number_columns(table, self.input, self.features)
        if self.lengths is not None:
            sequences = list(sequences)
            column = table[self.lengths]
            if not kinds.is_integer(column.type):
                raise ArgumentError(f"column {self.lengths!r} has type {column.type}, but must hold integers")
            for row, length in enumerate(column.to_pylist()):
                steps = len(sequences[row])
                if row not in bad and (length is None or not 0 <= length <= steps):
                    bad[row] = f"column {self.lengths!r}: {length}, but the sequence has {steps} steps"
                sequences[row] = sequences[row][:length]
        return sequences, bad

    def _outputs(
        self, sequences: list[AnyArray] | AnyArray, bad: dict[int, str], cancelled: Event | None
    ) -> list[Array | None]:
        """The output of each good row; rows that the model rejects, or whose output is NaN, become bad."""
        outputs: list[Array | None] = [None] * len(sequences)
        good = [row for row in range(len(sequences)) if row not in bad]

        def check(rows: int) -> None:
            if cancelled is not None and cancelled.is_set():
                raise CancelledError

        try:
            chosen = [sequences[row] for row in good] if bad else sequences
            for row, y in zip(
                good, inference.outputs_of_steps(self.model, chosen, advance=check), strict=True
            ):
                outputs[row] = y
        except OnwardError:
            for row in good:  # one by one, to find the rows that the model rejects
                try:
                    (outputs[row],) = inference.outputs_of_steps(self.model, [sequences[row]])
                except OnwardError as error:
                    bad[row] = f"column {self.input!r}: {error}"
        for row in inference.rows_with_nan(outputs):
            reason = "the model's output is NaN" if len(sequences[row]) else "a sequence without a step"
            outputs[row], bad[row] = None, f"column {self.input!r}: {reason}"
        return outputs


def _read_list_column(
    column: Any, features: Shape, name: str
) -> tuple[list[AnyArray] | AnyArray, dict[int, str]]:
    """Return the lists or tensors of each row, (T, *features), and why each bad row is bad."""
    column = _one_chunk(column)
    bad: dict[int, str] = {}

    def mark(rows: Iterable[int], reason: str) -> None:
        for row in rows:
            bad.setdefault(int(row), f"column {name!r}: {reason}")

    mark(np.flatnonzero(_nulls(column)), "null")
    flat = features in ((), (1,))  # whether a row is a list of numbers rather than of steps
    values = column
    if isinstance(column, pa.ExtensionArray):  # tensors of fixed or variable shape
        values, flat = column.storage, True
        shapes = [getattr(column.type, "shape", None)] * len(column)
        if kinds.is_struct(values.type):
            by_name = dict(zip([field.name for field in values.type], values.flatten(), strict=True))
            values, shapes = by_name.get("data", values), by_name.get("shape", values).to_pylist()
        wrong = (row for row, shape in enumerate(shapes) if tuple(shape or ())[1:] != features)
        mark(wrong, f"expected an array of shape (T, {', '.join(map(str, features))})")
    if not _is_list(values.type):
        raise _wrong_type(name, column.type, features)
    bounds, values = _flatten(values)
    if _is_list(values.type) and features:
        starts, numbers = _flatten(values)
        wrong = _nulls(values) | (np.diff(starts) != features[0])
        mark(_rows_of(wrong, bounds), f"a step that is not a list of {features[0]} numbers")
        bounds, values, flat = starts[bounds], numbers, True
    if not _is_number(values.type) or not flat:
        raise _wrong_type(name, column.type, features)
    mark(_rows_of(_nulls(values), bounds), "a null among its numbers")
    numbers = _numbers(values)
    sizes = np.unique(np.diff(bounds))
    if not bad and len(sizes) == 1 and sizes[0] > 0:
        return numbers.reshape(len(column), -1, *features), bad
    empty = np.zeros((0, *features), numbers.dtype)
    sequences = [
        empty if row in bad else numbers[start:end].reshape(-1, *features)
        for row, (start, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
    ]
    return sequences, bad


def _read_number_columns(
    table: pa.Table, names: Sequence[str], features: Shape
) -> tuple[list[AnyArray], dict[int, str]]:
    """Return the numbers of each row, in several columns, as (T, *features), and why rows are bad."""
    columns: list[AnyArray] = []
    bad: dict[int, str] = {}
    for name in names:
        column = _one_chunk(table[name])
        if not _is_number(column.type) or len(names) % math.prod(features):
            raise _wrong_type(name, f"{column.type}, one of {len(names)} columns", features)
        for row in np.flatnonzero(_nulls(column)).tolist():
            bad.setdefault(row, f"column {name!r}: null")
        columns.append(_numbers(column))
    return list(np.column_stack(columns).reshape(len(table), -1, *features)), bad


def _output_column(outputs: Sequence[Array | None], example: Array) -> pa.Array:
    """Convert outputs (O,) or (T, O), or None, to lists with the type of `example`, an output."""
    per_step, width = example.ndim == 2, example.shape[-1]
    placeholder = example[:0] if per_step else np.zeros_like(example)
    filled = [placeholder if y is None else y for y in outputs]
    numbers = pa.array(np.concatenate([example.reshape(-1)[:0], *(y.reshape(-1) for y in filled)]))
    null = pa.array([y is None for y in outputs], pa.bool_())
    if not per_step:
        return pa.FixedSizeListArray.from_arrays(numbers, width, mask=null)
    offsets = pa.array(np.cumsum([0, *map(len, filled)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.FixedSizeListArray.from_arrays(numbers, width), mask=null)


def _one_chunk(column: Any) -> Any:
    """A column as one array, copied only if it has several chunks."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _flatten(array: Any) -> tuple[IntArray, Any]:
    """The offsets of the lists among the values of all lists, starting at 0, and these values."""
    if len(array) == 0:
        return np.zeros(1, np.int64), array.values[:0]
    if kinds.is_fixed_size_list(array.type):
        offsets = (array.offset + np.arange(len(array) + 1)) * array.type.list_size
    else:
        offsets = array.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], array.values.slice(offsets[0], offsets[-1] - offsets[0])


def _rows_of(wrong: AnyArray, bounds: IntArray) -> IntArray:
    """The rows that contain an invalid value."""
    return np.unique(np.searchsorted(bounds, np.flatnonzero(wrong), side="right") - 1)


def _nulls(array: Any) -> AnyArray:
    if array.null_count == 0:
        return np.zeros(len(array), bool)
    nulls: AnyArray = array.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _numbers(array: Any) -> AnyArray:
    """The values as an array, with 0 for null."""
    zero = False if kinds.is_boolean(array.type) else 0
    filled = array if array.null_count == 0 else array.fill_null(zero)
    numbers: AnyArray = filled.to_numpy(zero_copy_only=False)
    return numbers


def _is_list(kind: Any) -> bool:
    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind))


def _wrong_type(name: str, kind: object, features: Shape) -> ArgumentError:
    steps = f"lists of lists of {features[0]} numbers" if features else "lists of integers"
    return ArgumentError(f"column {name!r} has type {kind}, but the model takes {steps}, or tensors of them")
