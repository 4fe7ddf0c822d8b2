"""Declarations and functions that the commands share: models and data, reports, tables, progress bars."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from .. import bundled
from ..core import atomic
from ..errors import ArgumentError
from ..formats import load
from ..graph import Model
from ..layers.base import Layer
from ..layers.sequential import Sequential
from ..recipes import text
from ..tables import inference
from .group import did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (".png", ".svg", ".pdf")

Report: TypeAlias = dict[str, Any]


Command: TypeAlias = Callable[..., Any]


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")


def reported(show: Callable[[Report], None]) -> Callable[[Command], Command]:
    """Add --json to a command that returns its report; without this option, `show` prints the report."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def reporting(*args: Any, as_json: bool, **options: Any) -> None:
            report = command(*args, **options)
            print(json.dumps(report, allow_nan=False)) if as_json else show(report)

        return json_option(reporting)

    return decorate


def is_json() -> bool:
    """Whether the running command prints its report as JSON."""
    return bool(click.get_current_context().params["as_json"])


def state_dict_options(command: Command) -> Command:
    """Options for settings of recurrent layers that a state dict does not record."""
    activation = "Activation of the RNN layers in a state dict, which does not record it. Default: tanh."
    layout = "The recurrent layers in a state dict were built with batch_first, which it does not record."
    command = click.option("--batch-first", is_flag=True, default=None, help=layout)(command)
    return click.option("--nonlinearity", type=click.Choice(["tanh", "relu"]), help=activation)(command)


def out_option(help: str, **settings: Any) -> Callable[[Command], Command]:
    """The option --out, a file to write."""
    return click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help=help, **settings)


def _completion(known: Callable[[], dict[str, Path]]) -> Callable[..., list[CompletionItem]]:
    """A function that completes the name of something bundled, or of a file, in a shell."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name) for name in known() if name.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="file")]

    return complete


complete_model, complete_data = _completion(bundled.models), _completion(bundled.datasets)
model_argument = click.argument("model", shell_complete=complete_model)
source_argument = click.argument("source", metavar="[INPUT]", required=False, shell_complete=complete_data)


def model_file(name: str, argument: str = "MODEL") -> Path:
    """The file of a bundled model, or the file with that name."""
    return named_file(name, bundled.models(), "model", argument)


def data_file(name: str, argument: str) -> Path:
    """The file of a bundled data set, or the file with that name."""
    return named_file(name, bundled.datasets(), "data set", argument)


def named_file(name: str, known: dict[str, Path], what: str, argument: str) -> Path:
    """The bundled file or the file with that name. Raises BadParameter if neither exists."""
    path = known.get(name, Path(name))
    if path.exists() and not path.is_file():
        kind = "a directory, not a file" if path.is_dir() else "not a regular file"
        raise click.BadParameter(f"{name!r} is {kind}", param_hint=argument)
    if not path.exists():
        message = f"{name!r} is neither a file nor a bundled {what} ({', '.join(known)})."
        if name in (bundled.datasets() if what == "model" else bundled.models()):
            message += f" It is a bundled {'data set' if what == 'model' else 'model'}."
        neighbors = path.parent.iterdir() if path.parent.is_dir() else ()
        others = [str(path.with_name(file.name)) for file in neighbors if file.is_file()]
        raise click.BadParameter(message + did_you_mean(name, [*known, *others]), param_hint=argument)
    return path


def check_suffix(path: Path, argument: str, suffixes: Sequence[str]) -> None:
    """Raise BadParameter unless a path ends in one of the suffixes and its directory exists."""
    if path.suffix.lower() not in suffixes:
        message = f"the name of {path} must end in one of {', '.join(suffixes)}"
        raise click.BadParameter(message, param_hint=argument)
    if not path.parent.is_dir():
        message = f"the directory {path.parent} does not exist: create it first"
        raise click.BadParameter(message, param_hint=argument)


def refuse_to_overwrite(
    source: str | Path, out: str | Path, argument: str = "INPUT", hint: str = "--out"
) -> None:
    """Raise BadParameter if `out` is the file of an argument, or a file in that folder."""
    path, target = Path(source).resolve(), Path(out).resolve()
    same = target.exists() and path.exists() and target.samefile(path)
    if same or (path.is_dir() and path in target.parents):
        raise click.BadParameter(f"{out} would overwrite {argument}: choose another name", param_hint=hint)


def text_model(name: str) -> tuple[Sequential, text.Vocabulary]:
    """A bundled text model or the one in a file, and its vocabulary."""
    path = model_file(name)
    if text.vocabulary_of(path) is None:
        raise ArgumentError(
            f"{name} is not a text model: expected a bundled text model (see `onward models`) or a file "
            "written by `onward train text`"
        )
    return text.load(path)


def model_of(path: Path, name: str) -> Sequential:
    """The model in a file. A single layer becomes a model of one layer."""
    model = layer_of(path, name)
    model = model.layers() if isinstance(model, Model) else model
    return model if isinstance(model, Sequential) else Sequential(model)


def layer_of(path: Path, name: str) -> Layer:
    """The model, or the single layer, in a file, in a form that runs over sequences. Raises UsageError."""
    return inference.runnable(model_in(path, name))


def model_in(path: Path, name: str) -> Layer:
    """The model, or the single layer, in a file. Raises UsageError for layers that are not connected."""
    net = load(path)
    if not isinstance(net, dict):
        return net
    if net.only_layer is None:
        raise click.UsageError(
            f"{name} contains layers ({', '.join(net)}) but no forward(): connect them in "
            "Python with onward.load(...).sequential(...), save the result and use the new file"
        )
    return net.only_layer


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, shown only in a terminal; yields the function that advances it."""
    stderr = Console(stderr=True)
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.advance(task, n)


def console(stderr: bool = False) -> Console:
    """The console for tables and messages, which prints them without highlighting or markup."""
    return Console(highlight=False, markup=False, stderr=stderr)


def new_table(title: str, *columns: str) -> Table:
    """A table whose first column is text; all others are right-aligned numbers."""
    table = Table(title=Text(title, "bold") if title else None, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def write_figure(path: Path, figure: Figure) -> None:
    """Write a picture in the format of the suffix. If this fails, an existing file is unchanged."""
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower(), dpi=100)
    atomic.replace(path, picture.getvalue())


def counted(n: int, noun: str) -> str:
    """
    >>> counted(1, "step"), counted(2000, "step")
    ('1 step', '2,000 steps')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def kilobytes(count: int) -> str:
    """
    >>> kilobytes(50_400)
    '50.4 kB'
    """
    return f"{count / 1000:,.1f} kB"
