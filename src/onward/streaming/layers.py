"""Streams and pools of layers: in the core alone, as a program, or layer by layer."""

from typing import Any

from ..core.checks import MOST_ROWS, enough_memory, integer
from ..layers.base_model import BaseModel
from .pool import LayerPool, Pool
from .stream import LayerStream, Stream, StreamingModel


def stream(model: BaseModel, batch: int | None) -> Any:
    """A stream of a model; `Layer.stream` documents the arguments."""
    batch = None if batch is None else integer("batch", batch, 1, MOST_ROWS)
    streaming = StreamingModel(model)
    if streaming.in_core:
        return Stream(streaming, batch)
    from .graph_stream import SequenceStream
    from .of_layers import streamed_layers

    with enough_memory(f"the states of batch={batch}"):
        streamed = streamed_layers(model, streaming, batch or 1, pooled=False)
        return LayerStream(streaming, batch) if streamed is None else SequenceStream(streamed, batch)


def pool(model: BaseModel, capacity: int, max_capacity: int | None) -> Pool:
    """A pool of a model; `Layer.pool` documents the arguments."""
    streaming = StreamingModel(model)
    if streaming.in_core:
        return Pool(streaming, capacity, max_capacity)
    from .graph_pool import SequencePool
    from .of_layers import streamed_layers

    streamed = streamed_layers(model, streaming, 1, pooled=True)
    if streamed is None:
        return LayerPool(streaming, capacity, max_capacity)
    return SequencePool(streamed, capacity, max_capacity)
