"""Add a model's outputs to Arrow tables as a column. Needs pyarrow: pip install 'onward[parquet]'."""

from collections.abc import Sequence
from concurrent.futures import CancelledError
from threading import Event
from typing import Literal

import numpy as np
import pyarrow as pa

from ..core.arrays import Array
from ..errors import ArgumentError, OnwardError
from ..layers.base import Layer
from . import inference
from .arrow_columns import output_column, read_lengths, read_list_column, read_number_columns
from .layout import AnyArray

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
            raise ArgumentError(f"{model!r} cannot score tables: a step must be a number or a row of numbers")
        self.model = model
        self.features = model.step_shape
        self.input = input
        self.lengths = lengths
        self.output = output
        self.on_error = on_error
        self.row = row
        (self.example,) = inference.outputs(model, [np.zeros((1, *self.features), np.int64)])

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
        table = table.append_column(self.output, output_column(outputs, self.example))
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
            sequences, bad = read_list_column(table[self.input], self.features, self.input)
        else:
            sequences, bad = read_number_columns(table, self.input, self.features)
        if self.lengths is not None:
            sequences = list(sequences)
            for row, length in enumerate(read_lengths(table[self.lengths], self.lengths)):
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
            for row, y in zip(good, inference.outputs(self.model, chosen, advance=check), strict=True):
                outputs[row] = y
        except OnwardError:
            for row in good:  # one by one, to find the rows that the model rejects
                try:
                    (outputs[row],) = inference.outputs(self.model, [sequences[row]])
                except OnwardError as error:
                    bad[row] = f"column {self.input!r}: {error}"
        for row in inference.rows_with_nan(outputs):
            outputs[row], bad[row] = None, f"column {self.input!r}: the model's output is NaN"
        return outputs
