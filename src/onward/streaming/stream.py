"""`Stream`: a sequence that continues from call to call."""

import os
import threading
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import integer
from ..errors import ArgumentError, DtypeError, FileError, OnwardError, ShapeError
from ..layers.base import Layer
from .streaming_model import States, StreamingModel

FILE_TYPE = "stream of Onward"


class Stream(_core.Stream):
    """One sequence, or a batch of them, that continues from call to call: y = stream(x).

    x is one time step or a block of steps: (I,) or (T, I); with `batch=B`, (B, I) or (T, B, I), or (B, T, I)
    if the model is batch_first. If the model begins with Embedding, x holds integers and has no axis I. y has
    the same layout; it is a new array, or `out`. The outputs are
    bitwise those of one call on the whole sequence, however it is split into blocks. A model that keeps only
    the last step returns the output for the steps so far.

    A call that raises leaves the state unchanged; calls from several threads take effect one after the other.
    Raises ShapeError, DtypeError, and ArgumentError for values that a layer rejects.

    >>> import numpy as np, onward
    >>> lstm, x = onward.LSTM(3, 4, rng=0), np.ones((5, 3), np.float32)
    >>> stream = lstm.stream()
    >>> y = [stream(x_t) for x_t in x]
    >>> bool((np.stack(y) == lstm(x)[0]).all())
    True
    """

    def __init__(self, model: StreamingModel, batch: int | None) -> None:
        self._batch = None if batch is None else integer("batch", batch, 1)
        self._model = model
        self._step_axes = (() if self._batch is None else (self._batch,)) + model.step_shape
        self._time_axis = 1 if self._batch is not None and model.batch_first else 0  # in a block
        self._lock = threading.Lock()  # held while the state is replaced
        super().__init__(model.kernels, self._batch, model.batch_first)

    if TYPE_CHECKING:  # type: ignore, because the stub of the core's method has no NumPy types

        def __call__(self, x: ArrayLike, out: Array | None = None) -> Array:  # type: ignore[override]
            ...

    def _converted(self, x: ArrayLike, out: Array | None) -> Array:
        """x in a form that the core's call accepts, once x and out are valid."""
        array = self._check_x(arrays.as_floats(x, self._model.model.dtype, "x"))
        if out is None:
            return arrays.contiguous(array)
        self._check_out(out, (*array.shape[:-1], self.outputs))
        # writing y must not overwrite x before it is read
        return array.copy() if np.may_share_memory(array, out) else arrays.contiguous(array)

    latency = 0  # steps; each step of x completes one of y

    def finish(self) -> Array:
        """Return the steps that remain at the end of the sequence: none, as no layer looks ahead."""
        takes_integers = not self._model.step_shape  # as an Embedding does
        dtype = np.int64 if takes_integers else self._model.model.dtype
        batch, features = self._step_axes[: self._time_axis], self._step_axes[self._time_axis :]
        return self(np.zeros((*batch, 0, *features), dtype))

    @property
    def state(self) -> Any:
        """A copy of the state, in the form that a call of the model returns; assign to set the state."""
        return self._model.join(self._states(), self._batch is not None)

    @state.setter
    def state(self, state: Any) -> None:
        self._replace(self._model.check_state(state, self._batch or 1, self._batch is not None))

    def reset(self) -> None:
        """Set the state to zeros."""
        self._replace(self._model.zeros(self._batch or 1))

    def copy(self) -> Self:
        """Return a new stream with a copy of the state."""
        branch = type(self)(self._model, self._batch)
        branch._set_state(self._states())
        return branch

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a safetensors file. Raises FileError."""
        self._model.save(path, FILE_TYPE, self._states(), {})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the state with one that a stream of the same model saved.

        Raises FileError, and leaves the state unchanged, if the file is damaged or has another type, version,
        model or batch size.
        """
        states, _ = self._model.load(path, FILE_TYPE)
        try:
            states = self._model.check_state(self._model.join(states, True), self._batch or 1, True)
        except OnwardError as error:
            raise FileError(f"{path}: {error}") from error
        self._replace(states)

    def _states(self) -> States:
        states = self._model.zeros(self._batch or 1)
        self._state(states)
        return states

    def _replace(self, states: States) -> None:
        with self._lock:
            self._set_state(states)

    def _check_x(self, x: ArrayLike) -> NDArray[Any]:
        """x as an array. Raises ShapeError unless it has the shape of one step or of a block."""
        array = arrays.as_array(x, "x")
        step, axis = self._step_axes, self._time_axis
        if array.shape not in (step, (*step[:axis], *array.shape[axis : axis + 1], *step[axis:])):
            block = str((*step[:axis], "T", *step[axis:])).replace("'", "")
            raise ShapeError(f"x has shape {array.shape}, but must be one step {step} or a block {block}")
        return array

    def _check_out(self, out: Any, shape: Shape) -> None:
        """Raise ShapeError, DtypeError or ArgumentError unless y can be written into `out`."""
        dtype = self._model.model.dtype
        if not isinstance(out, np.ndarray) or out.dtype != dtype:
            actual = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
            raise DtypeError(f"out is {actual}, but must be an array of {dtype}")
        if out.shape != shape:
            raise ShapeError(f"out has shape {out.shape}, but y has shape {shape}")
        flags = out.flags
        if not (flags.writeable and flags.aligned and (not out.size or out.strides[-1] == out.itemsize)):
            raise ArgumentError("out must be writeable, aligned, and contiguous along its last axis")


class LayerStream(Stream):
    """A stream of a model with layers that the core does not support: they run one after the other."""

    def __call__(  # type: ignore[override]  # the stub of the core's method has no NumPy types
        self, x: ArrayLike, out: Array | None = None
    ) -> Array:
        with self._lock:
            array = self._check_x(x)
            is_step = array.ndim == len(self._step_axes)
            y, state = self._model.run(array, self.state, self._batch is not None, is_step)
            states = self._model.check_state(state, self._batch or 1, self._batch is not None)
            if out is not None:
                self._check_out(out, y.shape)
                out[...] = y
            self._set_state(states)
        return y if out is None else out


def stream(model: Layer, batch: int | None) -> Stream:
    """A stream of a model; `Layer.stream` documents the arguments."""
    streaming = StreamingModel(model)
    return (Stream if streaming.in_core else LayerStream)(streaming, batch)
