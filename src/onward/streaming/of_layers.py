"""Layers that `Stream` and `Pool` do not support, as a graph over one block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import ArgumentError
from ..graph.graph import Graph
from ..graph.node import AnyArray
from ..graph.of_layers import graph_of
from ..graph.over_time.named_carries import from_zeros
from ..graph.over_time.sequences import streamed_over_time
from ..graph.over_time.streamed import Streamed
from ..layers.base_model import BaseModel
from ..layers.linear import Embedding
from .state import Ids
from .stream import States, StreamingModel


@dataclass
class StreamedLayers(Streamed):
    """A graph over one block whose carries are shown as the states of layers, and have their files."""

    owner = "Onward"
    ends = False

    model: StreamingModel = None  # type: ignore[assignment]  # `of` sets it

    @classmethod
    def of(cls, streamed: Streamed, model: StreamingModel) -> Self:
        """Return a graph over one block with the states of a model."""
        known = {each.name: getattr(streamed, each.name) for each in fields(streamed) if each.init}
        made = cls(**known, model=model)
        made.planner, made.last_planner = streamed.planner, streamed.last_planner  # with their programs
        return made

    def zeros(self, rows: int = 1) -> States:
        return self.model.zeros(rows)

    def join(self, carried: Sequence[AnyArray], batched: bool = True) -> Any:
        return self.model.join(tuple(carried), batched)

    def check_state(self, state: Any, rows: int = 1, batched: bool = True) -> States:
        return tuple(array.copy() for array in self.model.check_state(state, rows, batched))

    def tensors(self, carried: Sequence[AnyArray], batched: bool = True) -> dict[str, AnyArray]:
        return self.model.tensors(tuple(carried))

    def restored(self, tensors: Any, rows: int = 1, batched: bool = True) -> States:
        return tuple(array.copy() for array in self.model.restored(tensors, rows))

    def join_rows(self, states: Sequence[Sequence[AnyArray]]) -> Any:
        return self.model.join_rows(self._together(states))

    def split_rows(self, state: Any, n: int) -> list[Sequence[AnyArray]]:
        return self._apart(self.model.split_rows(state, n), n)

    def row_tensors(self, ids: Ids, states: Sequence[Sequence[AnyArray]]) -> dict[str, AnyArray]:
        return self.model.row_tensors(ids, self._together(states))

    def restored_rows(self, tensors: Mapping[str, AnyArray]) -> tuple[Ids, list[Sequence[AnyArray]]]:
        ids, states = self.model.restored_rows(tensors)
        return ids, self._apart(states, len(ids))

    def _together(self, states: Sequence[Sequence[AnyArray]]) -> States:
        """Return the states of several rows as those of a batch."""
        if not states:
            return self.model.zeros(0)
        return tuple(np.concatenate(each, 1) for each in zip(*states, strict=True))

    def _apart(self, states: States, n: int) -> list[Sequence[AnyArray]]:
        return [[array[:, i : i + 1] for array in states] for i in range(n)]

    def fingerprint(self) -> dict[str, str]:
        return self.model.fingerprint()


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


def _streamed(model: StreamingModel, batch: int, pooled: bool) -> Streamed | None:
    """Return the graph of the layers of a model, or None if the core does not run all of it.

    Layers whose steps are no kernels of the core need a graph, also if that runs in NumPy. Raises
    ArgumentError if there is none.
    """
    needs_graph = any(kernel is None for kernel in model.kernels)
    try:
        found = streamed_over_time(from_zeros(_graph_of(model.every_step)), None, {}, batch, pooled)
        inputs = *found.initial, *found.blocks(1, batch)
        found.planner(*inputs)
        return found if needs_graph or found.planner.ready(inputs, {}) is not None else None
    except ArgumentError:  # for a layer of another kind
        if needs_graph:
            raise
        return None


# The graphs of the layers of a model with some weights, by batch size, which its streams share.
_known_graphs = WeakKeyDictionary[BaseModel, tuple[list[Any], dict[Any, StreamedLayers | None]]]()
MAX_GRAPHS = 8  # of a model


def streamed_layers(
    model: BaseModel, streaming: StreamingModel, batch: int, pooled: bool
) -> StreamedLayers | None:
    """Return the graph over one block for a model, or None if its layers run one by one.

    If `pooled`, it is for the rows of a pool. Raises ArgumentError for a model that needs a graph and has
    none.
    """
    weights = [layer.own_weights for layer in model.sublayers().values()]  # which are replaced as a whole
    known, graphs = _known_graphs.get(model, ([], {}))
    if len(known) != len(weights) or any(a is not b for a, b in zip(known, weights, strict=True)):
        graphs = {}
    if (batch, pooled) not in graphs:
        found = _streamed(streaming, batch, pooled)
        made = None if found is None else StreamedLayers.of(found, streaming)
        graphs = {**dict(list(graphs.items())[1 - MAX_GRAPHS :]), (batch, pooled): made}
        _known_graphs[model] = weights, graphs
    return graphs[batch, pooled]
