"""`onward info`, `convert` and `models`: what is in a file, a model in another format, what is bundled."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from .. import bundled
from ..core import storage
from ..errors import ArgumentError
from ..formats import load, load_tensors
from ..formats.onnx.export import export_onnx
from ..formats.torch.layers import Parts, find_layers
from ..formats.torch.names import merged
from ..formats.torch.state_dict import StateDict
from ..layers.base import Layer
from ..layers.sequential import Sequential
from ..tables import data
from .common import Report, check_suffix, json_option, kilobytes, named_file, new_table

TRAINED = {"dropout", "padding_idx"}  # options without effect on what a layer computes

Command = Callable[..., None]


def said_options(command: Command) -> Command:
    """What a state dict does not say of its recurrent layers, as options."""
    nonlinearity = click.option(
        "--nonlinearity",
        type=click.Choice(["tanh", "relu"]),
        help="Of the vanilla RNNs in a state dict, which does not say it; tanh if not given.",
    )
    batch_first = click.option(
        "--batch-first",
        is_flag=True,
        default=None,
        help="That the recurrent layers in a state dict, which does not say it, take the batch first.",
    )
    return nonlinearity(batch_first(command))


@click.command(epilog="Example:  onward info vowels")
@click.argument("model")
@said_options
@json_option
def info(model: str, nonlinearity: str | None, batch_first: bool | None, as_json: bool) -> None:
    """Shows the layers of MODEL, their weights, parameters and bytes.

    MODEL is a bundled model (see `onward models`) or a file that onward.load opens.
    """
    path = named_file(model, bundled.models(), "model", "MODEL")
    net = load(path, nonlinearity=nonlinearity, batch_first=batch_first)
    if not isinstance(net, dict | Layer):  # a graph of ONNX: of layers, or of its arrays
        with contextlib.suppress(ArgumentError):
            net = net.layers()
    named: dict[Any, Any] = (
        net if isinstance(net, dict) else dict(enumerate(net if isinstance(net, Sequential) else [net]))
    )
    layers = [_layer(str(name), layer) for name, layer in named.items()]
    report = {
        "model": model,
        "file_bytes": path.stat().st_size,
        "parameters": sum(layer["parameters"] for layer in layers),
        "bytes": sum(layer["bytes"] for layer in layers),
        "layers": layers,
        "leftover": net.leftover if isinstance(net, dict) else [],
        "reasons": net.reasons if isinstance(net, dict) else {},
    }
    if as_json:
        print(json.dumps(report))
    elif isinstance(net, dict):
        _show_parts(report)
    else:
        _show_info(report)


@click.command(epilog="Example:  onward convert vowels vowels.onnx")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path, dir_okay=False))
@said_options
def convert(source: str, target: Path, nonlinearity: str | None, batch_first: bool | None) -> None:
    """Writes the model IN in the format of OUT: .safetensors or .onnx.

    IN is a bundled model (see `onward models`) or a file that onward.load opens. Of a file that does not say
    how its layers are connected, a layer that is alone is written as a model; of several, .safetensors takes
    the tensors, unless options of the layers were lost with that.
    """
    check_suffix(target, "OUT", (".safetensors", ".onnx"))
    path = named_file(source, bundled.models(), "model", "IN")
    net = load(path, nonlinearity=nonlinearity, batch_first=batch_first)
    to_onnx = target.suffix.lower() == ".onnx"
    if isinstance(net, dict) and (to_onnx or _unsaid(net, path)) and net.only_layer is not None:
        net = net.only_layer
    if isinstance(net, dict):
        advice = "put them into an onward.Sequential, save that and convert it"
        if to_onnx:
            raise click.UsageError(
                f"{source} does not say how its layers ({', '.join(net)}) are connected: {advice}"
            )
        if unsaid := _unsaid(net, path):
            raise click.UsageError(f"tensors alone do not say {unsaid}: {advice}")
        storage.write(target, load_tensors(path))
    else:
        model = net if isinstance(net, Layer) else net.layers()
        export_onnx(model, target) if to_onnx else model.save(target)
    Console(highlight=False, markup=False).print(f"{target}: {kilobytes(target.stat().st_size)}")


@click.command(epilog="Example:  onward models")
@json_option
def models(as_json: bool) -> None:
    """Lists the models and the data sets that come with Onward."""
    sets = {name: data.read(path).lengths for name, path in bundled.datasets().items()}
    report = {
        "models": [
            {"name": name, "bytes": path.stat().st_size, **bundled.card(name)}
            for name, path in bundled.models().items()
        ],
        "data": [
            {"name": name, "sequences": len(lengths), "steps": int(lengths.sum())}
            for name, lengths in sets.items()
        ],
    }
    if as_json:
        print(json.dumps(report))
    else:
        _show_models(report)


def _unsaid(net: Parts, path: Path) -> str:
    """The first of the layers and reasons that the file's tensors alone would not give; "" if all."""
    try:
        bare = find_layers(merged({(): StateDict(load_tensors(path))}), "tanh", False)
    except ArgumentError:
        bare = Parts()
    given = list(map(_computed, bare.values()))
    for name, layer in net.items():
        if _computed(layer) not in given:
            return f"{name}: {layer!r}".removeprefix(": ")
        given.remove(_computed(layer))
    others = {name: reason for name, reason in net.missing.items() if reason not in bare.reasons.values()}
    return next((f"{name}: {reason}".removeprefix(": ") for name, reason in others.items()), "")


