"""The columns of a table with a row for each time step, from a CSV or Parquet file.

CSV files are read with pyarrow if it is installed, which is the fastest, otherwise with NumPy if no cell is
quoted, and with Python if one is.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..core.extras import install_hint
from ..errors import ArgumentError, FileError
from .layout import AnyArray, IntArray

MISSING = frozenset({"", "na", "n/a", "null", "nan", "none"})  # in any case
Choose = Callable[..., Iterable[str]]  # the columns to read, given the names of all and of those of lists
LARGEST_RATIO = 4  # of the bytes of the arrays of a column to those of the file
NULLS = [form for cell in MISSING for form in {cell, cell.upper(), cell.title(), cell.replace("n", "N")}]


def is_missing(cell: str) -> bool:
    """Whether a cell holds no value.

    >>> is_missing(" NA"), is_missing("0")
    (True, False)
    """
    return cell.strip().lower() in MISSING


class ArrowColumn:
    """A column in an array of pyarrow, whose cells become Python objects only where they are needed."""

    def __init__(self, cells: Any) -> None:
        """cells: a ChunkedArray of large_string without nulls, of numbers or of booleans."""
        self.cells = cells
        self.is_text = str(cells.type) == "large_string"
        self.is_boolean = str(cells.type) == "bool" and cells.null_count < len(cells)

    def __len__(self) -> int:
        return len(self.cells)

    def codes(self) -> tuple[IntArray, list[str]]:
        """Return the number of each row's cell among the different ones, and these as in a CSV file."""
        encoded = self.cells.dictionary_encode(null_encoding="encode").combine_chunks()
        values = encoded.dictionary.to_pylist()
        names = ["" if value is None or value != value else str(value) for value in values]
        return encoded.indices.to_numpy().astype(np.int64), names

    def numbers(self) -> AnyArray | None:
        """Return the cells in float64, NaN for missing values, or None if one may be no number."""
        import pyarrow as pa
        from pyarrow import compute

        if not self.is_text:
            return np.asarray(self.cells.cast("float64", safe=False).to_numpy())
        with suppress(pa.ArrowInvalid):
            return np.asarray(self.cells.cast("float64").to_numpy())
        with suppress(pa.ArrowInvalid):
            known = compute.invert(compute.is_in(self.cells, pa.array(NULLS, "large_string")))
            numbers = compute.if_else(known, self.cells, None).cast("float64")
            return np.asarray(numbers.to_numpy())
        return None

    def of_one_length(self) -> AnyArray | None:
        """Return the cells in UTF-8 if all are texts with the same number of bytes."""
        if not self.is_text:
            return None
        cells = self.cells.combine_chunks()
        _, offsets, characters = cells.buffers()
        ends = np.frombuffer(offsets, np.int64)[cells.offset :][: len(cells) + 1]
        width = int(ends[1] - ends[0])
        if not width or (np.diff(ends) != width).any():
            return None
        return np.frombuffer(characters, f"S{width}", len(self), int(ends[0]))


