"""Train a text model, which predicts the next character of a text."""

from __future__ import annotations  # np.random is slow to import

from typing import Any, NamedTuple

from ..core.checks import Rng, generator, integer
from ..errors import ArgumentError
from ..layers import LSTM, Dropout, Embedding, Linear, Sequential
from ..train import Adam, Chunks, History, OneCycleLR, fit
from .text import Vocabulary

EMBEDDING = 64  # embedding dimension
DROPOUT = 0.1
STEPS = 100  # time steps that gradients flow back through
EVERY = 100  # training steps between checkpoints
LEARNING_RATE = 4e-3
MAX_NORM = 1.0
READ = 5_000_000  # characters to train on, over all epochs
LONG = 300_000  # characters above which a text benefits from 256 units


class Split(NamedTuple):
    """A text split into a training part, a validation part that selects the best epoch, and a test part."""

    training: str
    validation: str
    test: str


def split(text: str) -> Split:
    """Split a text after 90 % and 95 %. Raises ArgumentError if it has fewer than 1,000 characters."""
    if len(text) < 1000:
        raise ArgumentError(f"the text has {len(text)} characters; training needs at least 1,000")
    training, validation = len(text) * 90 // 100, len(text) * 95 // 100
    return Split(text[:training], text[training:validation], text[validation:])


def character_model(
    vocabulary: Vocabulary, hidden_size: int, num_layers: int, dropout: float, rng: Rng
) -> Sequential:
    """An untrained model from characters to scores of the next one; dropout follows each LSTM layer."""
    weights_rng = generator(rng)
    return Sequential(
        Embedding(len(vocabulary), EMBEDDING, rng=weights_rng),
        LSTM(EMBEDDING, hidden_size, num_layers, dropout=dropout, rng=weights_rng),
        Dropout(dropout),
        Linear(hidden_size, len(vocabulary), rng=weights_rng),
    )


def chunks(vocabulary: Vocabulary, text: str, batch_size: int) -> Chunks:
    """Cut a text into chunks for truncated backpropagation; the target of each character is the next one."""
    numbers = vocabulary.encode(text)
    return Chunks(numbers[:-1], numbers[1:], batch_size, STEPS)


def hidden_size(text: str) -> int:
    """The hidden size that suits a text of this length."""
    return 256 if len(text) >= LONG else 128


def fit_text(
    model: Sequential, vocabulary: Vocabulary, parts: Split, *, epochs: int | None = None, **options: Any
) -> History:
    """Train a text model and keep the weights of the epoch with the lowest validation loss.

    Uses Adam with a one-cycle learning rate and clipped gradients. epochs: by default, enough to train on
    five million characters, but between 4 and 40. `options` are those of `fit`. Raises the errors of `fit`.
    """
    batch_size = min(32, max(1, len(parts.training) // (10 * STEPS)))
    if epochs is None:
        epochs = min(40, max(4, READ // len(parts.training)))
    held_out = chunks(vocabulary, parts.validation, min(batch_size, max(1, len(parts.validation) // STEPS)))
    return fit(
        model,
        chunks(vocabulary, parts.training, batch_size),
        optimizer=Adam(LEARNING_RATE),
        schedule=OneCycleLR(cycle_momentum=False),
        max_norm=MAX_NORM,
        epochs=integer("epochs", epochs, 1),
        validation=held_out,
        checkpoint_every=EVERY,
        **options,
    )
