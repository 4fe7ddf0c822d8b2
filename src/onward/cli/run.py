"""`onward run`: run a model over sequences, show a summary and write the outputs."""

import io
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..core import atomic, npz
from ..core.extras import install_hint
from ..errors import ArgumentError, FileError
from ..tables import array_files, data, inference, model_files, windows
from ..tables.columns import lists_in
from ..tables.data import Selection
from ..tables.layout import Sequences
from ..tables.rows import Rows
from . import comparison, run_summary, sources
from .common import Report, check_suffix, is_json, progress, refuse_options, refuse_to_overwrite, reported
from .group import warn
from .sources import STDIN, ModelFile

PARQUET_ONLY = ("engine", "address", "lengths", "output", "columns")
STEPS_ONLY = {*sources.SELECTION, "backtest"} - {
    "inputs",
    "group",
}  # not for Parquet with a row for each sequence


@click.command(epilog="Example:  onward run vowels recordings.csv --out speakers.csv")
@sources.model_argument
@sources.source_argument
@click.option(
    "-o", "--out", help="Write the outputs to this .npy, .npz, .csv or .parquet file, or to stdout with -."
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Number of threads, or of Ray actors. Default: 1 thread, or as many actors as fit.",
)
@sources.selection_options
@click.option("--backtest", is_flag=True, help="With windows: forecast from each window, not only the last.")
@click.option(
    "--on-error",
    type=click.Choice(["fail", "keep"]),
    default="fail",
    help="Stop at a bad sequence, or set it aside and record the reason.",
)
@click.option("--lengths", help="Parquet: column with the number of valid steps of each row.")
@click.option("--output", default="y", help="Parquet: name of the column to add.")
@click.option(
    "--columns",
    help="Parquet: columns to keep besides the output, or '*' for all. By default, the --group column and "
    "the index that pandas wrote.",
)
@click.option("--engine", type=click.Choice(["ray"]), help="Parquet: run on many processors or machines.")
@click.option("--address", help="Parquet: the Ray cluster to run on, such as auto; by default a local one.")
@reported(run_summary.show)
def run(
    model: ModelFile,
    source: str | None,
    out: str | None,
    workers: int | None,
    selection: Selection,
    on_error: str,
    backtest: bool,
    **parquet: Any,
) -> Report:
    """Run MODEL on the sequences of INPUT and show its predictions.

    MODEL is a bundled model (see `onward models`) or a file that onward.load opens.

    INPUT is a bundled data set, a file, or - for an array or CSV on standard input; the outputs then go to
    standard output, in the same format. Without INPUT, a bundled model runs on its own test data.

    \b
    .npy      (N, T, F): N sequences of T steps with F features; (T, F): one
              sequence; (N, T) or (T,): token ids. Models of images, or of
              (N, C, T): rows with the axes that MODEL declares
    .npz      the same array as `x`; `lengths` (N,), if present, are the valid
              steps of each row, and `y` (N,) the classes. With `lengths`, x may
              also be (sum of lengths, F): one sequence after another
              Or the inputs of MODEL by name, for one call, whose outputs --out
              writes as .npz; if MODEL declares a batch of one row, or arrays
              have one more axis, one call for each row
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
    refuse_to_overwrite({"MODEL": model.path, "INPUT": source}, out)
    try:
        by_row = parquet["engine"] is None and source is not None and _has_steps(model, source, selection)
        if source is not None and not by_row and (parquet["engine"] is not None or _is_parquet(source)):
            refuse_options(STEPS_ONLY, "arrays and tables with a row for each step")
            return _run_parquet(model, source, out, selection, workers, on_error=on_error, **parquet)
        refuse_options(PARQUET_ONLY, "Parquet")
        source = model.source(source)
        out = _destination(source, out)
        if sources.takes_arrays(model, source):
            refuse_options((*sources.SELECTION, "backtest", "workers"), "sequences")
            return _run_arrays(model, source, out, on_error)
        if on_error == "keep" and selection.missing is None:
            selection = replace(selection, missing="keep")
        return _run_file(model, source, out, selection, workers or 1, on_error, backtest)
    except KeyboardInterrupt:
        warn("Interrupted: nothing was written.")
        sys.exit(130)


def _destination(source: str | None, out: str | None) -> str | None:
    """Return where the outputs go: those for standard input to standard output. Raises UsageError."""
    if source == STDIN and out is None and not is_json():
        return STDIN
    if out == STDIN and is_json():
        raise click.UsageError("--json and --out - both write to standard output: omit one of them")
    return out


def _is_parquet(source: str) -> bool:
    """Whether INPUT is a Parquet file or a folder of them, local or at a URI."""
    return source.endswith(".parquet") or "://" in source or any(Path(source).glob("**/*.parquet"))


def _has_steps(model: ModelFile, source: str, selection: Selection) -> bool:
    """Whether INPUT is a Parquet file with a row for each step, as those that the model was trained on."""
    path = Path(source)
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    saved = model_files.load_saved(model.path).selection
    chosen = selection.completed(saved)
    if chosen.time or chosen.window or not saved.inputs or selection.inputs:
        return bool(chosen.time or chosen.window)
    return not set(saved.inputs) & set(lists_in(path))


def _run_parquet(
    model: ModelFile, source: str, out: str | None, selection: Selection, workers: int | None, **options: Any
) -> Report:
    """Read Parquet and write Parquet with an added column."""
    engine, address, columns = (options.pop(name) for name in ("engine", "address", "columns"))
    if address is not None and engine is None:
        raise click.UsageError("--address needs --engine ray")
    if out is None:
        raise click.UsageError("--out is missing: pass the file to write the outputs to")
    if engine is None:
        check_suffix(Path(out), "--out", (".parquet",))
    try:
        from ..tables import parquet
        from ..tables.scorer import Scorer
    except ModuleNotFoundError as error:
        raise ArgumentError(f"Parquet needs {error.name}: {install_hint('parquet')}") from error
    named = selection.inputs or model_files.load_saved(model.path).selection.inputs
    inputs = list(named) if len(named) > 1 else (*named, "x")[0]
    scorer = Scorer(model.runner, inputs, row=parquet.ROW_NUMBER, **options)
    keys = (selection.group,) if selection.group else ()
    kept: dict[str, Any] = {"columns": None if columns is None else sources.names(columns), "keys": keys}
    rows = sum(group.rows for group in parquet.row_groups(source))
    start = time.perf_counter()
    if engine is None:
        with progress("Running", rows) as advance:
            bad = parquet.score(source, Path(out), scorer, advance, workers=workers or 1, **kept)
    else:
        from ..tables import ray  # does not start Ray yet

        bad = ray.run(source, out, scorer, address, actors=workers, **kept)
    seconds = time.perf_counter() - start
    report: Report = {"model": model.name, "input": source, "sequences": rows, "bad": bad}
    return report | {"seconds": seconds, "sequences_per_second": rows / seconds, "out": out}


def _run_arrays(model: ModelFile, source: str, out: str | None, on_error: str) -> Report:
    """Run one call on the arrays of a file, write the outputs and summarize them."""
    if out is not None:
        check_suffix(Path(out), "--out", (".npz", ".npy"))
    arrays = sources.read_arrays(source, "INPUT")
    start = time.perf_counter()
    outputs = sources.outputs_of(model.model, arrays)
    seconds = time.perf_counter() - start
    if out is not None and out.lower().endswith(".npy") and len(outputs) > 1:
        raise click.BadParameter(
            f"there are several outputs ({', '.join(outputs)}): write .npz", param_hint="--out"
        )
    bad = [name for name, y in outputs.items() if y.dtype.kind == "f" and np.isnan(y).any()]
    if bad and on_error == "fail":
        raise ArgumentError(
            f"there are NaN in the outputs {', '.join(bad)}. Check the input for NaN, or write them anyway "
            "with --on-error keep"
        )
    if out is not None:
        if out.lower().endswith(".npy"):
            single = io.BytesIO()
            np.save(single, next(iter(outputs.values())))
            atomic.replace(Path(out), single.getvalue())
        else:
            atomic.replace(Path(out), npz.content(outputs))
    shapes = {name: list(a.shape) for name, a in arrays.items()} if isinstance(arrays, dict) else None
    rows = [run_summary.of_array(name, y) for name, y in outputs.items()]
    report: Report = {"model": model.name, "input": source, "inputs": shapes, "seconds": seconds}
    return report | {"outputs": rows, "out": out}


def _not_finite(sequences: Sequences, bad: list[int]) -> ArgumentError:
    """Return the error for sequences whose outputs are NaN."""
    chosen, advice = sequences.selection, "Check the input for NaN"
    if chosen.known:
        advice = f"They need {', '.join(chosen.known)} of the {chosen.horizon} steps that follow: add rows"
    found = inference.describe_nan(bad, len(sequences.items), sequences.name)
    return ArgumentError(f"{found}. {advice}, or set these sequences aside with --on-error keep")


def _run_file(
    model: ModelFile,
    source: str,
    out: str | None,
    selection: Selection,
    workers: int,
    on_error: str,
    backtest: bool,
) -> Report:
    """Run on a file that fits in memory, write the outputs and summarize them."""
    if out == STDIN and sys.stdout is None:
        raise FileError("standard output is closed: pass a file to --out")
    if out is not None and out != STDIN:
        check_suffix(Path(out), "--out", data.WRITTEN)
    net, sequences = model.runner, sources.read_sequences(model, source, selection, future=True)
    if backtest and sequences.series is None:
        raise click.UsageError("--backtest needs a model of windows, or --window")
    if sequences.series is not None and not backtest:
        sequences = windows.latest(sequences)
        comparison.warn_of_short(sequences)
    start = time.perf_counter()
    with progress("Running", len(sequences.items)) as advance:
        outputs = inference.outputs_of_steps(net, sequences.items, workers, advance, sequences.name)
    seconds = time.perf_counter() - start
    bad = inference.rows_with_nan(outputs)
    if bad and on_error == "fail":
        raise _not_finite(sequences, bad)
    predictions = run_summary.predict(model, sequences, outputs, bad)
    predicted = None if predictions is None else predictions.names
    targets = model_files.load_saved(model.path).selection.targets
    output_names = targets if predictions is None else predictions.class_names
    reasons = dict.fromkeys(bad, "the outputs are NaN") if on_error == "keep" else None
    report = run_summary.summarize(sequences, outputs, predictions, bad, output_names)
    if sequences.series is not None and not backtest:
        header, rows = windows.forecast_rows(sequences, outputs)
        report["forecast"] = [dict(zip(header, run_summary.finite(row), strict=True)) for row in rows]
    if out is not None:
        suffix = Path(out).suffix.lower()
        if out == STDIN:
            is_array = sequences.suffix in (".npy", ".npz") and not sys.stdout.isatty()
            suffix = sequences.suffix if is_array else ".csv"
        axis = net.output_time if isinstance(net, Rows) and sequences.suffix not in data.TABLES else 0
        content = array_files.encode(suffix, sequences, outputs, predicted, reasons, output_names, axis)
        if out == STDIN:
            sys.stdout.buffer.write(content)
            sys.stdout.flush()
        else:
            atomic.replace(Path(out), content)
    report |= {"seconds": seconds, "steps_per_second": report["steps"] / seconds}
    return {"model": model.name, "input": source, "read_as": sequences.describe(), **report, "out": out}
