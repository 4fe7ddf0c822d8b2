"""The operations of graphs, under their ONNX names; may import every folder up to layers."""

from . import (  # noqa: F401 - each module registers its operations
    accumulation,
    activations,
    casting,
    columns,
    control,
    convolutions,
    creation,
    elementwise,
    indexing,
    movement,
    normalization,
    padding,
    pooling,
    products,
    quantization,
    quantized_functions,
    recurrent,
    reductions,
    resize,
    selection,
    signal,
)
from .registry import OPERATIONS, Operation, Value

__all__ = ["OPERATIONS", "Operation", "Value"]
