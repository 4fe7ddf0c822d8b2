"""Options that select columns, and reading files and standard input for the commands."""

import functools
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .. import bundled
from ..core import files
from ..errors import FileError
from ..layers.base import Layer
from ..recipes import text
from ..tables import data, model_files
from ..tables.data import Selection, Sequences
from .common import counted, data_file

STDIN = "-"

SELECTION = {  # the help of the option for each field
    "inputs": "Feature columns, separated by commas.",
    "targets": "Column to predict, or several: strings or integers are classes, other numbers are values.",
    "group": "Column that identifies the sequence of a row.",
    "time": "Column that orders the steps of a sequence: numbers or dates.",
    "window": "Cut long sequences into windows of this many steps.",
    "horizon": "With --window, forecast the target this many steps ahead.",
}


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select columns; the command receives them as `selection`."""

    @functools.wraps(command)
    def with_selection(*args: Any, **options: Any) -> Any:
        selection = Selection(**{field: options.pop(field) for field in SELECTION})
        return command(*args, selection=selection, **options)

    for field, explanation in reversed(SELECTION.items()):
        count = click.IntRange(1) if field in ("window", "horizon") else str
        split = (lambda ctx, param, value: names(value)) if field in ("inputs", "targets") else None
        name = f"--{field.removesuffix('s')}"
        with_selection = click.option(name, field, type=count, callback=split, help=explanation)(
            with_selection
        )
    return with_selection


def names(listed: str | None) -> tuple[str, ...]:
    """Split names separated by commas."""
    return tuple(name.strip() for name in listed.split(",")) if listed else ()


def test_data(model: str) -> str | None:
    """The data set on which the accuracy of a bundled model was measured, if any."""
    return bundled.card(model).get("data") if model in bundled.models() else None


def default_source(model: str, source: str | None) -> str:
    """INPUT, or by default the test data of a bundled model. Raises UsageError if there are none."""
    if source is None:
        source = test_data(model)
    if source is None:
        known = ", ".join(bundled.datasets())
        raise click.UsageError(f"INPUT is missing: give a file or a bundled data set ({known})")
    return source


def read_sequences(
    net: Layer, model_path: Path, source: str, selection: Selection | None = None, future: bool = False
) -> Sequences:
    """Read the sequences of a file, a bundled data set or standard input, in the form that the model takes.

    The record of the training table in the model file fills in what `selection` leaves open. future: keep
    windows whose targets are still unknown. Raises FileError, and ArgumentError if the number of features is
    wrong.
    """
    options: dict[str, Any] = {
        "step_shape": net.step_shape, "saved": model_files.load_saved(model_path), "future": future,
    }  # fmt: skip
    if source == STDIN:
        content = sys.stdin.buffer.read()
        suffix = data.detect_suffix(content)
        sequences = data.parse(io.BytesIO(content), suffix, "standard input", selection, **options)
    else:
        path = data_file(source, "INPUT")
        if path.suffix.lower() in data.SUFFIXES:
            sequences = data.read(path, selection, **options)
        else:
            sequences = _read_text(model_path, path)
    sequences.check_features(net.step_shape)
    return sequences


def _read_text(model_path: Path, path: Path) -> Sequences:
    """Read a text as one sequence of token ids, without characters that the model does not know."""
    vocabulary = text.vocabulary_of(model_path)
    if vocabulary is None:
        message = (
            f"the name of {path} must end in one of {', '.join(data.SUFFIXES)}; other files are read as "
            "text, which needs a text model"
        )
        raise click.BadParameter(message, param_hint="INPUT")
    whole = files.read_text(path)
    known = vocabulary.without_unknown(whole)
    if not known:
        raise FileError(
            f"{path} has no character that the model knows, of {counted(len(whole), 'character')}"
        )
    if len(known) < len(whole):
        skipped = counted(len(whole) - len(known), "character")
        click.echo(click.style(f"Skipped {skipped} that the model does not know.", "yellow"), err=True)
    return Sequences([vocabulary.encode(known)], origin=f"{path}: a text", single=True)
