"""Read arrays in .npy and .npz files as sequences, checked before memory is allocated, and write outputs."""

import csv
import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from ..core import npz
from ..core.arrays import padded
from ..errors import FileError
from .layout import AnyArray, Selection, Sequences, number_classes
from .windows import forecast_rows

LARGEST_ARRAY = 100e6  # bytes that any member of an archive may unpack to
LARGEST_RATIO = 100


def parse(
    file: IO[bytes],
    suffix: str,
    name: str,
    selection: Selection,
    step_rank: int,
    time: int,
    classes: tuple[str, ...],
) -> Sequences:
    """Read the sequences in an .npy or .npz file as (T, ...); see `data.read`. Raises FileError."""
    arrays = {"x": _array(file, file.seek(0, 2), name)} if suffix == ".npy" else _members(file, name)
    y = arrays.pop("y", None)
    found, layout = _sequences(name, step_rank, time, **arrays)
    found = replace(found, classes=classes, suffix=suffix, selection=selection)
    return found if y is None else _Targets(name, layout, y).add(found)


def _members(file: IO[bytes], name: str) -> dict[str, AnyArray]:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if "x" not in members:
            names = ", ".join(sorted(members)) or "nothing"
            raise FileError(
                f"{name}: expected an array 'x', but the archive holds {names}: save the sequences as x"
            )
        if {"y", "targets"} <= members.keys():
            raise FileError(f"{name}: holds both 'y' and 'targets', which mean the same: keep one")
        arrays = {}
        for key in members.keys() & {"x", "lengths", "y", "targets"}:
            size = members[key].file_size
            if size > max(LARGEST_ARRAY, LARGEST_RATIO * members[key].compress_size):
                raise FileError(f"{name}: '{key}' unpacks to {size} bytes: use numpy.savez instead")
            with archive.open(members[key]) as member:
                arrays["y" if key == "targets" else key] = _array(member, size, f"{name}: '{key}'")
    return arrays


def _array(file: IO[bytes], size: int, name: str) -> AnyArray:
    """Read an array in .npy format; allocate it only if the file has as many bytes as its header claims."""
    file.seek(0)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise FileError(f"{name} holds Python objects, which could run code when loaded: save numbers")
    expected, actual = math.prod(shape) * dtype.itemsize, size - file.tell()
    if expected != actual:
        raise FileError(f"{name} is damaged: shape {shape} of {dtype} takes {expected} bytes, not {actual}")
    file.seek(0)
    result: AnyArray = npy.read_array(file, allow_pickle=False)
    return result


def _sequences(
    name: str, step_rank: int, time: int, x: AnyArray, lengths: AnyArray | None = None
) -> tuple[Sequences, "_Layout"]:
    origin = f"{name}: x has shape {x.shape}"
    batched = x.ndim == step_rank + 2
    if x.ndim not in (step_rank + 1, step_rank + 2) or x.size == 0:
        expected = "(N, T, F) for N sequences of T steps with F features, or (T, F) for one sequence"
        if step_rank == 0:
            expected = "(N, T) for N sequences of token ids, or (T,) for one sequence"
        raise FileError(f"{origin}, but must be {expected}; no axis may be empty")
    if x.dtype.kind not in "biuf":
        raise FileError(
            f"{origin} and dtype {x.dtype}, but must hold booleans, integers or floats: convert it"
        )
    single = not batched and lengths is None
    x = np.moveaxis(x, time + batched, 1 if batched else 0)
    if lengths is None:
        lengths = np.full(len(x) if batched else 1, x.shape[1] if batched else len(x))
    else:
        _check_lengths(origin, lengths, x, batched)
    layout = _Layout(origin, x.shape[: 1 + batched], lengths, batched)
    return Sequences(layout.split(x), origin=origin, single=single), layout


def _check_lengths(origin: str, lengths: AnyArray, x: AnyArray, batched: bool) -> None:
    steps = x.shape[1] if batched else len(x)
    integers = lengths.ndim == 1 and lengths.dtype.kind in "iu"
    if not integers or ((lengths < 0) | (lengths > steps)).any() or not lengths.any():
        raise FileError(f"{origin}, so lengths must be integers (N,) from 0 to {steps}, not all 0")
    if batched and len(lengths) != len(x):
        raise FileError(f"{origin}, {len(x)} sequences, but there are {len(lengths)} lengths")
    if not batched and sum(lengths.tolist()) != len(x):
        raise FileError(f"{origin}, {len(x)} steps, but the lengths add up to {lengths.sum()}")


class _Layout(NamedTuple):
    """Where the steps of the sequences are: in rows (N, T), or one sequence after another."""

    origin: str
    shape: tuple[int, ...]
    lengths: AnyArray
    batched: bool

    def split(self, array: AnyArray) -> list[AnyArray]:
        """The valid steps of rows (N, T, ...), or the sequences in a concatenation (sum of lengths, ...)."""
        if self.batched:
            return [row[:length] for row, length in zip(array, self.lengths, strict=True)]
        return np.split(array, np.cumsum(self.lengths)[:-1])


