"""`onward train`: train a model on text or on a table of sequences; `onward plot`: plot a training."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..core import files
from ..errors import FileError
from ..layers.base_model import BaseModel
from ..recipes import characters, forecasts, sequences, text
from ..tables import data, model_files
from ..train import History, checkpoint
from . import common, comparison
from .common import Printed, Real, Report, counted, out_option
from .group import Group, warn
from .sources import STDIN, complete_data, data_file, read_table, selection_options

MOST_ROWS = 20  # of epochs at equal distances


@click.group(cls=Group, epilog="Example:  onward train text plays.txt")
def train() -> None:
    """Train a model on text or on a table of sequences."""


def _show(report: Report) -> Printed:
    """Show some epochs at equal distances, the best and the last, the result and what to do next."""
    epochs, best, accuracy = report["epochs"], report["best"], report.get("accuracy")
    columns = {"training loss": ("loss", ".4f"), "validation loss": ("validation_loss", ".4f")}
    if epochs[-1]["accuracy"] is not None:
        columns["validation accuracy"] = ("accuracy", ".1%")
    table = common.new_table(f"{report['file']}: {report['parameters']:,} parameters", "epoch", *columns)
    stride = 10 * -(-len(epochs) // MOST_ROWS // 10) if len(epochs) > 10 else 1
    for n in sorted({*range(stride - 1, len(epochs), stride), best, len(epochs) - 1}):
        cells = [format(epochs[n][key], form) for key, form in columns.values()]
        table.add_row(f"{n + 1}{' (best)' * (n == best)}", *cells, style="bold" if n == best else "")
    loss, next_command = report.get("loss"), f"run {report['model']} {report['file']}"
    if loss is None:
        result = (
            f"{report['bits_per_character']:.3f} bits per character on the last 5% of the text "
            f"(perplexity {report['perplexity']:.2f})"
        )
        next_command = f"sample {report['model']}"
    elif "forecasts" in report:
        if report["known"]:  # a forecast needs rows of the future, which the file may lack
            next_command = f"score {report['model']} {report['file']}"
        held = counted(report["windows"]["held_out"], "window")
        result = f"errors on the held-out end of each series, {held}:"
    elif accuracy is None:
        result = f"held-out sequences: mean squared error {loss:.4g}{comparison.numbers(report)}"
    else:
        result = f"held-out sequences: accuracy {accuracy:.1%}, cross entropy {loss:.4g} nats"
        result += " without label smoothing"
    yield table
    yield f"Losses: {report['losses']}"
    yield f"{counted(epochs[-1]['step'], 'training step')}; {result}"
    if "forecasts" in report:
        yield from comparison.show(report)
    if "by_class" in report:
        yield comparison.classes(report)
    yield f"Wrote {report['model']}. Try:  onward {next_command}"


# what all training commands share
settings = common.options(
    out_option("Write the model to this .safetensors file. Default: the name of FILE."),
    click.option("--hidden", "hidden_size", type=click.IntRange(1), help="Units per layer."),
    click.option("--layers", "num_layers", type=click.IntRange(1), help="Number of recurrent layers."),
    click.option("--epochs", type=click.IntRange(1), help="Passes over the data. Default: by its size."),
    click.option(
        "--seed", default=0, type=click.IntRange(0), help="Seed of initial weights, order and dropout."
    ),
    click.option("--resume", is_flag=True, help="Continue the same command after an interruption."),
    common.reported(_show),
)


# what `train table` adds
table_settings = common.options(
    click.option("--cell", type=click.Choice(list(sequences.CELLS)), help="Kind of the recurrent layers."),
    click.option("--bidirectional", is_flag=True, default=None, help="Read sequences in both directions."),
    click.option("--learning-rate", type=Real(0, min_open=True), help="Of AdamW, at its peak."),
    click.option(
        "--patience", type=click.IntRange(1), help="Stop after this many epochs without improvement."
    ),
    click.option(
        "--class-weight",
        type=click.Choice(["balanced"]),
        help="Let each class count the same in training, however rare it is.",
    ),
    click.option(
        "--hold-out",
        type=Real(0, 0.9, min_open=True),
        help="Share of the sequences, or of the end of each series, to hold out.",
    ),
    click.option(
        "--scale",
        type=click.Choice(list(forecasts.LEVELS)),
        help="With --window: scale each series by itself (the default), or the whole table as one.",
    ),
    click.option(
        "--refit/--no-refit",
        default=None,
        help="With --window: train once more, on all windows, after the validation (the default).",
    ),
)


@train.command("text", epilog="Example:  onward train text plays.txt --epochs 4")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@settings
def train_text(
    file: Path, out: Path | None, hidden_size: int | None, num_layers: int | None, seed: int, **progress: Any
) -> Report:
    """Train a model to predict the next character of FILE, a text in UTF-8.

    The first 90% of the text is used for training, the next 5% selects the best epoch, and the last 5%
    determines the reported bits per character. `onward sample` then generates text with the model.
    """
    out = _output(file, out)
    whole = files.read_text(file)
    vocabulary, parts = text.Vocabulary(whole), characters.split(whole)
    H = hidden_size or characters.hidden_size(whole)
    model = characters.character_model(vocabulary, H, num_layers or 2, characters.DROPOUT, seed)
    progress |= {"rng": seed, "checkpoint": _run_file(out)}
    with _interruptible(_run_file(out), progress["resume"]):
        history = characters.fit_text(model, vocabulary, parts, **progress)
    text.save(out, model, vocabulary)
    bits = text.bits_per_character(model, vocabulary, parts.test)
    sizes = {"characters": len(whole), "vocabulary": len(vocabulary)}
    quality = {"bits_per_character": bits, "perplexity": text.perplexity(bits)}
    return _report(file, out, model, history) | sizes | quality


@train.command("table", epilog="Example:  onward train table recordings.npz")
@click.argument("file", shell_complete=complete_data)
@selection_options
@table_settings
@settings
def train_table(file: str, selection: data.Selection, out: Path | None, **settings: Any) -> Report:
    """Train a model that predicts the class, or numbers, of the sequences in FILE.

    FILE is a bundled data set; an .npz, .csv, .tsv or .parquet file like the INPUT of `onward run`, with
    targets to predict; or - for standard input. In an .npz file, `y` holds classes (N,), as integers or
    strings; numbers (N, O) for each sequence; or numbers (N, T, O) for each step. In other files, --target
    names the column: strings and
    integers that are the same on all rows of a sequence are classes; other numbers are values, one per
    sequence if they are constant within it, otherwise one per step. --task says so explicitly.

    To forecast a long table, --window sets how many steps the model reads and --horizon how many it predicts:

    \b
    onward train table sales.csv --time day --input sold,price --target sold --window 28 --horizon 7

    A fifth of the sequences is held out to select the best epoch and to compute the reported score. With
    --window, it is the last fifth of each series in time: its first half selects, its second half is reported
    on, beside the naive forecast, which repeats the last value, and the seasonal naive forecast, which
    repeats the last season. The model is then trained once more on all windows. The columns, windows and
    class names are saved with the model for `onward run` and `onward score`.
    """
    if file == STDIN and out is None:
        raise click.UsageError("--out is missing: name the model that standard input trains")
    path = Path(STDIN) if file == STDIN else data_file(file, "FILE")
    if file != STDIN:
        common.check_suffix(path, "FILE", (".npz", *data.TABLES))
    out = _output(path, out)
    table = read_table(file, selection, finite=True).with_class_names()
    common.announce(table.describe())
    guessed = table.labels is not None and selection.task is None and table.selection.targets
    if guessed and all(name.removeprefix("-").isdecimal() for name in table.classes):
        classes = counted(len(table.classes), "class").replace("classs", "classes")
        warn(
            f"The integers of {table.selection.targets[0]!r} are {classes}: for numbers, pass --task regress."
        )
    options = {name: value for name, value in settings.items() if value is not None}
    options |= {"checkpoint": _run_file(out)}
    with _interruptible(_run_file(out), settings["resume"]):
        model, history, found = _fit_windows(table, options) if table.series else _fit(table, options)
    saved = replace(table.selection, season=found.get("season"))
    model_files.save(out, model, data.Saved(saved, table.classes, table.categories))
    report = _report(file, out, model, history) | found
    if found["accuracy"] is None:
        report["losses"] += " of standardized targets" if table.series is None else " of scaled targets"
    described = {"read_as": table.describe(), "sequences": len(table.items)}
    return report | described | {"classes": list(table.classes)}


def _fit(table: data.Sequences, options: dict[str, Any]) -> tuple[BaseModel, History, Report]:
    """Train on whole sequences."""
    for name in ("scale", "refit"):
        if name in options:
            raise click.UsageError(f"--{name} needs --window, the number of steps that the model reads")
    return sequences.fit_table(table, **options)


def _fit_windows(table: data.Sequences, options: dict[str, Any]) -> tuple[BaseModel, History, Report]:
    """Train on windows of series."""
    if "class_weight" in options:
        raise click.UsageError("--class-weight is for classes, but --window forecasts numbers")
    comparison.warn_of_short(table)
    model, history, found = forecasts.fit_forecasts(table, announce=common.announce, **options)
    loss = found["forecasts"][0]["rmse"] ** 2
    return model, history, found | {"loss": loss, "accuracy": None, "known": list(table.selection.known)}


@click.command(epilog="Example:  onward plot plays.run -o plays.png")
@click.argument("run", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@out_option("Write the plot to this .png, .svg or .pdf file. Default: the name of RUN.")
@common.reported(lambda report: [f"Wrote {report['out']}"])
def plot(run: Path, out: Path | None) -> Report:
    """Plot the losses and the learning rate of a training run.

    RUN is the checkpoint that `onward train` writes beside the model, or one of onward.train.fit.
    """
    out = run.with_suffix(".png") if out is None else out
    common.check_suffix(out, "--out", common.PICTURES)
    common.write_figure(out, checkpoint.history(run).plot())
    return {"run": str(run), "out": str(out)}


def _output(file: Path, out: Path | None) -> Path:
    out = Path(file.name.removesuffix(".gz")).with_suffix(".safetensors") if out is None else out
    common.check_suffix(out, "--out", (".safetensors",))
    for written in (out, _run_file(out)):
        common.refuse_to_overwrite({"FILE": file}, written)
    return out


# the options on which a setting in a checkpoint depends
OPTIONS = {
    "model": ("--input", "--target", "--horizon", "--cell", "--hidden", "--layers", "--bidirectional"),
    "optimizer": ("--learning-rate",),
    "average": ("--epochs", "--hold-out"),
    "unit": ("--scale", "--horizon", "--hold-out"),
    "data set": ("--input", "--target", "--hold-out", "--class-weight", "--weight", "--seed"),
    "validation": ("--input", "--target", "--hold-out", "--seed"),
}


def _run_file(out: Path) -> Path:
    """Return the path of the model's checkpoints."""
    return out.with_suffix(".run")


