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
    recurrent,
    reductions,
    selection,
)
from .registry import OPERATIONS, Operation, Value

__all__ = ["OPERATIONS", "Operation", "Value"]
