"""Training a model of text: from a text to a model that says what comes next, and how well it does."""

from __future__ import annotations  # np.random is slow to import

from typing import NamedTuple

from ..base import Rng, generator
from ..dense import Dropout, Embedding, Linear
from ..errors import ArgumentError
from ..layers import LSTM
from ..model import Sequential
from ..text import Vocabulary
from .batches import Chunks

EMBEDDING = 64  # numbers for each character
STEPS = 100  # through which gradients flow
LEARNING_RATE = 4e-3
MAX_NORM = 1.0


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
