"""Train a model on labeled sequences: standardize the inputs, add noise and keep the best epoch."""

from __future__ import annotations  # np.random is slow to import

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..core.arrays import Array
from ..core.checks import integer
from ..errors import ArgumentError
from ..layers import GRU, LSTM, RNN, Dropout, Last, Linear, Sequential
from ..layers.base_model import BaseModel
from ..layers.recurrent import Recurrent
from ..tables import inference
from ..tables.data import Sequences
from ..tables.layout import targets_like
from ..tables.rows import Rows
from ..train import AdamW, Batch, Batches, History, OneCycleLR, cross_entropy, fit, mse
from ..train.losses import Loss, counted_rows, predicted_classes

CELLS: dict[str, Any] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
HIDDEN = 32
LEARNING_RATE = 1e-2
MAX_NORM = 1.0
AVERAGE = 0.99
LABEL_SMOOTHING = 0.02
DROPOUT, NOISE, OFFSET = 0.5, 0.3, 0.1  # for classifiers only, which otherwise memorize a small data set
HELD_OUT = 5  # by default, one sequence in five is held out
READ = 50_000  # sequences read over all epochs
CONSTANT = 1e-6  # numbers with a deviation below this share of their mean are constant: float32 rounds them
SMALLEST, LARGEST = 1e-30, 1e30  # what float32 and its products hold
Moments: TypeAlias = tuple[Array, Array]  # the mean and standard deviation of each feature


class Examples(NamedTuple):
    """Sequences (T, F), their targets, and how much each counts; without weights, all count the same.

    targets: classes (N,), numbers (N, O), or a list with the classes (T,) or the numbers (T, O) of each step.
    """

    items: list[NDArray[Any]]
    targets: Any
    weights: NDArray[Any] | None = None

    def counted(self) -> Examples:
        """Return the examples with a weight, a step and a known target; the others do not count."""
        pairs = zip(self.items, _known(self.targets), strict=True)
        counts = np.array([len(item) > 0 and bool(np.any(known)) for item, known in pairs])
        rows = np.flatnonzero(counts if self.weights is None else counts & (self.weights != 0))
        return self.take(rows) if len(rows) else self  # `fit` refuses weights that are all 0

    def take(self, rows: NDArray[np.int64]) -> Examples:
        """Return the examples with these numbers."""
        targets = self.targets
        chosen = [targets[row] for row in rows] if isinstance(targets, list) else targets[rows]
        weights = None if self.weights is None else self.weights[rows]
        return Examples([self.items[row] for row in rows], chosen, weights)


class Noisy(Batches):
    """Batches of standardized sequences with fresh Gaussian noise in every epoch.

    noise: standard deviation of the noise added to each step. offset: standard deviation of the noise that
    all steps of a sequence share. Evaluation, which passes no generator, adds none. Reference: Bishop 1995,
    Training with noise is equivalent to Tikhonov regularization.
    """

    def __init__(self, x: Any, y: Any, *, noise: float, offset: float, **options: Any) -> None:
        super().__init__(x, y, **options)
        self.noise, self.offset = noise, offset

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"noise": self.noise, "offset": self.offset}

    def epoch(self, rng: np.random.Generator | None) -> Iterator[Batch]:
        for batch in super().epoch(rng):
            if rng is not None:
                noise = self.noise * rng.standard_normal(batch.x.shape, np.float32)
                noise += self.offset * rng.standard_normal(batch.x.shape[1:], np.float32)
                batch = batch.with_x(batch.x + noise)
            yield batch


def split(examples: Examples, held_out: int, rng: np.random.Generator) -> tuple[Examples, Examples]:
    """Draw `held_out` examples at random, each class in proportion; return the others, then these.

    If at most half of the examples are held out, no class with several examples loses all of them.
    """
    N, targets = len(examples.items), examples.targets
    order = rng.permutation(N)
    if not isinstance(targets, list) and targets.ndim == 1:
        order = order[np.argsort(targets[order], kind="stable")]
    places = ((np.arange(held_out) + 0.5) * N / max(1, held_out)).astype(int)  # evenly spaced
    return examples.take(np.delete(order, places)), examples.take(order[places])


