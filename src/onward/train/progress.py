"""A progress bar on a terminal, where rich is installed; nothing elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int, str], None]


@contextmanager
def bar(total: int | None, shown: bool) -> Iterator[Advance]:
    """Within it, a function to be called with the number of steps done and what to say beside the bar."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ModuleNotFoundError:
        shown = False
    if not (shown and sys.stderr.isatty()):
        yield lambda done, said: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Training", total=total)
        yield lambda done, said: progress.update(task, completed=done, description=said)
