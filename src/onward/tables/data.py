"""Sequences of features from files, and a model's outputs into files."""

import csv
import io
import math
import zipfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..core import storage
from ..core.arrays import padded
from ..errors import FileError

__all__ = ["SUFFIXES", "Sequences", "read", "write"]

SUFFIXES = (".npy", ".npz", ".csv")

AnyArray: TypeAlias = NDArray[Any]
Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Sequences:
    """Sequences, each (T, I), and the class of each where it is known.

    targets: numbers to be told of each sequence, (S, O), or of each step, a list of (T, O); None: not known.
    """

    items: list[AnyArray]
    labels: Integers | None
    targets: AnyArray | list[AnyArray] | None = None

    @property
    def lengths(self) -> Integers:
        return np.array([len(item) for item in self.items], np.int64)

    def chosen(self, rows: Integers) -> "Sequences":
        """The sequences of those numbers."""
        labels = None if self.labels is None else self.labels[rows]
        targets: Any = self.targets
        if targets is not None:
            targets = [targets[row] for row in rows] if isinstance(targets, list) else targets[rows]
        return Sequences([self.items[row] for row in rows], labels, targets)

    def batches(self, size: int, pad: bool = True) -> Iterator[tuple[Integers, AnyArray, Integers]]:
        """Numbers of the sequences in the batch, x (T, B, I) padded with 0, and lengths (B,).

        Without `pad`, all in a batch are of one length.
        """
        lengths = self.lengths
        order = np.argsort(lengths, kind="stable")  # like lengths together, so that little is padded
        start = 0
        while start < len(order):
            rows = order[start : start + size]
            if not pad:
                rows = rows[lengths[rows] == lengths[rows[0]]]
            start += len(rows)
            yield rows, padded([self.items[row] for row in rows]), lengths[rows]


def read(path: Path) -> Sequences:
    """The sequences of a .npy, .npz or .csv file; FileError says what is wrong with it and where."""
    try:
        return {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}[path.suffix.lower()](path)
    except FileError:
        raise
    except Exception as error:  # a damaged file makes numpy, zipfile, zlib and csv raise nearly anything
        raise FileError(f"{path}: cannot be read: {error}") from error


def _read_npy(path: Path) -> Sequences:
    with path.open("rb") as file:
        return _sequences(str(path), _read_array(file, path.stat().st_size, str(path)))


def _read_npz(path: Path) -> Sequences:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if "x" not in members:
            holds = ", ".join(sorted(members)) or "nothing"
            raise FileError(f"{path}: must hold an array 'x', but holds {holds}")
        arrays = {}
        for key in members.keys() & {"x", "lengths", "y", "targets"}:
            size = members[key].file_size
            if size > max(100e6, 100 * members[key].compress_size):
                raise FileError(f"{path}: '{key}' unpacks to {size} bytes: use numpy.savez instead")
            with archive.open(members[key]) as file:
                arrays[key] = _read_array(file, size, f"{path}: '{key}'")
    return _sequences(str(path), **arrays)


def _read_array(file: IO[bytes], size: int, name: str) -> AnyArray:
    """An array in .npy format, once the `size` of the file bears out what its header says."""
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise FileError(f"{name} holds Python objects, which could run code as they load: save numbers")
    expected, given = math.prod(shape) * dtype.itemsize, size - file.tell()
    if expected != given:
        raise FileError(f"{name} is damaged: shape {shape} of {dtype} is {expected} bytes, not {given}")
    file.seek(0)
    result: AnyArray = npy.read_array(file, allow_pickle=False)
    return result


def _sequences(
    name: str,
    x: AnyArray,
    lengths: AnyArray | None = None,
    y: AnyArray | None = None,
    targets: AnyArray | None = None,
) -> Sequences:
    """From x (T, I), (N, I) with lengths (S,), or (T, S, I) with lengths or without, and classes y (S,).

    targets are (S, O), or laid out as x.
    """
    if x.ndim not in (2, 3) or x.size == 0:
        raise FileError(
            f"{name}: x has shape {x.shape}, but must be (T, I): time steps of features, or (T, B, I): "
            "time steps of B sequences; none of them 0"
        )
    if lengths is None:
        lengths = np.full(x.shape[1] if x.ndim == 3 else 1, len(x))
    integers = lengths.ndim == 1 and lengths.dtype.kind in "iu"
    if not integers or ((lengths < 0) | (lengths > len(x))).any() or not lengths.any():
        raise FileError(
            f"{name}: lengths must be integers from 0 to {len(x)}, not all 0, as x has shape {x.shape}"
        )
    if x.ndim == 2 and lengths.sum() != len(x):
        raise FileError(f"{name}: lengths add up to {lengths.sum()}, but x has {len(x)} time steps")
    if x.ndim == 3 and len(lengths) != x.shape[1]:
        raise FileError(f"{name}: {len(lengths)} lengths, but x {x.shape} has {x.shape[1]} sequences")
    items = _parted(x, lengths)
    if y is not None and (y.shape != (len(items),) or y.dtype.kind not in "iu"):
        raise FileError(
            f"{name}: y must hold an integer for each of {len(items)} sequences, "
            f"but has shape {y.shape} and dtype {y.dtype}"
        )
    labels = None if y is None else y.astype(np.int64)
    return Sequences(items, labels, None if targets is None else _targets(name, targets, x, lengths))


