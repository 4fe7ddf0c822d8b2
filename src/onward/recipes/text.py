"""Character-level text models: vocabulary, bits per character, sampling."""

from __future__ import annotations  # np.random is slow to import

import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import storage
from ..core.arrays import Array
from ..core.checks import Rng, generator, integer, non_negative
from ..errors import ArgumentError, FileError, OnwardError
from ..formats import load as load_model
from ..layers.sequential import Sequential
from ..model import Model
from ..tables import model_files
from ..train import final_function

BLOCK = 4096  # steps per call when scoring a text


class Vocabulary:
    """The characters that a model knows, numbered in sorted order.

    Raises ArgumentError for an empty text.

    >>> vocabulary = Vocabulary("banana")
    >>> vocabulary.encode("nab")
    array([2, 0, 1])
    >>> vocabulary.decode([2, 0, 1])
    'nab'
    """

    def __init__(self, characters: str) -> None:
        """characters: any text; repeated characters count once."""
        self.characters = "".join(sorted(set(characters)))
        self._codes = _codes(self.characters)
        if not self.characters:
            raise ArgumentError("the text is empty: a vocabulary needs at least one character")

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> NDArray[np.int64]:
        """The number of each character. Raises ArgumentError, which names the first unknown character."""
        codes = _codes(text)
        numbers = np.searchsorted(self._codes, codes).clip(max=len(self) - 1)
        unknown = np.flatnonzero(self._codes[numbers] != codes)
        if len(unknown):
            position = int(unknown[0])
            raise ArgumentError(
                f"character {position} of the text is {text[position]!r}, not one of the {len(self)} "
                "characters that the model knows: remove it, or train on a text that contains it"
            )
        return numbers.astype(np.int64)

    def decode(self, numbers: Any) -> str:
        """The text with these character numbers. Raises ArgumentError for other numbers."""
        last = len(self.characters) - 1
        return "".join(self.characters[integer("number", number, 0, last)] for number in numbers)

    def unknown(self, text: str) -> dict[str, int]:
        """How often each character occurs in a text that is not in the vocabulary, most frequent first.

        >>> Vocabulary("ab").unknown("a cab c")
        {' ': 2, 'c': 2}
        """
        counts = sorted(Counter(text).items())
        return dict(Counter({c: n for c, n in counts if c not in self.characters}).most_common())

    def without_unknown(self, text: str) -> str:
        """A text without the characters that are not in the vocabulary.

        >>> Vocabulary("ab").without_unknown("a cab c")
        'aab'
        """
        return text.translate({ord(character): None for character in self.unknown(text)})


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def save(path: str | os.PathLike[str], model: Sequential, vocabulary: Vocabulary) -> None:
    """Write a model and its vocabulary to a .safetensors file. Raises FileError.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from onward import LSTM, Embedding, Linear
    >>> path = Path(tempfile.mkdtemp()) / "text.safetensors"
    >>> save(path, Sequential(Embedding(2, 3), LSTM(3, 4), Linear(4, 2)), Vocabulary("ab"))
    >>> load(path)[1].characters
    'ab'
    """
    described = model.description() | {"vocabulary": vocabulary.characters}
    storage.write(path, model.weights_by_name(), described)


def load(path: str | os.PathLike[str]) -> tuple[Sequential, Vocabulary]:
    """Read the model and the vocabulary from a file written by `save`, also if it was converted to ONNX.

    Raises FileError for other files.

    >>> from onward import bundled
    >>> model, vocabulary = load(bundled.models()["shakespeare"])
    >>> len(vocabulary)
    80
    """
    vocabulary = vocabulary_of(path)
    if vocabulary is None:
        raise FileError(f"{path} is not a text model: expected a file written by `onward train text`")
    V = len(vocabulary)
    prefix = f"{path} has a vocabulary of {V} characters, but its model"
    model = load_model(path)
    if not isinstance(model, (Model, Sequential)):
        raise FileError(f"{prefix} holds no layers: use the file that it was compiled from")
    try:
        model = model.layers() if isinstance(model, Model) else model
        shape = np.shape(model(np.array([0, V - 1])))
    except OnwardError as error:
        raise FileError(f"{prefix} does not accept them: {error}") from error
    if shape != (2, V):
        raise FileError(f"{prefix} returns outputs of shape {shape} for two of them; expected {(2, V)}")
    return model, vocabulary


