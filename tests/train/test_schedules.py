"""Schedules at their first, last and turning points. tests/peers compares them with PyTorch."""

import numpy as np
import pytest

from onward import train
from onward.errors import ArgumentError
from onward.train.schedules import Progress


def test_schedules_start_and_end_at_the_documented_rates() -> None:
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


def test_one_cycle_with_only_rising_steps_or_a_single_step_reaches_the_base_rate() -> None:
    rising = train.OneCycleLR(4, pct_start=1.0)
    rates = [rising.lr(0.5, Progress(step)) for step in range(6)]
    assert rates[0] == pytest.approx(0.02) and rates == [*sorted(rates[:4]), *rates[4:]]
    assert rates[3:] == pytest.approx([0.5, 2e-6, 2e-6])
    for share in (0.0, 0.3, 1.0):
        assert train.OneCycleLR(pct_start=share).lr(0.5, Progress(0, 1)) == 0.5


def test_settings_given_as_numpy_scalars_return_python_floats() -> None:
    half, one = np.float64(0.5), np.int64(1)
    for schedule in (
        train.StepLR(one, half),
        train.CosineAnnealingLR(one, half),
        train.Warmup(one, half, train.CosineAnnealingLR(one, half)),
        train.OneCycleLR(one, half, half, half, np.bool_(True), half, half),
        train.ReduceLROnPlateau(half, np.int64(0), half),
    ):
        assert type(schedule.lr(1.0, Progress(2, 9, [1.0, 1.0]))) is float and "np." not in repr(schedule)


def golden_cycle(name: str) -> np.ndarray:
    """The values of PyTorch 2.13.0 for OneCycleLR(total_steps=10) with a peak rate of 0.5."""
    return {
        "lr": np.array([
            0.02, 0.26, 0.5, 0.475242, 0.405873, 0.305631, 0.194371, 0.094129, 0.02476, 2e-06,
        ]),
        "momentum": np.array([
            0.95, 0.9, 0.85, 0.854952, 0.868826, 0.888874, 0.911126, 0.931174, 0.945048, 0.95,
        ]),
    }[name]  # fmt: skip


def test_one_cycle_cycles_the_momentum_as_pytorch_does() -> None:
    cycle = train.OneCycleLR(10)
    steps = [Progress(step) for step in range(10)]
    np.testing.assert_allclose([cycle.lr(0.5, step) for step in steps], golden_cycle("lr"), atol=1e-6)
    momenta = [cycle.momentum(step) for step in steps]
    np.testing.assert_allclose(np.array(momenta, float), golden_cycle("momentum"), atol=1e-6)
    assert train.OneCycleLR(10, cycle_momentum=False).momentum(steps[3]) is None
    warm = train.Warmup(5, after=train.OneCycleLR(10))
    assert warm.momentum(Progress(4)) is None and warm.momentum(Progress(5)) == 0.95


def test_a_momentum_schedule_changes_beta1_or_momentum_of_the_optimizer() -> None:
    assert train.Adam(betas=(0.9, 0.99)).with_momentum(0.85) == train.Adam(betas=(0.85, 0.99))
    assert train.SGD(0.1, nesterov=True, momentum=0.9).with_momentum(0.85).momentum == 0.85  # type: ignore[attr-defined]
    with pytest.raises(ArgumentError, match=r"RMSprop\(.*cycle_momentum=False"):
        train.RMSprop().with_momentum(0.85)


def test_a_plateau_reduces_the_rate_and_an_improvement_resets_the_patience() -> None:
    schedule = train.ReduceLROnPlateau(0.5, patience=1)
    losses: list[float] = []
    rates = []
    for loss in [3.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0]:
        losses.append(loss)
        rates.append(schedule.lr(1.0, Progress(0, None, losses)))
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_a_plateau_keeps_a_rate_that_would_fall_by_eps_or_less() -> None:
    schedule = train.ReduceLROnPlateau(0.5, patience=0, eps=0.1)
    rates = [schedule.lr(1.0, Progress(0, None, [1.0] * epochs)) for epochs in range(1, 7)]
    assert rates == [1, 0.5, 0.25, 0.125, 0.125, 0.125]


def test_schedules_that_span_the_run_need_the_number_of_steps() -> None:
    for schedule in (
        train.CosineAnnealingLR(),
        train.OneCycleLR(),
        train.Warmup(2, after=train.OneCycleLR()),
    ):
        with pytest.raises(ArgumentError, match=r"needs (T_max|total_steps)"):
            schedule.lr(0.1, Progress(5))


def test_errors_name_the_bad_setting() -> None:
    for make, name in (
        (lambda: train.StepLR(0), "step_size=0"),
        (lambda: train.CosineAnnealingLR(0), "T_max=0"),
        (lambda: train.CosineAnnealingLR(10, eta_min=float("nan")), "eta_min=nan"),
        (lambda: train.Warmup(5, 2.0), "start_factor=2.0"),
        (lambda: train.OneCycleLR(10, div_factor=0), "div_factor=0"),
        (lambda: train.OneCycleLR(10, base_momentum=2), "base_momentum=2"),
        (lambda: train.OneCycleLR(10, cycle_momentum=1), "cycle_momentum=1"),
        (lambda: train.Warmup(5, after=lambda base, progress: base), "after=<function"),
        (lambda: train.ReduceLROnPlateau(patience=-1), "patience=-1"),
    ):
        with pytest.raises(ArgumentError, match=name):
            make()
