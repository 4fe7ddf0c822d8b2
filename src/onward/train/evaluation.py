"""Evaluation: the mean loss and the accuracy of a model on data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.arrays import Array
from ..core.checks import instance
from ..errors import ArgumentError
from ..layers.base import Layer, call
from .batches import Batch, Data, as_data
from .losses import Loss, as_loss, counted_rows


class Score(NamedTuple):
    """The mean loss over all selected rows and, if the targets are classes, the accuracy.

    >>> Score(loss=0.1, accuracy=0.95).accuracy
    0.95
    """

    loss: float
    accuracy: float | None


def evaluate(model: Layer, data: Any, loss: str | Loss = "cross_entropy") -> Score:
    """Return the score of a model on data of any kind that `fit` accepts, with dropout disabled.

    Raises ArgumentError if the data is empty, and the errors of the model and the loss.

    >>> import numpy as np
    >>> from onward import LSTM, Last, Linear, Sequential
    >>> model = Sequential(LSTM(2, 8, rng=0), Last(), Linear(8, 3, rng=0))
    >>> score = evaluate(model, (np.zeros((5, 4, 2)), [0, 1, 2, 0]))
    >>> type(score).__name__, 0 <= score.accuracy <= 1
    ('Score', True)
    """
    return score(model, as_data(data, as_model(model)), as_loss(loss))


def as_model(model: Any) -> Layer:
    """Return `model` if it is a layer or a model. Raises ArgumentError."""
    return instance("model", model, Layer, "a layer or a model of onward, such as Sequential(...)")


def score(model: Layer, data: Data, loss: Loss) -> Score:
    total, count, correct, are_classes = 0.0, 0, 0, True
    state: Any = None
    for batch in data.epoch(None):
        y, state = model._run(batch.x, initial_state(model, batch, state), batch.lengths, call)
        mask = valid_rows(model, batch, y)
        value, _ = loss(y, batch.targets, mask)
        mask = counted_rows(loss, batch.targets, mask)
        total += float(value) * int(mask.sum())
        count += int(mask.sum())
        classes = np.asarray(batch.targets)
        are_classes = are_classes and classes.dtype.kind in "iu" and classes.shape == mask.shape
        if are_classes:
            correct += int(((y.argmax(axis=-1) == classes) & mask).sum())
    if not count:
        raise ArgumentError("the evaluation data is empty: it has no valid steps")
    return Score(total / count, correct / count if are_classes else None)


def valid_rows(model: Layer, batch: Batch, y: Array) -> NDArray[np.bool_]:
    """Return a mask of the rows of y, (T, B, O) or (B, O), within the length of each sequence."""
    mask = np.ones(y.shape[:-1], np.bool_)
    if batch.lengths is not None and y.ndim == 3:
        steps = mask.swapaxes(0, 1) if model.batch_first else mask
        steps &= np.arange(len(steps))[:, None] < np.asarray(batch.lengths)
    return mask


def initial_state(model: Layer, batch: Batch, state: Any) -> Any:
    """Return the initial state of a batch, given the final state of the previous batch."""
    if not batch.goes_on:
        return None
    for leaf in model.sublayers().values():
        if not leaf.causal:
            raise ArgumentError(
                f"{leaf!r} needs the whole sequence, as a reverse direction does, but the data come in chunks"
            )
    return state
