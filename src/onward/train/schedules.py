"""Learning-rate schedules: the learning rate and the momentum of each step, from the progress of training.

Powers and cosines are computed here, because those of the C library round differently on processors with and
without FMA instructions. A learning rate that differs in its last bit would make resumed trainings diverge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

from ..core.checks import Checked, flag, instance, integer, non_negative, positive, probability
from ..errors import ArgumentError

SCHEDULE = "a schedule of onward.train, such as OneCycleLR(), or a subclass of Constant"


def _steps(name: str, value: Any) -> int | None:
    return None if value is None else integer(name, value, 1)


class Progress(NamedTuple):
    """The steps done so far, the total number of steps, and the validation loss of each epoch.

    total is None if it is unknown, or if the schedule does not depend on it.
    """

    step: int
    total: int | None = None
    losses: Sequence[float] = ()


@dataclass(frozen=True)
class Constant(Checked):
    """The optimizer's own learning rate at every step. Base class of all schedules.

    TOTAL: the field with the number of steps that the schedule takes; if it is None, all steps of the run.

    >>> Constant().lr(0.1, Progress(step=5))
    0.1
    """

    TOTAL: ClassVar[str] = ""

    @property
    def spans_run(self) -> bool:
        """Whether the schedule depends on the total number of steps.

        Only such a schedule gets `Progress.total` from `fit`, and its runs can only be resumed with the same
        number of epochs.
        """
        return bool(self.TOTAL) and getattr(self, self.TOTAL) is None

    def lr(self, base: float, progress: Progress) -> float:
        """Return the learning rate of the next step; `base` is the optimizer's own."""
        return base

    def momentum(self, progress: Progress) -> float | None:
        """Return the momentum of the next step (beta1 for Adam), or None for the optimizer's own."""
        return None

    def _total(self, progress: Progress) -> int:
        total: int | None = progress.total if self.spans_run else getattr(self, self.TOTAL)
        if total is None:
            raise ArgumentError(f"{self!r} needs {self.TOTAL}: the number of steps of the data is unknown")
        return total