class Columns:
    """Columns by name: as text with `texts`, or as numbers with `numbers`."""

    def __init__(
        self, name: str, header: list[str], cells: dict[str, Any], decimal: str, place: Callable[[int], str]
    ) -> None:
        """cells: lists of text, ArrowColumns, arrays of bytes in UTF-8, or of numbers, which are not read as
        text. place: the line or number of a row, for errors.

        `lists` holds the columns of Parquet with a sequence in each row, as lists of arrays (T, F).
        """
        self.lists: dict[str, list[AnyArray]] = {}
        self.name, self.header, self.decimal = name, header, decimal
        self._cells, self._place = cells, place
        self._numbers: dict[str, AnyArray] = {}

    def __len__(self) -> int:
        return len(next(iter((self._cells | self.lists).values())))

    def place(self, row: int, column: str) -> str:
        """Return the place of a cell, for an error message."""
        return f"{self.name}, {self._place(row)}, column {column!r}"

    def texts(self, column: str) -> list[str]:
        """Return the cells of a column, without spaces around them."""
        codes, names = self.codes(column)
        found: list[str] = np.array(names, object)[codes].tolist()
        return found

    def codes(self, column: str) -> tuple[IntArray, list[str]]:
        """Return the number of each row's cell among the different ones, and these in order of occurrence."""
        cells = self._cells[column]
        if isinstance(cells, ArrowColumn):
            numbers, names = cells.codes()
        else:
            cells = cells.tolist() if isinstance(cells, np.ndarray) else cells
            places = unique(cells)
            numbers = np.fromiter(map(places.__getitem__, cells), np.int64, len(cells))
            names = [name.decode() if isinstance(name, bytes) else name for name in places]
        places = unique([name.strip() for name in names])
        if len(places) < len(names):
            numbers = np.array([places[name.strip()] for name in names])[numbers]
        return numbers, list(places)

    def of_one_length(self, column: str) -> AnyArray | None:
        """Return the cells of a column as bytes in UTF-8 if they are texts of the same length."""
        cells = self._cells[column]
        if isinstance(cells, ArrowColumn):
            return cells.of_one_length()
        if isinstance(cells, list):
            cells = np.array([cell.encode() for cell in cells])
        is_text = cells.dtype.kind == "S" and (np.char.str_len(cells) == cells.itemsize).all()
        return cells if is_text else None

    def numbers(self, column: str) -> AnyArray:
        """Return a column in float64, NaN for missing values; not to be modified.

        Raises FileError, which names the line.
        """
        if column not in self._numbers:
            self._numbers[column] = self._parsed(column)
        return self._numbers[column]

    def _parsed(self, column: str) -> AnyArray:
        cells, found = self._cells[column], None
        if isinstance(cells, np.ndarray):
            found = _parsed(cells, self.decimal) if cells.dtype.kind == "S" else cells.astype(np.float64)
        elif isinstance(cells, ArrowColumn) and self.decimal == ".":
            found = cells.numbers()
        if found is not None:
            return found
        codes, names = self.codes(column)
        numbers = [
            self._number(lambda n: int(np.flatnonzero(codes == n)[0]), n, column, cell)
            for n, cell in enumerate(names)
        ]
        return np.array(numbers)[codes]

    def matrix(self, columns: Sequence[str]) -> AnyArray:
        """Return columns of numbers side by side, (rows, columns)."""
        return np.stack([self.numbers(column) for column in columns], axis=1)

    def are_numbers(self, column: str) -> bool:
        """Whether every cell of a column is a number or missing; booleans are texts, as in CSV files."""
        cells = self._cells[column]
        if isinstance(cells, ArrowColumn) and cells.is_boolean:
            return False
        try:
            self.numbers(column)
        except FileError:
            return False
        return True

    def _number(self, row_of: Callable[[int], int], number: int, column: str, cell: str) -> float:
        if is_missing(cell):
            return np.nan
        try:
            if self.decimal == ".":
                return float(cell)
            if "." not in cell:
                return float(cell.replace(self.decimal, "."))
        except ValueError:
            pass
        hint = "select numeric columns with --input"
        if self.decimal != ".":
            hint = f"expected numbers such as 1{self.decimal}5: {hint}"
        elif cell.count(",") == 1:
            hint += ", or --decimal , if it has a decimal comma"
        raise FileError(f"{self.place(row_of(number), column)}: {cell!r} is not a number: {hint}") from None


def read_csv(content: bytes, name: str, choose: Choose, delimiter: str | None, decimal: str) -> Columns:
    """Read the columns that `choose` selects from the header. Raises FileError and UnicodeDecodeError."""
    header = _header(content, name, delimiter)
    delimiter = delimiter or ","
    wanted = list(dict.fromkeys(choose(header)))
    numeric = [column for column in wanted if column in getattr(choose, "numeric", ())]
    cells = None
    if find_spec("pyarrow"):  # text that is not a number in the numeric columns makes the first attempt fail
        cells = _with_arrow(content, header, wanted, numeric, delimiter, decimal)
        cells = cells or _with_arrow(content, header, wanted, [], delimiter, decimal)
    if cells is None:
        cells = _with_numpy(content, header, wanted, delimiter)
    if cells is not None:
        return Columns(name, header, cells, decimal, lambda row: f"line {_line(content, delimiter, row)}")
    cells, lines = _with_python(content, name, header, wanted, delimiter)
    return Columns(name, header, cells, decimal, lambda row: f"line {lines[row]}")


