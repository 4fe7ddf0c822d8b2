"""The command group: imports commands on first use and reports every error as one message."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import io
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import click

from ..core.extras import install_hint
from ..core.interrupts import interrupted_afterwards
from ..errors import KerasWarning, OnwardError


def did_you_mean(word: str, possibilities: Iterable[str]) -> str:
    """A hint with the names most similar to a mistyped word, such as " Did you mean 'vowels'?", or ""."""
    similar = difflib.get_close_matches(word, list(possibilities))
    return f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""


def warn(message: str) -> None:
    """Print a message to stderr in yellow."""
    click.echo(click.style(message, "yellow"), err=True)


class Group(click.Group):
    """A group that suggests the command closest to a mistyped one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, commands = args[0], self.list_commands(ctx)
        if name not in commands and not name.startswith("-") and not ctx.resilient_parsing:
            hint = did_you_mean(name, commands) or f" The commands are {', '.join(commands)}."
            raise click.UsageError(f"no such command: {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """A group that imports commands on first use.

    A command that fails prints one red message, without a traceback. The exit code is 2 for wrong usage, 130
    for an interrupt, as in a shell, and 1 for any other error.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **options: Any) -> None:
        """lazy: the module in this package and the short help of each command, by its name."""
        super().__init__(*args, **options)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        try:
            with interrupted_afterwards():
                module = importlib.import_module(f"{__package__}.{self.lazy[cmd_name][0]}")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("onward"):
                raise
            hint = install_hint("serve" if cmd_name == "serve" else "cli")
            message = f"onward {cmd_name} needs {error.name}: {hint}"
            raise click.ClickException(message) from error
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in self.lazy.items()])

    def main(self, *args: Any, **options: Any) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):  # some encodings lack the blocks of a bar
            sys.stdout.reconfigure(errors="replace")
        try:
            try:
                return super().main(*args, **options)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
        except OSError as error:  # files raise FileError, so that this is what the command prints to
            _drop_output()
            if error.errno != errno.EPIPE:  # the reader of a pipe ended it, as `head` does
                what = error.filename or "standard output cannot be written"
                click.echo(click.style(f"Error: {what}: {error.strerror or error}", "red"), err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                # without the source line that raised the warning
                warnings.showwarning = lambda message, *origin, **line: warn(f"Warning: {message}")
                warnings.simplefilter("always", KerasWarning)
                return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(130)
        except (OnwardError, PermissionError, MemoryError) as error:
            message = str(error)
            if isinstance(error, MemoryError):
                message = f"not enough memory: {error}".removesuffix(": ")
            raise click.ClickException(click.style(message, "red")) from error
        except click.UsageError as error:
            raise click.UsageError(click.style(error.format_message(), "red"), error.ctx) from error


def _drop_output() -> None:
    """Drop what could not be written to stdout: Python would report it again as it exits."""
    with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