@dataclass(frozen=True)
class StepLR(Constant):
    """torch.optim.lr_scheduler.StepLR, counted in steps: base * gamma^(step // step_size).

    Raises ArgumentError for values out of range.

    >>> schedule = StepLR(step_size=10, gamma=0.5)
    >>> [schedule.lr(0.1, Progress(step)) for step in (0, 9, 10, 20)]
    [0.1, 0.1, 0.05, 0.025]
    """

    step_size: int
    gamma: float = 0.1
    CHECKS: ClassVar = {"step_size": partial(integer, low=1), "gamma": probability}

    def lr(self, base: float, progress: Progress) -> float:
        return base * power(self.gamma, progress.step // self.step_size)


@dataclass(frozen=True)
class CosineAnnealingLR(Constant):
    """torch.optim.lr_scheduler.CosineAnnealingLR: eta_min + (base - eta_min) (1 + cos(pi step / T_max)) / 2.

    T_max: the number of steps until the rate reaches eta_min; None: all steps of the training. Raises
    ArgumentError for values out of range. Source: Loshchilov and Hutter 2017.

    >>> schedule = CosineAnnealingLR(T_max=10)
    >>> [round(schedule.lr(0.1, Progress(step)), 4) for step in (0, 5, 10)]
    [0.1, 0.05, 0.0]
    """

    T_max: int | None = None
    eta_min: float = 0.0
    CHECKS: ClassVar = {"T_max": _steps, "eta_min": non_negative}
    TOTAL = "T_max"

    def lr(self, base: float, progress: Progress) -> float:
        return _cosine(base, self.eta_min, progress.step / self._total(progress))


@dataclass(frozen=True)
class Warmup(Constant):
    """A linear increase from start_factor * base to base over `steps` steps, then another schedule.

    As torch.optim.lr_scheduler.LinearLR followed by the other schedule in a SequentialLR. `after` starts at
    its first step and spans the remaining ones. Raises ArgumentError for values out of range.

    >>> schedule = Warmup(steps=4, start_factor=0.5)
    >>> [round(schedule.lr(0.1, Progress(step)), 4) for step in (0, 2, 4, 100)]
    [0.05, 0.075, 0.1, 0.1]
    """

    steps: int
    start_factor: float = 1 / 3
    after: Constant = Constant()
    CHECKS: ClassVar = {
        "steps": partial(integer, low=1),
        "start_factor": probability,
        "after": partial(instance, kind=Constant, such_as=SCHEDULE),
    }

    @property
    def spans_run(self) -> bool:
        return self.after.spans_run

    def lr(self, base: float, progress: Progress) -> float:
        if progress.step < self.steps:
            return base * (self.start_factor + (1 - self.start_factor) * progress.step / self.steps)
        return self.after.lr(base, self._remaining(progress))

    def momentum(self, progress: Progress) -> float | None:
        return None if progress.step < self.steps else self.after.momentum(self._remaining(progress))

    def _remaining(self, progress: Progress) -> Progress:
        total = None if progress.total is None else max(1, progress.total - self.steps)
        return Progress(progress.step - self.steps, total, progress.losses)


@dataclass(frozen=True)
class OneCycleLR(Constant):
    """torch.optim.lr_scheduler.OneCycleLR: up from base / div_factor to base, then down to almost 0.

    The rate rises over the first pct_start of total_steps (None: all steps of the training) and falls to
    base / div_factor / final_div_factor, both along half a cosine. Unless cycle_momentum is False, the
    momentum (beta1 for Adam) falls from max_momentum to base_momentum while the rate rises, and rises back
    while the rate falls; optimizers without momentum need cycle_momentum=False. If there is only one step, it
    uses base, whereas PyTorch uses the final rate and learns nothing. Raises ArgumentError for values out of
    range. Source: Smith and Topin 2018.

    >>> schedule = OneCycleLR(total_steps=10)
    >>> [round(schedule.lr(0.1, Progress(step)), 4) for step in (0, 2, 9)]
    [0.004, 0.1, 0.0]
    """

    total_steps: int | None = None
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    cycle_momentum: bool = True
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    CHECKS: ClassVar = {
        "total_steps": _steps,
        "cycle_momentum": flag,
        **dict.fromkeys(("div_factor", "final_div_factor"), positive),
        **dict.fromkeys(("pct_start", "base_momentum", "max_momentum"), probability),
    }
    TOTAL = "total_steps"

    def lr(self, base: float, progress: Progress) -> float:
        low = base / self.div_factor
        return self._cycle(low, base, low / self.final_div_factor, progress)

    def momentum(self, progress: Progress) -> float | None:
        if not self.cycle_momentum:
            return None
        return self._cycle(self.max_momentum, self.base_momentum, self.max_momentum, progress)

    def _cycle(self, start: float, middle: float, end: float, progress: Progress) -> float:
        """Return a value that moves from `start` to `middle` at the peak of the rate, then to `end`."""
        total = self._total(progress)
        last = total - 1
        peak = self.pct_start * total - 1 if last else 0
        if progress.step <= peak:
            return _cosine(start, middle, progress.step / peak if peak > 0 else 1)
        fall = (progress.step - peak) / (last - peak) if progress.step < last else 1  # peak may equal last
        return _cosine(middle, end, fall)


@dataclass(frozen=True)
class ReduceLROnPlateau(Constant):
    """torch.optim.lr_scheduler.ReduceLROnPlateau: multiply by `factor` when validation stops improving.

    An epoch improves if its validation loss is below (1 - threshold) times the best so far. The rate falls
    after more than `patience` epochs without improvement since the last improvement or reduction, unless it
    would fall by `eps` or less. Raises ArgumentError for values out of range.

    >>> schedule = ReduceLROnPlateau(factor=0.5, patience=1)
    >>> schedule.lr(0.1, Progress(30, losses=[1.0, 0.9, 0.95, 0.92]))
    0.05
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    eps: float = 1e-8
    CHECKS: ClassVar = {
        "factor": probability,
        "patience": partial(integer, low=0),
        "threshold": probability,
        "eps": non_negative,
    }

    def lr(self, base: float, progress: Progress) -> float:
        best, bad = math.inf, 0
        for loss in progress.losses:
            if loss < best * (1 - self.threshold):
                best, bad = loss, 0
            else:
                bad += 1
            if bad > self.patience:
                bad, lower = 0, base * self.factor
                base = lower if base - lower > self.eps else base
        return base


def _cosine(start: float, end: float, share: float) -> float:
    """Return the value at the fraction `share` of the way from start to end along half a cosine."""
    return end + (start - end) / 2 * (1 + cos_pi(share))


def power(base: float, exponent: int) -> float:
    """Return base**exponent, exponent >= 0, by repeated squaring."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def cos_pi(x: float) -> float:
    """Return cos(pi x) = sin(pi (1/2 - x)), from the Taylor series of the sine.

    >>> [round(cos_pi(x), 12) for x in (0.0, 1 / 3, 0.5, 1.0, 2.0)]
    [1.0, 0.5, 0.0, -1.0, 1.0]
    """
    x = abs(x) % 2
    angle = math.pi * (0.5 - min(x, 2 - x))  # from -pi/2 to pi/2
    square, total = angle * angle, 0.0
    for n in range(23, 1, -2):
        total = -(1 + total) * (square / (n * (n - 1)))
    return angle + angle * total
