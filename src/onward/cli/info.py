"""`onward info`: show the layers of a model; `onward models`: list what comes with Onward."""

import contextlib
from collections.abc import Mapping
from shlex import quote
from typing import Any

import click
import numpy as np
from rich.text import Text

from .. import bundled
from ..core.summary import Row, shape_text
from ..errors import ArgumentError, OnwardError
from ..formats.compiled.model import CompiledModel
from ..formats.torch.parts import WHOLE_MODEL, Parts
from ..graph.summary import names_of, signatures, summarize
from ..layers.base_model import BaseModel
from ..layers.graphs import graph_of
from ..layers.summary import rows
from ..model import Model
from ..tables import data, model_files
from ..tables.rows import BATCH
from .common import Printed, Report, counted, kilobytes, new_table, reported, state_dict_options
from .sources import ModelFile, model_argument


def _show(report: Report) -> Printed:
    if "steps" in report:
        table = new_table("", "", "<step", "µs")
        for number, step in enumerate(report["steps"]):
            table.add_row(str(number), Text(str(step["step"])), f"{step['microseconds']:.2f}")
        yield table
        yield Text(
            f"The program holds for {', '.join(report['axes'])} of any size"
            if report["axes"]
            else "The program holds for these sizes alone"
        )
        for guard in report["guards"]:
            yield Text(f"  if {guard['condition']}, because of {guard['node']}")
        return
    yield Text(f"{report['model']}: {kilobytes(report['file_bytes'])}", "bold")
    if report["compiled"]:
        yield "A compiled model holds programs, not layers."
    else:
        yield from _show_layers(report)
    yield from _show_values(report)
    if report["table"]:
        entries = {name: value for name, value in report["table"].items() if value not in (None, [], False)}
        shown = (
            f"{name} {', '.join(map(quote, value if isinstance(value, list) else [str(value)]))}"
            for name, value in entries.items()
        )
        if entries:
            yield f"Trained on a table: {'; '.join(shown)}."
    if report["carries"]:
        pairs = ", ".join(f"{name} from {output}" for name, output in report["carries"].items())
        yield f"A stream feeds states back: {pairs}."
    if not report["connected"] and len(report["layers"]) > 1:
        text = "The file contains no forward(): onward.load(...).sequential(...) connects its layers."
        yield Text(f"{text} {WHOLE_MODEL}", "yellow")
    for path, reason in report["reasons"].items():
        yield Text(f"{path or report['model']} is not loaded: {reason}", "yellow")
    if report["leftover"]:
        yield Text(f"Tensors that belong to no layer: {', '.join(report['leftover'])}", "yellow")


def _show_layers(report: Report) -> Printed:
    table = new_table("", "layer", "<kind", "<output shape", "parameters")
    for layer in report["layers"]:
        shape = shape_text(layer["output_shape"])
        table.add_row(Text(layer["name"]), Text(layer["kind"]), shape, f"{layer['parameters']:,}")
    table.add_section()
    table.add_row("total", "", "", f"{report['parameters']:,}", style="bold")
    yield table
    yield f"The weights take {kilobytes(report['bytes'])}."


def _show_values(report: Report) -> Printed:
    """The inputs and outputs in one table, and how the model streams."""
    if values := [("input", each) for each in report["inputs"]] + [
        ("output", each) for each in report["outputs"]
    ]:
        notes = [["may be omitted"] if each.get("optional") else [] for _, each in values]
        table = new_table("", "", "<name", "<dtype", "<axes", *(["<"] if any(notes) else []))
        for (kind, each), note in zip(values, notes, strict=True):
            axes = "any" if each["axes"] is None else shape_text(tuple(axis or "?" for axis in each["axes"]))
            table.add_row(kind, Text(each["name"]), each["dtype"] or "any", axes, *note)
        yield table
    stream = report["stream"] or {"time_axis": None, "reason": ""}
    if stream["time_axis"] is not None:
        latency, rates = counted(stream["latency"], "step"), stream["steps"]
        several = " and ".join(f"{n} of {name}" for name, n in rates.items())
        steps, whose = ("steps", "its input") if len(rates) == 1 else (several, "its inputs")
        axis = f"axis {stream['time_axis']} of {whose}"
        yield Text(f"A stream takes {steps} along {axis}; its latency is {latency}.")
    elif stream["reason"]:
        yield Text(f"There is no stream over time: {stream['reason']}")


