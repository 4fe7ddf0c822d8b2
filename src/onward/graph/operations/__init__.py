"""The operations of graphs: what each one means in NumPy, its output shapes and its steps in the core."""

from . import products, reductions
from .registry import OPERATIONS, Operation, Value

__all__ = ["OPERATIONS", "Operation", "Value", "products", "reductions"]
