"""The operations of graphs, under their ONNX names; may import errors, core and the files of graph."""

from typing import TYPE_CHECKING

from ...core.lazy import attributes

if TYPE_CHECKING:
    from .registry import OPERATIONS, Operation

__all__ = ["OPERATIONS", "Operation"]
__getattr__ = attributes(__name__, dict.fromkeys(__all__, "registry"))
