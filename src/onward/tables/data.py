"""Read sequences from .npy, .npz and .csv files and from standard input, or windows of them to forecast."""

import gzip
import io
import os
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

from ..errors import ArgumentError, FileError, OnwardError
from . import array_files, steps, windows
from .choice import Chooser
from .columns import Choose, Columns, read_csv, read_parquet
from .layout import AnyArray, Saved, Selection, Sequences

__all__ = ["SUFFIXES", "AnyArray", "Saved", "Selection", "Sequences", "detect_suffix", "parse", "read"]

SUFFIXES = (".npy", ".npz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
WRITTEN = (".npy", ".npz", ".csv")  # what outputs are written to
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")  # with a row for each step
OF_WINDOWS = ("window", "horizon", "season", "interval", "task")  # these apply to arrays too
SIGNATURES = {b"\x93NUMPY": ".npy", b"PK\3\4": ".npz", b"\x1f\x8b": ".csv.gz", b"PAR1": ".parquet"}
OF_COLUMNS = [item.name for item in fields(Selection) if item.name not in OF_WINDOWS]
LARGEST, LARGEST_RATIO = 100e6, 100  # bytes that a compressed file may unpack to


def read(path: str | os.PathLike[str], selection: Selection | None = None, **settings: Any) -> Sequences:
    """Read the sequences in an .npy, .npz or .csv file.

    Arrays are (N, T, F), one sequence per row, or (T, F) for a single sequence. If the model takes token ids,
    `step_shape` is () and arrays are (N, T) or (T,). An .npz file holds `x` and optionally `lengths`
    (N,), the valid steps of each row; with `lengths`, x may also be (sum of lengths, F), one sequence after
    another. `y` holds integers or strings (N,), the classes; or floats (N, O), or (N, T, O) for each step.

    CSV files have a header and one row per time step. `selection` names the columns; `saved`, the record in
    the model file, fills in what `selection` leaves open. Without both, `sequence` is the group,
    `label` the class, columns that start with `target` are targets and all other columns are inputs. A target
    of strings or integers that is constant in each sequence is a class; other targets are numbers.

    future: also return the windows at the end whose targets are unknown; these targets are NaN. finite:
    refuse infinite numbers. `settings` are step_shape, time, saved, future and finite, as in
    `parse`: the shape of a step, and the axis of steps in the arrays of a sequence. The steps of the result
    are always first.

    Raises FileError, which names the line and the column if there is one.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        raise FileError(f"{path}: the name must end in one of {', '.join(SUFFIXES)}")
    try:
        with path.open("rb") as file:
            return parse(file, suffix, str(path), selection, **settings)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error


def parse(
    file: IO[bytes],
    suffix: str,
    name: str,
    selection: Selection | None = None,
    *,
    step_shape: tuple[int | None, ...] | None = None,
    time: int = 0,
    saved: Saved | None = None,
    future: bool = False,
    finite: bool = False,
) -> Sequences:
    """Read the sequences in an open file, as `read` does; errors call the file `name`."""
    selection, saved = selection or Selection(), saved or Saved()
    step_rank = 1 if step_shape is None else len(step_shape)
    try:
        if suffix in TABLES:
            chooser = Chooser(name, selection, saved.selection)
            columns = _columns(file, suffix, name, chooser, selection.completed(saved.selection))
            sequences = steps.sequences(columns, chooser.chosen, saved, step_rank, suffix, finite)
        else:
            _refuse_columns(name, selection)
            chosen = selection.completed(saved.selection)
            sequences = array_files.parse(file, suffix, name, chosen, step_rank, time, saved.classes)
            if finite:
                sequences.check_finite()
        window = selection.window or saved.selection.window
        if window is None:
            for name in ("horizon", "season", "interval"):
                if getattr(selection, name) is not None:
                    raise ArgumentError(f"--{name} needs --window, the number of steps that the model reads")
            return sequences
        return windows.cut(sequences, window, selection.horizon or saved.selection.horizon or 1, future)
    except OnwardError:
        raise
    except UnicodeDecodeError as error:
        raise FileError(f"{name}: not CSV in UTF-8, nor .npy or .npz: convert it to one of these") from error
    except Exception as error:  # NumPy, zipfile, zlib and csv raise many kinds of errors for a damaged file
        raise FileError(f"{name}: cannot be read: {error}") from error


def _refuse_columns(name: str, selection: Selection) -> None:
    """Raise FileError for options that would have no effect on arrays."""
    given = [field for field in OF_COLUMNS if getattr(selection, field) not in ((), None, False, "keep")]
    if given:
        options = {"inputs": "input", "targets": "target"}
        listed = ", ".join(f"--{options.get(field, field).replace('_', '-')}" for field in given)
        raise FileError(f"{name}: arrays have no columns: omit {listed}, or save a table as .csv or .parquet")


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The end of a file's name that tells its format, such as ".csv.gz"."""
    path = Path(path)
    return "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()


def _columns(file: IO[bytes], suffix: str, name: str, choose: Choose, selection: Selection) -> Columns:
    """Read the columns of a table."""
    if suffix == ".parquet":
        return read_parquet(file, name, choose)
    content = file.read()
    if suffix.endswith(".gz"):
        most = int(max(LARGEST, LARGEST_RATIO * len(content)))
        with gzip.open(io.BytesIO(content)) as unpacked:
            content = unpacked.read(most + 1)
        if len(content) > most:
            raise FileError(f"{name} unpacks to more than {most} bytes: unpack it first")
    delimiter = selection.delimiter or ("\t" if suffix.startswith(".tsv") else None)
    return read_csv(content, name, choose, delimiter, selection.decimal or ".")


def detect_suffix(content: bytes) -> str:
    """The format of content without a file name; ".csv" if no other format matches."""
    return next((suffix for start, suffix in SIGNATURES.items() if content.startswith(start)), ".csv")
