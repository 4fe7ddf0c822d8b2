"""`onward train`: train a model on text or on a table of sequences; `onward plot`: plot a training."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from ..core import files
from ..layers.sequential import Sequential
from ..recipes import characters, sequences, text
from ..tables import data, model_files
from ..train import History, checkpoint
from .common import (
    PICTURES,
    Report,
    check_suffix,
    complete_data,
    counted,
    data_file,
    json_option,
    new_table,
    write_figure,
)
from .group import Group
from .input_options import selection_options


@click.group(cls=Group, epilog="Example:  onward train text plays.txt")
def train() -> None:
    """Train a model on text or on a table of sequences."""


def settings(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all training commands share."""
    for option in (
        json_option,
        click.option("--resume", is_flag=True, help="Continue the same command after an interruption."),
        click.option(
            "--seed", default=0, show_default=True, help="Seed of initial weights, order and dropout."
        ),
        click.option("--epochs", type=click.IntRange(1), help="Passes over the data. Default: by its size."),
        click.option("--layers", default=None, type=click.IntRange(1), help="Number of LSTM layers."),
        click.option("--hidden", default=None, type=click.IntRange(1), help="Units per layer."),
        click.option(
            "-o",
            "--out",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Write the model to this .safetensors file. Default: the name of FILE.",
        ),
    ):
        command = option(command)
    return command


