"""`Stream`: a sequence that continues from call to call, and the model that streams and pools run."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

import onward._core as _core

from ..core import arrays
from ..core.arrays import Array
from ..core.calls import Change
from ..core.checks import enough_memory
from ..errors import ArgumentError, ShapeError
from ..layers import Dropout, Last
from ..layers.base_model import BaseModel, call
from ..layers.sequential import consecutive_layers
from .state import Continuing, Ids, check_out

States: TypeAlias = tuple[Array, ...]  # h (L, B, P) and, if there is one, c (L, B, H) of each recurrent layer


class StreamingModel:
    """A causal model that keeps its present weights: loading weights into the original has no effect on it.

    `kernels` are the core's objects that hold the states. If `in_core`, they compute the whole model;
    otherwise `run` computes it. Raises ArgumentError for a model that needs future steps.
    """

    owner: ClassVar[str] = "Onward"

    def __init__(self, model: BaseModel) -> None:
        for layer in model.sublayers().values():
            if not layer.causal:
                why = (
                    "its reverse direction starts at the last step of the sequence"
                    if layer.state_names
                    else "it needs the whole sequence at once"
                )
                raise ArgumentError(f"{layer!r} cannot stream: {why}")
        self.model = frozen(model)
        self.layers = self.model.recurrent_sublayers()
        if not self.layers:
            raise ArgumentError(f"{model!r} cannot stream: it has no recurrent layer")
        assert self.model.step_shape is not None  # a recurrent layer has one
        self.step_shape = self.model.step_shape
        self.batch_first = self.model.batch_first
        changing = [layer for layer in consecutive_layers(self.model) if not layer.unchanged_by_step]
        self.in_core = bool(changing) and all(layer.step_kernel is not None for layer in changing)
        self.kernels: list[Any] = [layer.step_kernel for layer in (changing if self.in_core else self.layers)]
        self._weights = dict(self.model.weights_by_name())
        self._names = [f"{i}.{name}" for i, layer in enumerate(self.layers) for name in layer.state_names]
        # the present step is the last one: Last passes each step through, as Dropout does
        passing = {name: Dropout() for name, layer in self.model.sublayers().items() if type(layer) is Last}
        self.every_step = self.model.with_sublayers(passing)

    @property
    def format(self) -> Self:
        """The object that shows the states to users and writes them to files."""
        return self

    def run(self, x: Any, state: Any, batched: bool, is_step: bool) -> tuple[Array, Any]:
        """Run a step or a block layer by layer, from `state` to y and the next state."""
        axis = 1 if batched and self.batch_first else 0
        y, state = self.every_step.run(np.expand_dims(x, axis) if is_step else x, state, None, call)
        return (np.take(y, 0, axis) if is_step else y), state

    def by_layer(self, states: States) -> list[tuple[Array, Array | None]]:
        """Return h and c, or None, of each recurrent layer, as the core takes them."""
        rest = iter(states)
        return [(next(rest), next(rest) if len(layer.state_names) > 1 else None) for layer in self.layers]

    @property
    def initial(self) -> States:
        """The initial states of one row."""
        return self.zeros(1)

    def zeros(self, B: int) -> States:
        """The initial states of B rows."""
        shapes = ((shape, layer.dtype) for layer in self.layers for shape in layer.state_shapes(B))
        return tuple(np.zeros(*each) for each in shapes)

    def check_state(self, state: Any, B: int, batched: bool = True) -> States:
        """Convert a state that a call of the model accepts to states; None means zeros.

        Raises ShapeError, DtypeError, ArgumentError.
        """

        def checked() -> Iterator[Array]:
            for layer, part in zip(self.layers, self.model.split_states(state), strict=True):
                shapes = layer.state_shapes(B)
                for name, value, shape in zip("hc", layer.split_state(part), shapes, strict=False):
                    array = layer.initial_state(name, value, shape, batched)
                    # allocated only when needed: B may come from a file
                    yield np.zeros(shape, layer.dtype) if array is None else array

        return tuple(checked())

    def join(self, states: States, batched: bool = True) -> Any:
        """The state that a call of the model returns."""
        pairs = self.by_layer(states if batched else tuple(array[:, 0] for array in states))
        parts = [layer.join_state(*pair) for layer, pair in zip(self.layers, pairs, strict=True)]
        return self.model.join_states(parts)

    def fingerprint(self) -> dict[str, str]:
        """Metadata that identifies the model: its precision, and hashes of its layers and weights."""
        import hashlib  # deferred: hashlib loads OpenSSL, which takes as much memory as all of Onward

        weights = hashlib.sha256()
        for name, weight in self._weights.items():
            weights.update(name.encode())
            weights.update(weight.tobytes())
        layers = json.dumps(self.model.description(), sort_keys=True).encode()
        return {
            "precision": self.layers[0].precision or str(self.layers[0].dtype),
            "model": hashlib.sha256(layers).hexdigest(),
            "weights": weights.hexdigest(),
        }

    def tensors(self, states: States) -> dict[str, NDArray[Any]]:
        """The arrays of states by their names in a file."""
        return dict(zip(self._names, states, strict=True))

    def restored(self, tensors: Mapping[str, Any], B: int) -> States:
        """The states of B rows in a file. Raises KeyError, ShapeError, DtypeError, ArgumentError."""
        return self.check_state(self.join(tuple(tensors[name] for name in self._names)), B)

    join_rows, split_rows = join, check_state  # the rows of a pool are those of a batch

    def row_tensors(self, ids: Ids, states: States) -> dict[str, NDArray[Any]]:
        """The arrays of the rows of a pool by their names in a file."""
        is_open = np.zeros(int(ids.max(initial=-1)) + 1, bool)
        is_open[ids] = True
        return {"open": is_open, **self.tensors(states)}

    def restored_rows(self, tensors: Mapping[str, Any]) -> tuple[Ids, States]:
        """The ids and the states in a file. Raises KeyError, ArgumentError, ShapeError, DtypeError."""
        is_open = tensors["open"]
        if is_open.dtype != bool or is_open.ndim != 1:
            raise ArgumentError("it does not say which streams are open")
        # before allocating memory for the ids: the file must hold as many states
        states = self.restored(tensors, int(np.count_nonzero(is_open)))
        return np.flatnonzero(is_open).astype(np.int64, copy=False), states


def frozen(model: BaseModel) -> BaseModel:
    """Prepare a model for streaming; all its streams share one packed copy of the present weights."""
    for layer in model.sublayers().values():
        _ = layer.step_kernel
    return model.frozen()


# Layers have streams of their own beside `GraphStream`, because these are faster: a step of an LSTM takes 0.7
# microseconds with 32 units and 5.3 with 128, and 1.4 and 6.0 as a graph of one node.
class Stream(Continuing, _core.Stream):
    """One sequence, or a batch of them, that continues from call to call: y = stream(x).

    x is one time step or a block of steps: (I,) or (T, I); with `batch=B`, (B, I) or (T, B, I), or (B, T, I)
    if the model is batch_first. If the model begins with Embedding, x holds integers and has no axis I. y has
    the same layout; it is a new array, or `out`, which must not share memory with x. The outputs are bitwise
    those of one call on the whole sequence, however it is split into blocks. A model that keeps only
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
        self._step_axes = (() if batch is None else (batch,)) + model.step_shape
        self._time_axis = 1 if batch is not None and model.batch_first else 0  # in a block
        with enough_memory(f"the states of batch={batch}"):
            _core.Stream.__init__(self, model.kernels, batch, model.batch_first)
        Continuing.__init__(self, model, batch)

    if TYPE_CHECKING:  # type: ignore, because the stub of the core's method has no NumPy types

        def __call__(self, x: ArrayLike, out: Array | None = None) -> Array:  # type: ignore[override]
            ...

    def _converted(self, x: ArrayLike, out: Array | None) -> Array:
        """x in a form that the core's call accepts, once x and out are valid."""
        given = arrays.as_array(x, "x")
        array = self._check_x(arrays.as_floats(given, self._model.model.dtype, "x"))
        if out is None:
            return arrays.contiguous(array)
        check_out(out, (given,), (*array.shape[:-1], self.outputs), array.dtype)
        if not (out.flags.aligned and (not out.size or out.strides[-1] == out.itemsize)):
            raise ArgumentError("out must be aligned, and contiguous along its last axis")
        return array.copy()  # away from out, whose elements may lie between those of x

    latency = 0  # steps; each step of x completes one of y

    def finish(self) -> Array:
        """Return the steps that remain at the end of the sequence: none, as no layer looks ahead."""
        batch, features = self._step_axes[: self._time_axis], self._step_axes[self._time_axis :]
        return self(np.zeros((*batch, 0, *features), self._model.model.dtype))

    def _states(self) -> States:
        states: States = self._model.zeros(self._batch or 1)
        self._state(self._model.by_layer(states))
        return states

    def _set_state(self, states: Any) -> None:
        super()._set_state(self._model.by_layer(states))

    def _check_x(self, x: ArrayLike) -> NDArray[Any]:
        """x as an array. Raises ShapeError unless it has the shape of one step or of a block."""
        array = arrays.as_array(x, "x")
        step, axis = self._step_axes, self._time_axis
        if array.shape not in (step, (*step[:axis], *array.shape[axis : axis + 1], *step[axis:])):
            block = str((*step[:axis], "T", *step[axis:])).replace("'", "")
            raise ShapeError(f"x has shape {array.shape}, but must be one step {step} or a block {block}")
        return array


# A graph whose nodes run in NumPy would be slower: in float64, a step of an LSTM with 32 units, a LayerNorm
# and a Softmax takes 84 microseconds, and 170 as a graph.
class LayerStream(Stream):
    """A stream of a model that has no program in the core: its layers run one after the other."""

    def __call__(  # type: ignore[override]  # the stub of the core's method has no NumPy types
        self, x: ArrayLike, out: Array | None = None
    ) -> Array:
        def compute() -> Change[Array]:
            array = self._check_x(x)
            is_step = array.ndim == len(self._step_axes)
            before, batched = self._states(), self._batch is not None
            y, state = self._model.run(array, self._model.join(before, batched), batched, is_step)
            after = self._model.check_state(state, self._batch or 1, batched)
            if out is not None:
                check_out(out, (array,), y.shape, y.dtype)
                out[...] = y
            change, undo = (partial(self._set_state, states) for states in (after, before))
            return y if out is None else out, change, undo, (before, after)

        return self._lock.run(compute)