def _computed(layer: Layer) -> Report:
    return {name: value for name, value in layer.description().items() if name not in TRAINED}


def _layer(name: str, layer: Layer) -> Report:
    weights: list[Report] = [
        {"name": key, "shape": list(weight.shape), "parameters": weight.size, "bytes": weight.nbytes}
        for key, weight in layer.state_dict().items()
    ]
    return {
        "name": name,
        "layer": repr(layer),
        "parameters": sum(weight["parameters"] for weight in weights),
        "bytes": sum(weight["bytes"] for weight in weights),
        "weights": weights,
    }


def _show_info(report: Report) -> None:
    title = f"{report['model']}: a file of {kilobytes(report['file_bytes'])}"
    table = new_table(title, "layer", "shape", "parameters", "bytes")
    for layer in report["layers"]:
        heading = Text(f"{layer['name']}: {layer['layer']}", "bold")
        table.add_row(heading, "", f"{layer['parameters']:,}", f"{layer['bytes']:,}")
        for weight in layer["weights"]:
            shape = " x ".join(map(str, weight["shape"]))
            sizes = f"{weight['parameters']:,}", f"{weight['bytes']:,}"
            table.add_row(Text(f"  {weight['name']}"), shape, *sizes, style="dim")
        table.add_section()
    table.add_row("all", "", f"{report['parameters']:,}", f"{report['bytes']:,}", style="bold")
    console = Console(highlight=False, markup=False)
    console.print(table)


def _show_parts(report: Report) -> None:
    """The layers of a file that does not say how they are connected, and what is none, as a tree of paths."""
    title = (
        f"{report['model']}: a file of {kilobytes(report['file_bytes'])}, {report['parameters']:,} parameters"
    )
    nodes = {"": Tree(Text(title, "bold"))}

    def at(path: str) -> Tree:
        if path not in nodes:
            above, _, name = path.rpartition(".")
            nodes[path] = at(above).add(Text(name))
        return nodes[path]

    for layer in report["layers"]:
        parameters = Text(f"  {layer['parameters']:,} parameters", "dim")
        at(layer["name"]).label = Text.assemble(
            (layer["name"].rpartition(".")[2] or title, "bold"), f": {layer['layer']}", parameters
        )
    for path, reason in report["reasons"].items():
        at(path).label = Text(f"{path.rpartition('.')[2] or title}: {reason}", "yellow")
    for name in report["leftover"]:
        at(name).label = Text(f"{name.rpartition('.')[2]}: a tensor that belongs to no layer", "yellow")
    Console(highlight=False, markup=False).print(nodes[""])


def _show_models(report: Report) -> None:
    models = new_table("Models", "name", "size", "measured")
    models.add_column("licence")
    models.add_column("tells")
    for row in report["models"]:
        models.add_row(
            row["name"],
            kilobytes(row["bytes"]),
            f"{float(row['accuracy']):.1%} right"
            if "accuracy" in row
            else f"{row['bits_per_character']} bits per character",
            row["license"],
            row["summary"],
        )
    sets = new_table("Data sets", "name", "sequences", "time steps")
    for row in report["data"]:
        sets.add_row(row["name"], f"{row['sequences']:,}", f"{row['steps']:,}")
    console = Console(highlight=False, markup=False)
    console.print(models)
    console.print(sets)
