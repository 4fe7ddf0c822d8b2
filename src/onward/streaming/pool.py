"""`Pool`: the states of thousands of sequences, addressed by id."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

import onward._core as _core

from ..core import arrays
from ..core.calls import CallLock, Change
from ..core.checks import MOST_ROWS, enough_memory, integer
from ..errors import ArgumentError, DtypeError, FileError, OnwardError, ShapeError
from ..graph.node import AnyArray
from .state import Ids, read_state, write_state

States = list[Sequence[AnyArray]]  # the carries of each stream

OVERHEAD = 64  # bytes per stream besides its state
# Loading a file may allocate this many bytes per byte of the file, plus a constant, beyond the pool's memory.
MEMORY_PER_FILE_BYTE, FREE_MEMORY = 20, 16_000_000


class Pool(_core.Pool):
    """Streams of one model, addressed by id: y = pool.step(ids, x) runs a step or a block of those in ids.

    The outputs of each stream are bitwise the same as on its own. Once it has run, its state takes 4 bytes
    for each number that it carries (8 in float64), plus at most 64. A call that raises changes no stream;
    calls from several threads take effect one after the other.

    Raises ArgumentError for duplicate ids, ids out of range and ids of closed streams.

    >>> import numpy as np, onward
    >>> pool = onward.LSTM(3, 4, rng=0).pool(100)
    >>> ids = pool.open(2)
    >>> pool.step(ids, np.ones((2, 3))).shape
    (2, 4)
    """

    def __init__(self, model: Any, capacity: int, max_capacity: int | None = None) -> None:
        self._model = model
        self._max = sys.maxsize if max_capacity is None else integer("max_capacity", max_capacity, 1)
        self._lock = CallLock()  # held to change streams, and for several calls of the core
        for carry in model.carries:
            if carry.initial.dtype.hasobject:
                raise ArgumentError(f"{carry.name} holds texts, which a pool cannot keep: use a stream")
        with argument_errors():
            most = min(self._max, MOST_ROWS)
            capacity = integer("capacity", capacity, 1, most)
            super().__init__(self._lock, list(model.initial), capacity, self._max)

    def open(self, n: int = 1) -> NDArray[np.int64]:
        """Open n streams with zero states and return their ids (n,). The capacity doubles as needed.

        Raises ArgumentError, and opens none, if more than max_capacity streams would be open, and
        MemoryLimitError if there is not enough memory.
        """

        def compute() -> Change[NDArray[np.int64]]:
            with argument_errors():
                self._make_room(integer("n", n, 0, MOST_ROWS))
                ids = np.full(n, -1, np.int64)

            def change() -> None:
                with argument_errors():
                    self._open(ids)
                self._opened(ids)

            return ids, change, lambda: self._close(ids[ids >= 0]), ()

        return self._lock.run(compute)

    def _opened(self, ids: Ids) -> None:
        """Prepare streams at the start of a sequence."""

    def close(self, ids: ArrayLike) -> None:
        """Close streams. `open` may return their ids again."""
        checked = checked_ids(ids)
        with self._lock, argument_errors():
            self._close(checked)

    def state(self, ids: ArrayLike) -> Any:
        """A copy of the states of some streams, in the form that a call of the model returns for a batch."""
        checked = checked_ids(ids)
        with self._lock.reading():
            states = self._states(checked)
        return self._model.format.join_rows(states)

    def set_state(self, ids: ArrayLike, state: Any) -> None:
        """Replace the states of some streams with a state in the form that `state` returns; None means zeros.

        Raises ShapeError, DtypeError, ArgumentError.
        """
        checked = checked_ids(ids)
        states = self._model.format.split_rows(state, len(checked))
        with self._lock, argument_errors():
            self._set_state(checked, states)

    def reset(self, ids: ArrayLike) -> None:
        """Set the states of some streams to zeros."""
        self.set_state(ids, None)

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids of the open streams, ascending."""
        return np.array(self._ids(), np.int64)

    @property
    def capacity(self) -> int:
        """The number of streams that memory is allocated for."""
        return self._capacity()

    def __len__(self) -> int:
        """The number of open streams."""
        return self._size()

    def copy(self) -> Self:
        """A new pool with the same open streams and copies of their states."""
        with self._lock.reading():
            return self._copy()

    def _copy(self) -> Self:
        ids = self.ids
        twin = type(self)(self._model, self.capacity, self._max)
        twin._continue(ids, self._states(ids))
        return twin

    def __copy__(self, memo: Any = None) -> Self:
        return self.copy()

    __deepcopy__ = __copy__

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ids and states of all open streams to a safetensors file. Raises FileError."""
        write_state(path, "pool", self._model.format, self.tensors())

    @property
    def model(self) -> Any:
        """The model whose streams these are, prepared for steps."""
        return self._model

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `save` writes, by name."""
        with self._lock.reading():
            ids = self.ids
            states = self._states(ids)
        tensors: dict[str, NDArray[Any]] = self._model.format.row_tensors(ids, states)
        return tensors

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace all streams with those that a pool of the same model saved, under the same ids.

        Raises FileError if the file is damaged, has another type, version or model, or has ids that need far
        more memory than its size and the capacity justify, and ArgumentError if max_capacity is too low. The
        pool is unchanged after an error.
        """
        ids, states = read_state(path, "pool", self._model.format, self._model.format.restored_rows)
        # a closed stream takes at most a byte in the file, but as much memory in the pool as an open one
        needed = int(ids.max(initial=-1)) + 1
        limit = MEMORY_PER_FILE_BYTE * os.path.getsize(path) + FREE_MEMORY
        memory = needed * (OVERHEAD + sum(array.nbytes for array in self._model.initial))
        if self.capacity < needed <= self._max and memory > limit:
            raise FileError(
                f"{path} has ids up to {needed - 1}, which need {memory:,} bytes of memory, too many for its "
                f"size: if you trust the file, load it into a pool with capacity={needed}"
            )
        with self._lock, argument_errors():
            self._continue(ids, states)

    def _set(self, ids: Ids, states: States) -> None:
        """Replace the carries of some streams; an interrupt replaces all of them or none."""
        self._put([(ids[i : i + 1], state) for i, state in enumerate(states)])

    def _states(self, ids: Ids) -> Any:
        """Return the carries of each stream, or of all together if they are the states of layers."""
        numbers, layers = self._indices(ids), self._model.layers
        if layers is None:
            return [self._get(numbers[i : i + 1]) for i in range(len(numbers))]
        return tuple(self._get(numbers)) if len(numbers) else layers.zeros(0)

    def _set_state(self, ids: Ids, states: Any) -> None:
        numbers = self._indices(ids)
        if self._model.layers is not None:
            self._put([(numbers, states)])
        else:
            self._set(numbers, states)

    def _continue(self, ids: Ids, states: Any) -> None:
        """Replace all streams by those with these ids and states."""
        self._restore(ids)
        self._set_state(ids, states)

    def _indices(self, ids: Ids) -> NDArray[np.int64]:
        """Return ids as indices. Raises ArgumentError unless their streams are open."""
        with argument_errors():
            self._check(ids)
        return ids.astype(np.int64, copy=False)


def checked_ids(ids: ArrayLike) -> Ids:
    """ids (n,) in the dtype that the core expects; the core checks their values.

    Raises ShapeError, DtypeError.
    """
    array = arrays.as_array(ids, "ids")
    if array.dtype.kind not in "iu" and array.size:
        raise DtypeError(f"ids has dtype {array.dtype}, but must hold the integers that open returned")
    if array.ndim != 1:
        raise ShapeError(f"ids has shape {array.shape}, but must be (n,), one id for each row of x")
    return np.require(array, np.uint64 if array.dtype == np.uint64 else np.int64, ["C", "ALIGNED"])


@contextmanager
def argument_errors() -> Iterator[None]:
    """Raise the core's errors as ArgumentError or MemoryLimitError."""
    try:
        with enough_memory("the states of the streams"):
            yield
    except OnwardError:
        raise
    except ValueError as error:
        raise ArgumentError(str(error)) from None
