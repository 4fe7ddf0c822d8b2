"""`onward trace`: show what happens inside a model while it runs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from ..layers.base_model import BaseModel
from ..layers.sequential import Sequential
from ..model import Model
from ..tables.data import Sequences
from ..tables.rows import Rows
from ..tracing.trace import Trace
from . import common
from .common import Printed, Report, counted
from .run_summary import predict
from .sources import ModelFile, model_argument, read_sequences, source_argument

LEGEND = """\
lowest, highest tenth: the fraction of a gate's values, over all units and
  steps, in that tenth of its range, where the gate is saturated
open steps: the number of consecutive steps for which the gate that keeps a unit's
  state (forget or update gate) is above 0.9, averaged over units, and the longest
dead units: the number of units whose hidden state varies by less than 0.001"""
TITLE_TEXT = 40  # the maximum number of characters of a text in a title


def units(text: str) -> list[int]:
    """Unit numbers and ranges, such as 0-15,40."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
            raise click.BadParameter(f"{part!r} is neither a unit number nor a range: write 0-15,40")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


class Run(NamedTuple):
    """A model, one input for it, and the labels of the picture."""

    model: BaseModel
    x: NDArray[Any]
    title: str
    class_names: Callable[[Trace], list[str] | None]
    label: int | None = None
    read_as: str | None = None


def _show(report: Report) -> Printed:
    if report["read_as"]:
        yield report["read_as"]
    title = f"{report['model']} over {counted(report['steps'], 'step')}"
    columns = "layer", "gate", "lowest tenth", "highest tenth", "open steps", "dead units"
    table = common.new_table(title, *columns)
    for layer in report["layers"]:
        runs = layer["open_steps"] or []
        steps = f"{np.mean(runs):.1f}, longest {max(runs):.1f}" if runs else ""
        name, dead = layer["layer"], str(len(layer["dead"]))
        for gate, shares in (layer["saturated"] or {"": {"low": None, "high": None}}).items():
            percent = ["" if share is None else f"{share:.0%}" for share in shares.values()]
            table.add_row(name, gate, *percent, steps, dead)
            name = steps = dead = ""
        table.add_section()
    yield table
    yield LEGEND
    if report["out"]:
        yield f"Written to {report['out']}"


@click.command(epilog="Example:  onward trace vowels -o gates.png")
@model_argument
@source_argument
@common.out_option("Draw a picture (.png, .svg or .pdf) or save all arrays (.npz) to this file.")
@click.option("--sequence", default=0, type=click.IntRange(0), help="Index of the sequence in INPUT, from 0.")
@click.option("--text", help="Text for a text model to read, instead of INPUT.")
@click.option("--layer", help="The layer to draw, such as 0.l0_reverse. Default: the first.")
@click.option("--units", type=units, help="Draw only these units, such as 0-15,40.")
@click.option("--similar", is_flag=True, help="Draw units with similar time courses next to each other.")
@common.reported(_show)
def trace(
    model: ModelFile,
    source: str | None,
    out: Path | None,
    sequence: int,
    text: str | None,
    layer: str | None,
    **chosen: Any,
) -> Report:
    """Show the gates and states of MODEL as it processes one sequence.

    MODEL and INPUT are the same as for `onward run`; a text model, such as shakespeare, reads --text instead.
    The summary reports, for each layer, how often its gates are saturated, how long the gates that keep its
    state stay open, and which units are dead. With --out, the picture shows every gate and state over time;
    layers of more than 64 units are drawn as groups of similar units.
    """
    if out is not None:
        common.check_suffix(out, "--out", (*common.PICTURES, ".npz"))
        common.refuse_to_overwrite({"MODEL": model.path, "INPUT": source}, out)
    run = _read_text(model, source, text) if text is not None else _read_sequence(model, source, sequence)
    result = run.model.trace(run.x)
    if layer is not None and layer not in result.layers:
        raise click.BadParameter(f"{layer}: choose from {', '.join(result.layers)}", param_hint="--layer")
    layers = []
    for name, found in result.summary().items():
        saturated = {gate: {"low": low, "high": high} for gate, (low, high) in found.saturated.items()}
        runs = None if found.open_steps is None else found.open_steps.tolist()
        layers.append(
            {"layer": name, "saturated": saturated, "open_steps": runs, "dead": found.dead.tolist()}
        )
    if out is not None and out.suffix.lower() == ".npz":
        result.save(out)
    elif out is not None:
        chosen |= {"title": run.title, "classes": run.class_names(result), "label": run.label, "text": text}
        common.write_figure(out, result.plot(layer or 0, **chosen))
    report: Report = {"model": model.name, "read_as": run.read_as, "steps": len(result.x), "layers": layers}
    return report | {"out": None if out is None else str(out)}


def _read_text(model: ModelFile, source: str | None, text: str) -> Run:
    if source is not None:
        raise click.UsageError(f"give INPUT ({source}) or --text, not both")
    if not text:
        raise click.BadParameter("is empty, but must have at least one character", param_hint="--text")
    net, vocabulary = model.text_model()
    excerpt = text if len(text) <= TITLE_TEXT else text[:TITLE_TEXT] + "..."
    title = f"{model} reads {excerpt!r}"
    return Run(net, vocabulary.encode(text), title, lambda result: list(vocabulary.characters))


def _read_sequence(model: ModelFile, source: str | None, number: int) -> Run:
    if source is None and model.vocabulary is not None:
        raise click.UsageError(
            f'{model} is a text model: pass its input with --text:  onward trace {model} --text "To be"'
        )
    source = model.source(source)
    net = model.model if isinstance(model.model, Model | Sequential) else Sequential(model.model)
    if isinstance(net, Model) and net.layout is None:
        raise click.UsageError(
            f"{model} takes ({', '.join(net.inputs)}), not one sequence: use "
            f"onward.load({model.name!r}).trace(...) in Python"
        )
    sequences = read_sequences(model, source)
    if number >= len(sequences.items):
        count = counted(len(sequences.items), "sequence")
        raise click.BadParameter(f"{number}, but {source} has {count}, from 0", param_hint="--sequence")
    label = None if sequences.labels is None else int(sequences.labels[number])
    title = f"{model} on {Path(source).stem}, sequence {sequences.name(number)}"
    x = sequences.items[number]
    if isinstance(model.runner, Rows):
        x = model.runner.from_steps(x)
    if isinstance(net, Model) and net.layout is not None and net.layout.axes.batch is not None:
        x = np.expand_dims(x, net.layout.axes.batch)
    return Run(net, x, title, partial(_class_names, model, sequences), label, sequences.describe())


def _class_names(model: ModelFile, sequences: Sequences, result: Trace) -> list[str] | None:
    """The name of each output if `onward run` predicts classes with the model; otherwise None."""
    output = result.y[0] if result.y.ndim == 2 else result.y[:, 0]
    predictions = predict(model, sequences, [output], [])
    if predictions is None or (sequences.labels is not None and sequences.labels.max() >= len(output)):
        return None
    return [predictions.name(number) for number in range(len(output))]
