"""A model that calls its layers one after the other, and the layer that selects the last valid step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Never, overload

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import Rng, flag, generator, unknown_arguments
from ..core.summary import table
from ..errors import ArgumentError, OnwardError, ShapeError
from .base import Layer
from .base_model import BaseModel, RunRecurrent, call

if TYPE_CHECKING:
    from ..graph.plan.planner import Planner
    from .graphs import GraphBuilder

# A Sequential runs small calls as one plan of the core, with the bits of its layers.
CALLS = 8  # without a program, after which one is worth its time and memory
MAX_ELEMENTS = 1 << 12  # elements in x; larger calls spend their time in the layers
MAX_COPIED = 1 << 20  # bytes of the weights of layers that are not recurrent, which a plan copies


class Last(Layer):
    """The last valid step of each row: y_{T-1}, or y_{length-1} with lengths; zeros if there is none.

    Raises ArgumentError if batch_first is not True or False.

    >>> import numpy as np
    >>> Last()(np.array([[[1.0], [2.0]], [[3.0], [4.0]]]), lengths=[1, 2])  # (T, B, F)
    array([[1.],
           [4.]])
    """

    takes_vectors = False
    batch_first: bool = False
    causal = unchanged_by_step = True  # in a stream, the present step is the last one

    def __init__(self, batch_first: bool = False) -> None:
        self.batch_first = flag("batch_first", batch_first)

    def run(self, x: Any, state: Any, lengths: Any, run_recurrent: RunRecurrent) -> tuple[Any, Any]:
        return self(x, lengths), None

    def __call__(self, y: ArrayLike, lengths: ArrayLike | None = None, **unknown: Never) -> Array:
        """Map y (T, B, F), (B, T, F) with batch_first, or (T, F) unbatched to a new array (B, F) or (F,).

        float64 stays float64; other dtypes become float32. Raises ShapeError, DtypeError, ArgumentError.
        """
        if unknown:
            raise unknown_arguments(self, unknown, "y, lengths=None")
        y = arrays.as_array(y, "y")
        y = arrays.as_floats(y, arrays.working_dtype(y), "y")
        if y.ndim not in (2, 3):
            layout = "(B, T, F)" if self.batch_first else "(T, B, F)"
            raise ShapeError(f"y has shape {y.shape}, but Last takes {layout}, or (T, F) unbatched")
        steps, valid, rows = self._last_steps(y, lengths)
        last = np.zeros(steps.shape[1:], y.dtype)
        last[rows] = steps[valid, rows]
        return last if y.ndim == 3 else last[0]

    def _last_steps(self, y: Array, lengths: ArrayLike | None) -> tuple[Array, Any, Any]:
        """Return y as a view (T, B, F), and the last valid step of each row that has one, with the row."""
        steps = y[:, None] if y.ndim == 2 else y.swapaxes(0, 1) if self.batch_first else y
        T, B, _ = steps.shape
        batch = (B,) if y.ndim == 3 else ()
        valid = np.full(B, T) if lengths is None else arrays.as_lengths(lengths, batch, T)
        rows = np.flatnonzero(valid)
        return steps, valid[rows] - 1, rows

    def _forward(self, x: ArrayLike, lengths: ArrayLike | None, rng: Rng) -> tuple[Array, Any]:
        return self(x, lengths), (np.shape(x), None if lengths is None else np.array(lengths))

    def _backward(self, dy: ArrayLike, cache: Any) -> tuple[Array, dict[str, Array]]:
        """dx is dy at the last valid step of each row and 0 elsewhere."""
        shape, lengths = cache if isinstance(cache, tuple) and len(cache) == 2 else ((), None)
        self._check_cache(isinstance(shape, tuple) and len(shape) in (2, 3))
        dy = arrays.as_array(dy, "dy")
        dx = np.zeros(shape, arrays.working_dtype(dy))
        steps, valid, rows = self._last_steps(dx, lengths)
        _, B, F = steps.shape
        dy = arrays.as_gradient(dy, (B, F) if dx.ndim == 3 else (F,), dx.dtype)
        steps[valid, rows] = dy.reshape(B, F)[rows]
        return dx, {}

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        return b.add("LastStep", x, b.lengths, axis=int(b.batch_first))


class Sequential(Layer):
    """Layers called in order, as torch.nn.Sequential; weights are named by position: `0.weight_ih_l0`.

    Raises ArgumentError for arguments other than layers, for layers that differ in dtype or batch_first, and
    for layers that need sequences after Last.

    >>> import numpy as np, onward
    >>> model = Sequential(onward.LSTM(12, 64), onward.Last(), onward.Linear(64, 9))
    >>> model(np.zeros((20, 4, 12))).shape
    (4, 9)
    """

    def __init__(self, *layers: BaseModel) -> None:
        for layer in layers:
            if not isinstance(layer, BaseModel) or isinstance(layer, Sequential):
                raise ArgumentError(f"Sequential takes layers other than itself, not {layer!r}")
        dtypes = {str(layer.dtype) for layer in layers if "dtype" in vars(layer)}
        orders = {layer.batch_first for layer in layers if "batch_first" in vars(layer)}
        if len(dtypes) > 1:  # converting between layers would lose or invent precision
            raise ArgumentError(f"the layers have dtypes {sorted(dtypes)}; expected a single dtype")
        if len(orders) > 1:  # one of them would take the batch axis for time
            raise ArgumentError(
                "some layers have batch_first=True and others False; expected the same for all"
            )
        _check_time_axis(layers)
        self.layers = layers
        self.causal = all(layer.causal for layer in layers)
        # a layer that is not causal may change the shape; causal layers of any shape keep it
        first = next((layer for layer in layers if layer.step_shape is not None or not layer.causal), self)
        self.step_shape = first.step_shape
        self.dtype = arrays.float_dtype(*dtypes or ("float32",))
        # layers without weights would compute in the dtype of x until the first layer with weights
        self._converts = bool(dtypes) and "dtype" not in vars(layers[0])

    @overload
    def __call__(
        self,
        x: ArrayLike,
        state: Sequence[Any] | None = None,
        *,
        lengths: ArrayLike | None = None,
        return_state: Literal[False] = False,
    ) -> Array: ...

    @overload
    def __call__(
        self,
        x: ArrayLike,
        state: Sequence[Any] | None = None,
        *,
        lengths: ArrayLike | None = None,
        return_state: Literal[True],
    ) -> tuple[Array, list[Any]]: ...

    def __call__(
        self,
        x: ArrayLike,
        state: Sequence[Any] | None = None,
        *,
        lengths: ArrayLike | None = None,
        return_state: bool = False,
        **unknown: Never,
    ) -> Array | tuple[Array, list[Any]]:
        """The output of the last layer; with `return_state`, also the list of the recurrent layers' states.

        x is the input of the first layer. state has the form of the returned state, or is None for zeros.
        lengths is passed to the recurrent layers and to Last. Raises the errors of the layers, SignatureError
        for unknown arguments, and ArgumentError for a state that is not a list with one state per recurrent
        layer.
        """
        if unknown:
            raise unknown_arguments(self, unknown, "x, state=None, *, lengths=None, return_state=False")
        results = None
        if lengths is None:
            derived = self.derived
            planned = derived.get("calls") or derived.setdefault("calls", PlannedModel(self))
            results = planned.run(self, x, state, return_state or state is not None)
        y, after = self.run(x, state, lengths, call) if results is None else results
        return (y, after) if return_state else y

    def run(self, x: Any, state: Any, lengths: Any, run_recurrent: RunRecurrent) -> tuple[Any, list[Any]]:
        before = iter(self.split_states(state))
        after = []
        y = self._input(x)
        for name, layer in self.sublayers().items():
            if layer.state_names:
                y, last = run_recurrent(name, layer, y, next(before), lengths)
                after.append(last)
            else:
                y, _ = layer.run(y, None, lengths, run_recurrent)
        return y, after

    def _input(self, x: Any) -> Any:
        """The input of the first layer."""
        return arrays.as_floats(arrays.as_array(x, "x"), self.dtype, "x") if self._converts else x

    def forward(
        self, x: ArrayLike, state: Any = None, *, lengths: ArrayLike | None = None, rng: Rng = None
    ) -> tuple[Any, list[Any], list[Any]]:
        before = iter(self.split_states(state))
        after, caches = [], []
        drawn = None if rng is None else generator(rng)  # one generator for all layers
        y = self._input(x)
        for layer in self:
            recurrent = layer.state_names
            y, last, cache = layer.forward(y, next(before) if recurrent else None, lengths=lengths, rng=drawn)
            caches.append(cache)
            if recurrent:
                after.append(last)
        return y, after, caches

    def backward(
        self, dy: ArrayLike, dstate: Sequence[Any] | None, cache: list[Any]
    ) -> tuple[Any, list[Any], dict[str, Array]]:
        self._check_cache(isinstance(cache, list) and len(cache) == len(self))
        after = list(self.split_states(dstate))
        before: list[Any] = []
        gradients: dict[str, Array] = {}
        dx: Any = dy
        for (prefix, layer), kept in reversed(list(zip(self.sublayers().items(), cache, strict=True))):
            recurrent = layer.state_names
            dx, first, own = layer.backward(dx, after.pop() if recurrent else None, kept)
            gradients = {prefix + name: gradient for name, gradient in own.items()} | gradients
            if recurrent:
                before.insert(0, first)
        return dx, before, gradients

    @property
    def parts(self) -> tuple[BaseModel, ...]:
        return self.layers

    def sublayers(self) -> dict[str, BaseModel]:
        return {f"{index}.": layer for index, layer in enumerate(self)}

    def with_sublayers(self, leaves: Mapping[str, BaseModel]) -> Sequential:
        return Sequential(*(leaves.get(name, layer) for name, layer in self.sublayers().items()))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[BaseModel]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> BaseModel: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> BaseModel:
        """A layer, or for a slice a Sequential of the same layers: `model[:2]`."""
        return Sequential(*self.layers[index]) if isinstance(index, slice) else self.layers[index]

    def __repr__(self) -> str:
        return "\n".join(
            ["Sequential(", *(f"  ({index}): {layer!r}" for index, layer in enumerate(self)), ")"]
        )

    def __str__(self) -> str:
        """A table with one line for each layer."""
        return table(self.summary_rows())

    def config(self) -> dict[str, Any]:
        return {"layers": [layer.description() for layer in self]}

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        return ((name, shape) for name, shape, _ in self.stored_weights())


def _check_time_axis(layers: Sequence[BaseModel]) -> None:
    """Raise ArgumentError if a layer takes sequences, but an earlier Last returns one vector per sequence."""
    last = None
    for index, layer in enumerate(layers):
        if last is not None and not layer.takes_vectors:
            raise ArgumentError(
                f"layer {index}, {layer!r}, needs a time axis, but layer {last}, Last, returns (B, F), one "
                "vector for each sequence: move Last after the layers that take sequences"
            )
        if isinstance(layer, Last):
            last = index


class PlannedModel:
    """The programs of a model with its present weights, for all sizes of x.

    There are those for calls from zeros that return y alone, and others for calls with states.
    """

    def __init__(self, model: Sequential) -> None:
        self._layers: list[Any] = [layer for layer in model.layers if layer.state_names]
        self._planners: dict[bool, Planner | None] = {}  # by whether they take and return states
        self._calls = 0  # those without a program

    def run(self, model: Sequential, x: Any, state: Any, with_state: bool) -> tuple[Array, list[Any]] | None:
        """Return the output and the final states, or None if the layers of the model have to compute them.

        The final states are empty unless `with_state`, which a state requires.
        """
        if type(x) is not np.ndarray or x.size > MAX_ELEMENTS:
            return None
        try:
            inputs = (x, *self._flat(model, x, state)) if with_state else (x,)
            planner = self._planners.get(with_state)
            results = None if planner is None else planner.ready(inputs, {})
            if results is None:
                self._calls += 1
                if self._calls % CALLS == 0:
                    results = self._planned(model, inputs, with_state)
        except OnwardError:  # the layer that raises it explains it better
            return None
        if results is None:
            return None
        parts = iter(results[1:])
        return results[0], [
            layer.join_state(next(parts), next(parts) if len(layer.state_names) == 2 else None)
            for layer in (self._layers if with_state else ())
        ]

    def _flat(self, model: Sequential, x: Array, state: Any) -> list[Any]:
        """Return the arrays of all initial states."""
        if state is None:
            B = x.shape[0 if model.batch_first else 1] if x.ndim > 1 else 1
            return [np.zeros(shape, model.dtype) for layer in self._layers for shape in layer.state_shapes(B)]
        is_list = isinstance(state, list) and len(state) == len(self._layers)
        parts = zip(self._layers, state if is_list else model.split_states(state), strict=True)
        return [a for layer, part in parts for a in layer.split_state(part)[: len(layer.state_names)]]

    def _planned(self, model: Sequential, inputs: tuple[Any, ...], with_state: bool) -> Any:
        """Build a plan for these inputs and run it; None if some steps would run in NumPy."""
        if with_state not in self._planners:
            self._planners[with_state] = None  # for layers without a graph, which raises
            copied = [layer for layer in model if not layer.state_names]
            if sum(w.nbytes for layer in copied for w in layer.own_weights.values()) <= MAX_COPIED:
                from .graphs import planner_of  # slow to import

                self._planners[with_state] = planner_of(model, with_state)
        planner = self._planners[with_state]
        if planner is None:
            return None
        vectors = {2} if all(layer.takes_vectors for layer in model) else set()
        for array, declared in zip(inputs, planner.graph.inputs, strict=True):
            if type(array) is not np.ndarray or array.dtype != declared.dtype:
                return None
            if array.ndim not in {len(declared.axes or ()), *vectors}:  # nodes may compute something else
                return None
        results, plan = planner(*inputs), planner.find(inputs)
        if plan is not None and plan.entry is not None:
            return results
        self._planners[with_state] = None
        return None


def consecutive_layers(model: BaseModel) -> list[BaseModel]:
    """The sublayers if each is called once, on the output of the one before; otherwise an empty list."""
    sublayers = list(model.sublayers().values())
    return sublayers if isinstance(model, Sequential) or sublayers == [model] else []
