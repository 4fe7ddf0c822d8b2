"""The operations of graphs, under their ONNX names; may import every folder up to layers."""

from .registry import OPERATIONS, Operation, Value

__all__ = ["OPERATIONS", "Operation", "Value"]