def vocabulary_of(path: str | os.PathLike[str]) -> Vocabulary | None:
    """Read the vocabulary from a file written by `save` or made from one; None for any other file."""
    try:
        characters = model_files.metadata(path).get("vocabulary")
    except FileError:
        return None
    return Vocabulary(characters) if isinstance(characters, str) and characters else None


def bits_per_character(
    model: Sequential,
    vocabulary: Vocabulary,
    text: str,
    advance: Callable[[int], None] = lambda characters: None,
) -> float:
    """The mean of -log2 p(character | all characters before it), excluding the first character.

    The perplexity is 2 to that power. advance is called with the number of characters in each block scored.
    Raises ArgumentError for a text of fewer than two characters or with characters outside the vocabulary.

    >>> from onward import bundled
    >>> model, vocabulary = load(bundled.models()["shakespeare"])
    >>> round(bits_per_character(model, vocabulary, "To be, or not to be"), 1)
    2.7
    """
    numbers = vocabulary.encode(text)
    if len(numbers) < 2:
        raise ArgumentError(f"the text has {len(numbers)} characters; expected at least 2")
    bits, state, final = 0.0, None, final_function(model)
    for start in range(0, len(numbers) - 1, BLOCK):
        block = numbers[start : start + BLOCK + 1]
        y, state = model(block[:-1], state, return_state=True)
        logits = _logits(y, final)
        peak = logits.max(axis=1)
        log_sums = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
        bits += float((log_sums - logits[np.arange(len(logits)), block[1:]]).sum())
        advance(len(logits))
    return bits / (len(numbers) - 1) / math.log(2)


def perplexity(bits: float) -> float:
    """2 to the power of the bits per character; infinite beyond the largest float."""
    return 2**bits if bits < sys.float_info.max_exp else math.inf


def sample(
    model: Sequential,
    vocabulary: Vocabulary,
    prompt: str = "\n",
    length: int = 500,
    temperature: float = 1.0,
    rng: Rng = None,
) -> Iterator[str]:
    """Yield the characters that follow a prompt, each drawn from softmax(logits / temperature).

    Temperature 0 always chooses the likeliest character. Raises ArgumentError.

    >>> from onward import bundled
    >>> model, vocabulary = load(bundled.models()["shakespeare"])
    >>> "".join(sample(model, vocabulary, "To be, or not to ", length=2, temperature=0))
    'th'
    """
    non_negative("temperature", temperature)
    length = integer("length", length, 0)
    numbers = vocabulary.encode(prompt)
    if not len(numbers):
        raise ArgumentError("the prompt is empty: pass at least one character to continue from")
    drawn, final = generator(rng), final_function(model)

    def characters() -> Iterator[str]:
        stream = model.stream()
        logits = _logits(stream(numbers)[-1], final)
        for _ in range(length):
            if temperature:
                with np.errstate(over="ignore"):  # a logit that overflows has probability 0
                    scaled = (logits - logits.max()) / temperature
                sums = np.exp(scaled).cumsum()
                number = int(np.searchsorted(sums, drawn.random() * sums[-1], side="right"))
            else:
                number = int(logits.argmax())
            yield vocabulary.characters[number]
            logits = _logits(stream(np.int64(number)), final)

    return characters()


def _logits(y: Array, final: str) -> Array:
    """The outputs of a model in float64, or their logarithm if its final function is softmax."""
    with np.errstate(divide="ignore"):  # of a probability of 0
        return np.log(y, dtype=np.float64) if final == "softmax" else y.astype(np.float64)
