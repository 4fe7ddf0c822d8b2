"""Models of text, which say of each character what comes next: their vocabularies, scores and samples."""

from __future__ import annotations  # np.random is slow to import

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import storage
from ..core.checks import Rng, generator, non_negative
from ..errors import ArgumentError, FileError, OnwardError
from ..formats import load as load_model
from ..layers.sequential import Sequential

BLOCK = 4096  # steps in one call, where a text is scored


class Vocabulary:
    """Numbers of characters, by their order: `encode("ab")`, `decode([0, 1])`. Raises ArgumentError."""

    def __init__(self, characters: str) -> None:
        """Of every character in a text."""
        self.characters = "".join(sorted(set(characters)))
        self._codes = _codes(self.characters)
        if not self.characters:
            raise ArgumentError("the text is empty: a vocabulary needs at least one character")

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> NDArray[np.int64]:
        """The number of each character; ArgumentError names the first that is not in the vocabulary."""
        codes = _codes(text)
        numbers = np.searchsorted(self._codes, codes).clip(max=len(self) - 1)
        unknown = np.flatnonzero(self._codes[numbers] != codes)
        if len(unknown):
            at = int(unknown[0])
            raise ArgumentError(
                f"character {at} of the text is {text[at]!r}, none of the {len(self)} that the model knows; "
                "take it out, or train on a text that has it"
            )
        return numbers.astype(np.int64)

    def decode(self, numbers: Any) -> str:
        """The characters of numbers."""
        return "".join(self.characters[number] for number in numbers)


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def save(path: str | os.PathLike[str], model: Sequential, vocabulary: Vocabulary) -> None:
    """Writes a model as its own `save` does, and its vocabulary with it. Raises FileError."""
    described = model.description() | {"vocabulary": vocabulary.characters}
    storage.write(path, model._weights_by_name(), described)


def load(path: str | os.PathLike[str]) -> tuple[Sequential, Vocabulary]:
    """The model and the vocabulary in a file that `save` wrote. Raises FileError."""
    model = load_model(path)
    _, described = storage.read(path) if isinstance(model, Sequential) else ({}, None)
    characters = (described or {}).get("vocabulary")
    if not isinstance(model, Sequential) or not isinstance(characters, str) or not characters:
        raise FileError(f"{path} is no model of text, such as `onward train text` writes")
    vocabulary = Vocabulary(characters)
    _check_fit(path, model, len(vocabulary))
    return model, vocabulary


def _check_fit(path: str | os.PathLike[str], model: Sequential, V: int) -> None:
    """Raises FileError unless the model takes each of V characters and scores as many."""
    said = f"{path} has a vocabulary of {V} characters, but its model"
    try:
        shape = np.shape(model(np.array([0, V - 1])))
    except OnwardError as error:
        raise FileError(f"{said} does not take them: {error}") from error
    if shape != (2, V):
        raise FileError(f"{said} gives outputs of shape {shape} for two of them, not {(2, V)}")


def bits_per_character(model: Sequential, vocabulary: Vocabulary, text: str) -> float:
    """The mean of -log2 p of each character but the first, given all before it; 2^that is the perplexity.

    Raises ArgumentError for a text of less than two characters, or with one
    that the vocabulary lacks.
    """
    numbers = vocabulary.encode(text)
    if len(numbers) < 2:
        raise ArgumentError(f"the text has {len(numbers)} characters, but must have at least 2")
    bits, state = 0.0, None
    for start in range(0, len(numbers) - 1, BLOCK):
        block = numbers[start : start + BLOCK + 1]
        logits, state = model(block[:-1], state, return_state=True)
        logits = logits.astype(np.float64)
        peak = logits.max(axis=1)
        log_sums = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
        bits += float((log_sums - logits[np.arange(len(logits)), block[1:]]).sum())
    return bits / (len(numbers) - 1) / math.log(2)


def sample(
    model: Sequential,
    vocabulary: Vocabulary,
    prompt: str = "\n",
    length: int = 500,
    temperature: float = 1.0,
    rng: Rng = None,
) -> Iterator[str]:
    """Characters that go on from a prompt one by one, each drawn from softmax(logits / temperature).

    Temperature 0 takes the most likely one. Raises ArgumentError.
    """
    non_negative("temperature", temperature)
    numbers = vocabulary.encode(prompt)
    if not len(numbers):
        raise ArgumentError("the prompt is empty: give at least one character to go on from")
    return _drawn(model, vocabulary, numbers, length, temperature, generator(rng))


def _drawn(
    model: Sequential,
    vocabulary: Vocabulary,
    numbers: NDArray[np.int64],
    length: int,
    temperature: float,
    rng: np.random.Generator,
) -> Iterator[str]:
    stream = model.stream()
    logits = stream(numbers)[-1]
    for _ in range(length):
        if temperature:
            with np.errstate(over="ignore"):  # infinitely far below the likeliest, a chance is 0
                scaled = (logits.astype(np.float64) - logits.max()) / temperature
            sums = np.exp(scaled).cumsum()
            number = int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
        else:
            number = int(logits.argmax())
        yield vocabulary.characters[number]
        logits = stream(np.int64(number))