@contextmanager
def _interruptible(run: Path, resume: bool) -> Iterator[None]:
    """On an interrupt, print how to resume and exit with code 130, as a shell does."""
    before = run.exists() and run.stat().st_mtime_ns
    try:
        yield
    except FileError as error:
        if not resume:
            raise
        message = str(error).replace("with resume=False", "without --resume").replace("epochs=", "--epochs ")
        setting = message.partition(" was written with another ")[2].partition(": ")[0]
        options = [o for each in click.get_current_context().command.params for o in each.opts]
        named = ", ".join(option for option in OPTIONS.get(setting, ()) if option in options)
        hint = f", here of {named}" if named else ""
        raise FileError(
            f"{message} (--resume needs FILE and the options of the first command{hint})"
        ) from error
    except KeyboardInterrupt:
        # an unmodified checkpoint belongs to this training only if it was resumed
        saved = run.exists() and (resume or run.stat().st_mtime_ns != before)
        hint = f"the same command with --resume continues from {run}" if saved else "nothing was saved yet"
        warn(f"Interrupted: {hint}.")
        sys.exit(130)


def _report(file: str | Path, out: Path, model: BaseModel, history: History) -> Report:
    return {
        "file": str(file),
        "model": str(out),
        "run": str(_run_file(out)),
        "parameters": sum(row.parameters for row in model.summary_rows()),
        "losses": history.loss,
        "best": history.best,
        "epochs": [epoch._asdict() for epoch in history.epochs],
    }
