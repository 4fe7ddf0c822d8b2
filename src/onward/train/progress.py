"""Progress reports on stderr: a bar on a terminal where rich is installed, and lines of text elsewhere."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec

from .history import Epoch

INTERVAL = 10.0  # seconds from one line to the next within an epoch
SHORT_INTERVAL = 5.0  # minimum time before the line at the end of an epoch


class Reporter:
    """Writes a line after each epoch and every ten seconds; short epochs share a line."""

    def __init__(self, total: int | None, write: Callable[[str], None]) -> None:
        self.total, self.write = total, write
        self.start = self.printed = time.monotonic()
        self.first_step: int | None = None  # above 1 in a resumed run
        self.pending = ""

    def step(self, done: int, epoch: int, loss: float) -> None:
        now = time.monotonic()
        if self.first_step is None:
            self.first_step, self.start = done, now
        if now - self.printed >= INTERVAL:
            of = "" if self.total is None else f" of {self.total:,}"
            self._print(f"epoch {epoch}: step {done:,}{of}, loss {loss:.4f}{self._time_left(done, now)}", now)

    def epoch(self, number: int, epoch: Epoch) -> None:
        now, line = time.monotonic(), f"epoch {number}: loss {epoch.loss:.4f}"
        if epoch.validation_loss is not None:
            line += f", validation loss {epoch.validation_loss:.4f}"
        if epoch.accuracy is not None:
            line += f", validation accuracy {epoch.accuracy:.1%}"
        self.pending = line + self._time_left(epoch.step, now)
        if now - self.printed >= SHORT_INTERVAL:
            self._print(self.pending, now)

    def close(self) -> None:
        """Write the line of the last epoch unless it is already written."""
        if self.pending:
            self._print(self.pending, time.monotonic())

    def _print(self, line: str, now: float) -> None:
        self.write(line)
        self.printed, self.pending = now, ""

    def _time_left(self, done: int, now: float) -> str:
        steps = 0 if self.first_step is None else done - self.first_step
        if self.total is None or not steps or done >= self.total:
            return ""
        minutes, seconds = divmod(math.ceil((now - self.start) / steps * (self.total - done)), 60)
        return f", {minutes}:{seconds:02} left"


class Bar(Reporter):
    """Updates a progress bar: update(completed=..., description=...)."""

    def __init__(self, update: Callable[..., None]) -> None:
        super().__init__(None, lambda line: None)
        self.update = update

    def step(self, done: int, epoch: int, loss: float) -> None:
        self.update(completed=done, description=f"epoch {epoch}, loss {loss:.4f}")


@contextmanager
def reporter(total: int | None, enabled: bool) -> Iterator[Reporter]:
    """Yield a reporter for stderr, for a training run of `total` steps."""
    if not (enabled and sys.stderr.isatty() and find_spec("rich")):
        to_stderr = partial(print, file=sys.stderr, flush=True)
        lines = Reporter(total, to_stderr if enabled else lambda line: None)
        yield lines
        lines.close()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(partial(progress.update, progress.add_task("Training", total=total)))
