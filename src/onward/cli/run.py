"""`onward run`: a model over sequences, and what it predicts."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource
from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from ..layers.sequential import Sequential
from ..tables import data, scoring
from .common import (
    Report,
    check_suffix,
    complete_data,
    complete_model,
    counted,
    json_option,
    model_and_input,
    new_table,
    progress,
)
from .run_table import is_parquet, run_table, show_table_run

SHOWN = 24  # rows of a table of outputs
OF_PARQUET = ("engine", "input_", "lengths", "output", "on_error")


@click.command(epilog="Example:  onward run vowels recordings.csv --out speakers.csv")
@click.argument("model", shell_complete=complete_model)
@click.argument("source", metavar="[INPUT]", required=False, shell_complete=complete_data)
@click.option(
    "--out",
    help="Write the outputs to this file: .npy, .npz, .csv; of Parquet, .parquet; with --engine, a folder.",
)
@click.option("--engine", type=click.Choice(["ray"]), help="Run over Parquet on many processors or machines.")
@click.option("--address", help="The cluster of Ray to run on, as auto; without it, one is started here.")
@click.option("--input", "input_", default="x", show_default=True, help="Of Parquet: column of sequences.")
@click.option("--lengths", help="Of Parquet: column that says how many steps of each count.")
@click.option("--output", default="y", show_default=True, help="Of Parquet: column to write.")
@click.option(
    "--on-error",
    type=click.Choice(["fail", "keep"]),
    default="fail",
    show_default=True,
    help="Of Parquet: end at a bad row, or say in a column what is wrong with it.",
)
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    model: str,
    source: str | None,
    out: str | None,
    engine: str | None,
    address: str | None,
    input_: str,
    lengths: str | None,
    output: str,
    on_error: str,
    as_json: bool,
) -> None:
    """Run MODEL on the sequences of INPUT and show its predictions.

    MODEL is a bundled model (see `onward models`) or a file that onward.load opens.

    INPUT is a bundled data set or a file. Without it, a bundled model runs over its own test data.

    \b
    .npy  x (T, I): time steps of features; or (T, B, I): B sequences
    .npz  `x` as above, or sequences one after another, with `lengths`;
          `y`, if there, is the class of each
    .csv  a header, a row for each time step, a column for each feature;
          columns `sequence` and `label`, if there, tell sequences apart
          and name the class of each by its number
    .parquet  a row for each sequence, a column of lists of its steps;
          or a folder of such files, or a URI, as s3://bucket/folder
    """
    if address is not None and engine is None:
        raise click.UsageError("--address is of Ray: give --engine ray, too, or leave it out")
    if source is not None and (engine is not None or is_parquet(source)):
        columns = {"input": input_, "lengths": lengths, "output": output, "on_error": on_error}
        report = run_table(model, source, out, engine, address, **columns)
        show = show_table_run
    else:
        _refuse_options_of_parquet(ctx)
        report = _run_file(model, source, None if out is None else Path(out))
        show = _show_run
    if as_json:
        print(json.dumps(report, allow_nan=False))
    else:
        show(report)


def _refuse_options_of_parquet(ctx: click.Context) -> None:
    """What would do nothing is an error, lest somebody rely on it."""
    given = [
        option.opts[0]
        for option in ctx.command.params
        if option.name in OF_PARQUET and ctx.get_parameter_source(option.name) != ParameterSource.DEFAULT
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)}: of Parquet only, which INPUT is not")


def _run_file(model: str, source: str | None, out: Path | None) -> Report:
    """Runs over a file that fits in memory, and sums up what the model predicts."""
    if out is not None:
        check_suffix(out, "--out", data.SUFFIXES)
    net, source_file = model_and_input(model, source)
    sequences = data.read(source_file)
    outputs, seconds = _outputs(net, sequences)
    per_step = outputs[0].ndim == 2
    stacked = np.concatenate(outputs) if per_step else np.stack(outputs)
    if out is not None:
        data.write(out, stacked, sequences.lengths if per_step else None)

    return {
        "model": model,
        "input": source_file.stem if source is None else source,
        **_summary(sequences, stacked, seconds, per_step),
        "out": None if out is None else str(out),
    }


def _outputs(net: Sequential, sequences: data.Sequences) -> tuple[list[data.AnyArray], float]:
    """What the model gives for each sequence, (O,) or (T, O), and how many seconds it took."""
    outputs: list[Any] = [None] * len(sequences.items)
    start = time.perf_counter()
    with progress("Running", len(outputs)) as advance:
        for rows, answers in scoring.outputs(net, sequences.items):
            for row, y in zip(rows, answers, strict=True):
                outputs[row] = y
            advance(len(rows))
    return outputs, time.perf_counter() - start


def _summary(sequences: data.Sequences, outputs: data.AnyArray, seconds: float, per_step: bool) -> Report:
    """What is reported of a run: each output and, where there are labels, each class."""
    steps = int(sequences.lengths.sum())
    report: Report = {
        "sequences": len(sequences.items),
        "steps": steps,
        "seconds": seconds,
        "steps_per_second": steps / seconds,
        "output_shape": list(outputs.shape),
        "labels": sequences.labels is not None,
        "not_finite": int((~np.isfinite(outputs)).sum()),
    }
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        mean = outputs.mean(axis=0, dtype=np.float64)
    report["outputs"] = [
        {"mean": _number(mean[k]), "min": _number(column.min()), "max": _number(column.max())}
        for k, column in enumerate(outputs.T)
    ]
    if per_step or outputs.shape[1] == 1:
        return report

    predicted = outputs.argmax(axis=1)
    report["predicted"] = predicted.tolist()
    if (labels := sequences.labels) is not None:
        report["accuracy"] = float((predicted == labels).mean())
        report["classes"] = [_class(k, labels, predicted) for k in np.union1d(labels, predicted).tolist()]
    return report


def _class(k: int, labels: data.Integers, predicted: data.Integers) -> Report:
    own = predicted[labels == k]
    correct = int((own == k).sum())
    return {
        "class": k,
        "sequences": len(own),
        "correct": correct,
        "accuracy": correct / len(own) if len(own) else None,
        "taken_for": dict(Counter(own[own != k].tolist()).most_common()),
    }


def _number(value: Any) -> float | None:
    """None for NaN and infinities, which JSON does not have."""
    return float(value) if np.isfinite(value) else None


def _show_run(report: Report) -> None:
    console = Console(highlight=False, markup=False)
    console.print(_classes_table(report) if "classes" in report else _outputs_table(report))
    console.print(
        f"{counted(report['sequences'], 'sequence')}, {counted(report['steps'], 'time step')} in "
        f"{report['seconds'] * 1e3:,.1f} ms: {report['steps_per_second']:,.0f} steps per second"
    )
    if report["labels"] and "classes" not in report:
        console.print("The labels are not used: the model does not give one output for each class.")
    if report["not_finite"]:
        console.print(f"{counted(report['not_finite'], 'output')} NaN or infinite.", style="yellow")
    if report["out"]:
        console.print(f"Outputs written to {report['out']}")


def _title(report: Report) -> str:
    return f"{report['model']} on {report['input']}: outputs {tuple(report['output_shape'])}"


def _classes_table(report: Report) -> Table:
    table = new_table(_title(report), "class", "sequences", "correct", "accuracy")
    table.add_column("")
    table.add_column("taken for")
    for row in report["classes"]:
        accuracy = row["accuracy"]
        table.add_row(
            str(row["class"]),
            str(row["sequences"]),
            str(row["correct"]),
            "" if accuracy is None else f"{accuracy:.1%}",
            Bar(1, 0, accuracy or 0, width=20, color="green"),
            ", ".join(f"{k} ({times}x)" for k, times in row["taken_for"].items()),
        )
    table.add_section()
    correct = sum(row["correct"] for row in report["classes"])
    table.add_row(
        "all",
        str(report["sequences"]),
        str(correct),
        f"{report['accuracy']:.1%}",
        Bar(1, 0, report["accuracy"], width=20, color="green"),
        style="bold",
    )
    return table


def _outputs_table(report: Report) -> Table:
    largest: Counter[int] = Counter(report.get("predicted"))
    table = new_table(_title(report), "output", "mean", "min", "max", *(["largest in"] if largest else []))
    for k, row in enumerate(report["outputs"][:SHOWN]):
        numbers = ["" if value is None else f"{value:.4g}" for value in row.values()]
        table.add_row(str(k), *numbers, *([f"{largest[k]:,} of {report['sequences']:,}"] if largest else []))
    hidden = len(report["outputs"]) - SHOWN
    if hidden > 0:
        table.caption = f"and {counted(hidden, 'more output')}: --json shows all"
    return table
