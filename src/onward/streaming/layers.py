"""Streams and pools of layers: in the core alone if it supports the layers, otherwise as graphs."""

from typing import Any

from ..core.checks import MOST_ROWS, enough_memory, integer
from ..layers.base_model import BaseModel
from .pool import Pool
from .stream import Stream, StreamingModel


def stream(model: BaseModel, batch: int | None) -> Any:
    """A stream of a model; `Layer.stream` documents the arguments."""
    batch = None if batch is None else integer("batch", batch, 1, MOST_ROWS)
    streaming = StreamingModel(model)
    if streaming.in_core:
        return Stream(streaming, batch)
    from .graph_stream import SequenceStream
    from .of_layers import streamed_layers

    with enough_memory(f"the states of batch={batch}"):
        return SequenceStream(streamed_layers(model, streaming, batch or 1, pooled=False), batch)


def pool(model: BaseModel, capacity: int, max_capacity: int | None) -> Pool:
    """A pool of a model; `Layer.pool` documents the arguments."""
    streaming = StreamingModel(model)
    if streaming.in_core:
        return Pool(streaming, capacity, max_capacity)
    from .graph_pool import SequencePool
    from .of_layers import streamed_layers

    return SequencePool(streamed_layers(model, streaming, 1, pooled=True), capacity, max_capacity)
