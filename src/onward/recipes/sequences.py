"""Training on tables of sequences: standardised, noisy; standardisation goes into the weights in the end."""

from __future__ import annotations  # np.random is slow to import

import os
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.arrays import Array
from ..core.checks import integer
from ..errors import ArgumentError
from ..layers.linear import Dropout, Last, Linear
from ..layers.recurrent import Recurrent
from ..layers.rnn import LSTM
from ..layers.sequential import Sequential
from ..tables.data import Sequences
from ..train.batches import Batch, Batches
from ..train.evaluation import Score, evaluate
from ..train.fit import fit
from ..train.history import History
from ..train.losses import cross_entropy, mse
from ..train.optimizers import AdamW
from ..train.schedules import OneCycleLR

HIDDEN = 32
LEARNING_RATE = 1e-2
MAX_NORM = 1.0
AVERAGE = 0.99
LABEL_SMOOTHING = 0.02
DROPOUT, NOISE, OFFSET = 0.5, 0.3, 0.1  # where classes are told: few sequences, easily learnt by heart
HELD = 5  # one sequence of so many is held out
READ = 50_000  # sequences, over all epochs


class Moments(NamedTuple):
    """Mean and standard deviation of each feature; 1 for one that never changes."""

    mean: Array
    deviation: Array


class Noisy(Batches):
    """Batches of standardised sequences with normal noise on them, fresh in every epoch.

    noise: its standard deviation in each step; offset: that of what is added to all steps of a sequence.
    Without a generator, as for evaluation, there is none. Source: Bishop, Training with noise is equivalent
    to Tikhonov regularization, 1995.
    """

    def __init__(
        self,
        x: ArrayLike | list[Any],
        y: ArrayLike | list[Any],
        batch_size: int | None = None,
        *,
        noise: float,
        offset: float,
    ) -> None:
        super().__init__(x, y, batch_size=batch_size)
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


