"""Models and inputs of the commands: bundled ones, files, columns, texts, arrays by name, standard input."""

from __future__ import annotations

import functools
import inspect
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.shell_completion import CompletionItem

from .. import bundled, formats
from ..core import files
from ..errors import ArgumentError, FileError
from ..formats.compiled.model import CompiledModel
from ..formats.torch.parts import Parts
from ..graph.declared import check_names
from ..graph.structure import names as structure_names
from ..layers.base_model import BaseModel
from ..layers.sequential import Sequential
from ..model import Model
from ..recipes import text
from ..tables import data, inference, model_files
from ..tables.data import AnyArray, Selection, Sequences
from ..tables.layout import CHOICES, SEVERAL
from ..tables.rows import Rows, called, has_several_outputs
from .common import Command, Real, counted, refuse_options, waiting
from .group import did_you_mean, warn

STDIN = "-"
Arrays = dict[str, AnyArray] | list[AnyArray]

SELECTION = {  # the help of the option for each field
    "inputs": "Feature columns, separated by commas.",
    "targets": "Column to predict, or several: strings or integers are classes, other numbers are values.",
    "group": "Column that identifies the sequence of a row.",
    "time": "Column that orders the steps of a sequence: numbers or dates.",
    "window": "Cut long sequences into windows of this many steps.",
    "horizon": "With --window, forecast the target this many steps ahead.",
    "season": "With --window, the steps after which the series repeat. Default: by the data.",
    "every": "Time from step to step, such as 15min, 1h, 1d or 1M. Default: by the data, with --window.",
    "missing": "What to do about empty cells, NA, null and NaN, and about steps without a row: stop, skip "
    "the steps, fill with the last value, or fill and mask with one more feature per column.",
    "task": "What the target is: a class, a number, or a class of each step. Default: by the data.",
    "weight": "Column with the weight of each sequence in training: the value on its first row.",
    "known": "With --window, features whose future is known, such as a price; rows after the last target "
    "hold it.",
    "static": "With --window, features of a series, such as its region: numbers or text.",
    "interval": "With --window, also forecast bounds that contain this share of the targets, such as 0.8.",
    "delimiter": "CSV: what separates the cells, such as ';' or tab. Default: a comma.",
    "decimal": "CSV: the decimal sign. Default: a point.",
    "day_first": "CSV: dates are 31.1.2024 or 31/1/2024.",
}


COUNTS = ("window", "horizon", "season")
ABSENT = {"group": "all rows are one sequence", "time": "the steps are in the order of the rows"}


COMPILED = "run", "score", "verify", "info"  # the commands that need no layers


