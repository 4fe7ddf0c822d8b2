"""Training a model of text: from a text to a model that says what comes next, and how well it does."""

from __future__ import annotations  # np.random is slow to import

import os
from typing import NamedTuple

from ..core.checks import Rng, generator, integer
from ..errors import ArgumentError
from ..layers.linear import Dropout, Embedding, Linear
from ..layers.rnn import LSTM
from ..layers.sequential import Sequential
from ..train.batches import Chunks
from ..train.fit import fit
from ..train.history import History
from ..train.optimizers import Adam
from ..train.schedules import OneCycleLR
from .text import Vocabulary

EMBEDDING = 64  # numbers for each character
DROPOUT = 0.1
STEPS = 100  # through which gradients flow
EVERY = 100  # steps from checkpoint to checkpoint
LEARNING_RATE = 4e-3
MAX_NORM = 1.0


READ = 5_000_000  # characters
LONG = 300_000  # characters: such a text fills 256 units


class Parts(NamedTuple):
    """A text in three: to train on, to choose the best epoch by, and to measure by in the end."""

    training: str
    validation: str
    test: str


def split(text: str) -> Parts:
    """The first 90 % of a text, the next 5 % and the last. Raises ArgumentError for one that is too short."""
    if len(text) < 1000:
        raise ArgumentError(f"the text has {len(text)} characters, but needs at least 1,000 to learn from")
    first, second = len(text) * 90 // 100, len(text) * 95 // 100
    return Parts(text[:first], text[first:second], text[second:])


def character_model(
    vocabulary: Vocabulary, hidden_size: int, num_layers: int, dropout: float, rng: Rng
) -> Sequential:
    """Characters in, scores of the next one out: Embedding, LSTM, Linear; dropout above each LSTM layer."""
    drawn = generator(rng)
    return Sequential(
        Embedding(len(vocabulary), EMBEDDING, rng=drawn),
        LSTM(EMBEDDING, hidden_size, num_layers, dropout=dropout, rng=drawn),
        Dropout(dropout),
        Linear(hidden_size, len(vocabulary), rng=drawn),
    )


def chunks(vocabulary: Vocabulary, text: str, batch_size: int) -> Chunks:
    """A text as truncated backpropagation takes it: each character's target is the next one."""
    numbers = vocabulary.encode(text)
    return Chunks(numbers[:-1], numbers[1:], batch_size, STEPS)


def hidden_size(text: str) -> int:
    """How many units a text of such a length can fill."""
    return 256 if len(text) >= LONG else 128


def fit_text(
    model: Sequential,
    vocabulary: Vocabulary,
    parts: Parts,
    *,
    epochs: int | None = None,
    rng: Rng = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> History:
    """Trains a model of text; it keeps the weights of the epoch that validated best.

    Adam with a one-cycle learning rate, gradients clipped. epochs: if None, so many that a few million
    characters are read, but 4 to 40. Raises what `fit` raises.
    """
    batch_size = min(32, max(1, len(parts.training) // (10 * STEPS)))
    return fit(
        model,
        chunks(vocabulary, parts.training, batch_size),
        optimizer=Adam(LEARNING_RATE),
        schedule=OneCycleLR(cycle_momentum=False),
        max_norm=MAX_NORM,
        epochs=min(40, max(4, READ // len(parts.training)))
        if epochs is None
        else integer("epochs", epochs, 1),
        validation=chunks(
            vocabulary, parts.validation, min(batch_size, max(1, len(parts.validation) // STEPS))
        ),
        rng=rng,
        checkpoint=checkpoint,
        checkpoint_every=EVERY,
        resume=resume,
    )
