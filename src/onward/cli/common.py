"""What the commands share: errors in one line, names of bundled things, tables, pictures."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from ..core import storage
from ..errors import OnwardError
from ..formats import load
from ..layers.base import Layer
from ..layers.sequential import Sequential

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (".png", ".svg", ".pdf")

Report: TypeAlias = dict[str, Any]


class Commands(click.Group):
    """Commands whose errors end in one red message, no traceback, and exit code 2 for wrong use, else 1.

    An interrupt ends in 130, as a shell's does, and is no error.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(130)
        except OnwardError as error:
            raise click.ClickException(click.style(str(error), "red")) from error
        except click.UsageError as error:
            raise click.UsageError(click.style(error.format_message(), "red"), error.ctx) from error


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")


def named_file(name: str, known: dict[str, Path], what: str, argument: str) -> Path:
    """The file of a bundled name, or the file of that name."""
    path = known.get(name, Path(name))
    if not path.is_file():
        message = f"{name!r} is neither a file nor a bundled {what} ({', '.join(known)})"
        raise click.BadParameter(message, param_hint=argument)
    return path


def check_suffix(path: Path, argument: str, suffixes: Sequence[str]) -> None:
    if path.suffix.lower() not in suffixes:
        message = f"the name of {path} must end in one of {', '.join(suffixes)}"
        raise click.BadParameter(message, param_hint=argument)
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}: make it first", param_hint=argument)


def model_of(path: Path, name: str) -> Sequential:
    """The model in a file, that of a layer alone included."""
    net = load(path)
    if not isinstance(net, dict | Layer):  # a graph of ONNX
        net = net.layers()
    if isinstance(net, dict):
        raise click.UsageError(
            f"{name} does not say how its layers ({', '.join(net)}) are connected: put them into an "
            "onward.Sequential, save that and run it"
        )
    # a layer alone becomes a model of one
    return net if isinstance(net, Sequential) else Sequential(net)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal, and how to advance it."""
    stderr = Console(stderr=True)
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.advance(task, n)


def new_table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(title=Text(title, "bold"), title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def write_figure(path: Path, figure: Figure) -> None:
    """Writes a picture in the format that its name ends in. An error leaves the old file whole."""
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower(), dpi=100)
    storage.replace(path, picture.getvalue())


def counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def kilobytes(count: int) -> str:
    return f"{count / 1000:,.1f} kB"
