"""Turn the operations of a graph into steps of the core; may import every folder up to graph.

A lowering function takes the builder, the node, its inputs and the shapes of its outputs. It returns the
views of the outputs, or None if the core does not support the node, which then runs in NumPy.
"""

from . import arithmetic, integers, movement, products, recurrent, reductions, resize, transposed, windows
from .registry import LOWERINGS, Value

__all__ = [
    "LOWERINGS",
    "Value",
    "arithmetic",
    "integers",
    "movement",
    "products",
    "recurrent",
    "reductions",
    "resize",
    "transposed",
    "windows",
]
