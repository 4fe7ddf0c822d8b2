"""Read columns of Arrow tables as sequences, and convert outputs to a column. Needs pyarrow."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from ..core.arrays import Array, Shape
from ..errors import ArgumentError
from .layout import AnyArray, IntArray


def read_list_column(
    column: Any, features: Shape, name: str
) -> tuple[list[AnyArray] | AnyArray, dict[int, str]]:
    """Read the lists or tensors in a column as sequences (T, *features), and state why each bad row is bad.

    If all good rows have the same length, they form an array (N, T, *features). Raises ArgumentError for a
    column of another type.
    """
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


def read_number_columns(
    table: pa.Table, names: Sequence[str], features: Shape
) -> tuple[list[AnyArray], dict[int, str]]:
    """Read the numbers of a row in several columns as its sequence (T, *features); rows with a null are bad.

    Raises ArgumentError for columns of another type.
    """
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


def read_lengths(column: Any, name: str) -> list[int | None]:
    """Raise ArgumentError unless the column holds integers."""
    if not kinds.is_integer(column.type):
        raise ArgumentError(f"column {name!r} has type {column.type}, but must hold integers")
    lengths: list[int | None] = column.to_pylist()
    return lengths


def output_column(outputs: Sequence[Array | None], example: Array) -> pa.Array:
    """Convert outputs (O,) to lists and outputs (T, O) to lists of lists, with null for a missing output.

    The shape and dtype of `example`, an output, determine the type of the column.
    """
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
    filled = array if array.null_count == 0 else array.fill_null(0)
    numbers: AnyArray = filled.to_numpy(zero_copy_only=False)
    return numbers


def _is_list(kind: Any) -> bool:
    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind))


def _wrong_type(name: str, kind: object, features: Shape) -> ArgumentError:
    steps = f"lists of lists of {features[0]} numbers" if features else "lists of integers"
    return ArgumentError(f"column {name!r} has type {kind}, but the model takes {steps}, or tensors of them")
