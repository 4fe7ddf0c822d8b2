"""The training loop: forward, loss, backward, clip, step; validation and a checkpoint after each epoch."""

from __future__ import annotations  # np.random is slow to import

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from ..core.checks import Rng, generator, instance, integer, non_negative, probability
from ..errors import ArgumentError, NotFiniteError
from ..layers.base import Layer
from ..layers.dropout import dropout_mask
from . import checkpoint as checkpoints
from .batches import Batch, Data, as_data
from .checkpoint import Run
from .diagnosis import origin
from .evaluation import Score, as_model, carried, counting, score
from .history import Epoch, History
from .losses import Loss, described, named, not_ignored
from .optimizers import OPTIMIZER, Adam, Optimizer, clip_norm, clip_value, global_norm
from .progress import Advance, bar
from .schedules import SCHEDULE, Constant, Progress
from .weights import Weights, replaced, summed, trained


def fit(
    model: Layer,
    data: Any,
    *,
    loss: str | Loss = "cross_entropy",
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
    """Trains a model, whose weights it replaces, and returns how that went.

    data: arrays (x, y) or (x, y, lengths), which `Batches` puts in batches of sequences of like length;
    `Batches` or `Chunks`, one long sequence with the state carried on; or an iterable of batches
    (x, targets[, lengths]), begun anew for each epoch. validation: the same, for the loss after each epoch;
    the weights that were best at it are restored at the end, and with `patience`, training stops after so
    many epochs in a row that were not better.

    loss: a name, or a function like those of `onward.train`. optimizer: Adam(1e-3) if None. schedule:
    Constant() if None. max_norm and max_value: gradients are clipped by their global norm, by value.
    average=a: the model that is validated and returned has the mean of the weights of all steps, those of n
    steps ago by a^n (from torch.optim.swa_utils, get_ema_multi_avg_fn). recurrent_dropout: with that
    probability, a unit of h_{t-1} is dropped on its way into R, the same ones at every step and for every row
    of a batch, the others scaled up: a mask on the columns of R (Gal and Ghahramani 2016). Dropout elsewhere
    is that of the layers. rng: a generator or a seed, for the order of sequences and dropout.

    checkpoint: a file, written after each epoch and after every checkpoint_every steps. With resume, training
    goes on from it, if it is there, and ends with the same bits as one that was never interrupted. progress:
    a bar, on a terminal where rich is installed.

    Raises ArgumentError, ShapeError, DtypeError; NotFiniteError, which says where it arose, for a loss or a
    gradient that is not finite; FileError for a checkpoint that cannot be written, or is of another model,
    other data or other settings.
    """
    batch_first = as_model(model).batch_first
    if not isinstance(checkpoint, str | os.PathLike | None):
        raise ArgumentError(f"checkpoint={checkpoint!r}, but must be the path of a file")
    training = Training(
        model,
        as_data(data, batch_first),
        None if validation is None else as_data(validation, batch_first),
        named(loss),
        Adam(1e-3) if optimizer is None else instance("optimizer", optimizer, Optimizer, OPTIMIZER),
        Constant() if schedule is None else instance("schedule", schedule, Constant, SCHEDULE),
        integer("epochs", epochs, 0),
        None if patience is None else integer("patience", patience, 1),
        None if max_norm is None else non_negative("max_norm", max_norm),
        None if max_value is None else non_negative("max_value", max_value),
        None if average is None else probability("average", average),
        probability("recurrent_dropout", recurrent_dropout),
        checkpoint,
        None if checkpoint_every is None else integer("checkpoint_every", checkpoint_every, 1),
    )
    if patience is not None and validation is None:
        raise ArgumentError(f"patience={patience} needs validation data, to tell which epochs are better")
    run = training.begin(rng, resume)
    try:
        with bar(training.total, progress) as advance:
            training.run(run, advance)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(_how_to_go_on(run, checkpoint))
        raise
    return run.history


@dataclass(frozen=True)
class Training:
    """What stays the same while a model is trained."""

    model: Layer
    data: Data
    validation: Data | None
    loss: Loss
    optimizer: Optimizer
    schedule: Constant
    epochs: int
    patience: int | None
    max_norm: float | None
    max_value: float | None
    average: float | None
    recurrent_dropout: float
    checkpoint: str | os.PathLike[str] | None
    checkpoint_every: int | None

    @property
    def total(self) -> int | None:
        """How many steps there are."""
        return None if self.data.size is None else self.epochs * self.data.size

    def begin(self, rng: Rng, resume: bool) -> Run:
        """A run that begins, or the one that the checkpoint holds."""
        weights = trained(self.model)
        run = Run(generator(rng), self.optimizer.start(weights))
        if self.average is not None:
            run.average = weights
        if resume and self.checkpoint is None:
            raise ArgumentError("resume=True needs a checkpoint to go on from")
        if resume and self.checkpoint is not None and os.path.exists(self.checkpoint):
            return checkpoints.read(self.checkpoint, self.model, run, self.settings)
        return run

    def run(self, run: Run, advance: Advance) -> None:
        """Trains until the epochs are over, and leaves the model with the weights to be used."""
        with np.errstate(all="ignore"):  # what is not finite is found, and told
            while len(run.history.epochs) < self.epochs and not self._is_stuck(run.history):
                self._epoch(run, advance)
        self.model._take(run.best or run.average or {})

    def _epoch(self, run: Run, advance: Advance) -> None:
        number = len(run.history.epochs) + 1
        for batch in self._batches(run):
            self._step(run, batch)
            advance(run.memory.step, f"epoch {number}, loss {run.total / max(1, run.counted):.4f}")
            if self.checkpoint_every and run.memory.step % self.checkpoint_every == 0:
                self._save(run)
        if run.batch == 0:
            raise ArgumentError(
                f"the data gave no batch in epoch {number}: it is empty, or an iterator, which can be gone "
                "through but once; a list serves every epoch"
            )
        self._end_epoch(run)

    def _batches(self, run: Run) -> Iterator[Batch]:
        """What is left of the epoch, whose order is drawn as it was when the epoch began."""
        now = run.rng.bit_generator.state
        if run.batch == 0:
            run.drawn = now
        run.rng.bit_generator.state = run.drawn
        batches = self.data.epoch(run.rng)
        if run.batch:
            next(islice(batches, run.batch - 1, None), None)
            run.rng.bit_generator.state = now
        return batches

    def _step(self, run: Run, batch: Batch) -> None:
        model, step = self.model, run.memory.step
        state = carried(model, batch, run.state)
        whole = trained(model)
        masks = self._recurrent_masks(whole, run.rng)
        # another model has the masks, so that no interrupt can leave them in this one
        masked = (
            replaced(model, {name: whole[name] * mask for name, mask in masks.items()}) if masks else model
        )
        y, after, cache = masked.forward(batch.x, state, lengths=batch.lengths, rng=run.rng)
        rows = counting(model, batch, y)
        value, dy = self.loss(y, batch.targets, rows)
        loss = float(value)  # of a NumPy scalar, which no checkpoint can hold
        _, _, by_name = masked.backward(dy, None, cache)
        gradients = summed(model, by_name)
        gradients |= {name: gradients[name] * mask for name, mask in masks.items()}
        if not (math.isfinite(loss) and math.isfinite(global_norm(gradients))):
            what = f"the loss is {loss}" if not math.isfinite(loss) else "a gradient is not finite"
            where = f"at step {step} (epoch {len(run.history.epochs) + 1}, batch {run.batch}, counted from 0)"
            raise NotFiniteError(f"{what} {where}: it arose {origin(model, batch, state, gradients)}")
        if self.max_value is not None:
            gradients = clip_value(gradients, self.max_value)
        if self.max_norm is not None:
            gradients = clip_norm(gradients, self.max_norm)
        rate = self._lr(run.history, step)
        weights, run.memory = self.optimizer.step(whole, gradients, run.memory, rate)
        model._take(weights)
        if run.average is not None and self.average is not None:
            run.average = _moved(run.average, weights, 1 - self.average)
        run.state = after
        run.history.losses.append(loss)
        run.history.rates.append(rate)
        run.batch += 1
        counted = int(not_ignored(self.loss, batch.targets, rows).sum())
        run.total += loss * counted
        run.counted += counted

    def _recurrent_masks(self, weights: Weights, rng: np.random.Generator) -> Weights:
        """What recurrent dropout multiplies each R by, in this step."""
        p = self.recurrent_dropout
        recurrent = {name: R for name, R in weights.items() if p and "weight_hh" in name}
        return {name: dropout_mask(rng, p, R.shape[1:], R.dtype) for name, R in recurrent.items()}

    def _lr(self, history: History, step: int) -> float:
        progress = Progress(step, self.total, history.validation_losses)
        return non_negative("the schedule's lr", self.schedule.lr(self.optimizer.lr, progress))

    def _end_epoch(self, run: Run) -> None:
        step, history = run.memory.step, run.history
        validated = () if self.validation is None else self._validated(run, self.validation)
        history.epochs.append(Epoch(step, history.rates[-1], run.total / max(1, run.counted), *validated))
        if history.best == len(history.epochs) - 1:
            run.best = run.average or trained(self.model)
        run.batch, run.total, run.counted, run.state = 0, 0.0, 0, None
        self._save(run)

    def _validated(self, run: Run, validation: Data) -> Score:
        """The score of the weights that would be used, if training ended now."""
        found = score(replaced(self.model, run.average) if run.average else self.model, validation, self.loss)
        if not math.isfinite(found.loss):
            raise NotFiniteError(
                f"the loss of the validation data is {found.loss} after epoch {len(run.history.epochs) + 1}, "
                "though that of training is finite: look for NaN and infinities in that data"
            )
        return found

    def _is_stuck(self, history: History) -> bool:
        return (
            self.patience is not None
            and history.best is not None
            and len(history.epochs) - 1 - history.best >= self.patience
        )

    def _save(self, run: Run) -> None:
        if self.checkpoint is not None:
            checkpoints.write(self.checkpoint, self.model, run, self.settings)
            run.kept = True

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint must agree in with what goes on from it, as JSON gives it back."""
        said = {
            "model": self.model.description(),
            "loss": described(self.loss),
            "optimizer": repr(self.optimizer),
            "schedule": repr(self.schedule),
            "max_norm": self.max_norm,
            "max_value": self.max_value,
            "average": self.average,
            "recurrent_dropout": self.recurrent_dropout,
            **self.data.settings(),
            "validation": None if self.validation is None else self.validation.settings(),
        }
        return json.loads(json.dumps(said))  # type: ignore[no-any-return]


def _moved(average: Weights, weights: Weights, by: float) -> Weights:
    return {name: a + by * (weights[name] - a) for name, a in average.items()}


def _how_to_go_on(run: Run, checkpoint: str | os.PathLike[str] | None) -> str:
    stopped = f"training was stopped after {run.memory.step} steps"
    if checkpoint is None:
        return f"{stopped} and kept nothing: fit(..., checkpoint='run.safetensors') would let it go on"
    if not run.kept:
        return (
            f"{stopped} and kept nothing: {checkpoint} is written after an epoch, or checkpoint_every steps"
        )
    return f"{stopped}; {checkpoint} is as of the last checkpoint: fit(..., resume=True) goes on from there"
