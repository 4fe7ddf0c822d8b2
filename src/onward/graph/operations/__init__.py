"""The operations of graphs, by their ONNX names; may import every folder up to layers."""

from . import (
    accumulation,
    activations,
    casting,
    columns,
    creation,
    elementwise,
    indexing,
    movement,
    padding,
    selection,
)
from .registry import OPERATIONS, Operation, Value

__all__ = [
    "OPERATIONS",
    "Operation",
    "Value",
    "accumulation",
    "activations",
    "casting",
    "columns",
    "creation",
    "elementwise",
    "indexing",
    "movement",
    "padding",
    "selection",
]
