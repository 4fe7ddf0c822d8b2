"""`onward quantize`: compress the weights of a model, and measure the effect on its outputs."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import bundled
from ..errors import ArgumentError, PrecisionError
from ..layers.base import Layer
from ..tables import inference, model_files
from .common import (
    Report,
    check_suffix,
    complete_data,
    complete_model,
    console,
    json_option,
    kilobytes,
    model_file,
    model_in,
    progress,
)
from .input_options import read_sequences
from .named_arrays import outputs_of, read_arrays, takes_arrays


@click.command(epilog="Example:  onward quantize vowels --to int8 -o small.safetensors")
@click.argument("model", shell_complete=complete_model)
@click.option(
    "--to",
    "precision",
    type=click.Choice(["float16", "int8"]),
    required=True,
    help="float16 halves the weight matrices; int8 quarters them and is faster, but less exact.",
)
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The .safetensors file to write.",
)
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
@json_option
def quantize(
    model: str, precision: str, out: Path, source: str | None, tolerance: float | None, as_json: bool
) -> None:
    """Compress the weights of MODEL to float16 or int8.

    MODEL is a bundled model (see `onward models`) or a file that onward.load opens. Prints the size before
    and after and, with --check, the largest difference between the outputs of the two models. DATA is
    any INPUT of `onward run`; for a text model, it is a text file.
    """
    check_suffix(out, "--out", (".safetensors",))
    path = model_file(model)
    if out.exists() and out.samefile(path):
        raise click.BadParameter(f"{out} would overwrite MODEL: choose another name", param_hint="--out")
    if source is None and model in bundled.models():
        source = bundled.card(model).get("data")
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
            report |= {"read_as": sequences.describe(), **_difference(_outputs(net, small, sequences.items))}
        if tolerance is not None and report["largest_difference"] > tolerance:
            raise PrecisionError(
                f"{precision} changes an output by {report['largest_difference']:.3g}, which exceeds the "
                f"tolerance of {tolerance:g}; nothing was written. Allow more" + _alternative(precision)
            )
    model_files.save_converted(out, small, path)
    report["file_bytes_before"], report["file_bytes_after"] = path.stat().st_size, out.stat().st_size
    if as_json:
        print(json.dumps(report))
    else:
        _show(report)


def _alternative(precision: str) -> str:
    return ", or use --to float16" if precision == "int8" else ""


def _bytes(net: Layer) -> int:
    return sum(weight.nbytes for weight in net.state_dict().values())


def _outputs(net: Layer, small: Layer, sequences: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the outputs of two models for each sequence."""
    with progress("Comparing", len(sequences)) as advance:
        pairs = zip(inference.outputs(net, sequences), inference.outputs(small, sequences), strict=True)
        for (rows, before), (_, after) in pairs:
            yield from zip(before, after, strict=True)
            advance(len(rows))


def _difference(outputs: Iterable[tuple[Any, Any]]) -> Report:
    """The largest and the mean absolute difference of pairs of outputs."""
    differences = [np.abs(y - other).ravel() for y, other in outputs]
    every = np.concatenate([*differences, np.zeros(0)])
    if not every.size or not np.isfinite(every).all():
        raise ArgumentError(
            "the outputs cannot be compared: "
            + ("some are NaN or infinite" if every.size else "there are none")
        )
    return {"largest_difference": float(every.max()), "mean_difference": float(every.mean())}


def _show(report: Report) -> None:
    before, after = report["file_bytes_before"], report["file_bytes_after"]
    console().print(f"{kilobytes(before)} before, {kilobytes(after)} after: {after / before:.0%}")
    if report["checked_on"] is None:
        console().print("The outputs were not compared: --check DATA shows how much they change.")
    else:
        console().print(report["read_as"])
        console().print(
            f"Outputs on {report['checked_on']} differ by at most {report['largest_difference']:.3g}, "
            f"on average by {report['mean_difference']:.3g}."
        )
    console().print(f"Wrote {report['out']}")
