"""`onward run`: run a model over sequences, show a summary and write the outputs."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..errors import ArgumentError
from ..layers.base import Layer
from ..tables import data, inference, output_files
from ..tables.data import Selection, Sequences
from .common import (
    Report,
    check_suffix,
    complete_data,
    complete_model,
    json_option,
    model_file,
    model_in,
    progress,
)
from .input_options import (
    STDIN,
    default_source,
    names,
    read_sequences,
    refuse_to_overwrite,
    selection_options,
)
from .named_arrays import run_arrays, show_arrays, takes_arrays
from .run_parquet import is_parquet, run_parquet, show_parquet
from .run_summary import Predictions, predict, show, summarize

PARQUET_ONLY = ("engine", "address", "lengths", "output", "columns")
ARRAYS_ONLY = ("target", "time", "window", "horizon")
MOST_NAMED = 10  # the maximum number of bad sequences in a message


@click.command(epilog="Example:  onward run vowels recordings.csv --out speakers.csv")
@click.argument("model", shell_complete=complete_model)
@click.argument("source", metavar="[INPUT]", required=False, shell_complete=complete_data)
@click.option(
    "--out", help="Write the outputs to this .npy, .npz, .csv or .parquet file, or to stdout with -."
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Number of threads, or of Ray actors. Default: 1 thread, or as many actors as fit.",
)
@selection_options
@click.option(
    "--on-error",
    type=click.Choice(["fail", "keep"]),
    default="fail",
    show_default=True,
    help="Stop at a bad sequence, or set it aside and record the reason.",
)
@click.option("--lengths", help="Parquet: column with the number of valid steps of each row.")
@click.option("--output", default="y", show_default=True, help="Parquet: name of the column to add.")
@click.option(
    "--columns",
    help="Parquet: columns to keep besides the output, or '*' for all. By default, the --group column and "
    "the index that pandas wrote.",
)
@click.option("--engine", type=click.Choice(["ray"]), help="Parquet: run on many processors or machines.")
@click.option("--address", help="Parquet: the Ray cluster to run on, such as auto; by default a local one.")
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    model: str,
    source: str | None,
    out: str | None,
    workers: int | None,
    selection: Selection,
    on_error: str,
    lengths: str | None,
    output: str,
    columns: str | None,
    engine: str | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Run MODEL on the sequences of INPUT and show its predictions.

    MODEL is a bundled model (see `onward models`) or a file that onward.load opens.

    INPUT is a bundled data set, a file, or - for an array or CSV on standard input; the outputs then go to
    standard output, in the same format. Without INPUT, a bundled model runs on its own test data.

    \b
    .npy      (N, T, F): N sequences of T steps with F features; (T, F): one
              sequence; (N, T) or (T,): token ids
    .npz      the same array as `x`; `lengths` (N,), if present, are the valid
              steps of each row, and `y` (N,) the classes. With `lengths`, x may
              also be (sum of lengths, F): one sequence after another
              If MODEL does not run over sequences: its inputs by name, for one
              call, whose outputs --out writes as .npz
    .csv      a header, a row per time step and a column per feature; the
              options below select columns. By default, `sequence` tells
              sequences apart and `label` is the class
    .parquet  a row per sequence, with a column of lists (default: x) or several
              columns of numbers; a folder of files; or a URI, such as
              s3://bucket/folder
    text      any other file, if MODEL is a text model

    Column options passed to `onward train table` are saved with the model and need not be repeated.

    A sequence is bad if the model's output for it is NaN; a Parquet row is also bad if its sequence is
    missing or malformed. A bad sequence stops the run with exit code 1, and nothing is written. With
    --on-error keep, the summary excludes it, its outputs are NaN (in Parquet: null), .csv and .parquet files
    state the reason, and the exit code is 0.
    """
    path = model_file(model)
    try:
        if source is not None and (engine is not None or is_parquet(source)):
            _refuse(ctx, ARRAYS_ONLY, "arrays, CSV and text")
            if address is not None and engine is None:
                raise click.UsageError("--address needs --engine ray")
            options = {"lengths": lengths, "output": output, "on_error": on_error}
            report = run_parquet(
                model,
                path,
                source,
                out,
                engine,
                address,
                inputs=selection.inputs,
                keys=(selection.group,) if selection.group else (),
                columns=None if columns is None else names(columns),
                workers=workers,
                **options,
            )
            print(json.dumps(report)) if as_json else show_parquet(report)
        else:
            _refuse(ctx, PARQUET_ONLY, "Parquet")
            source = default_source(model, source)
            if source == STDIN and out is None and not as_json:
                out = STDIN
            if out == STDIN and as_json:
                raise click.UsageError("--json and --out - both write to standard output: omit one of them")
            net, show_report = model_in(path, model), show
            if takes_arrays(net, source):
                _refuse(ctx, (*ARRAYS_ONLY, "input_", "group", "workers"), "sequences")
                if out is not None:
                    refuse_to_overwrite(source, out)
                report, show_report = run_arrays(model, net, source, out, on_error == "keep"), show_arrays
            else:
                net = inference.runnable(net)
                report = _run_file(model, path, net, source, out, selection, workers or 1, on_error)
            print(json.dumps(report, allow_nan=False)) if as_json else show_report(report)
    except KeyboardInterrupt:
        click.echo(click.style("Interrupted: nothing was written.", "yellow"), err=True)
        sys.exit(130)


