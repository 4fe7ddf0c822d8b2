"""How good a model is on data: its loss, and how many of its classes are right."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.arrays import Array
from ..core.checks import instance
from ..errors import ArgumentError
from ..layers.base import Layer, call
from .batches import Batch, Data, as_data
from .losses import Loss, named, not_ignored


class Score(NamedTuple):
    """The mean loss over all rows that count and, where targets are classes, the share that are right."""

    loss: float
    accuracy: float | None


def evaluate(model: Layer, data: Any, loss: str | Loss = "cross_entropy") -> Score:
    """The score of a model on data of any kind that `fit` takes, without dropout.

    Raises ArgumentError for empty data, and what the model and the loss raise.
    """
    return score(model, as_data(data, as_model(model).batch_first), named(loss))


def as_model(model: Any) -> Layer:
    """What `fit` and `evaluate` take as a model. Raises ArgumentError."""
    return instance("model", model, Layer, "a layer or a model of onward, such as Sequential(...)")


def score(model: Layer, data: Data, loss: Loss) -> Score:
    total, counted, right, of_classes = 0.0, 0, 0, True
    state: Any = None
    for batch in data.epoch(None):
        y, state = model._run(batch.x, carried(model, batch, state), batch.lengths, call)
        mask = counting(model, batch, y)
        value, _ = loss(y, batch.targets, mask)
        mask = not_ignored(loss, batch.targets, mask)
        total += float(value) * int(mask.sum())
        counted += int(mask.sum())
        classes = np.asarray(batch.targets)
        of_classes = of_classes and classes.dtype.kind in "iu" and classes.shape == mask.shape
        if of_classes:
            right += int(((y.argmax(axis=-1) == classes) & mask).sum())
    if not counted:
        raise ArgumentError("the data to evaluate on is empty: it has no step that counts")
    return Score(total / counted, right / counted if of_classes else None)


def counting(model: Layer, batch: Batch, y: Array) -> NDArray[np.bool_]:
    """Which rows of y, (T, B, O) or (B, O), count: all but what lies past a length."""
    mask = np.ones(y.shape[:-1], np.bool_)
    if batch.lengths is not None and y.ndim == 3:
        steps = mask.swapaxes(0, 1) if model.batch_first else mask
        steps &= np.arange(len(steps))[:, None] < np.asarray(batch.lengths)
    return mask


def carried(model: Layer, batch: Batch, state: Any) -> Any:
    """The state that a batch begins with, of that in which the one before it ended."""
    if not batch.goes_on:
        return None
    for leaf in model.sublayers().values():
        if not leaf.causal:
            raise ArgumentError(
                f"{leaf!r} needs the whole sequence, as a reverse direction does, but the data come in chunks"
            )
    return state
