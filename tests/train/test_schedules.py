"""Schedules at their ends and turns. See tests/peers for PyTorch's numbers."""

import numpy as np
import pytest

from onward import train
from onward.errors import ArgumentError
from onward.train.schedules import Progress


def test_each_begins_and_ends_where_it_says() -> None:
    def rate(schedule: train.Constant, step: int) -> float:
        return schedule.lr(0.5, Progress(step, 100))

    assert rate(train.Constant(), 70) == 0.5
    assert rate(train.StepLR(10, 0.5), 9) == 0.5 and rate(train.StepLR(10, 0.5), 10) == 0.25
    assert rate(train.CosineAnnealingLR(), 0) == 0.5
    assert rate(train.CosineAnnealingLR(), 100) == pytest.approx(0)
    warm = train.Warmup(20, 0.1, train.CosineAnnealingLR(eta_min=0.02))
    assert [rate(warm, step) for step in (0, 20, 100)] == pytest.approx([0.05, 0.5, 0.02])
    cycle = train.OneCycleLR()
    assert [rate(cycle, step) for step in (0, 29, 99)] == pytest.approx([0.02, 0.5, 2e-6])


def test_a_cycle_that_only_rises_and_one_of_a_single_step_learn() -> None:
    rising = train.OneCycleLR(4, pct_start=1.0)
    rates = [rising.lr(0.5, Progress(step)) for step in range(6)]
    assert rates[0] == pytest.approx(0.02) and rates == [*sorted(rates[:4]), *rates[4:]]
    assert rates[3:] == pytest.approx([0.5, 2e-6, 2e-6])
    for share in (0.0, 0.3, 1.0):
        assert train.OneCycleLR(pct_start=share).lr(0.5, Progress(0, 1)) == 0.5


def test_numpy_scalars_as_settings_give_plain_floats() -> None:
    half, one = np.float64(0.5), np.int64(1)
    for schedule in (
        train.StepLR(one, half),
        train.CosineAnnealingLR(one, half),
        train.Warmup(one, half, train.CosineAnnealingLR(one, half)),
        train.OneCycleLR(one, half, half, half),
        train.ReduceLROnPlateau(half, np.int64(0), half),
    ):
        assert type(schedule.lr(1.0, Progress(2, 9, [1.0, 1.0]))) is float and "np." not in repr(schedule)


def test_a_plateau_reduces_and_an_improvement_does_not() -> None:
    schedule = train.ReduceLROnPlateau(0.5, patience=1)
    losses: list[float] = []
    rates = []
    for loss in [3.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0]:
        losses.append(loss)
        rates.append(schedule.lr(1.0, Progress(0, None, losses)))
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_without_a_number_of_steps_it_asks_for_one() -> None:
    for schedule in (
        train.CosineAnnealingLR(),
        train.OneCycleLR(),
        train.Warmup(2, after=train.OneCycleLR()),
    ):
        with pytest.raises(ArgumentError, match=r"needs (T_max|total_steps)"):
            schedule.lr(0.1, Progress(5))


def test_bad_settings_are_named() -> None:
    for make, name in (
        (lambda: train.StepLR(0), "step_size=0"),
        (lambda: train.CosineAnnealingLR(0), "T_max=0"),
        (lambda: train.CosineAnnealingLR(10, eta_min=float("nan")), "eta_min=nan"),
        (lambda: train.Warmup(5, 2.0), "start_factor=2.0"),
        (lambda: train.OneCycleLR(10, div_factor=0), "div_factor=0"),
        (lambda: train.Warmup(5, after=lambda base, progress: base), "after=<function"),
        (lambda: train.ReduceLROnPlateau(patience=-1), "patience=-1"),
    ):
        with pytest.raises(ArgumentError, match=name):
            make()
