"""Test the recipe for labeled sequences: the split, the averaging window and the folded standardization."""

from pathlib import Path

import numpy as np
import pytest
from support.randomized import random_cases

import onward
from onward.errors import ArgumentError, NotFiniteError
from onward.recipes import sequences
from onward.recipes.sequences import Examples
from onward.tables import data


def examples(targets: np.ndarray) -> Examples:
    return Examples([np.full((1 + n % 3, 2), n) for n in range(len(targets))], targets)


@pytest.mark.parametrize("seed", range(20))
def test_split_leaves_examples_of_every_class_to_train_on(seed: int) -> None:
    labels = np.repeat(np.arange(10), [2, 2, 2, 2, 2, 3, 3, 4, 5, 15])
    training, held_out = sequences.split(examples(labels), 8, np.random.default_rng(seed))
    assert set(training.targets) == set(range(10))
    assert np.bincount(held_out.targets)[9] == 3


@pytest.mark.parametrize("held_out", [0, 1, 7, 20])
@pytest.mark.parametrize("targets", [np.arange(40) % 3, np.arange(80.0).reshape(40, 2)])
def test_split_keeps_each_example_once_with_its_target(targets: np.ndarray, held_out: int) -> None:
    parts = sequences.split(examples(targets), held_out, np.random.default_rng(0))
    assert [len(part.items) for part in parts] == [40 - held_out, held_out]
    numbers = np.array([item[0, 0] for part in parts for item in part.items])
    assert sorted(numbers) == list(range(40))
    np.testing.assert_array_equal(np.concatenate([part.targets for part in parts]), targets[numbers])


def test_split_of_numbers_is_drawn_at_random() -> None:
    whole = examples(np.arange(40.0)[:, None])
    first, other = (sequences.split(whole, 8, np.random.default_rng(seed))[1] for seed in (0, 1))
    assert not np.array_equal(np.sort(first.targets, axis=0), np.sort(other.targets, axis=0))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", [onward.LSTM, onward.GRU, onward.RNN])