def fit_sequences(
    training: Examples,
    validation: Examples | None,
    num_classes: int | None,
    *,
    cell: str = "lstm",
    hidden_size: int = HIDDEN,
    num_layers: int = 1,
    bidirectional: bool = False,
    epochs: int | None = None,
    learning_rate: float = LEARNING_RATE,
    class_weight: str | None = None,
    rng: np.random.Generator,
    **options: Any,
) -> tuple[Sequential, History]:
    """Train a classifier, or a regressor if num_classes is None.

    The model consists of recurrent layers, Last (unless every step has a target) and Linear. Training uses
    AdamW, a one-cycle learning rate and averaged weights; for classifiers, also noise, dropout and label
    smoothing. With validation examples, the model gets the weights of the best epoch. epochs=None reads
    50,000 sequences in total, but for 20 to 200 epochs. The standardization is folded into the weights, so
    the model takes raw sequences. `options` are those of `fit`. Raises ArgumentError and the errors of `fit`.
    """
    is_regressor = num_classes is None
    x_moments = moments(training.items, constant=np.inf)  # whose weights become 0
    y_moments = _moments_of_targets(training.targets) if is_regressor else None
    layers = recurrent_layers(len(x_moments[0]), cell, hidden_size, num_layers, bidirectional, rng)
    if not isinstance(training.targets, list):
        layers.append(Last())
    outputs = _rows(training.targets)[0].shape[-1] if num_classes is None else num_classes
    linear = Linear(hidden_size, outputs, rng=rng)
    share = None if class_weight is None else balanced(training, num_classes, class_weight)
    batches = _standardized_batches(training, x_moments, y_moments, share)
    if epochs is None:
        N = len(training.items) + (len(validation.items) if validation else 0)
        epochs = min(200, max(20, READ // N))
    history = fit(
        Sequential(*layers, Dropout(0.0 if is_regressor else DROPOUT), linear),
        batches,
        loss=mse if is_regressor else partial(cross_entropy, label_smoothing=LABEL_SMOOTHING),
        optimizer=AdamW(learning_rate),
        schedule=OneCycleLR(cycle_momentum=False),
        epochs=integer("epochs", epochs, 1),
        validation=_standardized_batches(validation, x_moments, y_moments, share) if validation else None,
        max_norm=MAX_NORM,
        average=average_decay(epochs * (batches.size or 1)),
        rng=rng,
        **options,
    )
    model = Sequential(*layers, linear)  # without Dropout, which acts in training only
    fold(model, *x_moments)
    if y_moments is not None:
        (mean, deviation), (W, b) = y_moments, linear.state_dict().values()
        linear.load_state_dict({"weight": W * deviation[:, None], "bias": b * deviation + mean})
    return model, history


def recurrent_layers(
    features: int, cell: str, hidden_size: int, num_layers: int, bidirectional: bool, rng: np.random.Generator
) -> list[BaseModel]:
    """Return recurrent layers whose output has `hidden_size` features. Raises ArgumentError."""
    if cell not in CELLS:
        raise ArgumentError(f"cell={cell!r}, expected one of {', '.join(map(repr, CELLS))}")
    layers = [CELLS[cell](features, hidden_size, num_layers, bidirectional=bidirectional, rng=rng)]
    if bidirectional:  # at the last step, which Last takes, the reverse direction has read only that step
        layers.append(CELLS[cell](2 * hidden_size, hidden_size, rng=rng))
    return layers


def average_decay(steps: int) -> float:
    """The decay of the averaged weights, with a window of at most a tenth of all steps.

    A longer window would retain much of the random initial weights.
    """
    return min(AVERAGE, max(0.0, 1 - 10 / steps))


def fit_table(
    sequences: Sequences, *, seed: int = 0, hold_out: float = 1 / HELD_OUT, **options: Any
) -> tuple[Sequential, History, dict[str, Any]]:
    """Train on a table of sequences; return the model, its history and its measures on held-out sequences.

    `fit_sequences` describes the training and its options. Raises ArgumentError and the errors of `fit`.
    """
    sequences = sequences.with_class_names()
    examples = _examples(sequences).counted()
    N = len(examples.items)
    if N < HELD_OUT:
        raise ArgumentError(
            f"the table has {N} sequence{'s' * (N != 1)}, expected at least {HELD_OUT}: add some, because "
            f"one in {HELD_OUT} is held out"
        )
    rng = np.random.default_rng(seed)
    sequences.check_finite()
    training, validation = split(examples, max(1, int(hold_out * N)), rng)
    is_class = sequences.labels is not None or sequences.step_labels is not None
    num_classes = len(sequences.classes) if is_class else None
    if num_classes == 1:
        only = sequences.classes[0]
        raise ArgumentError(f"the table has one class, {only!r}, expected at least two: add others")
    model, history = fit_sequences(training, validation, num_classes, rng=rng, **options)
    return (
        model,
        history,
        _report(
            model, validation, sequences.classes if is_class else None, cross_entropy if is_class else mse
        ),
    )


def score_table(model: BaseModel | Rows, sequences: Sequences, loss: Loss) -> dict[str, Any]:
    """Compute a loss of `onward.train` and, for classes, the accuracy and the measures of each class.

    Raises ArgumentError for a table without labels or targets, and the errors of the model and the loss.
    """
    is_class = sequences.labels is not None or sequences.step_labels is not None
    classes = sequences.classes if is_class else None
    return _report(model, _examples(sequences), classes, loss, sequences.name)


def _errors(y: Array, targets: Array) -> dict[str, float | None]:
    """Measures of predicted numbers: mae, in the units of the targets, and r2, which is 0 for their mean."""
    if y.shape != targets.shape:
        return {}
    spread = float(((targets - targets.mean(axis=0)) ** 2).sum())
    r2 = 1 - float(((y - targets) ** 2).sum()) / spread if spread else None
    return {"mae": float(np.abs(y - targets).mean()), "r2": r2}


@np.errstate(all="ignore")  # losses of numbers may be infinite
def _report(
    model: BaseModel | Rows,
    examples: Examples,
    classes: tuple[str, ...] | None,
    loss: Loss,
    name: Callable[[int], str] | None = None,
) -> dict[str, Any]:
    """The loss and the measures of all outputs at once.

    Sequences without a step do not count, nor do unknown labels and targets, whose number is reported.
    """
    items = examples.items
    if not isinstance(model, Rows):
        items = [item if item.ndim == 1 else item.astype(np.float32) for item in items]  # 1: token ids
    outputs = inference.outputs_of_steps(model, items, name=name)
    if bad := [row for row in inference.rows_with_nan(outputs) if len(items[row])]:
        raise ArgumentError(
            f"{inference.describe_nan(bad, len(items), name or str)}. Check the input for NaN"
        )
    y = np.concatenate([np.atleast_2d(each) for each in outputs])
    targets = targets_like(examples.targets, outputs) if classes is None else examples.targets
    targets = np.concatenate(targets) if isinstance(targets, list) else targets
    mask = np.ones(len(y), np.bool_)
    if outputs[0].ndim == 1:
        mask &= [len(item) > 0 for item in items]
    known = mask & _known(targets) if np.shape(targets) == y.shape else mask
    report: dict[str, Any] = {"loss": float(loss(y, targets, known)[0]), "accuracy": None}
    counted = counted_rows(loss, targets, known)
    report["unknown_labels"] = int(np.count_nonzero(mask & ~counted))
    if not counted.any():
        raise ArgumentError("no sequence has a step and a label or target that the model knows")
    predicted = predicted_classes(loss, y)
    if classes is None:
        return report | _errors(y[counted], np.asarray(targets)[counted])
    if predicted is None:
        return report
    report["accuracy"] = float((predicted == targets)[counted].mean())
    if y.shape[1] == len(classes):
        report["by_class"] = measures(y[counted], targets[counted], classes)
    return report


def measures(scores: Array, labels: NDArray[np.int64], classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return how many labels each class has, and its recall, precision and AUC: None where it is undefined.

    scores: (N, classes). The AUC is the share of pairs, of one row of the class and one of another class, in
    which the class leads by more in its own row (Hanley and McNeil 1982); ties count half.
    """
    predicted = scores.argmax(axis=1)
    margins = scores.astype(np.float64)
    others = np.stack(
        [np.delete(margins, k, axis=1).max(axis=1, initial=-np.inf) for k in range(len(classes))], axis=1
    )
    found = []
    for k, name in enumerate(classes):
        own, taken = labels == k, predicted == k
        positives, negatives = int(own.sum()), int((~own).sum())
        hits = int((own & taken).sum())
        found.append({
            "class": name,
            "count": positives,
            "recall": hits / positives if positives else None,
            "precision": hits / int(taken.sum()) if taken.any() else None,
            "auc": _auc(margins[:, k] - others[:, k], own) if positives and negatives else None,
        })  # fmt: skip
    return found


def _auc(scores: Array, own: NDArray[np.bool_]) -> float:
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    positives, negatives = int(own.sum()), int((~own).sum())
    return float((ranks[own].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _examples(sequences: Sequences) -> Examples:
    """The sequences of a table with their classes or targets. Raises ArgumentError."""
    if sequences.labels is not None:
        return Examples(sequences.items, sequences.labels, sequences.weights)
    if sequences.step_labels is not None:
        return Examples(sequences.items, sequences.step_labels, sequences.weights)
    if sequences.targets is None:
        raise ArgumentError(
            "the table has neither classes nor targets: save them as `y` in an .npz file, or name the column "
            "of a .csv file with --target"
        )
    return Examples(sequences.items, sequences.targets, sequences.weights)


def _standardized_batches(
    examples: Examples, x_moments: Moments, y_moments: Moments | None, class_weights: Array | None
) -> Noisy:
    """Batches of standardized sequences, noisy for classes; numbers as targets are standardized too."""
    items, targets, weights = standardized(examples.items, *x_moments), examples.targets, examples.weights
    if class_weights is not None:
        weights = _times(_weight_of(targets, class_weights), weights)
    if y_moments is None:
        return Noisy(items, targets, noise=NOISE, offset=OFFSET, weights=weights)
    scaled = standardized(_rows(targets), *y_moments)
    y = scaled if isinstance(targets, list) else scaled[0]
    known = _known(y)
    if isinstance(y, list) and not all(steps.all() for steps in known):
        weights = _times([steps.astype(np.float64) for steps in known], weights)
        y = [np.where(steps[:, None], target, 0) for steps, target in zip(known, y, strict=True)]
    return Noisy(items, y, noise=0.0, offset=0.0, weights=weights)


def balanced(examples: Examples, num_classes: int | None, class_weight: str) -> Array:
    """Return the weight of each class, with which all classes count the same. Raises ArgumentError."""
    if class_weight != "balanced" or num_classes is None:
        raise ArgumentError(f"class_weight={class_weight!r}, but must be 'balanced', for classes, or None")
    labels = np.concatenate([np.reshape(labels, -1) for labels in examples.targets])
    weights = np.ones(len(labels))
    if examples.weights is not None:
        weights = np.repeat(examples.weights, list(map(np.size, examples.targets)))
    known = labels >= 0
    counts = np.bincount(labels[known], weights[known], minlength=num_classes)
    shares: Array = counts.sum() / (num_classes * np.where(counts == 0, 1, counts))
    return shares


def _weight_of(targets: Any, class_weights: Array) -> Any:
    """The weight of each label, 0 for unknown ones."""
    if isinstance(targets, list):
        return [_weight_of(labels, class_weights) for labels in targets]
    return np.where(targets >= 0, class_weights[targets], 0)


def _times(weights: Any, others: NDArray[Any] | None) -> Any:
    """The products of weights of sequences or steps with those of the sequences."""
    if others is None:
        return weights
    if isinstance(weights, list):
        return [row * other for row, other in zip(weights, others, strict=True)]
    return weights * others


def _known(targets: Any) -> Any:
    """Whether all numbers of each sequence (N,), or of each step, a list of (T,), are known; classes are."""
    if isinstance(targets, list):
        return [_known(steps) for steps in targets]
    is_number = targets.dtype.kind == "f"
    return ~np.isnan(targets).any(axis=-1) if is_number else np.ones(targets.shape, np.bool_)


def _moments_of_targets(targets: Any) -> Moments:
    """The moments of the known targets. Raises ArgumentError."""
    known = [rows[_known(rows)] for rows in _rows(targets)]
    if not any(map(len, known)):
        raise ArgumentError("no sequence has a known target: expected at least one")
    return moments(known, "target")


def _rows(targets: Any) -> list[NDArray[Any]]:
    """Targets as a list of arrays (..., O)."""
    return targets if isinstance(targets, list) else [targets]


@np.errstate(all="ignore")  # `fit` finds and reports values that are not finite
def moments(items: list[NDArray[Any]], name: str = "feature", constant: float = 1.0) -> Moments:
    """Compute the mean and standard deviation of each feature over all steps.

    The deviation of a feature that is almost constant is replaced by `constant`. Raises ArgumentError, which
    calls a feature `name`, for numbers that float32 cannot hold, or hardly.
    """
    steps = np.vstack(items).astype(np.float64)
    mean, deviation = steps.mean(axis=0), steps.std(axis=0)
    is_constant = deviation <= CONSTANT * np.abs(mean)
    fits = is_constant | (deviation >= SMALLEST) & (deviation <= LARGEST)
    fits &= np.abs(mean) <= LARGEST
    for k in np.flatnonzero(~fits & np.isfinite(steps).all(axis=0)).tolist():
        raise ArgumentError(
            f"{name} {k}, counted from 0, has mean {mean[k]:.3g} and standard deviation {deviation[k]:.3g}; "
            f"expected a deviation from {SMALLEST:g} to {LARGEST:g}, and a mean of at most that: scale it"
        )
    return mean, np.where(is_constant, constant, deviation)


@np.errstate(all="ignore")  # as above
def standardized(items: list[NDArray[Any]], mean: Array, deviation: Array) -> list[NDArray[Any]]:
    """Return (x - mean) / deviation of each sequence as float32."""
    return [((item - mean) / deviation).astype(np.float32) for item in items]


def fold(model: Sequential, mean: Array, deviation: Array) -> None:
    """Fold the standardization of the inputs into the first layer, which must be recurrent with biases.

        W ((x - mean) / deviation) + b = (W / deviation) x + (b - (W / deviation) mean)

    Raises ArgumentError for another first layer.
    """
    first: Any = model[0]
    if not isinstance(first, Recurrent) or not first.bias:
        raise ArgumentError(f"the first layer is {first!r}, expected a recurrent layer with bias=True")
    weights = first.state_dict()
    for suffix in ("_l0", "_l0_reverse")[: 1 + first.bidirectional]:
        W, b = f"weight_ih{suffix}", f"bias_ih{suffix}"
        folded = weights[W] / deviation
        weights[b], weights[W] = weights[b] - (folded * mean).sum(axis=1), folded
    first.load_state_dict(weights)
