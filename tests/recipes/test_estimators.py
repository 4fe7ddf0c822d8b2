"""Test the scikit-learn estimators: scikit-learn's own checks, every form of X, and real data."""

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import onward
from onward import bundled
from onward.errors import ArgumentError, ShapeError
from onward.recipes import SequenceClassifier, SequenceRegressor
from onward.recipes.sequences import Examples, balanced

QUICK: dict[str, Any] = {"hidden_size": 8, "epochs": 20, "random_state": 0}


def expected_failures(estimator: Any) -> dict[str, str]:
    found = {"check_sample_weight_equivalence_on_dense_data": "other sequences make other batches and noise"}
    if isinstance(estimator, SequenceClassifier):
        lists = (
            "it fits nested lists and expects an array of other columns to be rejected, but lists have none"
        )
        found["check_classifiers_train"] = lists
    return found


@parametrize_with_checks(
    [SequenceClassifier(**QUICK), SequenceRegressor(**QUICK | {"epochs": 2})],
    expected_failed_checks=expected_failures,
    xfail_strict=True,
)
def test_passes_the_estimator_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    if check.func.__name__ == "check_regressors_train":  # requires a good fit
        estimator = clone(estimator).set_params(cell="rnn", hidden_size=32, epochs=30)  # others share it
    check(estimator)


def japanese_vowels(part: str) -> tuple[list[np.ndarray], np.ndarray]:
    with np.load(bundled.datasets()[f"japanese_vowels_{part}"]) as data:
        return np.split(data["x"], np.cumsum(data["lengths"])[:-1]), data["y"]


