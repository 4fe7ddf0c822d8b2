"""The history of a training run, and its reports on stderr: a bar of rich, or lines of text without it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from ..tracing import plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure


INTERVAL = 10.0  # seconds from one line to the next within an epoch
SHORT_INTERVAL = 5.0  # minimum time before the line at the end of an epoch


class Epoch(NamedTuple):
    """The results of one epoch.

    step: the number of steps done by its end. lr: the learning rate of its last step. loss: the mean loss
    over its batches, each computed before the weights were updated. validation_loss, accuracy: the loss and
    the accuracy on the validation data, or None.

    >>> Epoch(step=9, lr=1e-3, loss=0.5)
    Epoch(step=9, lr=0.001, loss=0.5, validation_loss=None, accuracy=None)
    """

    step: int
    lr: float
    loss: float
    validation_loss: float | None = None
    accuracy: float | None = None


@dataclass
class History:
    """The record of a training run.

    losses, rates: the loss and the learning rate of each step. epochs: the results of each finished epoch.
    loss: the name of the loss, with its unit and options.

    >>> History(losses=[0.5, 0.25])
    History(losses=[0.5, 0.25], epochs=[], rates=[], loss='unknown')
    """

    losses: list[float] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    loss: str = "unknown"

    @property
    def validation_losses(self) -> list[float]:
        """The validation loss after each epoch; empty without validation."""
        return [epoch.validation_loss for epoch in self.epochs if epoch.validation_loss is not None]

    @property
    def best(self) -> int | None:
        """The index of the epoch with the lowest validation loss; None without validation."""
        losses = self.validation_losses
        return losses.index(min(losses)) if losses else None

    def plot(self) -> Figure:
        """Plot the losses and the learning rate over the steps, as a matplotlib Figure.

        Raises ArgumentError if matplotlib is missing.
        """
        ends = [epoch.step for epoch in self.epochs]
        steps = list(range(1, len(self.losses) + 1))
        curves = [plot.Curve("each step", steps, self.losses, faint=True)]
        curves += [plot.Curve("epoch mean", ends, [epoch.loss for epoch in self.epochs])]
        if self.validation_losses:
            curves += [plot.Curve("validation", ends, self.validation_losses)]
        rates = [plot.Curve("each step", steps, self.rates)]
        return plot.curves({f"loss: {self.loss}": curves, "learning rate": rates}, "step")


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
