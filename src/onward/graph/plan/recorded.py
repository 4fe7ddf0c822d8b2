"""Record plans instead of building them, as numbers from which Onward for JavaScript builds them.

The interface of the core for JavaScript, web/graph.cpp, reads these numbers: a string or a list is its length
and its items, a float is its bits, None is -1, and a tuple is its items.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from .view import View

LANES = 4  # floats in a vector of WebAssembly


class Weights(NamedTuple):
    """Weights that a step uses: their place in the list of the recorder."""

    number: int


class RecordedPlan:
    """A plan whose methods record its steps."""

    lanes = LANES

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes, self._steps = list(sizes), list[list[int]]()

    def __len__(self) -> int:
        return len(self._steps)

    def __getattr__(self, step: str) -> Any:
        if step.startswith("_"):
            raise AttributeError(step)
        return partial(self._add, step)

    def _add(self, step: str, *arguments: Any) -> None:
        self._steps.append(list(_words((step, arguments))))

    def words(self) -> NDArray[np.int32]:
        """Return the numbers of the plan. Raises ArgumentError if it needs 2 GB or more."""
        try:
            return np.array(list(_words((self._sizes, self._steps))), np.int32)
        except OverflowError:
            raise ArgumentError(
                "the plan needs 2 GB of memory or more, which JavaScript cannot use"
            ) from None


class Recorder:
    """Takes the place of the core for a `Builder`: it records plans and the weights of their steps.

    `tensors` holds each array once, by name. `weights` describes the weights by the numbers of a core's class
    and its arguments, in which an array is its place in the list of names.
    """

    Plan = RecordedPlan

    def __init__(self) -> None:
        self.tensors: dict[str, NDArray[Any]] = {}
        self.weights: list[dict[str, Any]] = []
        self._names: dict[Any, str] = {}
        self._numbers: dict[str, int] = {}

    def Dense(self, W: Any, b: Any = None, scale: Any = None) -> Weights:
        return self._add("Dense", W, scale, b)

    def Stack(self, cell: str, weights: Sequence[Any], num_directions: int, options: Any) -> Weights:
        directions = [
            (W, R, b_W, b_R, W_hr is not None, () if W_hr is None else W_hr, peephole)
            for W, R, b_W, b_R, W_hr, peephole in weights
        ]
        return self._add("Stack", cell, num_directions, directions, _floats(options))

    def IntegerMatrix(self, q: Any, zero_points: Any) -> Weights:
        return self._add("IntegerMatrix", q, zero_points)

    def QuantizedLSTM(self, weights: Sequence[Any], options: Any, reverse: bool) -> Weights:
        return self._add("QuantizedLSTM", list(weights), _floats(options), reverse)

    def name_of(self, array: NDArray[Any]) -> str:
        """Return the name under which an array is stored; equal arrays are stored once."""
        content = np.ascontiguousarray(array)
        key = content.dtype.str, content.shape, hashlib.blake2b(content.tobytes()).digest()
        if key not in self._names:
            self._names[key] = name = str(len(self._names))
            self.tensors[name] = content.reshape(array.shape)
        return self._names[key]

    def _add(self, kind: str, *arguments: Any) -> Weights:
        arrays: dict[str, int] = {}  # the place of each array by its name
        words = list(
            _words((kind, arguments), lambda array: arrays.setdefault(self.name_of(array), len(arrays)))
        )
        described = {"words": words, "arrays": list(arrays)}
        number = self._numbers.setdefault(str(described), len(self.weights))
        if number == len(self.weights):
            self.weights.append(described)
        return Weights(number)


def _floats(options: Iterable[tuple[Any, Any, Any, float, bool]]) -> list[Any]:
    return [(*functions, float(clip), coupled) for *functions, clip, coupled in options]


def _words(value: Any, place: Any = None) -> Iterator[int]:
    """Yield the numbers of a value; `place` returns the place of an array."""
    match value:
        case None:
            yield -1
        case View():
            yield from _words((*value[:2], list(value.shape), list(value.strides), value.dtype))
        case Weights():
            yield value.number
        case float() | np.floating():
            yield int(np.float32(value).view(np.int32))
        case str():
            yield from _words(list(value.encode()))
        case np.ndarray() if place is not None:
            yield place(value)
        case list() | np.ndarray():
            yield len(value)
            yield from _words(tuple(value), place)
        case tuple():
            for item in value:
                yield from _words(item, place)
        case _:
            yield int(value)
