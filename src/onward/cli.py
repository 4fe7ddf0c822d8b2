"""The command line: run a model over sequences, look into a model file, convert it, list what is bundled."""

import contextlib
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from . import bundled, data, files
from .base import Layer
from .errors import ArgumentError, OnwardError
from .export import export_onnx
from .load import load, load_tensors
from .model import Sequential
from .trace import Habits

try:
    import click
    from rich.bar import Bar
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree
except ModuleNotFoundError as error:
    # only the entry point imports this module, so this ends the command and nobody's program
    sys.exit(f"The command line needs {error.name}, which is not installed: pip install 'onward[cli]'")

Report: TypeAlias = dict[str, Any]

BATCH = 64  # sequences in one call: enough rows for the core's full speed
SHOWN = 24  # rows of a table of outputs
PICTURES = (".png", ".svg", ".pdf", ".npz")  # what a trace can be written as


class Commands(click.Group):
    """Commands whose errors end in one red message, no traceback, and exit code 2 for wrong use, else 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OnwardError as error:
            raise click.ClickException(click.style(str(error), "red")) from error
        except click.UsageError as error:
            raise click.UsageError(click.style(error.format_message(), "red"), error.ctx) from error


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")


@click.group(cls=Commands, epilog="Example:  onward run vowels")
@click.version_option(package_name="onward")
def main() -> None:
    """Runs trained RNNs, LSTMs and GRUs over sequences."""


@main.command(epilog="Example:  onward run vowels recordings.csv --out speakers.csv")
@click.argument("model")
@click.argument("source", metavar="[INPUT]", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the outputs to this file: .npy, .npz or .csv.",
)
@json_option
def run(model: str, source: str | None, out: Path | None, as_json: bool) -> None:
    """Runs MODEL over the sequences of INPUT and shows what it predicts.

    MODEL is a bundled model (see `onward models`) or a file that onward.load opens.

    INPUT is a bundled data set or a file. Without it, a bundled model runs over its own test data.

    \b
    .npy  x (T, I): time steps of features; or (T, B, I): B sequences
    .npz  `x` as above, or sequences one after another, with `lengths`;
          `y`, if there, is the class of each
    .csv  a header, a row for each time step, a column for each feature;
          columns `sequence` and `label`, if there, tell sequences apart
          and name the class of each by its number
    """
    if out is not None:
        _check_suffix(out, "--out", data.SUFFIXES)
    net, source_file = _model_and_input(model, source)
    sequences = data.read(source_file)
    outputs, seconds = _outputs(net, sequences)
    per_step = outputs[0].ndim == 2
    stacked = np.concatenate(outputs) if per_step else np.stack(outputs)
    if out is not None:
        data.write(out, stacked, sequences.lengths if per_step else None)

    report = {
        "model": model,
        "input": source_file.stem if source is None else source,
        **_summary(sequences, stacked, seconds, per_step),
    }
    report["out"] = None if out is None else str(out)
    if as_json:
        print(json.dumps(report, allow_nan=False))
    else:
        _show_run(report)


@main.command(epilog="Example:  onward trace vowels -o gates.png")
@click.argument("model")
@click.argument("source", metavar="[INPUT]", required=False)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a picture to this file (.png, .svg or .pdf), or, as .npz, every array.",
)
@click.option("--sequence", default=0, show_default=True, help="Which of INPUT's sequences.")
@click.option("--layer", help="Which layer the picture is of, as 0.l0_reverse; the first, if not given.")
@click.option("--similar", is_flag=True, help="Put units of a like course side by side.")
@json_option
def trace(
    model: str,
    source: str | None,
    out: Path | None,
    sequence: int,
    layer: str | None,
    similar: bool,
    as_json: bool,
) -> None:
    """Looks into MODEL while it runs over one sequence of INPUT: its gates and states, step by step.

    MODEL and INPUT are what `onward run` takes. Shows how often the gates of each layer are saturated, how
    long its units remember and which are dead; with --out, draws every gate and state over time.
    """
    net, source_file = _model_and_input(model, source)
    if out is not None:
        _check_suffix(out, "--out", PICTURES)
    items = data.read(source_file).items
    if not 0 <= sequence < len(items):
        message = f"{sequence}, but {source_file.name} has {_count(len(items), 'sequence')}, counted from 0"
        raise click.BadParameter(message, param_hint="--sequence")
    seen = net.trace(items[sequence])
    if layer is not None and layer not in seen.layers:
        raise click.BadParameter(f"{layer}: there are {', '.join(seen.layers)}", param_hint="--layer")
    if out is not None and out.suffix == ".npz":
        seen.save(out)
    elif out is not None:
        picture = io.BytesIO()
        figure = seen.plot(layer or 0, similar=similar)
        figure.savefig(picture, format=out.suffix[1:], dpi=100)
        files.replace(out, picture.getvalue())
    report = {
        "model": model,
        "steps": len(items[sequence]),
        "layers": [_layer_habits(name, habits) for name, habits in seen.summary().items()],
        "out": None if out is None else str(out),
    }
    if as_json:
        print(json.dumps(report))
    else:
        _show_trace(report)


@main.command(epilog="Example:  onward info vowels")
@click.argument("model")
@json_option
def info(model: str, as_json: bool) -> None:
    """Shows the layers of MODEL, their weights, parameters and bytes.

    MODEL is a bundled model (see `onward models`) or a file that onward.load opens.
    """
    path = _file(model, bundled.models(), "model", "MODEL")
    net = load(path)
    if not isinstance(net, dict | Layer):  # a graph of ONNX: of layers, or of its arrays
        with contextlib.suppress(ArgumentError):
            net = net.layers()
    parts: dict[Any, Any] = (
        net if isinstance(net, dict) else dict(enumerate(net if isinstance(net, Sequential) else [net]))
    )
    layers = [_layer(str(name), layer) for name, layer in parts.items()]
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


@main.command(epilog="Example:  onward convert vowels vowels.onnx")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path, dir_okay=False))
def convert(source: str, target: Path) -> None:
    """Writes the model IN in the format of OUT: .safetensors or .onnx.

    IN is a bundled model (see `onward models`) or a file that onward.load opens. Of a file that does not say
    how its layers are connected, .safetensors takes the tensors.
    """
    _check_suffix(target, "OUT", (".safetensors", ".onnx"))
    path = _file(source, bundled.models(), "model", "IN")
    net = load(path)
    to_onnx = target.suffix.lower() == ".onnx"
    if isinstance(net, dict):
        if to_onnx:
            raise click.UsageError(
                f"{source} does not say how its layers ({', '.join(net)}) are connected: put them into an "
                "onward.Sequential, save that and convert it"
            )
        files.write(target, load_tensors(path))
    else:
        model = net if isinstance(net, Layer) else net.layers()
        export_onnx(model, target) if to_onnx else model.save(target)
    Console(highlight=False, markup=False).print(f"{target}: {_size(target.stat().st_size)}")


@main.command(epilog="Example:  onward models")
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


def _file(name: str, known: dict[str, Path], what: str, argument: str) -> Path:
    """The file of a bundled name, or the file of that name."""
    path = known.get(name, Path(name))
    if not path.is_file():
        message = f"{name!r} is neither a file nor a bundled {what} ({', '.join(known)})"
        raise click.BadParameter(message, param_hint=argument)
    return path


def _check_suffix(path: Path, argument: str, suffixes: Sequence[str]) -> None:
    if path.suffix.lower() not in suffixes:
        message = f"the name of {path} must end in one of {', '.join(suffixes)}"
        raise click.BadParameter(message, param_hint=argument)
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}: make it first", param_hint=argument)


def _model_and_input(model: str, source: str | None) -> tuple[Sequential, Path]:
    """The model of a bundled name or a file, and the file of what it is to run over."""
    model_file = _file(model, bundled.models(), "model", "MODEL")
    if source is None:
        if model not in bundled.models():
            known = ", ".join(bundled.datasets())
            raise click.UsageError(f"INPUT is missing: give a file or a bundled data set ({known})")
        source = bundled.card(model)["data"]
    source_file = _file(source, bundled.datasets(), "data set", "INPUT")
    _check_suffix(source_file, "INPUT", data.SUFFIXES)
    net = load(model_file)
    if not isinstance(net, dict | Layer):  # a graph of ONNX
        net = net.layers()
    if isinstance(net, dict):
        raise click.UsageError(
            f"{model} does not say how its layers ({', '.join(net)}) are connected: put them into an "
            "onward.Sequential, save that and run it"
        )
    # a layer alone becomes a model of one
    return net if isinstance(net, Sequential) else Sequential(net), source_file


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


def _outputs(net: Sequential, sequences: data.Sequences) -> tuple[list[data.AnyArray], float]:
    """What the model gives for each sequence, (O,) or (T, O), and how many seconds it computed."""
    outputs: list[Any] = [None] * len(sequences.items)
    seconds = 0.0
    batch_first = any(getattr(layer, "batch_first", False) for layer in net)
    stderr = Console(stderr=True)
    for rows, x, lengths in track(
        sequences.batches(BATCH),
        description="Running",
        total=-(-len(outputs) // BATCH),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
    ):
        start = time.perf_counter()
        y = net(x.swapaxes(0, 1) if batch_first else x, lengths=lengths)
        seconds += time.perf_counter() - start
        if batch_first and y.ndim == 3:
            y = y.swapaxes(0, 1)
        for b, row in enumerate(rows):
            outputs[row] = y[: lengths[b], b] if y.ndim == 3 else y[b]
    return outputs, seconds


def _layer_habits(name: str, habits: Habits) -> Report:
    return {
        "layer": name,
        "saturated": {gate: {"low": low, "high": high} for gate, (low, high) in habits.saturated.items()},
        "memory": None if habits.memory is None else habits.memory.tolist(),
        "dead": habits.dead.tolist(),
    }


def _summary(sequences: data.Sequences, outputs: data.AnyArray, seconds: float, per_step: bool) -> Report:
    """What is reported of a run: each output and, where there are labels, each class."""
    steps = int(sequences.lengths.sum())
    report: Report = {
        "sequences": len(sequences.items),
        "steps": steps,
        "seconds": seconds,
        "steps_per_second": steps / seconds,
        "output_shape": list(outputs.shape),
        "labels": sequences.labels is not None,
        "not_finite": int((~np.isfinite(outputs)).sum()),
    }
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        mean = outputs.mean(axis=0, dtype=np.float64)
    report["outputs"] = [
        {"mean": _number(mean[k]), "min": _number(column.min()), "max": _number(column.max())}
        for k, column in enumerate(outputs.T)
    ]
    if per_step or outputs.shape[1] == 1:
        return report

    predicted = outputs.argmax(axis=1)
    report["predicted"] = predicted.tolist()
    if (labels := sequences.labels) is not None:
        report["accuracy"] = float((predicted == labels).mean())
        report["classes"] = [_class(k, labels, predicted) for k in np.union1d(labels, predicted).tolist()]
    return report


def _class(k: int, labels: data.Integers, predicted: data.Integers) -> Report:
    own = predicted[labels == k]
    correct = int((own == k).sum())
    return {
        "class": k,
        "sequences": len(own),
        "correct": correct,
        "accuracy": correct / len(own) if len(own) else None,
        "taken_for": dict(Counter(own[own != k].tolist()).most_common()),
    }


def _number(value: Any) -> float | None:
    """None for NaN and infinities, which JSON does not have."""
    return float(value) if np.isfinite(value) else None


def _show_run(report: Report) -> None:
    console = Console(highlight=False, markup=False)
    console.print(_classes_table(report) if "classes" in report else _outputs_table(report))
    console.print(
        f"{_count(report['sequences'], 'sequence')}, {_count(report['steps'], 'time step')} in "
        f"{report['seconds'] * 1e3:,.1f} ms: {report['steps_per_second']:,.0f} steps per second"
    )
    if report["labels"] and "classes" not in report:
        console.print("The labels are not used: the model does not give one output for each class.")
    if report["not_finite"]:
        console.print(f"{_count(report['not_finite'], 'output')} NaN or infinite.", style="yellow")
    if report["out"]:
        console.print(f"Outputs written to {report['out']}")


def _show_trace(report: Report) -> None:
    title = f"{report['model']} over {_count(report['steps'], 'step')}: how its layers behave"
    table = _table(title, "layer", "gate", "lowest tenth", "highest tenth", "remembers, steps", "dead units")
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


def _title(report: Report) -> str:
    return f"{report['model']} on {report['input']}: outputs {tuple(report['output_shape'])}"


def _classes_table(report: Report) -> Table:
    table = _table(_title(report), "class", "sequences", "correct", "accuracy")
    table.add_column("")
    table.add_column("taken for")
    for row in report["classes"]:
        accuracy = row["accuracy"]
        table.add_row(
            str(row["class"]),
            str(row["sequences"]),
            str(row["correct"]),
            "" if accuracy is None else f"{accuracy:.1%}",
            Bar(1, 0, accuracy or 0, width=20, color="green"),
            ", ".join(f"{k} ({times}x)" for k, times in row["taken_for"].items()),
        )
    table.add_section()
    correct = sum(row["correct"] for row in report["classes"])
    table.add_row(
        "all",
        str(report["sequences"]),
        str(correct),
        f"{report['accuracy']:.1%}",
        Bar(1, 0, report["accuracy"], width=20, color="green"),
        style="bold",
    )
    return table


def _outputs_table(report: Report) -> Table:
    largest: Counter[int] = Counter(report.get("predicted"))
    table = _table(_title(report), "output", "mean", "min", "max", *(["largest in"] if largest else []))
    for k, row in enumerate(report["outputs"][:SHOWN]):
        numbers = ["" if value is None else f"{value:.4g}" for value in row.values()]
        table.add_row(str(k), *numbers, *([f"{largest[k]:,} of {report['sequences']:,}"] if largest else []))
    hidden = len(report["outputs"]) - SHOWN
    if hidden > 0:
        table.caption = f"and {_count(hidden, 'more output')}: --json shows all"
    return table


def _table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(title=Text(title, "bold"), title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def _show_info(report: Report) -> None:
    title = f"{report['model']}: a file of {_size(report['file_bytes'])}"
    table = _table(title, "layer", "shape", "parameters", "bytes")
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
    title = f"{report['model']}: a file of {_size(report['file_bytes'])}, {report['parameters']:,} parameters"
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
    models = _table("Models", "name", "size", "accuracy")
    models.add_column("licence")
    models.add_column("tells")
    for row in report["models"]:
        models.add_row(
            row["name"], _size(row["bytes"]), f"{float(row['accuracy']):.1%}", row["license"], row["summary"]
        )
    sets = _table("Data sets", "name", "sequences", "time steps")
    for row in report["data"]:
        sets.add_row(row["name"], f"{row['sequences']:,}", f"{row['steps']:,}")
    console = Console(highlight=False, markup=False)
    console.print(models)
    console.print(sets)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _size(count: int) -> str:
    return f"{count / 1000:,.1f} kB"
