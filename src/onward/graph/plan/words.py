"""The words of a program: the numbers from which the core and Onward for JavaScript make its steps.

cpp/run/words.h reads them, and cpp/run/program.h tells their order. A `CoreRecorder` takes the place of the
core and keeps the words and the weights of programs for a file.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import onward._core as _core

from ..size import Size
from .steps import Body
from .view import View

FIRST_ENTRY = -(1 << 63)  # as in cpp/run/words.h
AXIS, NUMBER, SUM, PRODUCT, QUOTIENT = range(5)  # the operations of the table, as in cpp/run/program.h
CONDITIONS = ("= 0", "!= 0", "> 0", "<= 0")


class RecordedWeights(NamedTuple):
    """Weights that a step uses: their place in the list of the recorder."""

    number: int


class RecordedProgram(NamedTuple):
    """The words of a program."""

    words: NDArray[np.int64]
    weights: Sequence[Any]


class CoreRecorder:
    """Takes the place of the core for a `Builder`: it records programs and the weights of their steps.

    `tensors` holds each array once, by name. `weights` describes the weights by the numbers of a core's class
    and its arguments, in which an array is its place in the list of names.
    """

    Program = RecordedProgram

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self.tensors: dict[str, NDArray[Any]] = {}
        self.weights: list[dict[str, Any]] = []
        self._names: dict[Any, str] = {}
        self._numbers: dict[str, int] = {}

    def lanes(self) -> int:
        """Return the number of floats in the largest vector for which programs are."""
        return self._lanes

    def Dense(self, W: Any, b: Any = None, scale: Any = None) -> RecordedWeights:
        return self._add("Dense", (W, b, scale), W, scale, b)

    def Stack(self, cell: str, weights: Sequence[Any], num_directions: int, options: Any) -> RecordedWeights:
        directions = [
            (W, R, b_W, b_R, W_hr is not None, () if W_hr is None else W_hr, peephole)
            for W, R, b_W, b_R, W_hr, peephole in weights
        ]
        given = cell, weights, num_directions, options
        return self._add("Stack", given, cell, num_directions, directions, _floats(options))

    def IntegerMatrix(self, *arguments: Any) -> RecordedWeights:
        return self._add("IntegerMatrix", arguments, *arguments)

    def QuantizedLSTM(self, weights: Sequence[Any], options: Any, reverse: bool) -> RecordedWeights:
        given = weights, options, reverse
        return self._add("QuantizedLSTM", given, list(weights), _floats(options), reverse)

    def keep(self, kind: str, arguments: tuple[Any, ...]) -> None:
        """Do nothing with the arguments of weights that are not recorded yet."""

    def name_of(self, tensor: NDArray[Any]) -> str:
        """Return the name under which an array is stored; equal arrays are stored once."""
        import hashlib  # deferred: hashlib loads OpenSSL, which takes as much memory as all of Onward

        content = np.ascontiguousarray(tensor)
        key = content.dtype.str, content.shape, hashlib.blake2b(content.tobytes()).digest()
        if key not in self._names:
            self._names[key] = name = str(len(self._names))
            self.tensors[name] = content.reshape(tensor.shape)
        return self._names[key]

    def _add(self, kind: str, given: tuple[Any, ...], *arguments: Any) -> RecordedWeights:
        arrays: dict[str, int] = {}  # the place of each array by its name
        writer = WordWriter(lambda found: arrays.setdefault(self.name_of(found), len(arrays)))
        writer.write((kind, arguments))
        described = {"words": writer.words.tolist(), "arrays": list(arrays)}
        number = self._numbers.setdefault(str(described), len(self.weights))
        if number == len(self.weights):
            self.weights.append(described)
            self.keep(kind, given)
        return RecordedWeights(number)


def _floats(options: Iterable[tuple[Any, Any, Any, float, float, bool]]) -> list[Any]:
    return [(*each[:3], *map(float, each[3:5]), each[5]) for each in options]


class WordWriter:
    """Writes values as words; `place` returns the number of an array or of a core's weights.

    A string or a list is its length and its items, a float is its bits, None is a word of its own, a tuple is
    its items, and a symbolic size is an entry of the table of values. `spaces` maps spaces to the numbers
    under which views of them are written.
    """

    def __init__(self, place: Callable[[Any], int], spaces: Mapping[int, int] | None = None) -> None:
        self.words = array("q")
        self.values: list[tuple[int, int, int]] = []  # of the table: operations and operands
        self._place, self._spaces = place, dict(spaces or {})
        self._entries: dict[Any, int] = {}

    def write(self, *values: Any) -> None:
        """Append values."""
        self.words.frombytes(_core.words_of(values, View, self._spaces, self._replaced))

    def steps(self, steps: Sequence[tuple[str, Sequence[Any]]]) -> None:
        """Append a list of steps, each with its length in words."""
        self.words.frombytes(self._of_steps(steps))

    def _of_steps(self, steps: Sequence[tuple[str, Sequence[Any]]]) -> bytes:
        return _core.words_of_steps(list(steps), View, self._spaces, self._replaced)

    def _replaced(self, value: Any) -> int | float | bytes:
        """Return the number, or the words, of a value that the core does not know."""
        if type(value) is Size:
            return FIRST_ENTRY + self._size(value)
        if type(value) is Body:
            return self._of_steps(value.steps)
        if isinstance(value, np.floating):
            return float(value)
        return int(value) if isinstance(value, int | np.integer | np.bool_) else self._place(value)

    @property
    def program(self) -> NDArray[np.int64]:
        """The table of values, and the words after it."""
        table = array("q", [len(self.values), *chain.from_iterable(self.values)])
        return np.frombuffer(table + self.words, np.int64)

    def _size(self, size: Size) -> int:
        """Return the entry of a size."""
        if size not in self._entries:
            total = None
            for monomial, coefficient in size.terms:
                entry = None if coefficient != 1 or not monomial else self._factor(size, monomial[0])
                rest = monomial if entry is None else monomial[1:]
                if entry is None:
                    entry = self._value(NUMBER, coefficient)
                for number in rest:
                    entry = self._value(PRODUCT, entry, self._factor(size, number))
                total = entry if total is None else self._value(SUM, total, entry)
            self._entries[size] = self._value(NUMBER, 0) if total is None else total
        return self._entries[size]

    def _factor(self, size: Size, number: int) -> int:
        meaning = size.axes.factors[number].meaning
        if isinstance(meaning, str):
            return self._value(AXIS, size.axes.names.index(meaning))
        return self._value(QUOTIENT, *map(self._size, meaning))

    def _value(self, operation: int, a: int, b: int = 0) -> int:
        """Return the entry of a value, which is added at its first use."""
        value = operation, a, b
        if value not in self._entries:
            self._entries[value] = len(self.values)
            self.values.append(value)
        return self._entries[value]