def test_folded_model_of_raw_sequences_equals_the_model_of_standardized_ones(
    cell: type, bidirectional: bool
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal([5, -300, 0.01], [0.1, 40, 0.002], (6, 3))
    mean, deviation = sequences.moments([x])
    layer = cell(3, 7, bidirectional=bidirectional, dtype="float64", rng=0)
    expected = layer((x - mean) / deviation)[0]
    sequences.fold(onward.Sequential(layer), mean, deviation)
    np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("first", [onward.Linear(3, 7), onward.LSTM(3, 7, bias=False)])
def test_fold_needs_a_recurrent_layer_with_biases(first: onward.Linear) -> None:
    with pytest.raises(ArgumentError, match="expected a recurrent layer with bias=True"):
        sequences.fold(onward.Sequential(first), np.zeros(3), np.ones(3))


def test_constant_feature_is_not_divided_by_zero() -> None:
    x = np.column_stack([np.arange(5.0), np.full(5, 7.0)])
    (standardized,) = sequences.standardized([x], *sequences.moments([x]))
    np.testing.assert_array_equal(standardized[:, 1], 0)
    np.testing.assert_allclose(standardized[:, 0].std(), 1, rtol=1e-6)


def column(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return n numbers of any unit and offset, or one number n times."""
    size = 10.0 ** rng.integers(-20, 20)
    if rng.random() < 0.4:
        return np.full(n, rng.normal() * size)
    return size * (rng.normal(size=n) + rng.choice([0.0, 1.0, -1e3]))


@pytest.mark.parametrize("seed", range(random_cases(40)))
def test_features_of_any_unit_do_not_lose_their_digits_in_the_folded_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.column_stack([column(rng, 50) for _ in range(3)])
    spread = np.array([0.0 if len(set(values)) == 1 else values.std() for values in x.T])
    layer, exact = (onward.LSTM(3, 7, dtype=dtype, rng=seed) for dtype in ("float32", "float64"))
    expected = exact((x - x.mean(axis=0)) * (spread > 0) / np.where(spread > 0, spread, 1))[0]
    sequences.fold(onward.Sequential(layer), *sequences.moments([x], constant=np.inf))
    np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=2e-3)


def test_sequences_without_a_step_or_a_weight_are_left_out() -> None:
    items = [np.ones((n, 2)) for n in (3, 0, 1, 2)]
    left = Examples(items, np.arange(4), np.array([1.0, 1.0, 0.0, 2.0])).counted()
    assert left.targets.tolist() == [0, 3] and left.weights is not None and left.weights.tolist() == [1, 2]


@pytest.mark.parametrize("size", [1e-40, 1e35, 1e300])
@pytest.mark.parametrize("regress", ["features", "targets"])
def test_numbers_beyond_float32_are_errors_instead_of_a_model_of_nan(size: float, regress: str) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 4, 2)), np.arange(20.0)[:, None]
    x, y = (size * x, y) if regress == "features" else (x, size * y)
    with pytest.raises(ArgumentError, match=f"{regress[:-1]} 0, counted from 0, has mean .*scale it"):
        sequences.fit_sequences(Examples(list(x), y), None, None, rng=np.random.default_rng(0))


def test_short_training_forgets_the_initial_weights() -> None:
    for steps in (1, 15, 100, 1000, 100_000):
        initial_share = sequences.average_decay(steps) ** steps
        assert initial_share < 1e-4 and sequences.average_decay(steps) <= sequences.AVERAGE


def test_measures_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, scores = rng.choice(3, 60, p=[0.8, 0.15, 0.05]), rng.normal(size=(60, 3)).round(1)
    scores[np.arange(60), labels] += 1
    found = sequences.measures(scores, labels, ("a", "b", "c"))
    predicted = scores.argmax(axis=1)
    recalls = metrics.recall_score(labels, predicted, average=None)
    precisions = metrics.precision_score(labels, predicted, average=None)
    for k, row in enumerate(found):
        margin = scores[:, k] - np.delete(scores, k, axis=1).max(axis=1)
        assert row["recall"] == pytest.approx(recalls[k]) and row["precision"] == pytest.approx(precisions[k])
        assert row["auc"] == pytest.approx(metrics.roc_auc_score(labels == k, margin))
        assert row["count"] == (labels == k).sum()


def test_balanced_weights_find_a_rare_class() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(300) % 20 == 0).astype(int)
    items = [rng.normal(1.0 * label, 1, (4, 1)) for label in labels]
    recalls = []
    for class_weight in (None, "balanced"):
        model, _ = sequences.fit_sequences(
            Examples(items, labels), None, 2, epochs=15, class_weight=class_weight,
            rng=np.random.default_rng(0), progress=False,
        )  # fmt: skip
        predicted = np.array([model(item).argmax() for item in items])
        recalls.append(predicted[labels == 1].mean())
    assert recalls[0] < 0.5 < recalls[1]
    with pytest.raises(ArgumentError, match="class_weight='balanced', but must be 'balanced', for classes"):
        sequences.fit_sequences(
            Examples(items, labels[:, None] / 2),
            None,
            None,
            class_weight="balanced",
            rng=np.random.default_rng(0),
        )


@pytest.mark.parametrize("learning_rate", [1e3, 1e18, 1e30, 1e300])
@pytest.mark.parametrize("is_class", [True, False])
def test_a_training_that_diverges_ends_with_one_error(
    learning_rate: float, is_class: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    items = [rng.normal(size=(4, 2)) for _ in range(20)]
    labels = np.array(["a", "b"])[np.arange(20) % 2] if is_class else rng.normal(size=(20, 1))
    np.savez(tmp_path / "data.npz", x=np.concatenate(items), lengths=np.full(20, 4), y=labels)
    table = data.read(tmp_path / "data.npz")
    try:
        _, history, report = sequences.fit_table(table, learning_rate=learning_rate, epochs=6, progress=False)
        assert np.isfinite(history.epochs[history.best or 0].loss) and report["loss"] >= 0
    except NotFiniteError as error:
        assert "lower the learning rate" in str(error)
        assert learning_rate > 1e3