def ragged(N: int = 60, F: int = 3, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences of 1 to 8 steps; the label says whether the first feature ends above zero."""
    rng = np.random.default_rng(seed)
    X = [rng.standard_normal((T, F)) for T in rng.integers(1, 9, N)]
    return X, np.where([x[-1, 0] > 0 for x in X], "high", "low")


def test_default_classifier_is_accurate_on_japanese_vowels() -> None:
    classifier = SequenceClassifier(epochs=40, random_state=0).fit(*japanese_vowels("train"))
    assert classifier.score(*japanese_vowels("test")) > 0.95


@pytest.mark.parametrize(
    "options", [{"cell": "gru", "num_layers": 2}, {"cell": "rnn"}, {"bidirectional": True}]
)
def test_every_architecture_learns(options: dict[str, Any]) -> None:
    X, y = ragged(200)
    classifier = SequenceClassifier(epochs=30, random_state=0, **options).fit(X[:150], y[:150])
    assert classifier.score(X[150:], y[150:]) > 0.8


def test_reverse_direction_reaches_the_output() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 6, 2))
    model = SequenceClassifier(bidirectional=True, **QUICK).fit(X, np.arange(20) % 2).model_
    weights = model.state_dict()
    without = {name: 0 * weight if "reverse" in name else weight for name, weight in weights.items()}
    before = model(X.swapaxes(0, 1))
    model.load_state_dict(without)
    assert np.abs(model(X.swapaxes(0, 1)) - before).max(axis=1).min() > 1e-3


def test_early_stopping_ends_before_the_last_epoch() -> None:
    X, y = ragged()
    rng = np.random.default_rng(1)
    classifier = SequenceClassifier(epochs=200, patience=3, random_state=0).fit(X, rng.permutation(y))
    history = classifier.history_
    assert len(history.epochs) == history.best + 1 + 3 < 200


def test_validation_fraction_of_zero_trains_on_everything() -> None:
    classifier = SequenceClassifier(validation_fraction=0, **QUICK).fit(*ragged())
    assert classifier.history_.best is None and len(classifier.history_.epochs) == 20


def test_lists_arrays_and_object_arrays_are_the_same_data() -> None:
    X = np.random.default_rng(0).standard_normal((20, 6, 3)).astype(np.float32)
    y = np.arange(20) % 2
    objects = np.empty(20, object)
    objects[:] = list(X)
    forms: list[Any] = [X, list(X), tuple(X), X.tolist(), objects]
    answers = [SequenceClassifier(**QUICK).fit(form, y).predict_proba(form) for form in forms]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


def test_rows_of_a_2d_array_are_sequences_of_one_feature() -> None:
    X, y = np.random.default_rng(0).standard_normal((20, 6)), np.arange(20) % 2
    columns, steps = SequenceClassifier(**QUICK).fit(X, y), SequenceClassifier(**QUICK).fit(X[:, :, None], y)
    assert columns.n_features_in_ == 6 and steps.n_features_in_ == 1
    expected = columns.predict_proba(X)
    np.testing.assert_array_equal(steps.predict_proba(X[:, :, None]), expected)
    np.testing.assert_array_equal(steps.predict_proba(X), expected)
    np.testing.assert_array_equal(columns.predict_proba(X.tolist()), expected)
    assert columns.predict_proba(X[:, :4, None]).shape == steps.predict_proba(X[:, :4]).shape == (20, 2)
    with pytest.raises(ValueError, match="X has 4 features, but SequenceClassifier is expecting 6"):
        columns.predict(X[:, :4])


def test_predictions_do_not_depend_on_the_other_sequences() -> None:
    X, y = ragged()
    classifier = SequenceClassifier(**QUICK).fit(X, y)
    together = classifier.predict_proba(X)
    apart = np.concatenate([classifier.predict_proba([x]) for x in X])
    np.testing.assert_array_equal(together, apart)


def test_probabilities_are_the_softmax_of_the_models_logits() -> None:
    X, y = ragged()
    classifier = SequenceClassifier(**QUICK).fit(X, y)
    assert type(classifier.model_) is onward.Sequential
    assert classifier.classes_.tolist() == ["high", "low"]
    logits = np.stack([classifier.model_(x.astype(np.float32)) for x in X]).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.predict_proba(X), expected, rtol=1e-12)
    assert (classifier.predict(X) == classifier.classes_[expected.argmax(axis=1)]).all()


@pytest.mark.parametrize("vector", [False, True])
def test_regressor_predicts_in_the_units_of_the_targets(vector: bool) -> None:
    X, _ = ragged(600)
    y = np.array([[1000 + 50 * x[-1].sum(), 0.01 * x[-1, 0]] for x in X])
    y = y if vector else y[:, 0]
    regressor = SequenceRegressor(epochs=40, random_state=0).fit(X[:500], y[:500])
    assert regressor.predict(X).shape == y.shape
    assert regressor.score(X[500:], y[500:]) > 0.9


def test_random_state_repeats_a_fit() -> None:
    X, y = ragged()
    fits = [SequenceClassifier(hidden_size=8, epochs=2, random_state=seed).fit(X, y) for seed in (1, 1, 2)]
    first, again, other = (fit.predict_proba(X) for fit in fits)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_clones_and_pickles() -> None:
    X, y = ragged()
    classifier = SequenceClassifier(cell="gru", **QUICK).fit(X, y)
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params() and not hasattr(copy, "model_")
    assert copy.set_params(cell="rnn").cell == "rnn"
    restored = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(restored.predict_proba(X), classifier.predict_proba(X))


def test_works_in_a_pipeline_a_grid_search_and_cross_validation() -> None:
    X, y = ragged(200)
    scaled = FunctionTransformer(lambda X: [10 * x for x in X])
    pipeline = make_pipeline(scaled, SequenceClassifier(**QUICK))
    search = GridSearchCV(pipeline, {"sequenceclassifier__cell": ["lstm", "rnn"]}, cv=2).fit(X, y)
    assert search.best_score_ > 0.6 and search.predict(X[:3]).shape == (3,)
    targets = np.array([x[-1, 0] for x in X])
    assert cross_val_score(SequenceRegressor(**QUICK), X, targets, cv=3).shape == (3,)
    columns = make_pipeline(StandardScaler(), SequenceClassifier(**QUICK))
    assert cross_val_score(columns, np.array([x[[0, -1], 0] for x in X]), y, cv=3).mean() > 0.6


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([[1.0, 2.0], [[1.0, 2.0]], [3.0]], ShapeError, r"X\[1\] has 2 features per step, but .* expects 1"),
        ([[1.0], [], [2.0]], ShapeError, r"X\[1\] has shape \(0, 1\), expected \(T, F\): remove empty"),
        (np.ones((3, 0, 2)), ShapeError, r"X\[0\] has shape \(0, 2\), expected \(T, F\)"),
        (np.ones((3, 2, 0)), ShapeError, r"X\[0\] has shape \(2, 0\), expected \(T, F\)"),
        ([[1.0], 2.0, [3.0]], ShapeError, r"X\[1\] has shape \(\), expected \(T, F\), or \(T,\)"),
        ([[1.0], [np.nan], [3.0]], ArgumentError, r"X\[1\] .* contains NaN"),
        ([[1.0], ["a"], [3.0]], ArgumentError, r"X\[1\] is not a sequence .* finite numbers"),
        ([np.ones((1, 1, 1)), [2.0], [3.0]], ShapeError, r"X\[0\] has shape \(1, 1, 1\), expected \(T, F\)"),
        ([], ArgumentError, "X is empty"),
    ],
)
def test_wrong_sequences_are_named(X: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SequenceClassifier(**QUICK).fit(X, [0, 1, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "lstn"}, "cell='lstn', expected one of 'lstm', 'gru', 'rnn'"),
        ({"validation_fraction": 1.0}, "leaves no sequence to train on"),
        ({"validation_fraction": 0, "patience": 3}, "needs validation data"),
        ({"hidden_size": 0}, "hidden_size=0"),
    ],
)
def test_wrong_parameters_are_errors_of_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        SequenceClassifier(**{**QUICK, **options}).fit(*ragged())


def test_one_class_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="y has one class, 'a', expected at least two"):
        SequenceClassifier(**QUICK).fit([[1.0], [2.0]], ["a", "a"])


def test_import_does_not_need_scikit_learn_and_the_error_names_the_extra() -> None:
    code = """if True:
        import sys
        import onward.recipes
        assert not any(name.startswith("sklearn") for name in sys.modules)
        sys.modules["sklearn"] = None
        try:
            onward.recipes.SequenceClassifier
        except onward.errors.ArgumentError as error:
            print(error)
    """
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert (
        "the estimators need scikit-learn: pip install 'scikit-learn>=" in output
        and "(the extra sklearn)" in output
    )


def test_masked_arrays_are_rejected_instead_of_losing_their_mask() -> None:
    X, y = np.random.default_rng(0).normal(size=(8, 3, 4)), np.arange(8) % 2
    masked, classifier = np.ma.masked_array(X, mask=X > 0), SequenceClassifier(epochs=1, random_state=0)
    for name, arguments in (
        ("X", (masked, y)),
        (r"X\[0\]", (list(masked), y)),
        ("y", (X, np.ma.masked_array(y, mask=y > 0))),
    ):
        with pytest.raises(ArgumentError, match=f"^{name} is a masked array"):
            classifier.fit(*arguments)
    with pytest.raises(ArgumentError, match=r"^X is a masked array"):
        classifier.fit(X, y).predict(masked)


def test_weights_of_samples_and_classes_change_the_fit() -> None:
    rng = np.random.default_rng(0)
    y = (np.arange(200) % 20 == 0).astype(int)
    X = [rng.normal(1.0 * label, 1, (4, 1)) for label in y]
    recalls = []
    for options, weights in (({}, None), ({"class_weight": "balanced"}, None), ({}, 1 + 18 * y)):
        classifier = SequenceClassifier(**QUICK | options).fit(X, y, sample_weight=weights)
        recalls.append((classifier.predict(X)[y == 1] == 1).mean())
    assert recalls[0] < min(recalls[1:])
    with pytest.raises(ValueError, match="class_weight"):
        SequenceClassifier(**QUICK, class_weight="heavy").fit(X, y)


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 0.3, 1: 2.0}])
def test_samples_of_weight_0_change_nothing(class_weight: Any) -> None:
    rng = np.random.default_rng(0)
    X, y, weights = rng.normal(size=(20, 3, 1)), np.arange(20) % 3 % 2, rng.choice([0.0, 0.2, 2.0], 20)
    options = QUICK | {"random_state": 0, "class_weight": class_weight}
    fitted = SequenceClassifier(**options).fit(X, y, sample_weight=weights)
    some = weights > 0
    expected = SequenceClassifier(**options).fit(X[some], y[some], sample_weight=weights[some])
    np.testing.assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))


def test_balanced_classes_count_the_same_with_weights_of_samples() -> None:
    labels, weights = np.array([0, 0, 0, 1, -1, 1]), np.array([0.5, 0, 2, 0.25, 9, 1])
    for targets in (labels, [np.repeat(label, 3) for label in labels]):
        shares = balanced(Examples([], targets, weights), 3, "balanced")
        totals = [(weights[labels == k] * shares[k]).sum() for k in (0, 1)]
        np.testing.assert_allclose(totals[0], totals[1])


@pytest.mark.parametrize("seed", range(5))
def test_samples_of_weight_0_do_not_decide_which_others_are_held_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(6, 3, 1)), rng.normal(size=6)
    weights = np.where(rng.permutation(6) < 3, 0.0, 2.0)
    options = QUICK | {"random_state": seed}
    fitted = SequenceRegressor(**options).fit(X, y, sample_weight=weights)
    expected = SequenceRegressor(**options).fit(X[weights > 0], y[weights > 0], sample_weight=np.full(3, 2.0))
    np.testing.assert_array_equal(fitted.predict(X), expected.predict(X))
