"""Read sequences from .npy, .npz and .csv files and from standard input, or windows of them to forecast."""

import os
from pathlib import Path
from typing import IO, Any

from ..core.arrays import Shape
from ..errors import ArgumentError, FileError, OnwardError
from . import array_files, csv_files, windows
from .layout import AnyArray, Saved, Selection, Sequences

__all__ = ["SUFFIXES", "AnyArray", "Saved", "Selection", "Sequences", "detect_suffix", "parse", "read"]

SUFFIXES = (".npy", ".npz", ".csv")


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

    future: also return the windows at the end whose targets are unknown; these targets are NaN. `settings`
    are step_shape, saved and future, as in `parse`.

    Raises FileError, which names the line and the column if there is one.
    """
    path = Path(path)
    suffix = path.suffix.lower()
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
    step_shape: Shape | None = None,
    saved: Saved | None = None,
    future: bool = False,
) -> Sequences:
    """Read the sequences in an open file, as `read` does; errors call the file `name`."""
    selection, saved = selection or Selection(), saved or Saved()
    step_rank = 1 if step_shape is None else len(step_shape)
    try:
        if suffix == ".csv":
            sequences = csv_files.parse(file, name, selection, saved, step_rank)
        else:
            if selection.named_columns:
                raise FileError(
                    f"{name}: arrays have no columns to select: omit --input, --target, --group and --time"
                )
            sequences = array_files.parse(file, suffix, name, step_rank, saved.classes)
        window = selection.window or saved.selection.window
        if window is None:
            if selection.horizon is not None:
                raise ArgumentError("--horizon needs --window, the number of steps that the model reads")
            return sequences
        return windows.cut(sequences, window, selection.horizon or saved.selection.horizon or 1, future)
    except OnwardError:
        raise
    except UnicodeDecodeError as error:
        raise FileError(f"{name}: not CSV in UTF-8, nor .npy or .npz: convert it to one of these") from error
    except Exception as error:  # NumPy, zipfile, zlib and csv raise many kinds of errors for a damaged file
        raise FileError(f"{name}: cannot be read: {error}") from error


def detect_suffix(content: bytes) -> str:
    """The format of content without a file name: ".npy", ".npz", or ".csv" for anything else."""
    if content.startswith(b"\x93NUMPY"):
        return ".npy"
    return ".npz" if content.startswith(b"PK\3\4") else ".csv"