class ModelFile:
    """A bundled model, or a model in a file. Raises BadParameter if there is no such file."""

    def __init__(self, name: str) -> None:
        self.name, self.path = name, named_file(name, "model")

    def __str__(self) -> str:
        return self.name

    def load(self, **settings: Any) -> BaseModel | Parts:
        """The whole model, or its parts; `--inputs` declares the inputs of a TorchScript program."""
        context = click.get_current_context(silent=True)
        if declared := context and context.meta.get(DECLARED):
            settings["inputs"] = declared
        model = formats.load(self.path, **settings)
        if context and context.command.name not in COMPILED and isinstance(model, CompiledModel):
            takers = ", ".join(f"`onward {name}`" for name in COMPILED)
            raise ArgumentError(
                f"{self} is compiled: it holds programs, not layers, for {takers} and the C library. "
                "Pass the model that was compiled"
            )
        return model

    @functools.cached_property
    def model(self) -> BaseModel:
        """The model, or the single layer. Raises UsageError for layers that are not connected."""
        net = self.load()
        if not isinstance(net, Parts):
            return net
        if net.only_layer is None:
            raise click.UsageError(
                f"{self} contains {layers_in(net)} but no forward(): connect them in "
                "Python with onward.load(...).sequential(...), save the result and use the new file"
            )
        return net.only_layer

    def fixed(self, given: dict[str, Any], *functions: Callable[..., Any]) -> dict[str, Any]:
        """Return fixed inputs of the model as arguments of functions. Raises SignatureError, UsageError."""
        names = self.model.inputs if isinstance(self.model, Model) else ["x"]
        check_names(dict.fromkeys(names), list(given), "inputs")
        signatures = (inspect.signature(function).parameters.values() for function in functions)
        own = {each.name for each in chain.from_iterable(signatures) if each.kind is not each.VAR_KEYWORD}
        if taken := own.intersection(given):
            raise click.UsageError(
                f"the input {min(taken)} cannot be fixed: an argument in Python has its name"
            )
        return given

    @functools.cached_property
    def runner(self) -> BaseModel | Rows:
        """The model, or the single layer, in a form that runs on many sequences. Raises UsageError."""
        return inference.runnable(self.model)

    @functools.cached_property
    def vocabulary(self) -> text.Vocabulary | None:
        """The vocabulary of a text model; None for other models."""
        return text.vocabulary_of(self.path)

    def text_model(self) -> tuple[Sequential, text.Vocabulary]:
        """A text model and its vocabulary."""
        if self.vocabulary is None:
            raise ArgumentError(
                f"{self} is not a text model: expected a bundled text model (see `onward models`) or a file "
                "written by `onward train text`"
            )
        return text.load(self.path)

    @property
    def card(self) -> dict[str, Any]:
        """What is known about a bundled model; empty for other models."""
        return bundled.card(self.name) if self.name in bundled.models() else {}

    def source(self, source: str | None) -> str:
        """INPUT, or by default the test data of a bundled model. Raises UsageError if there are none."""
        source = self.card.get("data") if source is None else source
        if source is None:
            known = ", ".join(bundled.datasets())
            raise click.UsageError(f"INPUT is missing: give a file or a bundled data set ({known})")
        return source


def layers_in(parts: Parts) -> str:
    """The layers of a file that does not connect them, by name or, without one, by kind."""
    return f"layers ({', '.join(name or type(layer).__name__ for name, layer in parts.items())})"


def data_file(name: str, argument: str | None = None) -> Path:
    """The file of a bundled data set, or the file with that name."""
    return named_file(name, "data set", argument)


BUNDLED = {"model": bundled.models, "data set": bundled.datasets}


def named_file(name: str, what: str, argument: str | None = None) -> Path:
    """The bundled model or data set, or the file, with that name. Raises BadParameter if neither exists."""
    known = BUNDLED[what]()
    path = known.get(name, Path(name))
    if path.exists() and not path.is_file():
        kind = "a directory, not a file" if path.is_dir() else "not a regular file"
        raise click.BadParameter(f"{name!r} is {kind}", param_hint=argument)
    if not path.exists():
        message = f"{name!r} is neither a file nor a bundled {what} ({', '.join(known)})."
        message += "".join(f" It is a bundled {other}." for other in BUNDLED if name in BUNDLED[other]())
        neighbors = path.parent.iterdir() if path.parent.is_dir() else ()
        others = [str(path.with_name(file.name)) for file in neighbors if file.is_file()]
        raise click.BadParameter(message + did_you_mean(name, [*known, *others]), param_hint=argument)
    return path