@click.command(epilog="Example:  onward info vowels")
@model_argument
@state_dict_options
@click.option("--graph", "show_steps", is_flag=True, help="List the steps of a whole model with their times.")
@click.option("--length", default=100, type=click.IntRange(1), help="The open sizes of inputs, with --graph.")
@reported(_show)
def info(model: ModelFile, show_steps: bool, length: int, **settings: Any) -> Report:
    """Show the layers of MODEL, their output shapes and parameters.

    Below them are its inputs and outputs, its states, and how it streams over time.

    MODEL is a bundled model (see `onward models`) or any file that onward.load opens.

    Sizes that depend on the input are letters: T time steps, B sequences; L, H and W are the axes of a
    convolution. --json also lists the weights of each layer.

    --graph lists the steps that the core runs in one call, and the median time of each, and the conditions
    on the sizes of the inputs under which calls run these steps. The batch has size 1, and other open sizes
    are --length.
    """
    net: Any = model.load(**settings)
    if show_steps:
        return _steps(model.name, net, length)
    whole = net
    if isinstance(net, Model):
        with contextlib.suppress(ArgumentError):  # it may be a chain of layers
            net = net.layers()
    layers = _layers(net)
    return {
        "model": model.name,
        "file_bytes": model.path.stat().st_size,
        "parameters": sum(layer["parameters"] for layer in layers),
        "bytes": sum(layer["bytes"] for layer in layers),
        "layers": layers,
        "compiled": isinstance(net, CompiledModel),
        "connected": not isinstance(net, dict),
        **_values(whole),
        "carries": getattr(net, "carries", {}),
        "table": model_files.metadata(model.path).get(model_files.KEY, {}).get("selection"),
        "leftover": net.leftover if isinstance(net, Parts) else [],
        "reasons": net.reasons if isinstance(net, Parts) else {},
    }


def _steps(model: str, net: Any, length: int) -> Report:
    """The steps of a whole model with their times."""
    if isinstance(net, dict):
        raise click.UsageError(f"{model} contains layers but no forward(), so it has no steps")
    graph = net.general if isinstance(net, Model) else Model(graph_of(net))
    arrays = []
    for declared in graph.planner.graph.inputs:
        if declared.axes is None or declared.dtype is None:
            raise click.UsageError(f"{model} does not declare the shape of its input {declared.name}")
        batch = next((axis for axis in declared.axes if axis in BATCH), next(iter(declared.axes), None))
        sizes = [n if isinstance(n, int) else 1 if n == batch else length for n in declared.axes]
        arrays.append(np.ones(sizes, declared.dtype))
    steps = [{"step": name, "microseconds": 1e6 * seconds} for name, seconds in graph.steps(*arrays)]
    (program, *_) = graph.programs
    return {
        "model": model,
        "input_shapes": [list(array.shape) for array in arrays],
        "steps": steps,
        "axes": program.axes.names,
        "guards": [{"condition": str(each), "node": each.node} for each in program.axes.guards.values()],
    }