def fit_table(
    sequences: Sequences,
    *,
    hidden_size: int = HIDDEN,
    num_layers: int = 1,
    epochs: int | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> tuple[Sequential, History, Score]:
    """A model that tells the classes or the targets of sequences, how it was trained, and its held-out score.

    LSTM, Last unless there is a target for each step, Linear. AdamW with a one-cycle learning rate, averaged
    weights, the best epoch by a fifth of the sequences, held out; for classes also noise, dropout and label
    smoothing. epochs: if None, so many that 50,000 sequences are read, but 20 to 200. Raises ArgumentError,
    and what `fit` raises.
    """
    rng = np.random.default_rng(seed)
    learnt, held = _parts(sequences, rng)
    classes = sequences.labels is not None
    goals = _goals(learnt)
    of_x, of_goals = moments(learnt.items), None if classes else moments(goals)
    outputs = int(_goals(sequences).max()) + 1 if classes else goals[0].shape[-1]
    lstm = LSTM(len(of_x.mean), hidden_size, num_layers, rng=rng)
    last = [] if isinstance(goals, list) else [Last()]
    linear = Linear(hidden_size, outputs, rng=rng)
    N = len(sequences.items)
    history = fit(
        Sequential(lstm, *last, Dropout(DROPOUT if classes else 0.0), linear),
        _standardized_batches(learnt, of_x, of_goals),
        loss=partial(cross_entropy, label_smoothing=LABEL_SMOOTHING) if classes else mse,
        optimizer=AdamW(LEARNING_RATE),
        schedule=OneCycleLR(cycle_momentum=False),
        epochs=min(200, max(20, READ // N)) if epochs is None else integer("epochs", epochs, 1),
        validation=_standardized_batches(held, of_x, of_goals),
        max_norm=MAX_NORM,
        average=AVERAGE,
        rng=rng,
        checkpoint=checkpoint,
        resume=resume,
    )
    model = Sequential(lstm, *last, linear)  # dropout has done its work
    fold(model, *of_x)
    if of_goals is not None:
        _unscale(linear, *of_goals)
    return model, history, score_table(model, held)


def _parts(sequences: Sequences, rng: np.random.Generator) -> tuple[Sequences, Sequences]:
    """What is learnt, and what is held out. Raises ArgumentError."""
    N = len(sequences.items)
    if N < HELD:
        raise ArgumentError(f"the table has {N} sequences, but needs {HELD}: one in {HELD} is held out")
    order = rng.permutation(N)
    return sequences.chosen(order[N // HELD :]), sequences.chosen(order[: N // HELD])


def _standardized_batches(part: Sequences, of_x: Moments, of_goals: Moments | None) -> Noisy:
    """Sequences and what is to be told of them, standardised; but classes as they are, of noisy sequences."""
    items, goals = standardized(part.items, *of_x), _goals(part)
    if of_goals is None:
        return Noisy(items, goals, noise=NOISE, offset=OFFSET)
    return Noisy(items, _scaled(goals, *of_goals), noise=0.0, offset=0.0)


def _unscale(linear: Linear, mean: Array, deviation: Array) -> None:
    """Lets a layer that tells targets in standard deviations from their mean tell them as they are."""
    W, b = linear.state_dict().values()
    linear.load_state_dict({"weight": W * deviation[:, None], "bias": b * deviation + mean})


def score_table(model: Sequential, sequences: Sequences) -> Score:
    """The cross entropy of the classes, and how many are right, or the mean square error of the targets."""
    goals = _goals(sequences)
    items = [item.astype(np.float32) for item in sequences.items]
    return evaluate(model, Batches(items, goals), "mse" if sequences.labels is None else "cross_entropy")


def _goals(sequences: Sequences) -> Any:
    """What is to be told: classes (S,), numbers (S, O), or a list of (T, O). Raises ArgumentError."""
    if sequences.labels is not None:
        if sequences.labels.min() < 0:
            raise ArgumentError(f"a class is {sequences.labels.min()}, but classes are numbered from 0")
        return sequences.labels
    if sequences.targets is None:
        raise ArgumentError(
            "the table says neither classes (y of an .npz, column label of a .csv) nor targets (targets of "
            "an .npz, columns of a .csv that begin with target)"
        )
    return sequences.targets


def _scaled(goals: Any, mean: Array, deviation: Array) -> Any:
    """Targets in standard deviations from their mean."""
    if isinstance(goals, list):
        return standardized(goals, mean, deviation)
    return standardized([goals], mean, deviation)[0]


@np.errstate(all="ignore")  # what is not finite is found by fit, and told
def moments(items: list[NDArray[Any]]) -> Moments:
    """Of each feature over all steps."""
    steps = np.vstack(items).astype(np.float64)
    deviation = steps.std(axis=0)
    return Moments(steps.mean(axis=0), np.where(deviation > 0, deviation, 1))


@np.errstate(all="ignore")  # as above
def standardized(items: list[NDArray[Any]], mean: Array, deviation: Array) -> list[NDArray[Any]]:
    """Sequences in standard deviations from the mean, as float32."""
    return [((item - mean) / deviation).astype(np.float32) for item in items]


def fold(model: Sequential, mean: Array, deviation: Array) -> None:
    """Lets a model of standardised sequences take them as they are.

    W ((x - mean) / deviation) + b = (W / deviation) x + (b - (W / deviation) mean), in the first layer, which
    must be recurrent and have biases. Raises ArgumentError.
    """
    first = model[0]
    if not isinstance(first, Recurrent) or not first.bias:
        raise ArgumentError(
            f"{first!r} is no recurrent layer with biases, which could take a standardisation in"
        )
    weights = first.state_dict()
    for suffix in ("_l0", "_l0_reverse")[: 1 + first.bidirectional]:
        W, b = f"weight_ih{suffix}", f"bias_ih{suffix}"
        folded = weights[W] / deviation
        weights[b], weights[W] = weights[b] - (folded * mean).sum(axis=1), folded
    first.load_state_dict(weights)
