"""The operations of graphs: what each one means in NumPy, its output shapes and its steps in the core."""

from . import (
    convolutions,
    normalization,
    pooling,
    products,
    quantization,
    quantized_functions,
    reductions,
    resize,
    signal,
)
from .registry import OPERATIONS, Operation, Value

__all__ = [
    "OPERATIONS",
    "Operation",
    "Value",
    "convolutions",
    "normalization",
    "pooling",
    "products",
    "quantization",
    "quantized_functions",
    "reductions",
    "resize",
    "signal",
]
