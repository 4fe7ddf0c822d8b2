"""A sequence that goes on from call to call, its state inside."""

import os
import threading
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import integer
from ..errors import ArgumentError, DtypeError, FileError, OnwardError, ShapeError
from ..layers.base import Layer
from .state import Live, Parts

KIND = "stream of Onward"


class Stream:
    """One sequence, or a batch of them, that goes on from call to call: y = stream(x).

    x is one time step, or a block of them, of one row or, with `batch=B`, of B rows: (I,), (T, I), (B, I) or
    (T, B, I), and (B, T, I) where the model is batch_first; without I, integers, where the model begins with
    Embedding. y is a new array of the same layout, or `out`, written into; bitwise what the model gives for
    the whole sequence, however it is cut: after each step, its output for the steps until then.

    A call takes effect whole or, if it raises, not at all; those of several threads one after the other.
    Raises ShapeError, DtypeError; ArgumentError for what the model's layers do not take.
    """

    def __init__(self, live: Live, batch: int | None) -> None:
        self._live = live
        self._batch = batch

    def __call__(self, x: ArrayLike, out: Array | None = None) -> Array:
        raise NotImplementedError

    def _parts(self) -> Parts:
        """A copy of the state."""
        raise NotImplementedError

    def _set_parts(self, parts: Parts) -> None:
        raise NotImplementedError

    @property
    def _rows(self) -> Shape:
        return () if self._batch is None else (self._batch,)

    @property
    def state(self) -> Any:
        """A copy of the state, as the model's call returns it for an x like this stream's; can be set."""
        return self._live.given(self._parts(), self._batch is not None)

    @state.setter
    def state(self, state: Any) -> None:
        self._set_parts(self._live.taken(state, self._batch or 1, self._batch is not None))

    def reset(self) -> None:
        """Back to a state of zeros."""
        self._set_parts(self._live.zeros(self._batch or 1))

    def copy(self) -> "Stream":
        """A branch: a stream with a state like this one's, which goes on by itself."""
        branch = type(self)(self._live, self._batch)
        branch._set_parts(self._parts())
        return branch

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the state, in safetensors, for `load`. Raises FileError."""
        self._live.save(path, KIND, self._parts(), {})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Takes the state from a file that a stream of the same model saved.

        Raises FileError, which says what is wrong: a file that is not whole, is no such state, or is of
        another version, model or batch. The state is then as it was.
        """
        parts, _ = self._live.load(path, KIND)
        try:
            self._set_parts(self._live.taken(self._live.given(parts, True), self._batch or 1, True))
        except OnwardError as error:
            raise FileError(f"{path}: {error}") from error

    def _checked(self, x: ArrayLike, features: Shape) -> NDArray[Any]:
        """x as one step or a block, by its axes. Raises ShapeError."""
        array = arrays.as_array(x, "x")
        step = self._rows + features
        block = array.ndim == len(step) + 1
        axis = 1 if block and self._batch is not None and self._live.batch_first else 0
        if (array.shape[:axis] + array.shape[axis + 1 :] if block else array.shape) != step:
            whole = step[:1] * bool(axis) + ("T",) + step[axis:]
            layout = str(whole).replace("'", "")
            raise ShapeError(f"x has shape {array.shape}, but this stream takes one step {step}, or {layout}")
        return array

    def _checked_out(self, out: Any, shape: Shape) -> None:
        """Raises ShapeError, DtypeError, ArgumentError unless y can be written into `out`."""
        dtype = self._live.model.dtype
        if not isinstance(out, np.ndarray) or out.dtype != dtype:
            given = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
            raise DtypeError(f"out is {given}, but must be an array of {dtype}")
        if out.shape != shape:
            raise ShapeError(f"out has shape {out.shape}, but y has shape {shape}")
        flags = out.flags
        if not (flags.writeable and flags.aligned and (not out.size or out.strides[-1] == out.itemsize)):
            raise ArgumentError("out must be writeable, aligned, and contiguous along its last axis")


class ChainStream(_core.Stream, Stream):  # type: ignore[misc]  # the core's stub has no NumPy types
    """Of layers that the core calls one after the other: a call is one call of the core."""

    def __init__(self, live: Live, batch: int | None) -> None:
        chain = live.chain()
        assert chain is not None
        _core.Stream.__init__(self, chain, batch, live.batch_first)
        Stream.__init__(self, live, batch)

    def _converted(self, x: ArrayLike, out: Array | None) -> Array:
        """What the core's own call did not take as it is."""
        array = self._checked(arrays.as_floats(x, self._live.model.dtype, "x"), self._live.step_shape)
        if out is None:
            return arrays.contiguous(array)
        self._checked_out(out, (*array.shape[:-1], self.outputs))
        # x is not to be overwritten before it is read
        return array.copy() if np.may_share_memory(array, out) else arrays.contiguous(array)

    def _parts(self) -> Parts:
        parts = self._live.zeros(self._batch or 1)
        self._state(parts)
        return parts

    def _set_parts(self, parts: Parts) -> None:
        self._set_state(parts)


class ModelStream(Stream):
    """Of any other model: called step by step, as a sequence of one."""

    def __init__(self, live: Live, batch: int | None) -> None:
        super().__init__(live, batch)
        self._lock = threading.RLock()  # for calls of several threads, which take effect one after the other
        self.reset()

    def __call__(self, x: ArrayLike, out: Array | None = None) -> Array:
        with self._lock:
            return self._advance(x, out)

    def _advance(self, x: ArrayLike, out: Array | None) -> Array:
        live, batched = self._live, self._batch is not None
        x = self._checked(x, live.step_shape)
        block = x.ndim == len(self._rows + live.step_shape) + 1
        axis = 1 if block and batched and live.batch_first else 0
        steps = np.moveaxis(x, axis, 0) if block else x[None]
        state, ys = self.state, []
        for x_t in steps:
            y, state = live.step(x_t, state, batched)
            ys.append(y)
        if not ys:  # a block of no steps: the shape of y is that of any
            y, _ = live.step(np.zeros(self._rows + live.step_shape, x.dtype), state, batched)
        y = np.moveaxis(np.array(ys).reshape(-1, *y.shape).astype(y.dtype), 0, axis) if block else y
        if out is not None:
            self._checked_out(out, y.shape)
            out[...] = y
        self._set_parts(live.taken(state, self._batch or 1, batched))
        return y if out is None else out

    def _parts(self) -> Parts:
        return _copied(self._current)

    def _set_parts(self, parts: Parts) -> None:
        with self._lock:
            self._current = _copied(parts)


def _copied(parts: Parts) -> Parts:
    return [(h.copy(), None if c is None else c.copy()) for h, c in parts]


def stream(model: Layer, batch: int | None) -> Stream:
    """A stream of whatever kind the model needs."""
    live = Live(model)
    if batch is not None:
        batch = integer("batch", batch, 1)
    return (ModelStream if live.chain() is None else ChainStream)(live, batch)
