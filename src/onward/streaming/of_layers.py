"""Layers that `Stream` and `Pool` do not support, as a graph over one block."""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import ArgumentError
from ..graph.graph import Graph
from ..graph.of_layers import graph_of
from ..graph.over_time.named_carries import from_zeros
from ..graph.over_time.sequences import streamed_over_time
from ..graph.over_time.streamed import Streamed
from ..layers.base_model import BaseModel
from ..layers.linear import Embedding
from .stream import StreamingModel


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
        found.layers, inputs = model, (*found.initial, *found.blocks(1, batch))
        found.planner(*inputs)
        return found if needs_graph or found.planner.ready(inputs, {}) is not None else None
    except ArgumentError:  # for a layer of another kind
        if needs_graph:
            raise
        return None


# The graphs of the layers of a model with some weights, by batch size, which its streams share.
_known_graphs = WeakKeyDictionary[BaseModel, tuple[list[Any], dict[Any, Streamed | None]]]()
MAX_GRAPHS = 8  # of a model


def streamed_layers(model: BaseModel, streaming: StreamingModel, batch: int, pooled: bool) -> Streamed | None:
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
        graphs = {**dict(list(graphs.items())[1 - MAX_GRAPHS :]), (batch, pooled): found}
        _known_graphs[model] = weights, graphs
    return graphs[batch, pooled]