def _rows(content: bytes, delimiter: str) -> Any:
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    return csv.reader(text, delimiter=delimiter)


def _header(content: bytes, name: str, delimiter: str | None) -> list[str]:
    header = [column.strip() for column in next(_rows(content, delimiter or ","), [])]
    if not header or len(set(header)) < len(header) or all(map(is_number, header)):
        raise FileError(
            f"{name}, line 1: must name the columns, with a different name for each, but is "
            f"{','.join(header)!r}"
        )
    other = next((sign for sign in ";\t|" if len(header) == 1 and sign in header[0]), None)
    if other is not None and delimiter is None:
        shown = "tab" if other == "\t" else f"'{other}'"
        raise FileError(
            f"{name}, line 1: has one column, {header[0]!r}: separate it with --delimiter {shown}"
        )
    return header


def _with_arrow(
    content: bytes, header: list[str], wanted: list[str], numeric: list[str], delimiter: str, decimal: str
) -> dict[str, Any] | None:
    """Return texts and arrays of numbers, or None if pyarrow refuses the file."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    try:
        table = arrow.read_csv(
            pa.BufferReader(content),
            arrow.ReadOptions(column_names=header, skip_rows_after_names=1),
            arrow.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in content),
            arrow.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.large_string()) | dict.fromkeys(numeric, pa.float64()),
                null_values=NULLS,
                decimal_point=decimal,
            ),
        )
    except pa.ArrowException:
        return None
    if not len(table):
        return None
    return {
        column: table[column].to_numpy() if column in numeric else ArrowColumn(table[column])
        for column in wanted
    }


def _with_numpy(
    content: bytes, header: list[str], wanted: list[str], delimiter: str
) -> dict[str, Any] | None:
    """Return arrays of bytes, or None for a file with quotes, blank lines or lines of other lengths."""
    content = content.replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"
    if any(sign in content for sign in (b'"', b"\r", b"\0", b"\n\n")) or not delimiter.isascii():
        return None
    text = np.frombuffer(content, np.uint8)[content.index(b"\n") + 1 :]
    is_end, C = text == ord("\n"), len(header)
    ends = np.flatnonzero(is_end | (text == ord(delimiter)))
    rows = len(ends) // C
    if not rows or len(ends) % C or np.count_nonzero(is_end) != rows or not is_end[ends[C - 1 :: C]].all():
        return None
    starts = np.concatenate([[0], ends[:-1] + 1]).reshape(rows, C)
    lengths = ends.reshape(rows, C) - starts
    cells = {}
    for column in wanted:
        place = header.index(column)
        own, width = lengths[:, place], max(1, int(lengths[:, place].max()))
        if rows * width > LARGEST_RATIO * len(text):
            return None
        padded = np.concatenate([text, np.zeros(width, np.uint8)])
        found = sliding_window_view(padded, width)[starts[:, place]]
        found[np.arange(width) >= own[:, None]] = 0
        cells[column] = found.view(f"S{width}")[:, 0]
    return cells


def _parsed(cells: AnyArray, decimal: str) -> AnyArray | None:
    """Return cells of bytes in float64, NaN for missing values, or None if one is no number."""
    if decimal != ".":
        characters = cells.view(np.uint8)
        if (characters == ord(".")).any():
            return None
        cells = np.where(characters == ord(decimal), ord("."), characters).astype(np.uint8).view(cells.dtype)
    with suppress(ValueError):
        return cells.astype(np.float64)
    is_missing = np.isin(np.char.lower(np.char.strip(cells)), [form.encode() for form in MISSING])
    with suppress(ValueError):
        return np.where(is_missing, b"nan", cells).astype(np.float64)
    return None


def _with_python(
    content: bytes, name: str, header: list[str], wanted: list[str], delimiter: str
) -> tuple[dict[str, Any], list[int]]:
    """Return lists of text and the line that each row ends on."""
    reader = _rows(content, delimiter)
    next(reader)
    rows: list[list[str]] = []
    lines: list[int] = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            raise FileError(
                f"{name}, line {reader.line_num}: has {len(cells)} values, but line 1 has {len(header)} "
                "columns"
            )
        rows.append(cells)
        lines.append(reader.line_num)
    if not lines:
        raise FileError(f"{name}: has a header but no rows")
    return {column: list(map(itemgetter(header.index(column)), rows)) for column in wanted}, lines


def _line(content: bytes, delimiter: str, row: int) -> int:
    """The line that a row ends on, without empty lines, after the header."""
    reader = _rows(content, delimiter)
    next(islice(filter(None, reader), row + 1, None))
    return int(reader.line_num)


@contextmanager
def _parquet(file: IO[bytes], name: str) -> Iterator[tuple[Any, list[str]]]:
    """Open a Parquet file; yields it and its columns of lists. Raises FileError, ArgumentError."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ArgumentError(f"Parquet needs {error.name}: {install_hint('parquet')}") from error
    try:
        with parquet.ParquetFile(file) as opened:
            yield opened, [each.name for each in opened.schema_arrow if pa.types.is_nested(each.type)]
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"{name} cannot be read as Parquet: {error}") from error


