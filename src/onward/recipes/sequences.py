"""Train a model on labeled sequences: standardize the inputs, add noise and keep the best epoch."""

from __future__ import annotations  # np.random is slow to import

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..core.arrays import Array
from ..core.checks import integer
from ..errors import ArgumentError
from ..layers import GRU, LSTM, RNN, Dropout, Last, Linear, Sequential
from ..layers.base import Layer
from ..tables.data import Sequences
from ..train import AdamW, Batch, Batches, History, OneCycleLR, Score, cross_entropy, evaluate, fit, mse
from ..train.losses import Loss

CELLS: dict[str, Any] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
HIDDEN = 32
LEARNING_RATE = 1e-2
MAX_NORM = 1.0
AVERAGE = 0.99
LABEL_SMOOTHING = 0.02
DROPOUT, NOISE, OFFSET = 0.5, 0.3, 0.1  # for classifiers only, which otherwise memorize a small data set
HELD_OUT = 5  # by default, one sequence in five is held out
READ = 50_000  # sequences read over all epochs
Moments: TypeAlias = tuple[Array, Array]  # the mean and standard deviation of each feature


class Examples(NamedTuple):
    """Sequences (T, F) and their targets: classes (N,), numbers (N, O), or a list of (T, O) for each step."""

    items: list[NDArray[Any]]
    targets: Any

    def take(self, rows: NDArray[np.int64]) -> Examples:
        """Return the examples with these numbers."""
        targets = self.targets
        chosen = [targets[row] for row in rows] if isinstance(targets, list) else targets[rows]
        return Examples([self.items[row] for row in rows], chosen)


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
                batch = batch._replace(x=batch.x + noise)
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
    x_moments = moments(training.items)
    y_moments = moments(_rows(training.targets)) if is_regressor else None
    layers = recurrent_layers(len(x_moments[0]), cell, hidden_size, num_layers, bidirectional, rng)
    if not isinstance(training.targets, list):
        layers.append(Last())
    linear = Linear(hidden_size, num_classes or _rows(training.targets)[0].shape[-1], rng=rng)
    batches = _standardized_batches(training, x_moments, y_moments)
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
        validation=_standardized_batches(validation, x_moments, y_moments) if validation else None,
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
) -> list[Layer]:
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
) -> tuple[Sequential, History, Score]:
    """Train an LSTM on a table of sequences; return it, its history and its score on held-out sequences.

    `fit_sequences` describes the training and its options. Raises ArgumentError and the errors of `fit`.
    """
    sequences = sequences.with_class_names()
    N = len(sequences.items)
    if N < HELD_OUT:
        raise ArgumentError(
            f"the table has {N} sequences, expected at least {HELD_OUT}: add some, because one in {HELD_OUT} "
            "is held out"
        )
    rng, examples = np.random.default_rng(seed), _examples(sequences)
    training, validation = split(examples, max(1, int(hold_out * N)), rng)
    num_classes = None if sequences.labels is None else len(sequences.classes)
    model, history = fit_sequences(training, validation, num_classes, rng=rng, **options)
    return model, history, _score(model, validation, sequences.labels is not None)


def score_table(model: Sequential, sequences: Sequences, loss: str | Loss | None = None) -> Score:
    """Compute a loss of `onward.train` and, for classes, the accuracy.

    The loss is by default the mean squared error for numbers, and for classes that of `evaluate`.
    """
    return _score(model, _examples(sequences), sequences.labels is not None, loss)


def _score(model: Sequential, examples: Examples, of_classes: bool, loss: str | Loss | None = None) -> Score:
    items = [item.astype(np.float32) for item in examples.items]
    batches = Batches(items, examples.targets, batch_first=model.batch_first)
    return evaluate(model, batches, loss or (None if of_classes else "mse"))


def _examples(sequences: Sequences) -> Examples:
    """The sequences of a table with their classes or targets. Raises ArgumentError."""
    if sequences.labels is not None:
        return Examples(sequences.items, sequences.labels)
    if sequences.targets is None:
        raise ArgumentError(
            "the table has neither classes nor targets: save them as `y` in an .npz file, or name the column "
            "of a .csv file with --target"
        )
    return Examples(sequences.items, sequences.targets)


def _standardized_batches(examples: Examples, x_moments: Moments, y_moments: Moments | None) -> Noisy:
    """Batches of standardized sequences, noisy for classes; numbers as targets are standardized too."""
    items, targets = standardized(examples.items, *x_moments), examples.targets
    if y_moments is None:
        return Noisy(items, targets, noise=NOISE, offset=OFFSET)
    scaled = standardized(_rows(targets), *y_moments)
    return Noisy(items, scaled if isinstance(targets, list) else scaled[0], noise=0.0, offset=0.0)


def _rows(targets: Any) -> list[NDArray[Any]]:
    """Targets as a list of arrays (..., O)."""
    return targets if isinstance(targets, list) else [targets]


@np.errstate(all="ignore")  # `fit` finds and reports values that are not finite
def moments(items: list[NDArray[Any]]) -> Moments:
    """Compute the mean and standard deviation, or 1 if that is 0, of each feature over all steps."""
    steps = np.vstack(items).astype(np.float64)
    deviation = steps.std(axis=0)
    return steps.mean(axis=0), np.where(deviation > 0, deviation, 1)


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
    if not first.state_names or not first.bias:
        raise ArgumentError(f"the first layer is {first!r}, expected a recurrent layer with bias=True")
    weights = first.state_dict()
    for suffix in ("_l0", "_l0_reverse")[: 1 + first.bidirectional]:
        W, b = f"weight_ih{suffix}", f"bias_ih{suffix}"
        folded = weights[W] / deviation
        weights[b], weights[W] = weights[b] - (folded * mean).sum(axis=1), folded
    first.load_state_dict(weights)