def _values(net: Any) -> Report:
    """The inputs and the outputs of a model with their dtypes and axes, and how it streams over time."""
    model = net if isinstance(net, Model | CompiledModel) else _as_graph(net)
    if model is None:
        return {"inputs": [], "outputs": [], "stream": None}
    if isinstance(model, CompiledModel):
        graph, optional = model.declared, set[str]()
    else:
        with contextlib.suppress(ArgumentError):  # code that must be recorded for declared inputs
            model = model.general
        graph, optional = model.graph, {*model.graph.defaults, *model.initial_states}
    known = signatures(graph.with_defaults())
    outputs = []
    for declared, name in zip(graph.declared_outputs, graph.outputs, strict=True):
        found = known.get(name)
        dtype, axes = (
            (declared.dtype, declared.axes) if found is None else (found.dtype, names_of(found.shape))
        )
        outputs.append(_value(declared.name, dtype, axes))
    return {
        "inputs": [
            _value(each.name, each.dtype, each.axes) | {"optional": each.name in optional}
            for each in graph.inputs
        ],
        "outputs": outputs,
        "stream": _stream(model),
    }


def _as_graph(layer: Any) -> Model | None:
    """The layers of a Sequential, or a single layer, as a graph; None if a graph cannot hold them."""
    if isinstance(layer, Parts):
        return None
    with contextlib.suppress(ArgumentError):
        return Model(graph_of(layer))
    return None


def _value(name: str, dtype: Any, axes: Any) -> Report:
    return {"name": name, "dtype": dtype and str(dtype), "axes": None if axes is None else list(axes)}


def _stream(model: Any) -> Report:
    """The time axis, the latency and the steps of the inputs of a stream, or why there is none."""
    try:
        is_compiled = isinstance(model, CompiledModel)
        streamed = model.streamed if is_compiled else model.streamed(1, None, None, None, {})
    except OnwardError as error:
        return {"time_axis": None, "latency": None, "reason": str(error), "steps": {}}
    axis = streamed.sequences[0].axes.time if streamed.sequences else None
    return {"time_axis": axis, "latency": streamed.latency, "reason": "", "steps": streamed.rates}


def _layers(net: BaseModel | Parts) -> list[Report]:
    """The report on each layer, or on each node of a graph that holds parameters; none if compiled."""
    if isinstance(net, CompiledModel):
        return []
    if isinstance(net, Model):
        nodes = summarize(net.general.graph)
        pairs = zip(nodes.rows, nodes.weights, strict=True)
        return [_report(row, row.kind, weights) for row, weights in pairs]
    layers = net if isinstance(net, Parts) else net.sublayers()
    found = rows(net) if isinstance(net, Parts) else net.summary_rows()
    both = zip(found, layers.values(), strict=True)
    return [_report(row, repr(layer), layer.state_dict()) for row, layer in both]


def _report(row: Row, definition: str, weights: Mapping[str, Any]) -> Report:
    tensors = [
        {"name": name, "shape": list(weight.shape), "parameters": weight.size, "bytes": weight.nbytes}
        for name, weight in weights.items()
    ]
    return row._asdict() | {"layer": definition, "weights": tensors}


def _show_models(report: Report) -> Printed:
    models = new_table("Models", "name", "size", "quality", "<license", "<predicts")
    for row in report["models"]:
        quality = (
            f"{float(row['accuracy']):.1%} correct"
            if "accuracy" in row
            else f"{row['bits_per_character']} bits per character"
        )
        models.add_row(row["name"], kilobytes(row["bytes"]), quality, row["license"], row["summary"])
    sets = new_table("Data sets", "name", "sequences", "time steps")
    for row in report["data"]:
        sets.add_row(row["name"], f"{row['sequences']:,}", f"{row['steps']:,}")
    return models, sets


@click.command(epilog="Example:  onward models")
@reported(_show_models)
def models() -> Report:
    """List the models and data sets that come with Onward.

    Their names can be used wherever a command takes a model or a data file.
    """
    lengths = {name: data.read(path).lengths for name, path in bundled.datasets().items()}
    return {
        "models": [
            {"name": name, "bytes": path.stat().st_size, **bundled.card(name)}
            for name, path in bundled.models().items()
        ],
        "data": [
            {"name": name, "sequences": len(steps), "steps": int(steps.sum())}
            for name, steps in lengths.items()
        ],
    }
