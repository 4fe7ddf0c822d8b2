"""`onward score`: evaluate a model on a text or a table of labeled sequences."""

from pathlib import Path

import click
from rich.text import Text

from ..core import files
from ..errors import ArgumentError
from ..formats.compiled.model import CompiledModel
from ..recipes import forecasts, sequences, text
from ..tables import data
from ..train import LOSSES, OF_LOGITS, as_loss
from . import comparison
from .common import Printed, Report, counted, progress, refuse_options, reported
from .sources import (
    SELECTION,
    STDIN,
    ModelFile,
    complete_data,
    data_file,
    model_argument,
    read_sequences,
    selection_options,
)

LISTED = 5  # the maximum number of unknown characters in a message


def _show(report: Report) -> Printed:
    if "bits_per_character" not in report:
        yield report["read_as"]
        if "forecasts" in report:
            yield from comparison.show(report)
            return
        accuracy = report["accuracy"]
        more = comparison.numbers(report) if accuracy is None else f", {accuracy:.1%} correct"
        yield f"loss {report['loss']:.4g}{more}"
        if "by_class" in report:
            yield comparison.classes(report)
        if unknown := report["unknown_labels"]:
            of_numbers = f"{counted(unknown, 'target')} not scored: missing"
            of_classes = f"{counted(unknown, 'label')} not scored: blank, or none of the model's classes"
            yield Text(of_numbers if "r2" in report else of_classes, "yellow")
        return
    yield (
        f"{report['bits_per_character']:.4f} bits per character, perplexity {report['perplexity']:.3f}, over "
        f"{counted(report['characters'], 'character')}"
    )
    if unknown := report["unknown"]:
        named = ", ".join(f"{character!r} ({n:,}x)" for character, n in list(unknown.items())[:LISTED])
        more = ", ..." if len(unknown) > LISTED else ""
        total = counted(sum(unknown.values()), "character")
        yield Text(f"Skipped {total} that the model does not know: {named}{more}", "yellow")


@click.command(epilog="Example:  onward score vowels japanese_vowels_test")
@model_argument
@click.argument("file", shell_complete=complete_data)
@click.option(
    "--unknown",
    type=click.Choice(["skip", "error"]),
    default="skip",
    help="What to do about characters of a text that are not in the model's vocabulary.",
)
@click.option(
    "--loss",
    type=click.Choice(list(LOSSES)),
    help="The loss of a table. Default: mse for numbers; for classes cross_entropy, or bce after a sigmoid.",
)
@click.option(
    "--from-logits/--from-probabilities",
    default=None,
    help="What the outputs are for cross_entropy and bce. Default: what the last layer returns.",
)
@selection_options
@reported(_show)
def score(
    model: ModelFile,
    file: str,
    unknown: str,
    loss: str | None,
    from_logits: bool | None,
    selection: data.Selection,
) -> Report:
    """Evaluate MODEL on FILE: a text or a table of labeled sequences.

    MODEL is a bundled model (see `onward models`) or a model file. FILE is a bundled data set, an .npz or
    .csv file for `onward train table`, or any other file, which is read as UTF-8 text. The options that
    select columns apply to .csv files; those that the model was trained with need not be repeated.

    For a text, prints the bits per character and the perplexity; for a table, the loss and, if the labels are
    classes, the accuracy.
    """
    path = Path(STDIN) if file == STDIN else data_file(file, "FILE")
    if file == STDIN or data.suffix_of(path) in data.SUFFIXES:
        table = read_sequences(model, file, selection)
        refuse_options(("unknown",), "texts")
        report: Report = {"read_as": table.describe(), **_score_table(model, table, loss, from_logits)}
    else:
        refuse_options((*SELECTION, "loss", "from_logits"), "tables")
        report = _score_text(model, path, unknown)
    return {"model": model.name, "file": file, **report}


def _score_table(
    model: ModelFile, table: data.Sequences, loss: str | None, from_logits: bool | None
) -> Report:
    if table.series is not None and table.targets is not None and loss is None:
        comparison.warn_of_short(table)
        found = forecasts.compare(model.runner, table)
        return found | {"loss": found["forecasts"][0]["rmse"] ** 2, "accuracy": None}
    if loss is None and table.targets is not None:
        loss = "mse"
    if isinstance(model.model, CompiledModel) and loss in (None, *OF_LOGITS) and None in (loss, from_logits):
        raise click.UsageError(
            f"{model} is compiled, and does not tell what its outputs are: pass --loss cross_entropy or bce, "
            "and --from-logits or --from-probabilities"
        )
    return sequences.score_table(model.runner, table, as_loss(loss, model.model, from_logits))


def _score_text(model: ModelFile, path: Path, unknown: str) -> Report:
    if model.vocabulary is None:
        suffixes = ", ".join(data.SUFFIXES)
        message = f"{path} is read as a text, but {model} is not a text model; tables end in {suffixes}"
        raise click.BadParameter(message, param_hint="FILE")
    net, vocabulary = model.text_model()
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
    return {
        "characters": len(known),
        "unknown": skipped,
        "bits_per_character": bits,
        "perplexity": text.perplexity(bits),
    }
