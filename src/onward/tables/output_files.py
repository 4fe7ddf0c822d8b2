"""Write the outputs of a model to .npy, .npz or .csv files, in the same layout as input arrays."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from ..core import atomic
from .inference import pad_rows
from .layout import AnyArray, Sequences


def write(
    path: Path,
    sequences: Sequences,
    outputs: list[AnyArray],
    predicted: list[str] | None = None,
    reasons: Mapping[int, str] | None = None,
) -> None:
    """Write the output of each sequence, (O,) or (T, O), in the format that the file name ends in.

    Raises FileError. After an error, an existing file is unchanged.
    """
    atomic.replace(path, encode(path.suffix.lower(), sequences, outputs, predicted, reasons))


def encode(
    suffix: str,
    sequences: Sequences,
    outputs: list[AnyArray],
    predicted: list[str] | None = None,
    reasons: Mapping[int, str] | None = None,
) -> bytes:
    """Return the content of a file of outputs.

    .npy: (N, O), or (N, T, O) with zeros past the end of shorter sequences; (O,) or (T, O) if the input was a
    single sequence. .npz: the same array as `outputs`, and `lengths` (N,) if the outputs are per step. .csv:
    one row per sequence, with the predicted class if there are classes; or one row per step. reasons: why
    some sequences are bad, by index; .csv has them in the column `error`.
    """
    content = io.BytesIO()
    per_step = outputs[0].ndim == 2
    if suffix == ".csv":
        _write_csv(content, sequences, outputs, predicted, reasons)
        return content.getvalue()
    stacked = np.stack(outputs) if outputs[0].ndim == 1 else pad_rows(outputs)
    if sequences.single:
        stacked = stacked[0]
    if suffix == ".npy":
        np.save(content, stacked)
    elif per_step and not sequences.single:
        np.savez_compressed(content, outputs=stacked, lengths=[len(y) for y in outputs])
    else:
        np.savez_compressed(content, outputs=stacked)
    return content.getvalue()


def _write_csv(
    file: IO[bytes],
    sequences: Sequences,
    outputs: list[AnyArray],
    predicted: list[str] | None,
    reasons: Mapping[int, str] | None,
) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    rows = csv.writer(text)
    per_step = outputs[0].ndim == 2
    columns = [f"output_{i}" for i in range(outputs[0].shape[-1])]
    second = ["step"] if per_step else ["predicted"] if predicted else []
    rows.writerow(["sequence", *second, *columns, *(["error"] if reasons is not None else [])])
    for row, y in enumerate(outputs):
        error = [] if reasons is None else [reasons.get(row, "")]
        for step, values in enumerate(y if per_step else [y]):
            cells = [str(step)] if per_step else [predicted[row]] if predicted else []
            rows.writerow([sequences.name(row), *cells, *map(str, values), *error])
    text.detach()  # flush only: closing the wrapper would also close the file
