"""Schedules: the learning rate of each step, as a function of how far training has come and nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..core.checks import coerce_field, instance, integer, non_negative, positive, probability
from ..errors import ArgumentError

SCHEDULE = "a schedule of onward.train, such as OneCycleLR(), or of a class derived from Constant"


class Progress(NamedTuple):
    """Steps done, of how many (None: unknown), and the validation loss of each epoch."""

    step: int
    total: int | None = None
    losses: Sequence[float] = ()


@dataclass(frozen=True)
class Constant:
    """The optimiser's own learning rate, at every step; and the base of all schedules."""

    def lr(self, base: float, progress: Progress) -> float:
        """The learning rate of the next step; `base` is the optimiser's own."""
        return base


@dataclass(frozen=True)
class StepLR(Constant):
    """torch.optim.lr_scheduler.StepLR, in steps: base * gamma^(step // step_size)."""

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        coerce_field(self, "step_size", integer, 1)
        coerce_field(self, "gamma", probability)

    def lr(self, base: float, progress: Progress) -> float:
        return base * self.gamma ** (progress.step // self.step_size)


@dataclass(frozen=True)
class CosineAnnealingLR(Constant):
    """torch.optim.lr_scheduler.CosineAnnealingLR: eta_min + (base - eta_min) (1 + cos(pi step / T_max)) / 2.

    T_max: in how many steps it falls to eta_min; None: in all that there are. Source: Loshchilov and Hutter
    2017.
    """

    T_max: int | None = None
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        if self.T_max is not None:
            coerce_field(self, "T_max", integer, 1)
        coerce_field(self, "eta_min", non_negative)

    def lr(self, base: float, progress: Progress) -> float:
        T_max = _total(self, "T_max", self.T_max, progress)
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * progress.step / T_max)) / 2


@dataclass(frozen=True)
class Warmup(Constant):
    """In `steps` steps from start_factor * base to base, in a line; then what another schedule says.

    torch.optim.lr_scheduler.LinearLR, and then, by SequentialLR, the other one from its beginning.
    """

    steps: int
    start_factor: float = 1 / 3
    after: Constant = Constant()

    def __post_init__(self) -> None:
        coerce_field(self, "steps", integer, 1)
        coerce_field(self, "start_factor", probability)
        coerce_field(self, "after", instance, Constant, SCHEDULE)

    def lr(self, base: float, progress: Progress) -> float:
        if progress.step < self.steps:
            return base * (self.start_factor + (1 - self.start_factor) * progress.step / self.steps)
        rest = None if progress.total is None else max(1, progress.total - self.steps)
        return self.after.lr(base, Progress(progress.step - self.steps, rest, progress.losses))


@dataclass(frozen=True)
class OneCycleLR(Constant):
    """torch.optim.lr_scheduler.OneCycleLR: up from base / div_factor to base, then down to nearly nothing.

    It rises over the first pct_start of total_steps (None: all that there are) and ends at
    base / div_factor / final_div_factor, each way along a half wave of the cosine. A single step is at base,
    where PyTorch's is at the end, and learns nothing. Source: Smith and Topin 2018.
    """

    total_steps: int | None = None
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        if self.total_steps is not None:
            coerce_field(self, "total_steps", integer, 1)
        coerce_field(self, "pct_start", probability)
        coerce_field(self, "div_factor", positive)
        coerce_field(self, "final_div_factor", positive)

    def lr(self, base: float, progress: Progress) -> float:
        total = _total(self, "total_steps", self.total_steps, progress)
        low = base / self.div_factor
        end = total - 1
        peak = self.pct_start * total - 1 if end else 0
        if progress.step <= peak:
            return _half_wave(low, base, progress.step / peak if peak > 0 else 1)
        down = (progress.step - peak) / (end - peak) if progress.step < end else 1  # peak may be end
        return _half_wave(base, low / self.final_div_factor, down)


@dataclass(frozen=True)
class ReduceLROnPlateau(Constant):
    """torch.optim.lr_scheduler.ReduceLROnPlateau: times `factor` when validation has not improved for long.

    An epoch improves if its loss is below (1 - threshold) times the best before; more than `patience` epochs
    without that, since the last one or the last reduction, reduce the learning rate.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        coerce_field(self, "factor", probability)
        coerce_field(self, "patience", integer, 0)
        coerce_field(self, "threshold", probability)

    def lr(self, base: float, progress: Progress) -> float:
        best, bad = math.inf, 0
        for loss in progress.losses:
            if loss < best * (1 - self.threshold):
                best, bad = loss, 0
            else:
                bad += 1
            if bad > self.patience:
                base, bad = base * self.factor, 0
        return base


def _half_wave(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def _total(schedule: Constant, name: str, given: int | None, progress: Progress) -> int:
    total = progress.total if given is None else given
    if total is None:
        raise ArgumentError(f"{schedule!r} needs {name}: the data do not tell how many steps there are")
    return total
