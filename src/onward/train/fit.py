"""The training loop: forward, loss, backward, clip, step; after each epoch, evaluation and a checkpoint."""

from __future__ import annotations  # np.random is slow to import

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.arrays import Array
from ..core.checks import Rng, flag, generator, instance, integer, non_negative, probability
from ..errors import ArgumentError, NotFiniteError, ShapeError
from ..layers.activation import dropout_mask
from ..layers.base_model import BaseModel, call
from ..model import Model
from . import checkpoint as checkpoints
from .batches import Batch, Data, as_data, rows_first
from .checkpoint import Run
from .history import Epoch, History, Reporter, reporter
from .losses import Loss, as_loss, counted_rows, describe, label, predicted_classes, weighted
from .optimizers import (
    OPTIMIZER,
    Adam,
    Optimizer,
    clip_norm,
    clip_value,
    replaced,
    summed,
    trained,
)  # fmt: skip
from .origin import origin
from .schedules import SCHEDULE, Constant, Progress


def fit(
    model: BaseModel,
    data: Any,
    *,
    loss: str | Loss | None = None,
    optimizer: Optimizer | None = None,
    schedule: Constant | None = None,
    epochs: int = 10,
    validation: Any = None,
    patience: int | None = None,
    max_norm: float | None = None,
    max_value: float | None = None,
    average: float | None = None,
    recurrent_dropout: float = 0.0,
    rng: Rng = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """Train a model in place and return the history of the training.

    data: arrays (x, y) or (x, y, lengths); `Batches` of sequences; `Chunks` of one long sequence; or an
    iterable of (x, targets[, lengths]) that starts again for each epoch. validation: the same kinds, to
    compute the loss after each epoch and restore the best weights at the end; with `patience`, training stops
    after that many epochs without improvement. loss: a name or a function of `onward.train`; None:
    cross_entropy, or bce if the model ends in a sigmoid. A name takes the outputs of a model that ends in a
    softmax or a sigmoid as probabilities.
    optimizer: Adam(1e-3) if None. max_value, max_norm: clip the gradients by value, then by
    global norm. average=a: validate and return an exponential moving average of the weights, with decay a.
    recurrent_dropout: drop units of h_{t-1} before its product with R, the same for all steps (Gal and
    Ghahramani 2016). rng: a generator or a seed. checkpoint: a file, written after each epoch and every
    checkpoint_every steps; resume=True continues from it with the same bits, with the same other arguments
    (`epochs` may grow, unless the schedule spans the run, and `patience` may change). progress: show a bar.

    Raises ArgumentError, ShapeError, DtypeError; NotFiniteError, which names the layer, the step and the row;
    FileError for a checkpoint that cannot be written, or of another training.

    >>> from onward import LSTM, Last, Linear, Sequential
    >>> x = np.random.default_rng(0).normal(size=(9, 40, 2))
    >>> model = Sequential(LSTM(2, 8, rng=0), Last(), Linear(8, 2, rng=0))
    >>> history = fit(model, (x, (x[0, :, 0] > 0).astype(int)), epochs=2, rng=0, progress=False)
    >>> len(history.losses), history.epochs[-1].step
    (4, 4)
    """
    training = Training(
        model, data, validation, loss, optimizer, schedule, epochs, patience, max_norm, max_value, average,
        recurrent_dropout, checkpoint, checkpoint_every,
    )  # fmt: skip
    run = training.begin(rng, flag("resume", resume))
    try:
        with reporter(training.total, progress) as report:
            training.run(run, report)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(_how_to_resume(run, checkpoint))
        raise
    return run.history


@dataclass
class Training:
    """Everything that stays constant while a model is trained, checked: the arguments of `fit`."""

    model: BaseModel
    data: Any
    validation: Any
    loss: Any
    optimizer: Any
    schedule: Any
    epochs: int
    patience: int | None
    max_norm: float | None
    max_value: float | None
    average: float | None
    recurrent_dropout: float
    checkpoint: str | os.PathLike[str] | None
    checkpoint_every: int | None

    def __post_init__(self) -> None:
        model = as_model(self.model)
        if not isinstance(self.checkpoint, str | os.PathLike | None):
            raise ArgumentError(f"checkpoint={self.checkpoint!r}, but must be the path of a file")
        self.data: Data = as_data(self.data, model)
        self.validation: Data | None = None if self.validation is None else as_data(self.validation, model)
        self.loss: Loss = as_loss(self.loss, model)
        self.optimizer = instance(
            "optimizer", Adam(1e-3) if self.optimizer is None else self.optimizer, Optimizer, OPTIMIZER
        )
        self.schedule = instance(
            "schedule", Constant() if self.schedule is None else self.schedule, Constant, SCHEDULE
        )
        self.epochs = integer("epochs", self.epochs, 0)
        for name in ("patience", "checkpoint_every"):
            if (count := getattr(self, name)) is not None:
                setattr(self, name, integer(name, count, 1))
        for name in ("max_norm", "max_value"):
            if (bound := getattr(self, name)) is not None:
                setattr(self, name, non_negative(name, bound))
        if self.average is not None:
            self.average = probability("average", self.average)
        self.recurrent_dropout = probability("recurrent_dropout", self.recurrent_dropout)
        if self.recurrent_dropout and isinstance(model, Model):
            raise ArgumentError(
                f"recurrent_dropout={self.recurrent_dropout} acts in layers, and {model!r} is a whole model: "
                "use model.layers(), or leave it out"
            )
        if self.patience is not None and self.validation is None:
            raise ArgumentError(
                f"patience={self.patience} needs validation data, to tell which epochs are better"
            )

    @property
    def total(self) -> int | None:
        """The total number of steps, or None if the size of the data is unknown."""
        return None if self.data.size is None else self.epochs * self.data.size

    def begin(self, rng: Rng, resume: bool) -> Run:
        """Return a new run, or the run in the checkpoint."""
        weights = trained(self.model)
        run = Run(generator(rng), self.optimizer.start(weights), History(loss=label(self.loss)))
        if self.average is not None:
            run.average = weights
        if not resume:
            return run
        if self.checkpoint is None:
            raise ArgumentError("resume=True needs a checkpoint to continue from")
        if not os.path.exists(self.checkpoint):
            return run
        return checkpoints.read(self.checkpoint, self.model, run, self.settings, self.epochs)

    def run(self, run: Run, report: Reporter) -> None:
        """Train until the last epoch, then set the model's weights to the best or the averaged weights."""
        with np.errstate(all="ignore"):  # _step detects and reports NaN and infinities
            while (done := len(run.history.epochs)) < self.epochs:
                best = run.history.best
                if self.patience is not None and best is not None and done - 1 - best >= self.patience:
                    break
                self._epoch(run, report)
        self.model.take_weights(run.best or run.average or {})

    def _epoch(self, run: Run, report: Reporter) -> None:
        number = len(run.history.epochs) + 1
        for batch in self._batches(run):
            self._step(run, batch)
            report.step(run.memory.step, number, run.total / (run.count or 1))
            if self.checkpoint_every and run.memory.step % self.checkpoint_every == 0:
                self._save(run)
        if run.batch == 0:
            raise ArgumentError(
                f"the data yielded no batch in epoch {number}: it is empty, or an iterator, which can be "
                "read only once; pass a list instead"
            )
        history = run.history
        validated = () if self.validation is None else self._validated(run, self.validation)
        mean = run.total / (run.count or 1)
        history.epochs.append(Epoch(run.memory.step, history.rates[-1], mean, *validated))
        if history.best == number - 1:
            run.best = run.average or trained(self.model)
        run.batch, run.total, run.count, run.state = 0, 0.0, 0.0, None
        self._save(run)
        report.epoch(number, history.epochs[-1])

    def _batches(self, run: Run) -> Iterator[Batch]:
        """Return the remaining batches of the epoch, in the order drawn from `rng` at its start."""
        now = run.rng.bit_generator.state
        if run.batch == 0:
            run.epoch_rng = now
        run.rng.bit_generator.state = run.epoch_rng
        batches: Iterator[Batch] = self.data.epoch(run.rng)
        if run.batch:
            next(islice(batches, run.batch - 1, None), None)
            run.rng.bit_generator.state = now
        return batches

    def _step(self, run: Run, batch: Batch) -> None:
        model, step, history = self.model, run.memory.step, run.history
        state = initial_state(model, batch, run.state)
        weights, p = trained(model), self.recurrent_dropout
        recurrent = {name: R for name, R in weights.items() if p and "weight_hh" in name}
        masks = {name: dropout_mask(run.rng, p, R.shape[1:], R.dtype) for name, R in recurrent.items()}
        # apply the masks to a copy of the model, so that an interrupt cannot leave them in the original
        dropped: dict[str, Array] = {name: weights[name] * mask for name, mask in masks.items()}
        masked = replaced(model, dropped) if dropped else model
        y, next_state, cache = masked.forward(batch.x, state, lengths=batch.lengths, rng=run.rng)
        rows = valid_rows(model, batch, y)
        loss, dy, count = weighted(self.loss, y, batch.targets, rows, row_weights(model, batch, rows))
        _, _, by_name = masked.backward(dy, None, cache)
        gradients = summed(model, by_name)
        gradients |= {name: gradients[name] * mask for name, mask in masks.items()}
        if not math.isfinite(loss) or not all(np.isfinite(g).all() for g in gradients.values()):
            what = f"the loss is {loss}" if not math.isfinite(loss) else "a gradient is not finite"
            where = f"at step {step} (epoch {len(history.epochs) + 1}, batch {run.batch}, counted from 0)"
            raise NotFiniteError(f"{what} {where}: it arose {origin(model, batch, state, gradients)}")
        if self.max_value is not None:
            gradients = clip_value(gradients, self.max_value)
        if self.max_norm is not None:
            gradients = clip_norm(gradients, self.max_norm)
        progress = Progress(step, self.total if self.schedule.spans_run else None, history.validation_losses)
        rate = non_negative("the schedule's lr", self.schedule.lr(self.optimizer.lr, progress))
        momentum = self.schedule.momentum(progress)
        optimizer = self.optimizer if momentum is None else self.optimizer.with_momentum(momentum)
        weights, run.memory = optimizer.step(weights, gradients, run.memory, rate)
        model.take_weights(weights)
        if run.average is not None and self.average is not None:
            share = 1 - self.average
            run.average = {name: a + share * (weights[name] - a) for name, a in run.average.items()}
        run.state = next_state
        history.losses.append(loss)
        history.rates.append(rate)
        run.batch += 1
        run.total += loss * count
        run.count += count

    def _validated(self, run: Run, validation: Data) -> Score:
        """Return the score of the current weights, or of their average."""
        model = replaced(self.model, run.average) if run.average else self.model
        found = score(model, validation, self.loss)
        if not math.isfinite(found.loss):
            results = evaluations(model, validation, self.loss)
            places = (
                origin(model, each.batch, each.state, {}) for each in results if not math.isfinite(each.loss)
            )
            raise NotFiniteError(
                f"the loss of the validation data is {found.loss} after epoch {len(run.history.epochs) + 1}: "
                f"it arose {next(places, 'in the sum over all batches')}"
            )
        return found

    def _save(self, run: Run) -> None:
        if self.checkpoint is not None:
            checkpoints.write(self.checkpoint, self.model, run, self.settings)
            run.saved = True

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that must be the same when training resumes, as read back from JSON."""
        settings = {
            "model": self.model.description(),
            "loss": describe(self.loss),
            "optimizer": repr(self.optimizer),
            "schedule": repr(self.schedule),
            "max_norm": self.max_norm,
            "max_value": self.max_value,
            "average": self.average,
            "recurrent_dropout": self.recurrent_dropout,
            **self.data.settings(),
            "validation": None if self.validation is None else self.validation.settings(),
            "number of epochs": self.epochs if self.schedule.spans_run else None,
        }
        return json.loads(json.dumps(settings))  # type: ignore[no-any-return]  # json.loads returns Any


class Score(NamedTuple):
    """The mean loss over all selected rows and, if the targets are classes, the accuracy.

    >>> Score(loss=0.1, accuracy=0.95).accuracy
    0.95
    """

    loss: float
    accuracy: float | None


def evaluate(model: BaseModel, data: Any, loss: str | Loss | None = None) -> Score:
    """Return the score of a model on data of any kind that `fit` accepts, with dropout disabled.

    The loss is that of `fit`.

    Raises ArgumentError if the data is empty, and the errors of the model and the loss.

    >>> import numpy as np
    >>> from onward import LSTM, Last, Linear, Sequential
    >>> model = Sequential(LSTM(2, 8, rng=0), Last(), Linear(8, 3, rng=0))
    >>> score = evaluate(model, (np.zeros((5, 4, 2)), [0, 1, 2, 0]))
    >>> type(score).__name__, 0 <= score.accuracy <= 1
    ('Score', True)
    """
    return score(model, as_data(data, as_model(model)), as_loss(loss, model))


def as_model(model: Any) -> BaseModel:
    """Return `model` if it is a layer or a model. Raises ArgumentError."""
    return instance("model", model, BaseModel, "a layer or a model of onward, such as Sequential(...)")


class Evaluation(NamedTuple):
    """The outputs of a batch, their valid rows, and the mean loss with the sum of its weights."""

    batch: Batch
    state: Any  # the initial one
    y: Array
    mask: NDArray[np.bool_]
    loss: float
    weight: float


def evaluations(model: BaseModel, data: Data, loss: Loss) -> Iterator[Evaluation]:
    """Evaluate a model on each batch."""
    state: Any = None
    for batch in data.epoch(None):
        first = initial_state(model, batch, state)
        y, state = model.run(batch.x, first, _lengths(model, batch), call)
        mask = valid_rows(model, batch, y)
        value, _, weight = weighted(loss, y, batch.targets, mask, row_weights(model, batch, mask))
        yield Evaluation(batch, first, y, mask, value, weight)


@np.errstate(all="ignore")  # the loss may be infinite
def score(model: BaseModel, data: Data, loss: Loss) -> Score:
    total, weights, count, correct, are_classes = 0.0, 0.0, 0, 0, True
    for batch, _, y, mask, value, weight in evaluations(model, data, loss):
        mask = counted_rows(loss, batch.targets, mask)
        total, weights, count = total + value * weight, weights + weight, count + int(mask.sum())
        classes, predicted = np.asarray(batch.targets), predicted_classes(loss, y)
        if y.shape[-1] == 1 and classes.shape == y.shape:
            classes = classes[..., 0]
        are_classes = are_classes and classes.dtype.kind in "iu" and classes.shape == mask.shape
        are_classes = are_classes and predicted is not None
        if are_classes:
            correct += int(((predicted == classes) & mask).sum())
    if not weights:
        raise ArgumentError("the evaluation data is empty: it has no valid steps, or their weights are 0")
    return Score(total / weights, correct / count if are_classes else None)


def _lengths(model: BaseModel, batch: Batch) -> NDArray[np.int64] | None:
    """Return the lengths of the sequences of a batch, or None if all have every step."""
    if batch.lengths is None:
        return None
    steps, lengths = np.shape(batch.x)[1 if rows_first(model) else 0], np.asarray(batch.lengths)
    return None if (lengths == steps).all() else lengths


def valid_rows(model: BaseModel, batch: Batch, y: Array) -> NDArray[np.bool_]:
    """Return a mask of the rows of y, (T, B, O) or (B, O), within the length of each sequence."""
    if not isinstance(y, np.ndarray):
        raise ArgumentError(f"the model returns {len(y)} outputs; expected one, which the loss takes")
    mask, lengths = np.ones(y.shape[:-1], np.bool_), _lengths(model, batch)
    if lengths is not None and y.ndim == 3:
        steps = mask.swapaxes(0, 1) if rows_first(model) else mask
        steps &= np.arange(len(steps))[:, None] < lengths
    return mask


def row_weights(model: BaseModel, batch: Batch, mask: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Return the weight of each row of a mask, (T, B) or (B,), from those of the sequences.

    Raises ShapeError.
    """
    if batch.weights is None:
        return None
    weights = np.asarray(batch.weights, np.float64)
    is_first = rows_first(model)
    sequences = len(mask) if is_first else mask.shape[-1]
    if weights.shape not in ((sequences,), mask.shape):
        raise ShapeError(f"the weights of a batch have shape {weights.shape}; expected {(sequences,)}")
    if weights.ndim < mask.ndim and is_first:
        weights = weights[:, None]
    return np.broadcast_to(weights, mask.shape)


def initial_state(model: BaseModel, batch: Batch, state: Any) -> Any:
    """Return the initial state of a batch, given the final state of the previous batch."""
    if not batch.goes_on:
        return None
    for leaf in model.sublayers().values():
        if not leaf.causal:
            raise ArgumentError(
                f"{leaf!r} needs the whole sequence, as a reverse direction does, but the data come in chunks"
            )
    return state


def _how_to_resume(run: Run, checkpoint: str | os.PathLike[str] | None) -> str:
    stopped = f"training stopped after {run.memory.step} steps"
    if checkpoint is None:
        return f"{stopped}, and nothing was saved: pass checkpoint='run.safetensors' to be able to resume"
    if not run.saved:
        return (
            f"{stopped}, and nothing was saved: {checkpoint} is written after each epoch, or every "
            "checkpoint_every steps"
        )
    return f"{stopped}; fit(..., resume=True) continues from the last checkpoint, {checkpoint}"
