"""`onward score`: evaluate a model on a text or a table of labeled sequences."""

from pathlib import Path

import click

from ..core import files
from ..errors import ArgumentError
from ..recipes import sequences, text
from ..tables import data
from .common import (
    Report,
    complete_data,
    console,
    counted,
    data_file,
    model_argument,
    model_file,
    model_of,
    progress,
    reported,
    text_model,
)
from .input_options import read_sequences, selection_options

LISTED = 5  # the maximum number of unknown characters in a message


def _show(report: Report) -> None:
    if "bits_per_character" not in report:
        console().print(report["read_as"])
        accuracy = report["accuracy"]
        correct = "" if accuracy is None else f", {accuracy:.1%} correct"
        console().print(f"loss {report['loss']:.4g}{correct}")
        return
    console().print(
        f"{report['bits_per_character']:.4f} bits per character, perplexity {report['perplexity']:.3f}, over "
        f"{counted(report['characters'], 'character')}"
    )
    if unknown := report["unknown"]:
        total = sum(unknown.values())
        named = ", ".join(f"{character!r} ({n:,}x)" for character, n in list(unknown.items())[:LISTED])
        more = ", ..." if len(unknown) > LISTED else ""
        console().print(
            f"Skipped {counted(total, 'character')} that the model does not know: {named}{more}",
            style="yellow",
        )


@click.command(epilog="Example:  onward score vowels japanese_vowels_test")
@model_argument
@click.argument("file", shell_complete=complete_data)
@click.option(
    "--unknown",
    type=click.Choice(["skip", "error"]),
    default="skip",
    help="What to do about characters of a text that are not in the model's vocabulary.",
)
@selection_options
@reported(_show)
def score(model: str, file: str, unknown: str, selection: data.Selection) -> Report:
    """Evaluate MODEL on FILE: a text or a table of labeled sequences.

    MODEL is a bundled model (see `onward models`) or a model file. FILE is a bundled data set, an .npz or
    .csv file for `onward train table`, or any other file, which is read as UTF-8 text. The options that
    select columns apply to .csv files; those that the model was trained with need not be repeated.

    For a text, prints the bits per character and the perplexity; for a table, the loss and, if the labels are
    classes, the accuracy.
    """
    model_path = model_file(model)
    path = data_file(file, "FILE")
    if path.suffix.lower() in data.SUFFIXES:
        net = model_of(model_path, model)
        table = read_sequences(net, model_path, file, selection)
        found = sequences.score_table(net, table)
        report: Report = {"read_as": table.describe(), "loss": found.loss, "accuracy": found.accuracy}
    else:
        report = _score_text(model, path, unknown)
    return {"model": model, "file": file, **report}


def _score_text(model: str, path: Path, unknown: str) -> Report:
    if text.vocabulary_of(model_file(model)) is None:
        suffixes = ", ".join(data.SUFFIXES)
        message = f"{path} is read as a text, but {model} is not a text model; tables end in {suffixes}"
        raise click.BadParameter(message, param_hint="FILE")
    net, vocabulary = text_model(model)
    whole = files.read_text(path)
    skipped = vocabulary.unknown(whole)
    known = vocabulary.without_unknown(whole) if unknown == "skip" else whole
    if unknown == "skip" and skipped and len(known) < 2:
        raise ArgumentError(
            f"{path} has {counted(len(known), 'character')} that the model knows, of {len(whole):,}; "
            "expected at least 2"
        )
    with progress("Scoring", len(known)) as advance:
        bits = text.bits_per_character(net, vocabulary, known, advance)
    return {"characters": len(known), "unknown": skipped, "bits_per_character": bits, "perplexity": 2**bits}