def _refuse(ctx: click.Context, options: tuple[str, ...], kind: str) -> None:
    """Raise UsageError for options that would have no effect on this kind of INPUT."""
    found = [
        option.opts[0]
        for option in ctx.command.params
        if option.name in options and ctx.get_parameter_source(option.name) != ParameterSource.DEFAULT
    ]
    if found:
        raise click.UsageError(f"{', '.join(found)}: only for {kind}, but INPUT is something else")


def _run_file(
    model: str,
    path: Path,
    net: Layer,
    source: str,
    out: str | None,
    selection: Selection,
    workers: int,
    on_error: str,
) -> Report:
    """Run on a file that fits in memory, write the outputs and summarize them."""
    if out not in (None, STDIN):
        check_suffix(Path(str(out)), "--out", data.SUFFIXES)
        refuse_to_overwrite(source, str(out))
    sequences = read_sequences(net, path, source, selection, future=True)
    outputs, seconds = _outputs(net, sequences, workers)
    bad = inference.rows_with_nan(outputs)
    if bad and on_error == "fail":
        names = ", ".join(sequences.name(row) for row in bad[:MOST_NAMED])
        more = f" and {len(bad) - MOST_NAMED:,} more" if len(bad) > MOST_NAMED else ""
        raise ArgumentError(
            f"the outputs are NaN for {len(bad):,} of {len(outputs):,} sequences: {names}{more}. Check the "
            "input for NaN, or set these sequences aside with --on-error keep"
        )
    predictions = predict(model, path, sequences, outputs, bad)
    if out is not None:
        _write(out, source, sequences, outputs, predictions, bad if on_error == "keep" else None)
    return {
        "model": model,
        "input": source,
        "read_as": sequences.describe(),
        **summarize(sequences, outputs, predictions, bad, seconds),
        "out": out,
    }


def _outputs(net: Layer, sequences: Sequences, workers: int) -> tuple[list[data.AnyArray], float]:
    """Return the output for each sequence, (O,) or (T, O), and the time in seconds."""
    outputs: list[Any] = [None] * len(sequences.items)
    start = time.perf_counter()
    with progress("Running", len(outputs)) as advance:
        for rows, ys in inference.outputs(net, sequences.items, workers):
            for row, y in zip(rows, ys, strict=True):
                outputs[row] = y
            advance(len(rows))
    return outputs, time.perf_counter() - start


def _write(
    out: str,
    source: str,
    sequences: Sequences,
    outputs: list[data.AnyArray],
    predictions: Predictions | None,
    bad: list[int] | None,
) -> None:
    """Write the outputs to a file, or to standard output in the format of INPUT (CSV on a terminal)."""
    predicted = None if predictions is None else predictions.names
    reasons = None if bad is None else {row: "the outputs are NaN" for row in bad}
    if out != STDIN:
        output_files.write(Path(out), sequences, outputs, predicted, reasons)
        return
    stdout = sys.stdout.buffer
    suffix = sequences.suffix if not stdout.isatty() else ".csv"
    stdout.write(output_files.encode(suffix, sequences, outputs, predicted, reasons))
    stdout.flush()
