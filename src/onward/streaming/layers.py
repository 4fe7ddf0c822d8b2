"""Streams and pools of layers: as a program of the core, as that of their graph, or layer by layer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

import onward._core as _core

from ..core.arrays import Array
from ..core.checks import MOST_ROWS, enough_memory, integer
from ..errors import ArgumentError
from ..graph.graph import Graph, Input
from ..graph.of_layers import graph_of
from ..graph.over_time.named_carries import from_zeros
from ..graph.over_time.sequences import streamed_over_time
from ..graph.over_time.streamed import Carry, Layout, Streamed, TimeAndBatch
from ..layers import Dropout, Last
from ..layers.base_model import BaseModel, call
from ..layers.linear import Embedding
from ..layers.sequential import consecutive_layers
from .graph_pool import SequencePool
from .graph_stream import SequenceStream
from .state import Ids

States: TypeAlias = tuple[Array, ...]  # h (L, B, P) and, if there is one, c (L, B, H) of each recurrent layer


def stream(model: BaseModel, batch: int | None) -> SequenceStream:
    """A stream of a model; `Layer.stream` documents the arguments."""
    batch = None if batch is None else integer("batch", batch, 1, MOST_ROWS)
    streaming = StreamingModel(model)
    with enough_memory(f"the states of batch={batch}"):
        return SequenceStream(streamed_layers(model, streaming, batch or 1, pooled=False), batch)


def pool(model: BaseModel, capacity: int, max_capacity: int | None) -> SequencePool:
    """A pool of a model; `Layer.pool` documents the arguments."""
    streamed = streamed_layers(model, StreamingModel(model), 1, pooled=True)
    return SequencePool(streamed, capacity, max_capacity)


class StreamingModel:
    """A causal model that keeps its present weights: loading weights into the original has no effect on it.

    `kernels` are the core's objects that compute the whole model, if there are such. Raises ArgumentError for
    a model that needs future steps.
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
        kernels = [layer.step_kernel for layer in changing]
        self.kernels: list[Any] = [] if None in kernels else kernels
        self._weights = dict(self.model.weights_by_name())
        self.names = [f"{i}.{name}" for i, layer in enumerate(self.layers) for name in layer.state_names]
        # the present step is the last one: Last passes each step through, as Dropout does
        passing = {name: Dropout() for name, layer in self.model.sublayers().items() if type(layer) is Last}
        self.every_step = self.model.with_sublayers(passing)

    @property
    def format(self) -> Self:
        """The object that shows the states to users and writes them to files."""
        return self

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


def _graph_of(model: BaseModel) -> Graph:
    """Return the graph of a model, in which an index below 0 is out of range, as in a layer."""
    graph = graph_of(model)
    rows = [layer.num_embeddings for layer in model.sublayers().values() if isinstance(layer, Embedding)]
    if not rows:
        return graph
    x, checked = graph.inputs[0].name, Graph()
    checked.inputs, checked.constants = graph.inputs, dict(graph.constants)
    zero, end = (checked.add_constant(np.array(n), f"index/{n}") for n in (0, rows[0]))
    below, *_ = checked.add_all("Less", (x, zero), ("index/is_below",))
    index, *_ = checked.add_all("Where", (below, end, x), ("index",))
    nodes = [n.with_inputs(*(index if name == x else name for name in n.inputs)) for n in graph.nodes]
    return graph.replaced(nodes=[*checked.nodes, *nodes], constants=checked.constants)


class LayerPlanner:
    """Runs a block through layers, from their states and x to the next states and y, as a `Planner` does.

    Recurrent and dense layers in sequence have a program of their own rather than that of their graph: it is
    made in 0.1 ms instead of 25, and float64 runs in the core. All others run one after the other.
    """

    def __init__(self, model: StreamingModel, names: Sequence[str], at_end: bool) -> None:
        self._model, self._at_end = model, at_end  # at the end of a sequence, the outputs are y alone
        runs_in_core = model.kernels and not at_end
        programs = [_core.layer_program(model.kernels, model.batch_first)] if runs_in_core else []
        self.ready = _core.Plans(names, programs)

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Run a block. Raises the errors of the layers."""
        ready: tuple[Any, ...] | None = self.ready(inputs, {})
        if ready is not None:
            return ready
        model, (*states, x) = self._model, inputs
        y, state = model.every_step.run(x, model.join(tuple(states)), None, call)
        return (y,) if self._at_end else (*model.check_state(state, states[0].shape[1]), y)


def _by_layers(model: StreamingModel, batch: int) -> Streamed:
    """Return what runs the layers of a model themselves."""
    axes = TimeAndBatch(1, 0) if model.batch_first else TimeAndBatch(0, 1)
    pairs = zip(model.names, model.zeros(batch), strict=True)
    carries = tuple(Carry(name, initial, TimeAndBatch(batch=1)) for name, initial in pairs)
    layout, graph = Layout((1, 1, *model.step_shape), axes), Graph()
    graph.inputs[:] = [Input(carry.name, carry.initial.dtype, carry.sizes) for carry in carries]
    dtype = model.model.dtype if model.step_shape else np.dtype(np.int64)
    graph.inputs.append(Input("x", dtype, layout.declared))
    names = [declared.name for declared in graph.inputs]
    found = Streamed(graph, carries, (layout,), (axes,), last=graph, layers=model)
    found.planner, found.last_planner = (LayerPlanner(model, names, at_end) for at_end in (False, True))
    found.takes_rows = True
    return found


def _streamed(model: StreamingModel, batch: int, pooled: bool) -> Streamed:
    """Return what runs the blocks of a model: the core, the program of its graph, or its layers.

    Layers whose steps are no kernels of the core need a graph, also if that runs in NumPy. Raises
    ArgumentError if there is none.
    """
    if model.kernels:
        return _by_layers(model, batch)
    needs_graph = any(layer.step_kernel is None for layer in model.layers)
    try:
        found = streamed_over_time(from_zeros(_graph_of(model.every_step)), None, {}, batch, pooled)
        found.layers, inputs = model, (*found.initial, *found.blocks(1, batch))
        found.planner(*inputs)
        if needs_graph or found.planner.ready(inputs, {}) is not None:
            return found
    except ArgumentError:  # for a layer of another kind
        if needs_graph:
            raise
    return _by_layers(model, batch)


# What runs the blocks of a model with some weights, by batch size, which its streams share.
_known = WeakKeyDictionary[BaseModel, tuple[list[Any], dict[Any, Streamed]]]()
MAX_KNOWN = 8  # of a model


def streamed_layers(model: BaseModel, streaming: StreamingModel, batch: int, pooled: bool) -> Streamed:
    """Return what runs the blocks of a model; if `pooled`, for the rows of a pool.

    Raises ArgumentError for a model that needs a graph and has none.
    """
    weights = [layer.own_weights for layer in model.sublayers().values()]  # which are replaced as a whole
    known, found = _known.get(model, ([], {}))
    if len(known) != len(weights) or any(a is not b for a, b in zip(known, weights, strict=True)):
        found = {}
    if (batch, pooled) not in found:
        made = _streamed(streaming, batch, pooled)
        found = {**dict(list(found.items())[1 - MAX_KNOWN :]), (batch, pooled): made}
        _known[model] = weights, found
    return found[batch, pooled]


def frozen(model: BaseModel) -> BaseModel:
    """Prepare a model for streaming; all its streams share one packed copy of the present weights."""
    for layer in model.sublayers().values():
        _ = layer.step_kernel
    return model.frozen()
