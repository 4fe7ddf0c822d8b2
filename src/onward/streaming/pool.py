"""Thousands of sequences, each of which goes on whenever it is named."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..core import arrays
from ..core.arrays import Array
from ..core.checks import integer
from ..errors import ArgumentError, DtypeError, FileError, OnwardError, ShapeError
from ..layers.base import Layer
from .state import Live, Parts

KIND = "pool of Onward"


class Pool:
    """Streams of a model by their ids: y = pool.step(ids, x) takes those named one step on, in one pass.

    Each gets, bitwise, what it would get alone. The state of a stream takes 4 bytes for each number of h and
    c (8 in float64), and at most 9 more. Calls of several threads take effect whole, one after the other, in
    the order in which they get the pool's lock; a call that raises changes no stream.

    Raises ArgumentError for ids of streams that are not open, out of range, or named twice in a call.
    """

    def __init__(self, model: Layer, capacity: int, max_capacity: int | None = None) -> None:
        most = sys.maxsize if max_capacity is None else integer("max_capacity", max_capacity, 1)
        self._live = Live(model)
        self._chain = self._live.chain()
        layers = self._chain or self._live.stacks
        with _refusals():
            self._core = _core.Pool(layers, integer("capacity", capacity, 1, most), most)
        # of what takes several calls of the core, and what may not come between
        self._lock = threading.Lock()

    def open(self, n: int = 1) -> NDArray[np.int64]:
        """The ids (n,) of n new streams, their states zeros. The capacity doubles as it has to.

        Raises ArgumentError where more than max_capacity would be open; the pool is then as it was.
        """
        with self._lock, _refusals():
            ids = np.empty(integer("n", n, 0), np.int64)
            self._core.open(ids)
        return ids

    def close(self, ids: ArrayLike) -> None:
        """Gives up streams; their ids may be those of others later."""
        named = _ids(ids)
        with self._lock, _refusals():
            self._core.close(named)

    def step(self, ids: ArrayLike, x: ArrayLike) -> Array:
        """One step of the streams named: x (n, I), or n integers for a model that begins with Embedding.

        Returns y (n, O), a new array. Raises ShapeError, DtypeError, ArgumentError.
        """
        named = _ids(ids)
        x = arrays.as_array(x, "x")
        expected = (len(named), *self._live.step_shape)
        if x.shape != expected:
            raise ShapeError(f"x has shape {x.shape}, but one step of {len(named)} streams is {expected}")
        with _refusals():
            if self._chain is None:
                return self._step_by_model(named, x)
            x = arrays.contiguous(arrays.as_floats(x, self._live.model.dtype, "x"))
            y = np.empty((len(named), self._core.outputs), x.dtype)
            self._core.step(named, x, y)
            return y

    def _step_by_model(self, ids: NDArray[np.integer[Any]], x: NDArray[Any]) -> Array:
        with self._lock:
            y, state = self._live.step(x, self.state(ids), batched=True)
            self._core.set_state(ids, self._live.taken(state, len(ids), batched=True))
            return y

    def state(self, ids: ArrayLike) -> Any:
        """A copy of the states of the streams named, as the model's call returns them for a batch."""
        return self._live.given(self._parts(_ids(ids)), batched=True)

    def set_state(self, ids: ArrayLike, state: Any) -> None:
        """Sets states, laid out as `state` returns them; None: zeros. Raises ShapeError, DtypeError."""
        named = _ids(ids)
        parts = self._live.taken(state, len(named), batched=True)
        with self._lock, _refusals():
            self._core.set_state(named, parts)

    def reset(self, ids: ArrayLike) -> None:
        """Back to states of zeros."""
        self.set_state(ids, None)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Those of the open streams, ascending."""
        return np.array(self._core.ids(), np.int64)

    @property
    def capacity(self) -> int:
        """How many streams there is memory for."""
        return self._core.capacity()

    def __len__(self) -> int:
        """How many streams are open."""
        return self._core.size()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes ids and states of all open streams, in safetensors, for `load`. Raises FileError."""
        with self._lock:
            ids = self.ids
            parts = self._parts(ids)
        is_open = np.zeros(int(ids.max(initial=-1)) + 1, bool)
        is_open[ids] = True
        self._live.save(path, KIND, parts, {"open": is_open})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replaces all streams by those in a file that a pool of the same model saved, ids included.

        Raises FileError, which says what is wrong: a file that is not whole, is no such state, or is of
        another version or model; and ArgumentError where max_capacity is too low. The pool is then as it was.
        """
        parts, more = self._live.load(path, KIND)
        is_open = more.get("open")
        if is_open is None or is_open.dtype != bool or is_open.ndim != 1:
            raise FileError(f"{path} does not say which streams are open")
        ids = np.flatnonzero(is_open).astype(np.int64)
        try:
            parts = self._live.taken(self._live.given(parts, batched=True), len(ids), batched=True)
        except OnwardError as error:
            raise FileError(f"{path}: {error}") from error
        with self._lock, _refusals():
            self._core.restore(ids, parts)

    def _parts(self, ids: NDArray[np.integer[Any]]) -> Parts:
        parts = self._live.zeros(len(ids))
        with _refusals():
            self._core.state(ids, parts)
        return parts


def _ids(ids: ArrayLike) -> NDArray[np.integer[Any]]:
    """ids (n,) as the core takes them; it checks which they are. Raises ShapeError, DtypeError."""
    array = arrays.as_array(ids, "ids")
    if array.dtype.kind not in "iu" and array.size:
        raise DtypeError(f"ids has dtype {array.dtype}, but must hold the integers that open returned")
    if array.ndim != 1:
        raise ShapeError(f"ids has shape {array.shape}, but must be (n,), one for each row of x")
    return np.ascontiguousarray(array, np.uint64 if array.dtype == np.uint64 else np.int64)


@contextmanager
def _refusals() -> Iterator[None]:
    """What the core refuses, as ArgumentError."""
    try:
        yield
    except OnwardError:
        raise
    except ValueError as error:
        raise ArgumentError(str(error)) from None
