"""`onward convert`: convert a model to another file format."""

import contextlib
from pathlib import Path
from typing import Any

import click

from ..core import storage
from ..errors import ArgumentError
from ..formats import load, load_tensors
from ..formats.onnx.export import export_onnx
from ..formats.torch.find_layers import find_layers
from ..formats.torch.merge import merged
from ..formats.torch.parts import Parts
from ..formats.torch.state_dict import StateDict
from ..graph import Model
from ..layers.base import Layer
from ..tables import model_files
from .common import (
    Report,
    check_suffix,
    complete_model,
    console,
    kilobytes,
    model_file,
    refuse_to_overwrite,
    reported,
    state_dict_options,
)

WITHOUT_EFFECT = {"dropout", "padding_idx"}  # options that do not affect inference


@click.command(epilog="Example:  onward convert vowels vowels.onnx")
@click.argument("source", metavar="IN", shell_complete=complete_model)
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path, dir_okay=False))
@state_dict_options
@reported(lambda report: console().print(f"Wrote {report['out']} ({kilobytes(report['file_bytes'])})"))
def convert(source: str, target: Path, **settings: Any) -> Report:
    """Convert the model IN to the file OUT: .safetensors or .onnx.

    IN is a bundled model (see `onward models`) or any file that onward.load opens.

    A .safetensors file keeps the metadata of IN: columns, windows and classes of a table, or a vocabulary.

    If IN does not record how its layers are connected, a single layer is written as a model. Several layers
    can only be written to .safetensors, as tensors, and only if that preserves all their options.
    """
    check_suffix(target, "OUT", (".safetensors", ".onnx"))
    path = model_file(source, "IN")
    refuse_to_overwrite(path, target, "IN", "OUT")
    net = load(path, **settings)
    to_onnx = target.suffix.lower() == ".onnx"
    if isinstance(net, dict) and (to_onnx or _lost(net, path)) and net.only_layer is not None:
        net = net.only_layer
    if isinstance(net, dict):
        advice = "connect its layers in Python with onward.load(...).sequential(...) and save the result"
        if to_onnx:
            raise click.UsageError(f"{source} contains layers ({', '.join(net)}) but no forward(): {advice}")
        if lost := _lost(net, path):
            raise click.UsageError(f"the tensors alone do not determine {lost}: {advice}")
        storage.write(target, load_tensors(path))
    else:
        model = net
        if isinstance(net, Model):
            with contextlib.suppress(ArgumentError):  # a graph that is no chain remains one
                model = net.layers()
        export_onnx(model, target) if to_onnx else model_files.save_converted(target, model, path)
    return {"model": source, "out": str(target), "file_bytes": target.stat().st_size}


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


def _computed(layer: Layer) -> Report:
    """The options that determine what a layer computes."""
    return {name: value for name, value in layer.description().items() if name not in WITHOUT_EFFECT}
