"""The operations of graphs, under their ONNX names; may import every folder up to layers."""

from . import (  # noqa: F401 - each module registers its operations
    accumulation,
    activations,
    attention,
    blocks,
    casting,
    columns,
    control,
    convolutions,
    creation,
    elementwise,
    indexing,
    integers,
    losses,
    masked_recurrent,
    movement,
    normalization,
    optional,
    padding,
    pooling,
    products,
    quantization,
    quantized_functions,
    quantized_recurrent,
    random,
    recurrent,
    reductions,
    resize,
    selection,
    signal,
    transposed,
    windows,
)
from .registry import OPERATIONS, Operation, Value

__all__ = ["OPERATIONS", "Operation", "Value"]
