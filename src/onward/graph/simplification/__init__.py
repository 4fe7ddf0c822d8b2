"""Simplify a graph once, before any plan; may import errors, core, layers, graphs and operations."""

from . import movement, quantized, recurrent
from .registry import REWRITES

__all__ = ["REWRITES", "movement", "quantized", "recurrent"]
