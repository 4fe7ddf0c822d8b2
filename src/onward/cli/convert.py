"""`onward convert`: convert a model to another file format; `onward quantize`: compress its weights."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..core import storage
from ..errors import ArgumentError, PrecisionError
from ..formats import load_tensors
from ..formats.torch.find_layers import find_layers
from ..formats.torch.parts import Parts
from ..formats.torch.state_dict import StateDict, merged
from ..graph.summary import signatures
from ..layers.base_model import BaseModel
from ..layers.graphs import graph_of
from ..model import Model
from ..tables import inference, model_files
from ..tables.rows import Rows
from . import common
from .common import Printed, Report, kilobytes
from .sources import (
    ModelFile,
    as_model,
    complete_data,
    inputs_option,
    layers_in,
    model_argument,
    outputs_of,
    read_arrays,
    read_sequences,
    takes_arrays,
)

WITHOUT_EFFECT = {"dropout", "padding_idx"}  # options that do not affect inference


@click.command(epilog="Example:  onward convert vowels vowels.onnx")
@inputs_option
@click.argument("source", metavar="IN", **as_model)
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path, dir_okay=False))
@common.state_dict_options
@click.option(
    "--qdq",
    is_flag=True,
    default=None,
    help="Compute with real numbers between the int8 values of a TensorFlow Lite file, as other runtimes do.",
)
@common.reported(lambda report: [f"Wrote {report['out']} ({kilobytes(report['file_bytes'])})"])
def convert(source: ModelFile, target: Path, **settings: Any) -> Report:
    """Convert the model IN to the file OUT: .safetensors or .onnx.

    IN is a bundled model (see `onward models`) or any file that onward.load opens.

    OUT keeps the metadata of IN: columns, windows and classes of a table, or a vocabulary.

    If IN does not record how its layers are connected, a single layer is written as a model. Several layers
    can only be written to .safetensors, as tensors, and only if that preserves all their options.
    """
    common.check_suffix(target, "OUT", (".safetensors", ".onnx"))
    common.refuse_to_overwrite({"IN": source.path}, target, "OUT")
    net = source.load(**settings)
    to_onnx = target.suffix.lower() == ".onnx"
    lost = _lost(net, source.path) if isinstance(net, Parts) and not to_onnx else ""
    if isinstance(net, Parts) and (to_onnx or lost) and net.only_layer is not None:
        net = net.only_layer
    if isinstance(net, Parts):
        advice = "connect its layers in Python with onward.load(...).sequential(...) and save the result"
        if to_onnx:
            raise click.UsageError(f"{source} contains {layers_in(net)} but no forward(): {advice}")
        if lost:
            raise click.UsageError(f"the tensors alone do not determine {lost}: {advice}")
        storage.write(target, load_tensors(source.path))
    else:
        if isinstance(net, Model):
            net = _simplest(net)
        model_files.save_converted(target, net, source.path)
    return {"model": source.name, "out": str(target), "file_bytes": target.stat().st_size}


def _simplest(model: Model) -> BaseModel:
    """A model as layers if it is a chain of them with the same inputs and axes, otherwise as it is."""
    with contextlib.suppress(ArgumentError):
        layers, graph = model.layers(), model.general.planner.graph
        chain = graph_of(layers)
        pairs = list(zip(model.general.graph.inputs, chain.inputs, strict=False))
        same_inputs = len(model.inputs) in (1, len(chain.inputs)) and all(
            None in (a.axes, b.axes) or len(a.axes or ()) == len(b.axes or ()) for a, b in pairs
        )
        ours, found = (signatures(each).get(each.outputs[0]) for each in (chain, graph))
        if same_inputs and (ours is None or found is None or len(ours.shape) == len(found.shape)):
            return layers
    return model


def _lost(net: Parts, path: Path) -> str:
    """The first layer or option that tensors alone would not determine; "" if none."""
    try:
        bare = find_layers(merged({(): StateDict(load_tensors(path))}), "tanh", False)
    except ArgumentError:
        bare = Parts()
    recovered = list(map(_computed, bare.values()))
    for name, layer in net.items():
        if _computed(layer) not in recovered:
            return f"{name}: {layer!r}".removeprefix(": ")
        recovered.remove(_computed(layer))
    others = {name: reason for name, reason in net.missing.items() if reason not in bare.reasons.values()}
    return next((f"{name}: {reason}".removeprefix(": ") for name, reason in others.items()), "")


def _computed(layer: BaseModel) -> Report:
    """The options that determine what a layer computes."""
    return {name: value for name, value in layer.description().items() if name not in WITHOUT_EFFECT}


def _show(report: Report) -> Printed:
    before, after = report["file_bytes_before"], report["file_bytes_after"]
    yield f"{kilobytes(before)} before, {kilobytes(after)} after: {after / before:.0%}"
    if report["checked_on"] is None:
        yield "The outputs were not compared: --check DATA shows how much they change."
    else:
        yield report["read_as"]
        yield (
            f"Outputs on {report['checked_on']} differ by at most {report['largest_difference']:.3g}, "
            f"on average by {report['mean_difference']:.3g}."
        )
    yield f"Wrote {report['out']}"


@click.command(epilog="Example:  onward quantize vowels --to int8 -o small.safetensors")
@model_argument
@click.option(
    "--to",
    "precision",
    type=click.Choice(["float16", "int8"]),
    required=True,
    help="float16 halves the weight matrices; int8 quarters them and is faster, but less exact.",
)
@common.out_option("The .safetensors file to write.", required=True)
@click.option(
    "--check",
    "source",
    metavar="DATA",
    shell_complete=complete_data,
    help="Compare the outputs of both models on this data set or file.",
)
@click.option(
    "--tolerance",
    type=common.Real(0),
    help="Fail, and write nothing, if an output differs by more than this.",
)
@common.reported(_show)
def quantize(
    model: ModelFile, precision: str, out: Path, source: str | None, tolerance: float | None
) -> Report:
    """Compress the weights of MODEL to float16 or int8.

    MODEL is a bundled model (see `onward models`) or a file that onward.load opens. Prints the size before
    and after and, with --check, the largest difference between the outputs of the two models. DATA is
    any INPUT of `onward run`; for a text model, it is a text file.
    """
    common.check_suffix(out, "--out", (".safetensors",))
    common.refuse_to_overwrite({"MODEL": model.path}, out)
    source = model.card.get("data") if source is None else source
    if source is None and tolerance is not None:
        raise click.UsageError("--tolerance needs --check DATA, the inputs on which to compare the outputs")
    by_name = source is not None and takes_arrays(model, source)
    rows = source is not None and not by_name and isinstance(model.runner, Rows)
    net: Any = model.model if source is None or by_name or rows else model.runner
    small = net.quantize(precision)
    before, after = (sum(weight.nbytes for weight in each.state_dict().values()) for each in (net, small))
    if before == after:
        raise ArgumentError(f"{model} has no weights that {precision} compresses: use the file as it is")
    report: Report = {
        "model": model.name,
        "precision": precision,
        "out": str(out),
        "bytes_before": before,
        "bytes_after": after,
        "checked_on": source,
    }
    if source is not None:
        if by_name:
            arrays = read_arrays(source, "--check")
            pairs = zip(outputs_of(net, arrays).values(), outputs_of(small, arrays).values(), strict=True)
            floats = [(y, other) for y, other in pairs if y.dtype.kind == "f"]
            report |= {"read_as": f"{source}: the inputs of one call", **_difference(floats)}
        else:
            sequences = read_sequences(model, source)
            with common.progress("Comparing", 2 * len(sequences.items)) as advance:
                pair = (Rows(net), Rows(small)) if rows else (net, small)
                ys, others = (
                    inference.outputs_of_steps(n, sequences.items, 1, advance, sequences.name) for n in pair
                )
            report |= {"read_as": sequences.describe(), **_difference(zip(ys, others, strict=True))}
        if tolerance is not None and report["largest_difference"] > tolerance:
            raise PrecisionError(
                f"{precision} changes an output by {report['largest_difference']:.3g}, which exceeds the "
                f"tolerance of {tolerance:g}; nothing was written. Allow more"
                + (", or use --to float16" if precision == "int8" else "")
            )
    model_files.save_converted(out, small, model.path)
    return report | {"file_bytes_before": model.path.stat().st_size, "file_bytes_after": out.stat().st_size}


def _difference(outputs: Iterable[tuple[Any, Any]]) -> Report:
    """The largest and the mean absolute difference of pairs of outputs."""
    differences = [np.abs(y - other).ravel() for y, other in outputs]
    every = np.concatenate([*differences, np.zeros(0)])
    if not every.size or not np.isfinite(every).all():
        reason = "some are NaN or infinite" if every.size else "there are none"
        raise ArgumentError(f"the outputs cannot be compared: {reason}")
    return {"largest_difference": float(every.max()), "mean_difference": float(every.mean())}
