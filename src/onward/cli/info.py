"""`onward info`: show the layers of a model."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import click
from rich.text import Text

from ..errors import ArgumentError
from ..formats import load
from ..formats.keras.runtime.graph import Model as KerasModel
from ..formats.torch.parts import WHOLE_MODEL, Parts
from ..graph import Model
from ..graph.summary import summarize
from ..layers.base import Layer
from ..layers.summary import Row, rows, shape_text
from .common import (
    Report,
    complete_model,
    console,
    json_option,
    kilobytes,
    model_file,
    new_table,
    state_dict_options,
)


@click.command(epilog="Example:  onward info vowels")
@click.argument("model", shell_complete=complete_model)
@state_dict_options
@json_option
def info(model: str, nonlinearity: str | None, batch_first: bool | None, as_json: bool) -> None:
    """Show the layers of MODEL, their output shapes and parameters.

    MODEL is a bundled model (see `onward models`) or any file that onward.load opens.

    Sizes that depend on the input are letters: T time steps, B sequences; L, H and W are the axes of a
    convolution. --json also lists the weights of each layer.
    """
    path = model_file(model)
    net: Any = load(path, nonlinearity=nonlinearity, batch_first=batch_first)
    if isinstance(net, Model):
        with contextlib.suppress(ArgumentError):  # it may be a chain of layers
            net = net.layers()
    layers = _nodes(net) if isinstance(net, Model) else _layers(net)
    report = {
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
    if as_json:
        print(json.dumps(report))
    else:
        _show(report)


def _layers(net: Layer | Mapping[str, Layer]) -> list[Report]:
    """The report on each layer."""
    if isinstance(net, Mapping):
        layers, found = net, rows(net)
    else:
        parts = net.layers if isinstance(net, KerasModel) else net.sublayers()
        layers, found = {name.rstrip("."): layer for name, layer in parts.items()}, net._summary_rows()
    return [
        _report(row, repr(layer), layer.state_dict())
        for row, layer in zip(found, layers.values(), strict=True)
    ]


def _nodes(graph: Model) -> list[Report]:
    """The report on each node of a graph that holds parameters."""
    found = summarize(graph._graph)
    return [_report(row, row.kind, weights) for row, weights in zip(found.rows, found.weights, strict=True)]


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


def _show(report: Report) -> None:
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
