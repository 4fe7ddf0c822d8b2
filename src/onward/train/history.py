"""The course of a training: the loss of every step, and what validation gave after every epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..tracing import plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Epoch(NamedTuple):
    """What is known at the end of an epoch.

    The step that ended it, the learning rate of that step, the mean loss over the epoch's batches as they
    came, and, of the validation data, the loss and the share of classes that were right; None: not measured.
    """

    step: int
    lr: float
    loss: float
    validation_loss: float | None = None
    accuracy: float | None = None


@dataclass
class History:
    """How a training went.

    losses: of each step. epochs: of each epoch that was finished. rates: the learning rate of each step.
    """

    losses: list[float] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    @property
    def validation_losses(self) -> list[float]:
        """The loss on the validation data after each epoch; none without validation."""
        return [epoch.validation_loss for epoch in self.epochs if epoch.validation_loss is not None]

    @property
    def best(self) -> int | None:
        """The number, from 0, of the epoch whose validation loss is the lowest; None without validation."""
        losses = self.validation_losses
        return losses.index(min(losses)) if losses else None

    def plot(self) -> Figure:
        """Losses and learning rate over the steps: a matplotlib Figure, for `savefig`.

        Raises ArgumentError where matplotlib is missing.
        """
        ends = [epoch.step for epoch in self.epochs]
        steps = list(range(1, len(self.losses) + 1))
        curves = [plot.Curve("each step", steps, self.losses, faint=True)]
        curves += [plot.Curve("mean of the epoch", ends, [epoch.loss for epoch in self.epochs])]
        if self.validation_losses:
            curves += [plot.Curve("validation", ends, self.validation_losses)]
        rates = [plot.Curve("each step", steps, self.rates)]
        return plot.curves({"loss": curves, "learning rate": rates}, "step")
