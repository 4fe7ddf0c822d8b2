"""Streams and pools of layers, which run as programs of their graph."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

import onward._core as _core

from ..core.arrays import Array
from ..errors import ArgumentError
from ..graph.graph import Graph, Input
from ..graph.over_time.sequences import streamed_over_time
from ..graph.over_time.streamed import Carry, Layout, Streamed, TimeAndBatch
from ..graph.simplification.simplify import simplify
from ..layers import Dropout, Last
from ..layers.base_model import BaseModel, call
from ..layers.chain import layers_of
from ..layers.conv import Spatial
from ..layers.graphs import graph_of
from .graph_pool import GraphPool, pool_of
from .graph_stream import GraphStream, stream_of
from .state import Ids

States: TypeAlias = tuple[Array, ...]  # h (L, B, P) and, if there is one, c (L, B, H) of each recurrent layer


def stream(model: BaseModel, batch: int | None) -> GraphStream:
    """A stream of a model; `Layer.stream` documents the arguments."""
    return stream_of(partial(streamed_layers, model), batch)


def pool(model: BaseModel, capacity: int, max_capacity: int | None) -> GraphPool:
    """A pool of a model; `Layer.pool` documents the arguments."""
    return pool_of(streamed_layers(model, pooled=True), capacity, max_capacity)


class StreamingModel:
    """A causal model that keeps its present weights: loading weights into the original has no effect on it.

    Raises ArgumentError for a model that needs future steps or has no state.
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
        for layer in model.recurrent_sublayers():
            _ = layer.step_kernel  # which calls and all streams share
        self.model = model.frozen()
        self.layers = self.model.recurrent_sublayers()
        if not self.layers:
            raise ArgumentError(f"{model!r} cannot stream: it has no recurrent layer")
        assert self.model.step_shape is not None  # a recurrent layer has one
        self.step_shape = self.model.step_shape
        self.batch_first = self.model.batch_first
        self.names = [f"{i}.{name}" for i, layer in enumerate(self.layers) for name in layer.state_names]
        # the present step is the last one: Last passes each step through, as Dropout does
        passing = {name: Dropout() for name, layer in self.model.sublayers().items() if type(layer) is Last}
        self.every_step = self.model.with_sublayers(passing)

    @property
    def format(self) -> Self:
        """The object that shows the states to users and writes them to files."""
        return self

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
        rest = iter(states if batched else [array[:, 0] for array in states])
        parts = [layer.join_state(*islice(rest, len(layer.state_names))) for layer in self.layers]
        return self.model.join_states(parts)

    def fingerprint(self) -> dict[str, str]:
        """Metadata that identifies the model: its precision, and hashes of its layers and weights."""
        import hashlib  # deferred: hashlib loads OpenSSL, which takes as much memory as all of Onward

        weights = hashlib.sha256()
        for name, weight in self.model.weights_by_name().items():
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
        return dict(zip(self.names, states, strict=True))

    def restored(self, tensors: Mapping[str, Any], B: int) -> States:
        """The states of B rows in a file. Raises KeyError, ShapeError, DtypeError, ArgumentError."""
        return self.check_state(self.join(tuple(tensors[name] for name in self.names)), B)

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


class LayerPlanner:
    """Runs a block through layers that have no graph, one after the other, as a `Planner` runs a graph."""

    def __init__(self, model: StreamingModel, names: Sequence[str], at_end: bool) -> None:
        self._model, self._at_end = model, at_end  # at the end of a sequence, the outputs are y alone
        self.ready = _core.Plans(names, [])

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Run a block. Raises the errors of the layers."""
        model, (*states, x) = self._model, inputs
        y, state = model.every_step.run(x, model.join(tuple(states)), None, call)
        return (y,) if self._at_end else (*model.check_state(state, states[0].shape[1]), y)


def _streamed(model: StreamingModel) -> Streamed:
    """Return what runs the blocks of a model, for any rows: its graph, or its layers one after the other."""
    axes = TimeAndBatch(1, 0) if model.batch_first else TimeAndBatch(0, 1)
    layout = Layout((1, 1, *model.step_shape), axes)
    pairs = zip(model.names, model.initial, strict=True)
    carries = tuple(Carry(name, initial, TimeAndBatch(batch=1)) for name, initial in pairs)
    try:
        graph = simplify(graph_of(model.every_step, is_layer=True))
    except ArgumentError:  # for a layer of another kind
        inputs = [Input(carry.name, carry.initial.dtype, carry.sizes) for carry in carries]
        dtype = model.model.dtype if model.step_shape else np.dtype(np.int64)
        none = Graph([*inputs, Input("x", dtype, layout.declared)])
        found = Streamed(none, carries, (layout,), (axes,), last=none, layers=model)
        names = [declared.name for declared in none.inputs]
        found.planner, found.last_planner = (LayerPlanner(model, names, at_end) for at_end in (False, True))
    else:
        (x, *states), (y, *final) = graph.inputs, graph.outputs
        block = graph.replaced(inputs=[*states, x], outputs=(*final, y), declared_outputs=())
        last = block.replaced(outputs=(y,))
        found = Streamed(block, carries, (layout,), (axes,), last=last, layers=model)
    found.planner(*found.initial, *found.blocks(1, 1))  # compiles a program
    return found


def streamed_layers(model: BaseModel, rows: int = 1, pooled: bool = False) -> Streamed:
    """Return what runs the blocks of a model with its present weights, which its streams share.

    One program runs any number of rows, unless a window slides over the last axis of x (N, C, L), which is
    then time. Raises ArgumentError for a model that needs future steps or has no state.
    """
    derived = model.derived
    slides = any(isinstance(layer, Spatial) and layer.axes == 1 for layer in model.sublayers().values())
    key = f"stream of {rows}, {pooled=}" if slides else "stream"
    if key not in derived:
        if slides:
            graph = simplify(graph_of(model.frozen(), is_layer=True))
            derived[key] = streamed_over_time(graph, 2, {}, rows, pooled)
        else:
            derived[key] = _streamed(StreamingModel(model))
    found: Streamed = derived[key]
    return found


def streamed_chain(graph: Graph) -> Streamed:
    """Return what runs the blocks of a simplified graph that is a chain of layers, which start from zeros.

    Raises ArgumentError, which names the node, for any other graph.
    """
    return streamed_layers(layers_of(graph, from_zeros=True))
