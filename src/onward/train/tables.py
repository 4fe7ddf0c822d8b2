"""Training on tables of sequences: standardised, noisy; standardisation goes into the weights in the end."""

from __future__ import annotations  # np.random is slow to import

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Array
from ..base import integer
from ..data import Sequences
from ..dense import Dropout, Last, Linear
from ..errors import ArgumentError
from ..layers import LSTM
from ..model import Sequential
from ..recurrent import Recurrent
from .batches import Batch, Batches
from .evaluation import Score, evaluate
from .fit import fit
from .history import History
from .losses import cross_entropy, mse
from .optimizers import AdamW
from .schedules import OneCycleLR

HIDDEN = 32
LEARNING_RATE = 1e-2
MAX_NORM = 1.0
AVERAGE = 0.99
LABEL_SMOOTHING = 0.02
DROPOUT, NOISE, OFFSET = 0.5, 0.3, 0.1  # where classes are told: few sequences, easily learnt by heart
HELD = 5  # one sequence of so many is held out
READ = 50_000  # sequences, over all epochs


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
    N = len(sequences.items)
    if N < HELD:
        raise ArgumentError(f"the table has {N} sequences, but needs {HELD}: one in {HELD} is held out")
    order = rng.permutation(N)
    held, learnt = sequences.chosen(order[: N // HELD]), sequences.chosen(order[N // HELD :])
    goals = _goals(learnt)
    classes = sequences.labels is not None
    mean, deviation = moments(learnt.items)
    center, scale = (0.0, 1.0) if classes else moments(goals)
    outputs = int(_goals(sequences).max()) + 1 if classes else goals[0].shape[-1]
    lstm = LSTM(len(mean), hidden_size, num_layers, rng=rng)
    last = [] if isinstance(goals, list) else [Last()]
    linear = Linear(hidden_size, outputs, rng=rng)
    training, validation = (
        Noisy(
            standardized(part.items, mean, deviation),
            _goals(part) if classes else _scaled(_goals(part), center, scale),
            noise=NOISE if classes else 0.0,
            offset=OFFSET if classes else 0.0,
        )
        for part in (learnt, held)
    )
    history = fit(
        Sequential(lstm, *last, Dropout(DROPOUT if classes else 0.0), linear),
        training,
        loss=partial(cross_entropy, label_smoothing=LABEL_SMOOTHING) if classes else mse,
        optimizer=AdamW(LEARNING_RATE),
        schedule=OneCycleLR(),
        epochs=min(200, max(20, READ // N)) if epochs is None else integer("epochs", epochs, 1),
        validation=validation,
        max_norm=MAX_NORM,
        average=AVERAGE,
        rng=rng,
        checkpoint=checkpoint,
        resume=resume,
    )
    model = Sequential(lstm, *last, linear)  # dropout has done its work
    fold(model, mean, deviation)
    if not classes:
        W, b = linear.state_dict().values()
        linear.load_state_dict({"weight": W * np.reshape(scale, (-1, 1)), "bias": b * scale + center})
    return model, history, score_table(model, held)


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


def _scaled(goals: Any, center: Any, scale: Any) -> Any:
    """Targets in standard deviations from their mean."""
    if isinstance(goals, list):
        return standardized(goals, center, scale)
    return standardized([goals], center, scale)[0]


@np.errstate(all="ignore")  # what is not finite is found by fit, and told
def moments(items: list[NDArray[Any]]) -> tuple[Array, Array]:
    """Mean and standard deviation of each feature over all steps; 1 for one that never changes."""
    steps = np.vstack(items).astype(np.float64)
    deviation = steps.std(axis=0)
    return steps.mean(axis=0), np.where(deviation > 0, deviation, 1)


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
        weights[b], weights[W] = weights[b] - folded @ mean, folded
    first.load_state_dict(weights)
