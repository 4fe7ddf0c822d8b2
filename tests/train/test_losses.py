"""Losses and their gradients, against central differences. tests/peers compares them with PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from onward import train
from onward.errors import ArgumentError, DtypeError, OnwardError, ShapeError

DRAWS = np.random.default_rng(5)
LOSSES: dict[str, Callable[..., Any]] = {
    "cross_entropy": train.cross_entropy,
    "cross_entropy_smoothed": partial(train.cross_entropy, label_smoothing=0.2, ignore_index=1),
    "mse": train.mse,
    "mae": train.mae,
    "huber": partial(train.huber, delta=0.7),
    "bce": train.bce,
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