def lists_in(path: Path) -> list[str]:
    """Return the columns of lists of a Parquet file. Raises FileError, and ArgumentError without pyarrow."""
    with path.open("rb") as file, _parquet(file, str(path)) as (_, lists):
        return lists


def read_parquet(file: IO[bytes], name: str, choose: Choose) -> Columns:
    """Read columns of numbers, texts, dates, times and lists from a Parquet file. Raises FileError."""
    with _parquet(file, name) as (opened, lists):
        header = list(opened.schema_arrow.names)
        wanted = list(dict.fromkeys(choose(header, lists)))
        table = opened.read(columns=wanted)
    if not len(table):
        raise FileError(f"{name} has no rows")
    cells = {column: _of_arrow(table[column]) for column in wanted if column not in lists}
    columns = Columns(name, header, cells, ".", lambda row: f"row {row}")
    columns.lists = {column: _arrays(name, column, table[column]) for column in wanted if column in lists}
    return columns


def _arrays(name: str, column: str, values: Any) -> list[AnyArray]:
    """Return the lists of a column as arrays (T, F); numbers (T,) are steps of one feature."""
    found = []
    for row, value in enumerate(values.to_pylist()):
        try:
            array = np.array(value, np.float64)
        except (TypeError, ValueError):
            array = np.zeros(0)
        if array.ndim not in (1, 2) or not array.size:
            raise FileError(
                f"{name}, row {row}, column {column!r}: is not a list of steps with equal features"
            )
        found.append(array[:, None] if array.ndim == 1 else array)
    return found


def _of_arrow(values: Any) -> ArrowColumn:
    """Return a column of numbers, booleans, texts, dates or times."""
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return ArrowColumn(values)
    if pa.types.is_floating(kind):
        return ArrowColumn(values.cast("float64"))
    if pa.types.is_timestamp(kind):
        try:
            values = values.cast(pa.timestamp("s", kind.tz))
        except pa.ArrowInvalid:
            values = values.cast(pa.timestamp("us", kind.tz), safe=False)
    return ArrowColumn(values.cast("string").cast("large_string").fill_null(""))


def is_number(text: str) -> bool:
    """Whether a text is a number, NaN and infinity included."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def unique(texts: Sequence[str]) -> dict[str, int]:
    """Number texts in the order in which they first occur."""
    return {text: number for number, text in enumerate(dict.fromkeys(texts))}
