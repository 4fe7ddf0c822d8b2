"""scikit-learn estimators: classifiers and regressors of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.extmath import softmax
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ModuleNotFoundError as error:
    from ..core.extras import install_hint
    from ..errors import ArgumentError

    raise ArgumentError(f"the estimators need scikit-learn: {install_hint('sklearn')}") from error

from ..core.checks import probability
from ..errors import ArgumentError, ShapeError
from ..tables import inference
from . import sequences

AnyArray = NDArray[Any]
PASSED_ON = (
    "cell",
    "hidden_size",
    "num_layers",
    "bidirectional",
    "epochs",
    "patience",
)  # to fit_sequences


class _SequenceEstimator(BaseEstimator):
    """The base class of the estimators: parameters, conversion of X, training and outputs."""

    _has_columns: bool  # whether the estimator was fitted on an (N, T) array
    _features: int  # per step

    def __init__(
        self,
        cell: str = "lstm",
        hidden_size: int = sequences.HIDDEN,
        num_layers: int = 1,
        bidirectional: bool = False,
        epochs: int | None = None,
        validation_fraction: float = 0.2,
        patience: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.epochs = epochs
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _fit(
        self,
        items: list[AnyArray],
        targets: AnyArray,
        num_classes: int | None,
        weights: AnyArray | None,
        class_weight: Any = None,
    ) -> None:
        """Train `model_` on sequences (T, F) and their classes (N,) or numbers (N, O)."""
        rng = np.random.default_rng(check_random_state(self.random_state).randint(1 << 31))
        examples = sequences.Examples(items, targets, weights).counted()
        N, fraction = len(examples.items), probability("validation_fraction", self.validation_fraction)
        held_out = max(1, int(fraction * N)) if fraction else 0
        if held_out >= N:
            raise ArgumentError(
                f"validation_fraction={fraction} of n_samples={N} leaves no sequence to train on: add "
                "sequences or lower validation_fraction"
            )
        training, validation = sequences.split(examples, held_out, rng)
        self.model_, self.history_ = sequences.fit_sequences(
            training,
            validation if held_out else None,
            num_classes,
            class_weight=class_weight,
            rng=rng,
            progress=False,
            **{name: getattr(self, name) for name in PASSED_ON},
        )

    def _outputs(self, X: Any) -> AnyArray:
        """Return the outputs (N, O) of the model."""
        check_is_fitted(self)
        return np.stack(inference.outputs(self.model_, self._sequences(X, reset=False)))

    def _sequences(self, X: Any, reset: bool) -> list[AnyArray]:
        """Return X as a list of float32 arrays (T, F); `reset` records the number of features.

        scikit-learn checks the number and names of columns, which only 2-D arrays have.
        """
        _reject_masked(X, "X")
        ndim = getattr(X, "ndim", 2)
        is_list = isinstance(X, list | tuple) or (ndim == 1 and np.asarray(X).dtype.kind == "O")
        if is_list:
            items = [_sequence(item, f"X[{n}]") for n, item in enumerate(X)]
        elif ndim == 3:
            items = list(check_array(X, dtype=np.float32, allow_nd=True, input_name="X"))
        elif reset or self._has_columns:
            items = list(validate_data(self, X, dtype=np.float32, reset=reset)[:, :, None])
        else:
            items = list(check_array(X, dtype=np.float32, input_name="X")[:, :, None])
        if not items:
            raise ArgumentError("X is empty, expected at least one sequence")
        if reset:
            self._has_columns, self._features = not is_list and ndim == 2, items[0].shape[1]
            if not self._has_columns:
                self.n_features_in_ = self._features
        for n, item in enumerate(items):
            if item.size == 0:
                raise ShapeError(f"X[{n}] has shape {item.shape}, expected (T, F): remove empty sequences")
            if item.shape[1] != self._features:
                raise ShapeError(
                    f"X[{n}] has {item.shape[1]} features per step, but {type(self).__name__} expects "
                    f"{self._features}: all sequences must have the same features"
                )
        return items


def _reject_masked(value: Any, name: str) -> None:
    """Raise ArgumentError for a masked array, whose mask scikit-learn would drop."""
    if isinstance(value, np.ma.MaskedArray):
        raise ArgumentError(
            f"{name} is a masked array: convert it with .filled(value), or pass a list of the valid steps of "
            "each sequence"
        )


def _sequence(item: Any, name: str) -> AnyArray:
    """Return one sequence as a float32 array (T, F); numbers (T,) are steps of one feature."""
    _reject_masked(item, name)
    try:
        array: AnyArray = check_array(
            item, dtype=np.float32, ensure_2d=False, allow_nd=True, ensure_min_samples=0, input_name=name
        )
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} is not a sequence (T, F) or (T,) of finite numbers: {error}") from error
    if array.ndim not in (1, 2):
        raise ShapeError(f"{name} has shape {array.shape}, expected (T, F), or (T,) for one feature")
    return array[:, None] if array.ndim == 1 else array


def _check_y(estimator: Any, items: list[AnyArray], y: Any, dtype: Any) -> AnyArray:
    """Return y as an array with one entry per sequence. Raises ValueError, as scikit-learn does."""
    if y is None:
        raise ArgumentError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None: pass one target "
            "per sequence"
        )
    _reject_masked(y, "y")
    y = check_array(y, dtype=dtype, ensure_2d=False, input_name="y", estimator=estimator)
    check_consistent_length(items, y)
    return y  # type: ignore[no-any-return]  # scikit-learn has no types


def _check_weights(items: list[AnyArray], sample_weight: Any) -> AnyArray | None:
    """Return one weight per sequence, or None. Raises ValueError, as scikit-learn does."""
    if sample_weight is None:
        return None
    weights: AnyArray = column_or_1d(check_array(sample_weight, ensure_2d=False, input_name="sample_weight"))
    check_consistent_length(items, weights)
    return weights


class SequenceClassifier(ClassifierMixin, _SequenceEstimator):
    """Classify sequences with recurrent layers, the last step, a linear layer and softmax.

    X is a list of arrays (T_i, F), an array (N, T, F), or lists of lists of numbers; y has one label per
    sequence. A sequence of plain numbers, such as a row of an (N, T) array, has one feature per step. After
    fitting on an (N, T) array, `predict` accepts such arrays only with the same T, as scikit-learn requires
    of columns; lists and (N, T, 1) arrays may have any lengths.

    Parameters
    ----------
    cell : "lstm", "gru" or "rnn"
    hidden_size : units of each layer
    num_layers : number of recurrent layers
    bidirectional : whether the layers read each sequence in both directions; if so, one more forward layer of
        the same cell reads their outputs
    epochs : passes over the data; None chooses 20 to 200 by the number of sequences
    validation_fraction : share of the sequences held out to choose the best epoch; 0 for none
    patience : stop after this many epochs without improvement on the held-out sequences; None for never
    random_state : seed, `numpy.random.RandomState` or None
    class_weight : the weight of each label as a dict; "balanced" to let each class count the same in
        training, however rare it is; or None

    Attributes
    ----------
    model_ : `onward.Sequential` from (T, N, F) to logits (N, classes)
    history_ : `onward.train.History`
    classes_ : the labels, sorted
    n_features_in_ : number of features, or of columns if X is an (N, T) array

    Raises ValueError: the classes of `onward.errors`, and scikit-learn's own for X and y.

    >>> rising = [list(range(start, start + T)) for start in range(5) for T in range(2, 6)]
    >>> falling = [numbers[::-1] for numbers in rising]
    >>> y = ["up"] * len(rising) + ["down"] * len(falling)
    >>> classifier = SequenceClassifier(epochs=50, random_state=0).fit(rising + falling, y)
    >>> classifier.predict([[1, 2, 3, 4], [4, 3, 2]]).tolist()
    ['up', 'down']
    """

    def __init__(
        self,
        cell: str = "lstm",
        hidden_size: int = sequences.HIDDEN,
        num_layers: int = 1,
        bidirectional: bool = False,
        epochs: int | None = None,
        validation_fraction: float = 0.2,
        patience: int | None = None,
        random_state: Any = None,
        class_weight: Any = None,
    ) -> None:
        super().__init__(
            cell, hidden_size, num_layers, bidirectional, epochs, validation_fraction, patience, random_state
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SequenceClassifier:
        """Train on sequences X and their labels y (N,), with weights sample_weight (N,)."""
        items = self._sequences(X, reset=True)
        y = _check_y(self, items, y, None)
        check_classification_targets(y)
        self.classes_, labels = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            only = self.classes_.tolist()[0]
            raise ArgumentError(f"y has one class, {only!r}, expected at least two: add sequences")
        weights = _check_weights(items, sample_weight)
        class_weight = self.class_weight
        if isinstance(class_weight, dict):
            by_class = compute_sample_weight(class_weight, self.classes_[labels])
            weights, class_weight = by_class if weights is None else weights * by_class, None
        self._fit(items, labels, len(self.classes_), weights, class_weight)
        return self

    def predict(self, X: Any) -> AnyArray:
        """Return the likeliest label (N,) of each sequence."""
        best = self._outputs(X).argmax(axis=1)
        labels: AnyArray = self.classes_[best]
        return labels

    def predict_proba(self, X: Any) -> AnyArray:
        """Return the probability (N, classes) of each label, in the order of `classes_`."""
        probabilities: AnyArray = softmax(self._outputs(X).astype(np.float64))
        return probabilities


class SequenceRegressor(RegressorMixin, _SequenceEstimator):
    """Predict numbers from sequences with recurrent layers, the last step and a linear layer.

    X and the parameters are those of `SequenceClassifier`; y is (N,), or (N, O) for O numbers per sequence.
    Inputs and targets are standardized, and the standardization is folded into the weights of `model_`, which
    maps (T, N, F) to (N, O). Raises ValueError, as SequenceClassifier does.

    >>> rng = np.random.default_rng(0)
    >>> X = [rng.standard_normal((T, 2)) for T in rng.integers(1, 9, 200)]
    >>> y = [x[-1].sum() for x in X]
    >>> regressor = SequenceRegressor(epochs=40, random_state=0).fit(X[:150], y[:150])
    >>> bool(regressor.score(X[150:], y[150:]) > 0.8)
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SequenceRegressor:
        """Train on sequences X and their targets y, (N,) or (N, O), with weights sample_weight (N,)."""
        items = self._sequences(X, reset=True)
        y = _check_y(self, items, y, np.float64)
        self._fit(items, y.reshape(len(y), -1), None, _check_weights(items, sample_weight))
        self._has_vector_targets = y.ndim == 2
        return self

    def predict(self, X: Any) -> AnyArray:
        """Return the predictions, (N,) or (N, O) as y was."""
        outputs = self._outputs(X).astype(np.float64)  # as scikit-learn requires of several outputs
        return outputs if self._has_vector_targets else outputs[:, 0]
