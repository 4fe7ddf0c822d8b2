"""`onward info`: show the layers of a model."""

import contextlib
from collections.abc import Mapping
from typing import Any

import click
import numpy as np
from rich.text import Text

from ..errors import ArgumentError
from ..formats import load
from ..formats.torch.parts import WHOLE_MODEL, Parts
from ..graph import Model
from ..graph.of_layers import graph_of
from ..graph.summary import summarize
from ..layers.base import Layer
from ..layers.summary import Row, rows, shape_text
from .common import (
    Report,
    console,
    kilobytes,
    model_argument,
    model_file,
    new_table,
    reported,
    state_dict_options,
)

BATCH = ("batch", "batch_size", "B", "N")


def _show(report: Report) -> None:
    if "steps" in report:
        _show_steps(report)
        return
    console().print(f"{report['model']}: {kilobytes(report['file_bytes'])}", style="bold", soft_wrap=True)
    table = new_table("", "layer", "kind", "output shape", "parameters")
    table.columns[1].justify = table.columns[2].justify = "left"
    for layer in report["layers"]:
        shape = shape_text(layer["output_shape"])
        table.add_row(Text(layer["name"]), Text(layer["kind"]), shape, f"{layer['parameters']:,}")
    table.add_section()
    table.add_row("total", "", "", f"{report['parameters']:,}", style="bold")
    console().print(table)
    console().print(f"The weights take {kilobytes(report['bytes'])}.")
    if report["carries"]:
        pairs = ", ".join(f"{name} from {output}" for name, output in report["carries"].items())
        console().print(f"A stream feeds states back: {pairs}.", soft_wrap=True)
    if not report["connected"] and len(report["layers"]) > 1:
        text = "The file contains no forward(): onward.load(...).sequential(...) connects its layers."
        console().print(
            f"{text} {WHOLE_MODEL}", style="yellow", soft_wrap=True, highlight=False, markup=False
        )
    for path, reason in report["reasons"].items():
        console().print(f"{path or report['model']} is not loaded: {reason}", style="yellow")
    if report["leftover"]:
        console().print(f"Tensors that belong to no layer: {', '.join(report['leftover'])}", style="yellow")


def _show_steps(report: Report) -> None:
    table = new_table("", "", "step", "µs")
    table.columns[1].justify = "left"
    for number, step in enumerate(report["steps"]):
        table.add_row(str(number), Text(str(step["step"])), f"{step['microseconds']:.2f}")
    console().print(table)


@click.command(epilog="Example:  onward info vowels")
@model_argument
@state_dict_options
@click.option("--graph", "show_steps", is_flag=True, help="List the steps of a whole model with their times.")
@click.option("--length", default=100, help="The open sizes of inputs, with --graph.")
@reported(_show)
def info(model: str, show_steps: bool, length: int, **settings: Any) -> Report:
    """Show the layers of MODEL, their output shapes and parameters.

    MODEL is a bundled model (see `onward models`) or any file that onward.load opens.

    Sizes that depend on the input are letters: T time steps, B sequences; L, H and W are the axes of a
    convolution. --json also lists the weights of each layer.

    --graph lists the steps that the core runs in one call, and the median time of each. The batch has
    size 1, and other open sizes are --length.
    """
    path = model_file(model)
    net: Any = load(path, **settings)
    if show_steps:
        return _steps(model, net, length)
    if isinstance(net, Model):
        with contextlib.suppress(ArgumentError):  # it may be a chain of layers
            net = net.layers()
    layers = _layers(net)
    return {
        "model": model,
        "file_bytes": path.stat().st_size,
        "parameters": sum(layer["parameters"] for layer in layers),
        "bytes": sum(layer["bytes"] for layer in layers),
        "layers": layers,
        "connected": not isinstance(net, dict),
        "carries": getattr(net, "carries", {}),
        "leftover": net.leftover if isinstance(net, Parts) else [],
        "reasons": net.reasons if isinstance(net, Parts) else {},
    }


def _steps(model: str, net: Any, length: int) -> Report:
    """The steps of a whole model with their times."""
    if isinstance(net, dict):
        raise click.UsageError(f"{model} contains layers but no forward(), so it has no steps")
    graph = net if isinstance(net, Model) else Model(graph_of(net))
    arrays = []
    for declared in graph._planner.graph.inputs:
        if declared.axes is None or declared.dtype is None:
            raise click.UsageError(f"{model} does not declare the shape of its input {declared.name}")
        batch = next((axis for axis in declared.axes if axis in BATCH), next(iter(declared.axes), None))
        sizes = [n if isinstance(n, int) else 1 if n == batch else length for n in declared.axes]
        arrays.append(np.ones(sizes, declared.dtype))
    steps = [{"step": name, "microseconds": 1e6 * seconds} for name, seconds in graph.steps(*arrays)]
    return {"model": model, "input_shapes": [list(array.shape) for array in arrays], "steps": steps}


def _layers(net: Layer | Mapping[str, Layer]) -> list[Report]:
    """The report on each layer, or on each node of a graph that holds parameters."""
    if isinstance(net, Model):
        nodes = summarize(net._graph)
        pairs = zip(nodes.rows, nodes.weights, strict=True)
        return [_report(row, row.kind, weights) for row, weights in pairs]
    if isinstance(net, Mapping):
        layers, found = net, rows(net)
    else:
        layers = {name.rstrip("."): layer for name, layer in net.sublayers().items()}
        found = net._summary_rows()
    return [
        _report(row, repr(layer), layer.state_dict())
        for row, layer in zip(found, layers.values(), strict=True)
    ]


def _report(row: Row, definition: str, weights: Mapping[str, Any]) -> Report:
    return {
        "name": row.name,
        "kind": row.kind,
        "layer": definition,
        "output_shape": row.output_shape,
        "parameters": row.parameters,
        "bytes": row.bytes,
        "weights": [
            {"name": name, "shape": list(weight.shape), "parameters": weight.size, "bytes": weight.nbytes}
            for name, weight in weights.items()
        ],
    }