def _complete(what: str, ctx: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    """Complete the name of something bundled, or of a file, in a shell."""
    names = [CompletionItem(name) for name in BUNDLED[what]() if name.startswith(start)]
    return [*names, CompletionItem(start, type="file")]


complete_data = functools.partial(_complete, "data set")
as_model: dict[str, Any] = {"type": ModelFile, "shell_complete": functools.partial(_complete, "model")}
DECLARED = f"{__name__}.declared"  # the key of the inputs that --inputs declares
DECLARATION = re.compile(r"([\w.]+)=(?:(\w*)\(([^()]*)\)|([^,()]+))")


def _declare(ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> None:
    """Parse declarations for `onward.load`. Raises BadParameter."""
    declared: dict[str, Any] = {}
    for each in texts:
        if re.fullmatch(rf"{DECLARATION.pattern}(,{DECLARATION.pattern})*", each) is None:
            raise click.BadParameter(f"{each!r}; expected name=dtype(axes) or name=number, such as {EXAMPLE}")
        for name, dtype, axes, number in DECLARATION.findall(each):
            sizes = tuple(int(axis) if axis.isdecimal() else axis for axis in names(axes))
            try:
                value = {"true": True, "false": False}.get(number) if number else (dtype or "float32", sizes)
                declared[name] = json.loads(number) if value is None else value
            except ValueError:
                raise click.BadParameter(f"{number!r} is not a number") from None
    ctx.meta[DECLARED] = declared


EXAMPLE = '"x=float32(batch,time,40),rate=16000"'
inputs_option = click.option(
    "--inputs",
    "declared_inputs",
    metavar="DECLARATION",
    multiple=True,
    expose_value=False,
    callback=_declare,
    help=f"Dtypes and axes, or values, of the inputs of a TorchScript program: {EXAMPLE}.",
)


def model_argument(command: Command) -> Command:
    """Add the argument MODEL, and the option that declares its inputs."""
    return inputs_option(click.argument("model", **as_model)(command))


source_argument = click.argument("source", metavar="[INPUT]", required=False, shell_complete=complete_data)


def selection_options(command: Command) -> Command:
    """Add the options that select columns; the command receives them as `selection`."""

    @functools.wraps(command)
    def with_selection(*args: Any, **options: Any) -> Any:
        selection = Selection(**{field: options.pop(field) for field in SELECTION})
        return command(*args, selection=selection, **options)

    for field, explanation in reversed(SELECTION.items()):
        settings: dict[str, Any] = {"help": explanation}
        if field in COUNTS:
            settings["type"] = click.IntRange(1)
        elif field in CHOICES:
            settings["type"] = click.Choice([choice for choice in CHOICES[field] if choice != "keep"])
        elif field in SEVERAL:
            settings["callback"] = lambda ctx, param, value: names(value)
        elif field == "delimiter":
            settings["callback"] = _delimiter
        elif field == "interval":
            settings["type"] = Real(0, 1, min_open=True, max_open=True)
        elif field == "day_first":
            settings["is_flag"] = True
        name = {"inputs": "--input", "targets": "--target"}.get(field, f"--{field.replace('_', '-')}")
        with_selection = click.option(name, field, **settings)(with_selection)
    return with_selection


def _delimiter(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    value = {"tab": "\t", "\\t": "\t", "semicolon": ";"}.get(value or "", value)
    if value is not None and len(value) != 1:
        raise click.BadParameter(f"{value!r} is not one character: expected one such as ';', or tab")
    return value


def names(listed: str | None) -> tuple[str, ...]:
    """Split names separated by commas."""
    return tuple(name.strip() for name in listed.split(",")) if listed else ()


def read_sequences(
    model: ModelFile, source: str, selection: Selection | None = None, future: bool = False
) -> Sequences:
    """Read the sequences of a file, a bundled data set or standard input, in the form that the model takes.

    The record of the training table in the model file fills in what `selection` leaves open. future: keep
    windows whose targets are still unknown. Raises FileError, or ArgumentError for other features.
    """
    runner, saved = model.runner, model_files.load_saved(model.path)
    step_shape = runner.step_shape
    if source == STDIN or data.suffix_of(data_file(source, "INPUT")) in data.SUFFIXES:
        time = runner.time if isinstance(runner, Rows) else 0
        sequences = read_table(
            source, selection, step_shape=step_shape, time=time, saved=saved, future=future
        )
        for name, effect in ABSENT.items():
            column = getattr(saved.selection, name)
            if column and sequences.suffix in data.TABLES and getattr(sequences.selection, name) is None:
                warn(f"{source} has no column {column!r}, as the training had: {effect}.")
    else:
        refuse_options(SELECTION, "tables")
        sequences = _read_text(model, data_file(source, "INPUT"))
    sequences.check_features(step_shape, _declared(model.model))
    return sequences


def _declared(model: BaseModel) -> str:
    """The input of a whole model as its file declares it: "picture (N, 3, 8, 8)"; "" for layers."""
    declared = model.planner.graph.inputs[0] if isinstance(model, Model) else None
    return f"{declared.name} ({', '.join(map(str, declared.axes))})" if declared and declared.axes else ""


def read_table(source: str, selection: Selection | None = None, **options: Any) -> Sequences:
    """Read the sequences of a file, a bundled data set or standard input, as `data.read` does."""
    with waiting(f"Reading {'standard input' if source == STDIN else source}"):
        if source != STDIN:
            return data.read(data_file(source, "FILE"), selection, **options)
        if sys.stdin is None:
            raise FileError("standard input is closed: pass a file, or the content of one with <")
        content = sys.stdin.buffer.read()
        suffix = data.detect_suffix(content)
        return data.parse(io.BytesIO(content), suffix, "standard input", selection, **options)


def _read_text(model: ModelFile, path: Path) -> Sequences:
    """Read a text as one sequence of token ids, without characters that the model does not know."""
    if (vocabulary := model.vocabulary) is None:
        message = (
            f"the name of {path} must end in one of {', '.join(data.SUFFIXES)}; other files are read as "
            "text, which needs a text model"
        )
        raise click.BadParameter(message, param_hint="INPUT")
    whole = files.read_text(path)
    known = vocabulary.without_unknown(whole)
    if not known:
        total = counted(len(whole), "character")
        raise FileError(f"{path} has no character that the model knows, of {total}")
    if len(known) < len(whole):
        warn(f"Skipped {counted(len(whole) - len(known), 'character')} that the model does not know.")
    return Sequences([vocabulary.encode(known)], origin=f"{path}: a text", single=True)


def read_arrays(path: Path | str, argument: str = "INPUTS") -> Arrays:
    """The arrays of a file: by name, or in order if it is .npy or the names are NumPy's arr_0, arr_1, .."""
    file = data_file(str(path), argument)
    try:
        with file.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return [loaded]
            arrays = {name: loaded[name] for name in loaded.files}
    except Exception as error:  # NumPy, zipfile and zlib raise many kinds of errors for a damaged file
        raise ArgumentError(f"{path} is not a complete .npy or .npz file: {error}") from error
    return list(arrays.values()) if all(name.startswith("arr_") for name in arrays) else arrays


def takes_arrays(model: ModelFile, source: str) -> bool:
    """Whether INPUT has the inputs of calls: the model does not run on rows, or the file has no `x`."""
    net = model.model
    if not isinstance(net, Model) or data.suffix_of(source) not in (".npy", ".npz"):
        return False
    try:
        inference.runnable(net)
        if has_several_outputs(net.general.planner.graph):
            return True
    except ArgumentError:
        return True
    if data.suffix_of(source) == ".npy":
        return False
    arrays = read_arrays(source, "INPUT")
    return isinstance(arrays, dict) and "x" not in arrays and set(arrays) <= set(net.inputs)


def outputs_of(net: Any, arrays: Arrays) -> dict[str, AnyArray]:
    """The outputs of a whole model by name, for inputs in order or by name; `x` names an only input."""
    if isinstance(arrays, dict) and arrays.keys() == {"x"} and len(net.inputs) == 1:
        arrays = list(arrays.values())
    given = dict(zip(net.inputs, arrays, strict=False)) if isinstance(arrays, list) else arrays
    if len(given) < len(arrays):
        raise ArgumentError(f"INPUT has {len(arrays)} arrays, but the model takes ({', '.join(net.inputs)})")
    outputs = dict(zip(net.outputs, called(net, given), strict=True))
    structure = net.graph.structure
    returned = outputs.keys() if structure is None else {*structure_names(structure.results)}
    return {name: y for name, y in outputs.items() if name in returned}
