"""`onward quantize`: compress the weights of a model, and measure the effect on its outputs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..errors import ArgumentError, PrecisionError
from ..layers.base import Layer
from ..tables import inference, model_files
from .common import (
    Report,
    check_suffix,
    complete_data,
    console,
    kilobytes,
    model_argument,
    model_file,
    model_in,
    out_option,
    progress,
    refuse_to_overwrite,
    reported,
)
from .input_options import read_sequences, test_data
from .named_arrays import outputs_of, read_arrays, takes_arrays


def _show(report: Report) -> None:
    before, after = report["file_bytes_before"], report["file_bytes_after"]
    terminal = console()
    terminal.print(f"{kilobytes(before)} before, {kilobytes(after)} after: {after / before:.0%}")
    if report["checked_on"] is None:
        terminal.print("The outputs were not compared: --check DATA shows how much they change.")
    else:
        terminal.print(report["read_as"])
        terminal.print(
            f"Outputs on {report['checked_on']} differ by at most {report['largest_difference']:.3g}, "
            f"on average by {report['mean_difference']:.3g}."
        )
    terminal.print(f"Wrote {report['out']}")


@click.command(epilog="Example:  onward quantize vowels --to int8 -o small.safetensors")
@model_argument
@click.option(
    "--to",
    "precision",
    type=click.Choice(["float16", "int8"]),
    required=True,
    help="float16 halves the weight matrices; int8 quarters them and is faster, but less exact.",
)
@out_option("The .safetensors file to write.", required=True)
@click.option(
    "--check",
    "source",
    metavar="DATA",
    shell_complete=complete_data,
    help="Compare the outputs of both models on this data set or file.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    help="Fail, and write nothing, if an output differs by more than this.",
)
@reported(_show)
def quantize(model: str, precision: str, out: Path, source: str | None, tolerance: float | None) -> Report:
    """Compress the weights of MODEL to float16 or int8.

    MODEL is a bundled model (see `onward models`) or a file that onward.load opens. Prints the size before
    and after and, with --check, the largest difference between the outputs of the two models. DATA is
    any INPUT of `onward run`; for a text model, it is a text file.
    """
    check_suffix(out, "--out", (".safetensors",))
    path = model_file(model)
    refuse_to_overwrite(path, out, "MODEL")
    source = test_data(model) if source is None else source
    if source is None and tolerance is not None:
        raise click.UsageError("--tolerance needs --check DATA, the inputs on which to compare the outputs")
    net = model_in(path, model)
    by_name = source is not None and takes_arrays(net, source)
    if source is not None and not by_name:
        net = inference.runnable(net)
    small = net.quantize(precision)
    if _bytes(small) == _bytes(net):
        raise ArgumentError(f"{model} has no weights that {precision} compresses: use the file as it is")
    report: Report = {
        "model": model,
        "precision": precision,
        "out": str(out),
        "bytes_before": _bytes(net),
        "bytes_after": _bytes(small),
        "checked_on": source,
    }
    if source is not None:
        if by_name:
            arrays = read_arrays(source, "--check")
            pairs = zip(outputs_of(net, arrays).values(), outputs_of(small, arrays).values(), strict=True)
            floats = [(y, other) for y, other in pairs if y.dtype.kind == "f"]
            report |= {"read_as": f"{source}: the inputs of one call", **_difference(floats)}
        else:
            sequences = read_sequences(net, path, source)
            with progress("Comparing", 2 * len(sequences.items)) as advance:
                before, after = (inference.in_file_order(n, sequences.items, advance) for n in (net, small))
            report |= {"read_as": sequences.describe(), **_difference(zip(before, after, strict=True))}
        if tolerance is not None and report["largest_difference"] > tolerance:
            raise PrecisionError(
                f"{precision} changes an output by {report['largest_difference']:.3g}, which exceeds the "
                f"tolerance of {tolerance:g}; nothing was written. Allow more"
                + (", or use --to float16" if precision == "int8" else "")
            )
    model_files.save_converted(out, small, path)
    return report | {"file_bytes_before": path.stat().st_size, "file_bytes_after": out.stat().st_size}


def _bytes(net: Layer) -> int:
    return sum(weight.nbytes for weight in net.state_dict().values())


def _difference(outputs: Iterable[tuple[Any, Any]]) -> Report:
    """The largest and the mean absolute difference of pairs of outputs."""
    differences = [np.abs(y - other).ravel() for y, other in outputs]
    every = np.concatenate([*differences, np.zeros(0)])
    if not every.size or not np.isfinite(every).all():
        reason = "some are NaN or infinite" if every.size else "there are none"
        raise ArgumentError(f"the outputs cannot be compared: {reason}")
    return {"largest_difference": float(every.max()), "mean_difference": float(every.mean())}
