"""Declarations and functions that the commands share: options, reports, tables, pictures, progress bars."""

from __future__ import annotations

import functools
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
import numpy as np
from click.core import ParameterSource
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from ..core import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (".png", ".svg", ".pdf")
MOST_ROWS = 24  # of a table with as many rows as the data have series, classes or outputs

Report: TypeAlias = dict[str, Any]
Printed: TypeAlias = Iterable[str | Text | Table]
Command: TypeAlias = Callable[..., Any]
Decorator: TypeAlias = Callable[[Command], Command]


class Real(click.FloatRange):
    """A finite number in a range; click itself finds NaN in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")


def equations(convert: Callable[[str], Any], expected: str) -> Callable[..., dict[str, Any]]:
    """Return the callback of an option that declares NAME=VALUE any number of times: a dict of the values."""

    def parse(ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> dict[str, Any]:
        found = {}
        for text in texts:
            name, equals, value = text.partition("=")
            try:
                if not equals:
                    raise ValueError
                found[name] = convert(value)
            except ValueError:
                raise click.BadParameter(f"{text!r}; expected {expected}", ctx, param) from None
        return found

    return parse


def _array(text: str) -> np.ndarray:
    """Return a number or a list in JSON as an array. Raises ValueError."""
    array = np.asarray(json.loads(text))
    if array.dtype.kind not in "biuf":
        raise ValueError
    return array


def fixed_option(name: str) -> Decorator:
    """The option that gives inputs of the model a fixed value."""
    return click.option(
        name,
        "fixed",
        metavar="NAME=VALUE",
        multiple=True,
        callback=equations(_array, "NAME=VALUE with a number or a JSON list, such as sr=16000"),
        help="An input that has the same value in every call: a number or a JSON list, such as sr=16000.",
    )


carry_option = click.option(
    "--carry",
    metavar="INPUT=OUTPUT",
    multiple=True,
    callback=equations(str, "INPUT=OUTPUT"),
    help="An input that the next block of a stream takes from an output. Default: those with matching names.",
)


def reported(show: Callable[[Report], Printed]) -> Decorator:
    """Add --json to a command that returns its report; without this option, what `show` yields is printed.

    It is printed to standard error if the outputs of the command go to standard output.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def reporting(*args: Any, as_json: bool, **options: Any) -> None:
            report = command(*args, **options)
            if as_json:
                print_json(report)
            else:
                display(show(report), stderr=report.get("out") == "-")

        return json_option(reporting)

    return decorate


def print_json(report: Report) -> None:
    """Print a report as one JSON object, with null for NaN and infinities, which JSON lacks."""
    print(json.dumps(_finite(report), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def display(printed: Printed, stderr: bool = False) -> None:
    """Print tables and lines of text without highlighting or markup; the terminal wraps the lines."""
    console = Console(highlight=False, markup=False, stderr=stderr)
    for part in printed:
        if isinstance(part, Table) and part.title:  # which rich would wrap at the width of the columns
            console.print(part.title, soft_wrap=True)
            part.title = None
        console.print(part, soft_wrap=not isinstance(part, Table))


def is_json() -> bool:
    """Whether the running command prints its report as JSON."""
    return bool(click.get_current_context().params["as_json"])


def announce(message: str) -> None:
    """Print a line before the report, unless the command prints its report as JSON."""
    if not is_json():
        click.echo(message)


def options(*declared: Decorator) -> Decorator:
    """Several options as one decorator."""
    return lambda command: functools.reduce(lambda done, option: option(done), reversed(declared), command)


# settings of recurrent layers that a state dict does not record
state_dict_options = options(
    click.option(
        "--nonlinearity",
        type=click.Choice(["tanh", "relu"]),
        help="Activation of the RNN layers in a state dict, which does not record it. Default: tanh.",
    ),
    click.option(
        "--batch-first",
        is_flag=True,
        default=None,
        help="The recurrent layers in a state dict were built with batch_first, which it does not record.",
    ),
)


def out_option(help: str, **settings: Any) -> Decorator:
    """The option --out, a file to write."""
    return click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help=help, **settings)


def refuse_options(names: Iterable[str], kind: str) -> None:
    """Raise UsageError for options that would have no effect on this kind of input."""
    ctx = click.get_current_context()
    found = [
        option.opts[0]
        for option in ctx.command.params
        if option.name in names and ctx.get_parameter_source(option.name) != ParameterSource.DEFAULT
    ]
    if found:
        raise click.UsageError(f"{', '.join(found)}: only for {kind}, but the input is something else")


def check_suffix(path: Path, argument: str, suffixes: Sequence[str]) -> None:
    """Raise BadParameter unless a path ends in one of the suffixes and its directory exists."""
    if not path.name.lower().endswith(tuple(suffixes)):
        message = f"the name of {path} must end in one of {', '.join(suffixes)}"
        raise click.BadParameter(message, param_hint=argument)
    check_folder(path, argument)


def check_folder(path: Path, argument: str) -> None:
    """Raise BadParameter unless the directory of a path exists."""
    if not path.parent.is_dir():
        message = f"the directory {path.parent} does not exist: create it first"
        raise click.BadParameter(message, param_hint=argument)


def refuse_to_overwrite(
    arguments: Mapping[str, str | Path | None], out: str | Path | None, hint: str = "--out"
) -> None:
    """Raise BadParameter if `out` is the file of an argument, by name, or a file in that folder."""
    if out is None or str(out) == "-":
        return
    target = Path(out).resolve()
    for argument, source in arguments.items():
        path = Path("-" if source is None else source).resolve()
        same = target.exists() and path.exists() and target.samefile(path)
        if same or (path.is_dir() and path in target.parents):
            raise click.BadParameter(
                f"{out} would overwrite {argument}: choose another name", param_hint=hint
            )


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, shown only in a terminal; yields the function that advances it."""
    stderr = Console(stderr=True)
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.advance(task, n)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show what the command is doing, if stderr is a terminal."""
    stderr = Console(stderr=True)
    with stderr.status(what) if stderr.is_terminal else nullcontext():
        yield


def new_table(title: str, *columns: str) -> Table:
    """A table of numbers, aligned on the right; the first column and those named "<..." are text."""
    table = Table(title=Text(title, "bold") if title else None)
    for i, column in enumerate(columns):
        table.add_column(column.removeprefix("<"), justify="right" if i and column[:1] != "<" else "left")
    return table


def add_rows(table: Table, rows: Sequence[Sequence[Any]]) -> Table:
    """Add the first rows to a table, whose caption counts the others, and return it."""
    for row in rows[:MOST_ROWS]:
        table.add_row(*row)
    if len(rows) > MOST_ROWS:
        table.caption = f"and {len(rows) - MOST_ROWS:,} more: --json shows all"
    return table


def statistics_cells(row: Report) -> list[str]:
    """The cells of the mean, minimum and maximum of an output; they are empty if it has no finite number."""
    return ["" if row[key] is None else f"{row[key]:.4g}" for key in ("mean", "min", "max")]


def write_figure(path: Path, figure: Figure) -> None:
    """Write a picture in the format of the suffix. If this fails, an existing file is unchanged."""
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower(), dpi=100)
    atomic.replace(path, picture.getvalue())


def counted(n: int, noun: str) -> str:
    """A number with a noun, such as "1 step" or "2,000 steps"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def kilobytes(count: int) -> str:
    """A number of bytes, such as "50.4 kB"."""
    return f"{count / 1000:,.1f} kB"
