"""`onward trace`: a look inside a model while it runs."""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from .. import bundled
from ..layers.sequential import Sequential
from ..recipes import text as text_models
from ..tracing.trace import Habits
from .common import (
    PICTURES,
    Report,
    check_suffix,
    complete_data,
    complete_model,
    counted,
    json_option,
    model_of,
    named_file,
    new_table,
    write_figure,
)
from .input_options import default_source, read_sequences


@click.command(epilog="Example:  onward trace vowels -o gates.png")
@click.argument("model", shell_complete=complete_model)
@click.argument("source", metavar="[INPUT]", required=False, shell_complete=complete_data)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a picture to this file (.png, .svg or .pdf), or, as .npz, every array.",
)
@click.option("--sequence", default=0, show_default=True, help="Which of INPUT's sequences.")
@click.option("--text", help="Of a model of text: what it reads, instead of INPUT.")
@click.option("--layer", help="Which layer the picture is of, as 0.l0_reverse; the first, if not given.")
@click.option("--similar", is_flag=True, help="Put units of a like course side by side.")
@json_option
def trace(
    model: str,
    source: str | None,
    out: Path | None,
    sequence: int,
    text: str | None,
    layer: str | None,
    similar: bool,
    as_json: bool,
) -> None:
    """Show the gates and states of MODEL as it processes one sequence.

    MODEL and INPUT are what `onward run` takes; a model of text, as shakespeare, takes --text. Shows how
    often the gates of each layer are saturated, how long its units remember and which are dead; with
    --out, draws every gate and state over time.
    """
    if out is not None:
        check_suffix(out, "--out", (*PICTURES, ".npz"))
    net, x = _text_read(model, source, text) if text is not None else _sequence_read(model, source, sequence)
    seen = net.trace(x)
    if layer is not None and layer not in seen.layers:
        raise click.BadParameter(f"{layer}: there are {', '.join(seen.layers)}", param_hint="--layer")
    if out is not None and out.suffix.lower() == ".npz":
        seen.save(out)
    elif out is not None:
        write_figure(out, seen.plot(layer or 0, text=text, similar=similar))
    report = {
        "model": model,
        "steps": len(x),
        "layers": [_layer_habits(name, habits) for name, habits in seen.summary().items()],
        "out": None if out is None else str(out),
    }
    if as_json:
        print(json.dumps(report))
    else:
        _show_trace(report)


def _text_read(model: str, source: str | None, text: str) -> tuple[Sequential, NDArray[Any]]:
    if source is not None:
        raise click.UsageError(f"give INPUT ({source}) or --text, not both")
    net, vocabulary = text_models.load(named_file(model, bundled.models(), "model", "MODEL"))
    return net, vocabulary.encode(text)


def _sequence_read(model: str, source: str | None, number: int) -> tuple[Sequential, NDArray[Any]]:
    path = named_file(model, bundled.models(), "model", "MODEL")
    source = default_source(model, source)
    net = model_of(path, model)
    sequences = read_sequences(net, path, source)
    items = sequences.items
    if not 0 <= number < len(items):
        message = f"{number}, but {source} has {counted(len(items), 'sequence')}, counted from 0"
        raise click.BadParameter(message, param_hint="--sequence")
    return net, items[number]


def _layer_habits(name: str, habits: Habits) -> Report:
    return {
        "layer": name,
        "saturated": {gate: {"low": low, "high": high} for gate, (low, high) in habits.saturated.items()},
        "memory": None if habits.memory is None else habits.memory.tolist(),
        "dead": habits.dead.tolist(),
    }


def _show_trace(report: Report) -> None:
    title = f"{report['model']} over {counted(report['steps'], 'step')}: how its layers behave"
    table = new_table(
        title, "layer", "gate", "lowest tenth", "highest tenth", "remembers, steps", "dead units"
    )
    for layer in report["layers"]:
        memory = layer["memory"] or []
        steps = f"{np.mean(memory):.1f}, longest {max(memory):.1f}" if memory else ""
        rows = [
            (gate, *(f"{share:.0%}" for share in shares.values()))
            for gate, shares in layer["saturated"].items()
        ]
        for n, row in enumerate(rows or [("", "", "")]):
            table.add_row(*((layer["layer"], *row, steps, str(len(layer["dead"]))) if n == 0 else ("", *row)))
        table.add_section()
    console = Console(highlight=False, markup=False)
    console.print(table)
    if report["out"]:
        console.print(f"Written to {report['out']}")