def _parted(array: AnyArray, lengths: AnyArray) -> list[AnyArray]:
    """Sequences, of those that stand one after another (N, F), or side by side (T, S, F)."""
    if array.ndim == 2:
        return np.split(array, np.cumsum(lengths)[:-1])
    return [array[:length, b] for b, length in enumerate(lengths)]


def _targets(name: str, targets: AnyArray, x: AnyArray, lengths: AnyArray) -> AnyArray | list[AnyArray]:
    numbers = targets.dtype.kind in "iuf"
    if numbers and targets.ndim == x.ndim and targets.shape[:-1] == x.shape[:-1]:
        return _parted(targets.astype(np.float32), lengths)
    if numbers and targets.ndim == 2 and len(targets) == len(lengths):
        return targets.astype(np.float32)
    raise FileError(
        f"{name}: targets must be numbers (S, O) of {len(lengths)} sequences, or laid out as x {x.shape} for "
        f"each step, but have shape {targets.shape} and dtype {targets.dtype}"
    )


def _read_csv(path: Path) -> Sequences:
    """A row a time step, a column a feature; each value of `sequence` is one, and `label` its class.

    Columns that begin with `target` hold what is to be told of the step.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = [column.strip() for column in next(rows, [])]
        features = [column for column in header if column not in ("sequence", "label")]
        if not features or len(set(header)) < len(header) or all(_is_number(column) for column in features):
            line = ",".join(header)
            raise FileError(f"{path}, line 1: must name the columns, each by another name, but is {line!r}")
        values = array("d")
        lengths: list[int] = []
        labels: list[str] = []
        seen: set[str] = set()
        current = None
        for row in rows:
            line = f"{path}, line {rows.line_num}"
            if not row:
                continue
            if len(row) != len(header):
                raise FileError(f"{line}: has {len(row)} values, but line 1 names {len(header)} columns")
            cells = dict(zip(header, row, strict=True))
            sequence, label = cells.pop("sequence", ""), cells.pop("label", "0").strip()
            if sequence != current:
                if sequence in seen:
                    raise FileError(f"{line}: sequence {sequence!r} goes on here: put all its rows together")
                if not label.isdecimal():
                    raise FileError(f"{line}, column 'label': {label!r} is not the number of a class")
                current = sequence
                seen.add(sequence)
                labels.append(label)
                lengths.append(0)
            elif label != labels[-1]:
                raise FileError(f"{line}, column 'label': {label!r} in a sequence of {labels[-1]!r}")
            lengths[-1] += 1
            for column, cell in cells.items():
                if not _is_number(cell):
                    raise FileError(f"{line}, column {column!r}: {cell!r} is not a number")
                values.append(float(cell))
    columns = np.array(values).reshape(-1, len(features))
    goals = np.array([column.startswith("target") for column in features])
    y = np.array([int(label) for label in labels]) if "label" in header else None
    targets = columns[:, goals] if goals.any() else None
    return _sequences(str(path), columns[:, ~goals], np.array(lengths, np.int64), y, targets)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write(path: Path, outputs: AnyArray, lengths: Integers | None) -> None:
    """Outputs (S, O) of sequences or, with `lengths` (S,), (N, O) of their steps, one sequence after another.

    .npy holds the outputs alone; .npz `outputs` and `lengths`; .csv a row for each, which begins with the
    number of its sequence and that of its step, or of its largest output. An error leaves the old file whole.
    Raises FileError.
    """
    content = io.BytesIO()
    writer = {".npy": _write_npy, ".npz": _write_npz, ".csv": _write_csv}[path.suffix.lower()]
    writer(content, outputs, lengths)
    storage.replace(path, content.getvalue())


def _write_npy(file: IO[bytes], outputs: AnyArray, lengths: Integers | None) -> None:
    np.save(file, outputs)


def _write_npz(file: IO[bytes], outputs: AnyArray, lengths: Integers | None) -> None:
    if lengths is None:
        np.savez_compressed(file, outputs=outputs)
    else:
        np.savez_compressed(file, outputs=outputs, lengths=lengths)


def _write_csv(file: IO[bytes], outputs: AnyArray, lengths: Integers | None) -> None:
    if lengths is None:
        columns = {"sequence": np.arange(len(outputs)), "predicted": outputs.argmax(1)}
    else:
        sequence = np.repeat(np.arange(len(lengths)), lengths)
        first = np.cumsum(lengths) - lengths
        columns = {"sequence": sequence, "step": np.arange(len(outputs)) - first[sequence]}
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    rows = csv.writer(text)
    rows.writerow([*columns, *(f"output_{i}" for i in range(outputs.shape[1]))])
    for *numbers, values in zip(*columns.values(), outputs, strict=True):
        rows.writerow(map(str, [*numbers, *values]))
    text.detach()  # flushes; closing it would close the file, too
