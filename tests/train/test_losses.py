"""Losses and their gradients, against central differences. tests/peers compares them with PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from support.in_one_test import in_one_test
from support.layouts import LAYOUTS

from onward import train
from onward.errors import ArgumentError, DtypeError, OnwardError, ShapeError
from onward.train.losses import weighted

DRAWS = np.random.default_rng(5)
LOSSES: dict[str, Callable[..., Any]] = {
    "cross_entropy": train.cross_entropy,
    "cross_entropy_smoothed": partial(train.cross_entropy, label_smoothing=0.2, ignore_index=1),
    "mse": train.mse,
    "mae": train.mae,
    "huber": partial(train.huber, delta=0.7),
    "bce": train.bce,
}
OF_PROBABILITIES: dict[str, Callable[..., Any]] = {
    "cross_entropy": partial(train.cross_entropy, from_logits=False),
    "cross_entropy_smoothed": partial(LOSSES["cross_entropy_smoothed"], from_logits=False),
    "bce": partial(train.bce, from_logits=False),
}


def targets_for(name: str, y: np.ndarray) -> np.ndarray:
    if name.startswith("cross_entropy"):
        return DRAWS.integers(0, y.shape[-1], y.shape[:-1])
    return DRAWS.uniform(0, 1, y.shape)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(7, 5), (4, 3, 5), (1, 1)], ids=str)
def test_gradients_match_central_differences(name: str, shape: tuple[int, ...]) -> None:
    y = DRAWS.normal(0, 1, shape)
    targets, mask = targets_for(name, y), DRAWS.random(shape[:-1]) < 0.7
    _, dy = LOSSES[name](y, targets, mask)
    assert dy.shape == shape and dy.dtype == np.float64
    direction, step = DRAWS.normal(0, 1, shape), 1e-6
    above, below = (LOSSES[name](y + s * direction, targets, mask)[0] for s in (step, -step))
    assert (dy * direction).sum() == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", [*LOSSES, *(f"{name} of probabilities" for name in OF_PROBABILITIES)])
@in_one_test("layout", LAYOUTS)
def test_the_layout_in_memory_does_not_matter(name: str, layout: str) -> None:
    loss = OF_PROBABILITIES[name.split()[0]] if " " in name else LOSSES[name]
    y, changed = DRAWS.uniform(0.1, 0.9, (4, 3, 5)), LAYOUTS[layout]
    targets, mask = targets_for(name, y), DRAWS.random((4, 3)) < 0.7
    value, dy = loss(y, targets, mask)
    odd_targets = targets if layout == "longdouble" and "cross" in name else changed(targets)
    odd_value, odd_dy = loss(changed(y), odd_targets, mask)
    assert odd_value == value
    np.testing.assert_array_equal(odd_dy, dy)


@pytest.mark.parametrize("name", LOSSES)
def test_masked_rows_do_not_count_even_if_they_are_nan(name: str) -> None:
    y = DRAWS.normal(0, 1, (6, 4)).astype(np.float32)
    targets, mask = targets_for(name, y), np.array([True, True, False, True, False, True])
    loss, dy = LOSSES[name](y[mask], targets[mask])
    y[~mask] = np.nan
    targets[~mask] = 99
    masked, dmasked = LOSSES[name](y, targets, mask)
    assert masked == loss
    np.testing.assert_array_equal(dmasked[mask], dy)
    assert not dmasked[~mask].any() and dmasked.dtype == np.float32


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_0_if_all_rows_are_masked(name: str) -> None:
    y = np.ones((3, 4))
    loss, dy = LOSSES[name](y, targets_for(name, y), np.zeros(3, bool))
    assert loss == 0 and not dy.any()


def test_cross_entropy_of_extreme_logits_is_exact() -> None:
    loss, dy = train.cross_entropy(np.array([[1e4, -1e4], [0.0, 0.0]]), [1, 0])
    assert loss == pytest.approx((2e4 + np.log(2)) / 2)
    np.testing.assert_allclose(dy, [[0.5, -0.5], [-0.25, 0.25]])


def test_nan_propagates() -> None:
    for name, loss in LOSSES.items():
        y = np.full((2, 3), np.nan)
        assert np.isnan(loss(y, targets_for(name, y) * 0 + 0)[0])


def test_arguments_are_not_modified() -> None:
    for name, loss in LOSSES.items():
        y = DRAWS.normal(0, 1, (5, 3))
        targets = targets_for(name, y)
        before = y.copy(), targets.copy()
        loss(y, targets)
        np.testing.assert_array_equal(y, before[0])
        np.testing.assert_array_equal(targets, before[1])


BAD: list[tuple[Callable[[], Any], type[OnwardError], str]] = [
    (lambda: train.cross_entropy(np.ones((2, 3)), [0, 3]), ArgumentError, r"targets\[1\] is 3.*0 to 2"),
    (lambda: train.cross_entropy(np.ones((2, 3)), [0, -1]), ArgumentError, r"targets\[1\] is -1"),
    (lambda: train.cross_entropy(np.ones((2, 3)), [0.0, 1.0]), DtypeError, "float64.*must hold integers"),
    (lambda: train.cross_entropy(np.ones((1, 3)), np.array([0], "M8[s]")), DtypeError, "datetime64"),
    (lambda: train.cross_entropy(np.ones((2, 3)), ["a", "b"]), DtypeError, "<U1"),
    (
        lambda: train.cross_entropy(np.ones((0, 0)), np.ones(0, int)),
        ShapeError,
        r"\(0, 0\).*at least one",
    ),
    (lambda: train.cross_entropy(np.ones((2, 3)), [0]), ShapeError, r"\(1,\); expected \(2,\)"),
    (lambda: train.cross_entropy(np.ones((2, 3)), [0, 1], label_smoothing=2), ArgumentError, "from 0 to 1"),
    (lambda: train.cross_entropy(np.ones((2, 3)), [0, 1], [1, 0]), DtypeError, "must hold booleans"),
    (lambda: train.cross_entropy(np.ones((2, 3)), [0, 1], [True]), ShapeError, "one entry for each row"),
    (lambda: train.mse(np.ones((2, 3)), np.ones(2)), ShapeError, r"expected \(2, 3\)"),
    (lambda: train.mse(np.ones((2, 3)), np.full((2, 3), "a")), DtypeError, "<U1"),
    (lambda: train.mse(1.0, 1.0), ShapeError, r"\(\)"),
    (lambda: train.huber(np.ones((2, 3)), np.ones((2, 3)), delta=0), ArgumentError, "delta=0"),
    (lambda: train.bce(np.ones((1, 3)), np.full((1, 3), 1.5)), ArgumentError, "from 0 to 1"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_errors_name_the_bad_input(call: Callable[[], Any], error: type[OnwardError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", OF_PROBABILITIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_of_probabilities_are_those_of_their_logits(name: str, dtype: str) -> None:
    logits = DRAWS.normal(0, 2, (4, 3, 5)).astype(dtype)
    targets, mask = targets_for(name, logits), DRAWS.random((4, 3)) < 0.7
    y = 1 / (1 + np.exp(-logits)) if name == "bce" else np.exp(logits)
    y = y if name == "bce" else y / y.sum(axis=-1, keepdims=True)
    y[~mask] = -1
    loss, dy = OF_PROBABILITIES[name](y, targets, mask)
    y[~mask] = 0.5
    expected, dlogits = LOSSES[name](logits, targets, mask)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert loss == pytest.approx(expected, rel=tolerance) and dy.dtype == y.dtype
    chained = dy * y * (1 - y) if name == "bce" else y * (dy - (dy * y).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(chained, dlogits, rtol=100 * tolerance, atol=tolerance)


@pytest.mark.parametrize("name", OF_PROBABILITIES)
def test_a_wrong_probability_of_0_costs_a_finite_loss(name: str) -> None:
    targets = np.eye(3)[:, ::-1] if name == "bce" else [2, 1, 0]
    loss, dy = OF_PROBABILITIES[name](np.eye(3, dtype=np.float32), targets)
    assert 30 < loss < 90 and np.isfinite(dy).all()
    with pytest.raises(ArgumentError, match="holds probabilities"):
        OF_PROBABILITIES[name]([[1.5, -1.0]], [[1.0, 0.0]] if name == "bce" else [0])


def test_bce_of_confident_logits_keeps_its_digits() -> None:
    y = np.array([[8, 12, 16, 20, 40, 80, -8, -12, -16, -20, -40, -80]], np.float32)
    t = (y > 0).astype(np.float32)
    for wrong in (False, True):
        for value, target in zip(y[0], t[0], strict=True):
            margin = -abs(float(value)) if not wrong else abs(float(value))
            loss, dy = train.bce([[value]], [[abs(target - wrong)]])
            exact = max(margin, 0) + np.log1p(np.exp(-abs(margin)))
            assert loss == pytest.approx(exact, rel=1e-6)
            sigmoid = 1 / (1 + np.exp(-margin))
            assert abs(dy[0, 0]) == pytest.approx(sigmoid, rel=1e-6)


def test_one_output_takes_one_number_for_each_row() -> None:
    y, targets = DRAWS.normal(0, 1, (4, 3, 1)), DRAWS.uniform(0, 1, (4, 3))
    for name in ("mse", "mae", "huber", "bce"):
        loss, dy = LOSSES[name](y, targets)
        assert loss == LOSSES[name](y, targets[..., None])[0] and dy.shape == y.shape


def test_losses_of_byte_swapped_float64_stay_in_float64() -> None:
    y, targets = DRAWS.normal(0, 1, (4, 5)), DRAWS.uniform(0, 1, (4, 5))
    for name in ("mse", "mae", "huber", "bce"):
        loss, dy = LOSSES[name](y.astype(">f8"), targets)
        assert (loss, dy.dtype) == (LOSSES[name](y, targets)[0], np.float64)


def test_quantile_loss_is_its_definition_and_its_minimum_the_quantiles() -> None:
    rng = np.random.default_rng(0)
    levels = (0.1, 0.5, 0.9)
    y, t = rng.normal(size=(5, 6)), rng.normal(size=(5, 2))
    expected = np.mean([
        max(q * (t[i, j] - y[i, 2 * k + j]), (q - 1) * (t[i, j] - y[i, 2 * k + j]))
        for i in range(5) for j in range(2) for k, q in enumerate(levels)
    ])  # fmt: skip
    assert train.quantile(y, t, quantiles=levels)[0] == pytest.approx(expected)
    sample = rng.normal(size=(999, 1))
    best = np.quantile(sample, levels)
    losses = [
        train.quantile(np.tile(best + shift, (999, 1)), sample, quantiles=levels)[0]
        for shift in (0, 0.05, -0.05)
    ]
    assert losses[0] < min(losses[1:])
    with pytest.raises(ShapeError, match="a multiple of 3 outputs"):
        train.quantile(y[:, :4], t, quantiles=levels)


@pytest.mark.parametrize("result", [None, 0.5, (0.5,), (0.5, np.zeros(2)), (0.5, np.zeros((4, 2)), 1)])
def test_a_function_that_returns_no_value_and_gradient_is_named(result: Any) -> None:
    def my_loss(y: Any, targets: Any, mask: Any) -> Any:
        return result

    y, targets, mask = np.zeros((4, 2), np.float32), np.zeros(4, np.int64), np.ones(4, np.bool_)
    with pytest.raises(ArgumentError, match=r"the loss .*my_loss returned .*; expected a number"):
        weighted(my_loss, y, targets, mask, None)