class _Targets(NamedTuple):
    """The array `y` as classes or numbers, for each sequence or each step."""

    name: str
    layout: _Layout
    y: AnyArray

    def add(self, found: Sequences) -> Sequences:
        """Return sequences with labels or targets. Raises FileError."""
        task, N = found.selection.task or self._guess(), len(found.items)
        if task == "regress":
            return replace(found, targets=self._numbers(N))
        shape = (N,) if task == "classify" else self.layout.shape
        if not self._are_classes() or self.y.shape != shape:
            raise self._error(N, task)
        labels = [y if isinstance(y, str) else str(int(y)) for y in self.y.reshape(-1).tolist()]
        numbers, classes = number_classes(f"{self.name}: y", labels, found.classes)
        if task == "classify":
            return replace(found, labels=numbers, classes=classes)
        return replace(found, step_labels=self.layout.split(numbers.reshape(shape)), classes=classes)

    def _are_classes(self) -> bool:
        y = self.y
        is_whole = y.dtype.kind == "f" and bool(np.isfinite(y).all() and (y == np.rint(y)).all())
        return is_whole or y.dtype.kind in "biuU"

    def _guess(self) -> str:
        """The task by the array: strings, booleans and integers (N,) are classes, other numbers values."""
        is_text = self.y.dtype.kind in "bU"
        if is_text and self.y.shape == self.layout.shape and len(self.y.shape) > 1:
            return "label-steps"
        return "classify" if is_text or (self.y.ndim == 1 and self.y.dtype.kind in "iu") else "regress"

    def _numbers(self, N: int) -> AnyArray | list[AnyArray]:
        y, layout = self.y, self.layout
        if y.dtype.kind not in "iuf":
            raise self._error(N, "regress")
        y = y.astype(np.float32)
        if layout.batched and y.ndim == 3 and y.shape[:2] == layout.shape:
            return layout.split(y)
        if not layout.batched and y.ndim in (1, 2) and len(y) == layout.shape[0]:
            return layout.split(y.reshape(len(y), -1))
        if y.ndim in (1, 2) and len(y) == N:
            return y.reshape(N, -1)
        raise self._error(N, "regress")

    def _error(self, N: int, task: str) -> FileError:
        steps = ", ".join(map(str, self.layout.shape))
        expected = {
            "classify": f"classes ({N},), integers or strings",
            "label-steps": f"classes ({steps}{',' * (not self.layout.batched)}), integers or strings",
            "regress": f"numbers ({N}, O) for each sequence, or ({steps}, O) for each step",
        }
        others = "; ".join(f"{each} with --task {name}" for name, each in expected.items() if name != task)
        return FileError(
            f"{self.layout.origin}, but y has shape {self.y.shape} and dtype {self.y.dtype}: expected "
            f"{expected[task]}; or {others}"
        )


def encode(
    suffix: str,
    sequences: Sequences,
    outputs: list[AnyArray],
    predicted: list[str] | None = None,
    reasons: Mapping[int, str] | None = None,
    names: tuple[str, ...] = (),
    time: int = 0,
) -> bytes:
    """Return the content of a file of outputs.

    .npy: (N, O), or (N, T, O) with zeros past the end of shorter sequences; (O,) or (T, O) if the input was a
    single sequence. .npz: the same array as `outputs`, and `lengths` (N,) if the outputs are per step. .csv:
    one row per sequence, with the predicted class if there are classes; or one row per step; or the rows of
    `forecast_rows`. reasons: why some sequences are bad, by index; .csv has them in the column `error`.
    names: what the columns of the outputs are called, such as the classes. time: where arrays have the axis
    of steps, which is the first of the outputs.
    """
    content = io.BytesIO()
    per_step = outputs[0].ndim > 1
    if suffix == ".csv":
        text = io.TextIOWrapper(content, encoding="utf-8", newline="")
        rows = csv.writer(text)
        if sequences.series is not None:
            header, forecasts = forecast_rows(sequences, outputs)
            horizon = len(forecasts) // len(outputs)
            errors = [
                [] if reasons is None else [reasons.get(n // horizon, "")] for n in range(len(forecasts))
            ]
            rows.writerow([*header, *([] if reasons is None else ["error"])])
            rows.writerows(row + error for row, error in zip(forecasts, errors, strict=True))
            text.flush()
            return content.getvalue()
        width = math.prod(outputs[0].shape[per_step:])
        columns = list(names) if len(names) == width else [f"output_{i}" for i in range(width)]
        second = [*(["step"] if per_step else []), *(["predicted"] if predicted else [])]
        classes = iter(predicted or [])
        rows.writerow(["sequence", *second, *columns, *(["error"] if reasons is not None else [])])
        for row, y in enumerate(outputs):
            error = [] if reasons is None else [reasons.get(row, "")]
            for step, values in enumerate(y if per_step else [y]):
                cells = [*([str(step)] if per_step else []), *([next(classes)] if predicted else [])]
                rows.writerow([sequences.name(row), *cells, *map(str, values.ravel()), *error])
        text.flush()
        return content.getvalue()
    stacked = padded(outputs) if per_step else np.stack(outputs)
    stacked = np.moveaxis(stacked, 1, 1 + time) if time else stacked
    arrays: dict[str, Any] = {"outputs": stacked[0] if sequences.single else stacked}
    if per_step and not sequences.single:
        arrays["lengths"] = [len(y) for y in outputs]
    if suffix != ".npy":
        return npz.content(arrays)
    np.save(content, arrays["outputs"])
    return content.getvalue()
