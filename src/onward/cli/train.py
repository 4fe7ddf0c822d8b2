"""`onward train`: models of text, and of tables of sequences; `onward plot`: how a training went."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from ..core import storage
from ..layers.sequential import Sequential
from ..recipes import characters, sequences, text
from ..tables import data, model_files
from ..train import History, checkpoint
from .common import PICTURES, Report, check_suffix, counted, json_option, new_table, write_figure
from .input_options import selection_options


@click.group(epilog="Example:  onward train text plays.txt")
def train() -> None:
    """Train a model on a text or on a table of sequences."""


def settings(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all trainings have."""
    for option in (
        json_option,
        click.option("--resume", is_flag=True, help="Go on where the same command was interrupted."),
        click.option("--seed", default=0, show_default=True, help="Of weights, order and dropout."),
        click.option(
            "--epochs", type=click.IntRange(1), help="Times through the data; by its size, if not given."
        ),
        click.option("--layers", default=None, type=click.IntRange(1), help="Layers of the LSTM."),
        click.option("--hidden", default=None, type=click.IntRange(1), help="Units of each layer."),
        click.option(
            "-o",
            "--out",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Write the model to this .safetensors file; by the name of FILE, if not given.",
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
    """Trains a model that says which character of FILE, a text in UTF-8, comes next.

    It learns from the first 90 % of the text; the best epoch is chosen by the next 5 %, and the bits per
    character reported are those of the last 5 %. `onward sample` then writes with it.
    """
    out = _output(file, out)
    whole = storage.read_text(file)
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
    said = f"{bits:.3f} bits per character of the last 5 % (perplexity {2**bits:.2f})"
    _show(report, said, f"onward sample {out}", as_json)


@train.command("table", epilog="Example:  onward train table recordings.npz")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@selection_options
@settings
def train_table(
    file: Path,
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

    FILE is an .npz or .csv file as `onward run` takes it, with what the model is to predict. An .npz file
    has `y`: classes (N,), which are integers or strings; numbers (N, O) for each sequence; or numbers
    (N, T, O) for each step. In a .csv file, --target names the column: strings and integers that are the same
    on all rows of a sequence are classes; other numbers are values, for each sequence if they are constant,
    else for each step. Write 3.0 rather than 3 for an integer that is a value.

    To forecast a long table, --window sets how many steps the model reads and --horizon how many it predicts:

    
    onward train table sales.csv --time day --input sold,price --target sold --window 28 --horizon 7

    A fifth of the sequences is held out, of windows the last fifth, to choose the best epoch and to report
    the score. The columns, windows and class names are saved with the model: `onward run` and `score` use
    them.
    """
    check_suffix(file, "FILE", (".npz", ".csv"))
    out = _output(file, out)
    table = data.read(file, selection).with_class_names()
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
    said = f"held-out sequences: loss {score.loss:.4g}"
    said += "" if score.accuracy is None else f", {score.accuracy:.1%} right"
    _show(report, said, f"onward run {out} {file}", as_json)


@click.command(epilog="Example:  onward plot plays.run -o plays.png")
@click.argument("run", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the picture to this file: .png, .svg or .pdf; by the name of RUN, if not given.",
)
def plot(run: Path, out: Path | None) -> None:
    """Plot the losses and the learning rate of a training run.

    RUN is the checkpoint that `onward train` keeps beside the model, or one of onward.train.fit.
    """
    out = run.with_suffix(".png") if out is None else out
    check_suffix(out, "--out", PICTURES)
    write_figure(out, checkpoint.history(run).plot())
    Console(highlight=False, markup=False).print(f"Written to {out}")


def _output(file: Path, out: Path | None) -> Path:
    out = Path(file.with_suffix(".safetensors").name) if out is None else out
    check_suffix(out, "--out", (".safetensors",))
    for written in (out, _run_file(out)):
        if written.exists() and written.samefile(file):
            message = f"{written} would be written over FILE: give the model another name"
            raise click.BadParameter(message, param_hint="--out")
    return out


def _run_file(out: Path) -> Path:
    """Where checkpoints of the model are kept."""
    return out.with_suffix(".run")


@contextmanager
def _interruptible(run: Path, resume: bool) -> Iterator[None]:
    """Ends in a message and exit code 130, as a shell's, where it is interrupted."""
    before = _written(run)
    try:
        yield
    except KeyboardInterrupt:
        # a checkpoint that stays as it was is of this training only if this one goes on from it
        kept = run.exists() and (resume or _written(run) != before)
        said = f"the same command with --resume goes on from {run}" if kept else "nothing was kept yet"
        click.echo(click.style(f"Interrupted: {said}.", "yellow"), err=True)
        sys.exit(130)


def _written(path: Path) -> int | None:
    """When a file was written, in ns; None: there is none."""
    return path.stat().st_mtime_ns if path.exists() else None


def _report(file: Path, out: Path, model: Sequential, history: History) -> Report:
    return {
        "file": str(file),
        "model": str(out),
        "run": str(_run_file(out)),
        "parameters": sum(weight.size for weight in model.state_dict().values()),
        "best": history.best,
        "epochs": [epoch._asdict() for epoch in history.epochs],
    }


def _show(report: Report, said: str, then: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report, allow_nan=False))
        return
    table = new_table(f"{report['file']}: {report['parameters']:,} parameters", "epoch", "loss", "validation")
    for number, epoch in enumerate(report["epochs"]):
        style = "bold" if number == report["best"] else ""
        table.add_row(str(number + 1), f"{epoch['loss']:.4f}", f"{epoch['validation_loss']:.4f}", style=style)
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(f"{counted(report['epochs'][-1]['step'], 'step')}; {said}")
    console.print(f"Written to {report['model']}. Try:  {then}")