@train.command("text", epilog="Example:  onward train text plays.txt --epochs 4")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@settings
def train_text(
    file: Path,
    out: Path | None,
    hidden: int | None,
    layers: int | None,
    epochs: int | None,
    seed: int,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a model to predict the next character of FILE, a text in UTF-8.

    The first 90% of the text is used for training, the next 5% selects the best epoch, and the last 5%
    determines the reported bits per character. `onward sample` then generates text with the model.
    """
    out = _output(file, out)
    whole = files.read_text(file)
    vocabulary, parts = text.Vocabulary(whole), characters.split(whole)
    model = characters.character_model(
        vocabulary, hidden or characters.hidden_size(whole), layers or 2, characters.DROPOUT, seed
    )
    with _interruptible(_run_file(out), resume):
        history = characters.fit_text(
            model, vocabulary, parts, epochs=epochs, rng=seed, checkpoint=_run_file(out), resume=resume
        )
    text.save(out, model, vocabulary)
    bits = text.bits_per_character(model, vocabulary, parts.test)
    report = _report(file, out, model, history)
    report |= {"characters": len(whole), "vocabulary": len(vocabulary), "bits_per_character": bits}
    report["perplexity"] = 2**bits
    result = f"{bits:.3f} bits per character on the last 5% of the text (perplexity {2**bits:.2f})"
    _print(report, result, f"onward sample {out}", as_json)


@train.command("table", epilog="Example:  onward train table recordings.npz")
@click.argument("file", shell_complete=complete_data)
@selection_options
@settings
def train_table(
    file: str,
    selection: data.Selection,
    out: Path | None,
    hidden: int | None,
    layers: int | None,
    epochs: int | None,
    seed: int,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a model that predicts the class, or numbers, of the sequences in FILE.

    FILE is a bundled data set, or an .npz or .csv file like the INPUT of `onward run`, with targets to
    predict. In an .npz file, `y` holds classes (N,), as integers or strings; numbers (N, O) for each
    sequence; or numbers (N, T, O) for each step. In a .csv file, --target names the column: strings and
    integers that are the same on all rows of a sequence are classes; other numbers are values, one per
    sequence if they are constant within it, otherwise one per step. Write 3.0 rather than 3 for an integer
    that is a value.

    To forecast a long table, --window sets how many steps the model reads and --horizon how many it predicts:

    \b
    onward train table sales.csv --time day --input sold,price --target sold --window 28 --horizon 7

    A fifth of the sequences (with --window, the last fifth of the windows) is held out to select the best
    epoch and to compute the reported score. The columns, windows and class names are saved with the model for
    `onward run` and `onward score`.
    """
    path = data_file(file, "FILE", (".npz", ".csv"))
    out = _output(path, out)
    table = data.read(path, selection).with_class_names()
    if not as_json:
        click.echo(table.describe())
    with _interruptible(_run_file(out), resume):
        model, history, score = sequences.fit_table(
            table,
            hidden_size=hidden or sequences.HIDDEN,
            num_layers=layers or 1,
            epochs=epochs,
            seed=seed,
            checkpoint=_run_file(out),
            resume=resume,
        )
    model_files.save(out, model, data.Saved(table.selection, table.classes))
    report = _report(file, out, model, history)
    report |= {
        "read_as": table.describe(), "sequences": len(table.items), "classes": list(table.classes),
        "loss": score.loss, "accuracy": score.accuracy,
    }  # fmt: skip
    if score.accuracy is None:
        report["losses"] += " of standardized targets"
        result = f"mean squared error {score.loss:.4g} in the units of the targets"
    else:
        result = f"accuracy {score.accuracy:.1%}, cross entropy {score.loss:.4g} nats without label smoothing"
    _print(report, f"held-out sequences: {result}", f"onward run {out} {file}", as_json)


@click.command(epilog="Example:  onward plot plays.run -o plays.png")
@click.argument("run", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the plot to this .png, .svg or .pdf file. Default: the name of RUN.",
)
@json_option
def plot(run: Path, out: Path | None, as_json: bool) -> None:
    """Plot the losses and the learning rate of a training run.

    RUN is the checkpoint that `onward train` writes beside the model, or one of onward.train.fit.
    """
    out = run.with_suffix(".png") if out is None else out
    check_suffix(out, "--out", PICTURES)
    write_figure(out, checkpoint.history(run).plot())
    if as_json:
        print(json.dumps({"run": str(run), "out": str(out)}))
    else:
        Console(highlight=False, markup=False).print(f"Wrote {out}")


def _output(file: Path, out: Path | None) -> Path:
    out = Path(file.with_suffix(".safetensors").name) if out is None else out
    check_suffix(out, "--out", (".safetensors",))
    for written in (out, _run_file(out)):
        if written.exists() and written.samefile(file):
            message = f"{written} would overwrite FILE: choose another name for the model"
            raise click.BadParameter(message, param_hint="--out")
    return out


def _run_file(out: Path) -> Path:
    """Return the path of the model's checkpoints."""
    return out.with_suffix(".run")


@contextmanager
def _interruptible(run: Path, resume: bool) -> Iterator[None]:
    """On an interrupt, print how to resume and exit with code 130, as a shell does."""
    before = _modified(run)
    try:
        yield
    except KeyboardInterrupt:
        # an unmodified checkpoint belongs to this training only if it was resumed
        saved = run.exists() and (resume or _modified(run) != before)
        hint = f"the same command with --resume continues from {run}" if saved else "nothing was saved yet"
        click.echo(click.style(f"Interrupted: {hint}.", "yellow"), err=True)
        sys.exit(130)


def _modified(path: Path) -> int | None:
    """Return when a file was modified, in ns, or None if it does not exist."""
    return path.stat().st_mtime_ns if path.exists() else None


def _report(file: str | Path, out: Path, model: Sequential, history: History) -> Report:
    return {
        "file": str(file),
        "model": str(out),
        "run": str(_run_file(out)),
        "parameters": sum(weight.size for weight in model.state_dict().values()),
        "losses": history.loss,
        "best": history.best,
        "epochs": [epoch._asdict() for epoch in history.epochs],
    }


def _print(report: Report, result: str, next_command: str, as_json: bool) -> None:
    """Print the report as JSON, or as a table of epochs, the result and what to do next."""
    if as_json:
        print(json.dumps(report, allow_nan=False))
        return
    title = f"{report['file']}: {report['parameters']:,} parameters"
    epochs, best = report["epochs"], report["best"]
    has_accuracy = epochs[-1]["accuracy"] is not None
    columns = [
        "epoch",
        "training loss",
        "validation loss",
        *(["validation accuracy"] if has_accuracy else []),
    ]
    table = new_table(title, *columns)
    for n in _rows(len(epochs), best):
        epoch = epochs[n]
        cells = [f"{n + 1} (best)" if n == best else f"{n + 1}"]
        cells += [f"{epoch['loss']:.4f}", f"{epoch['validation_loss']:.4f}"]
        if has_accuracy:
            cells.append(f"{epoch['accuracy']:.1%}")
        table.add_row(*cells, style="bold" if n == best else "")
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(f"Losses: {report['losses']}", soft_wrap=True)
    console.print(f"{counted(epochs[-1]['step'], 'step')}; {result}", soft_wrap=True)
    console.print(f"Wrote {report['model']}. Try:  {next_command}", soft_wrap=True)


def _rows(epochs: int, best: int) -> list[int]:
    """Return the indices of the epochs to print: every tenth (all of up to ten), the best and the last."""
    stride = 10 if epochs > 10 else 1
    return sorted({*range(stride - 1, epochs, stride), best, epochs - 1})
