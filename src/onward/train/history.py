"""The history of a training run: the loss of every step, and the scores of every epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..tracing import plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
