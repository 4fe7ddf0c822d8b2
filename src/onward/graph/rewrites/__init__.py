"""Rewrites of single nodes by simpler ones; may import errors, core, layers, graph nodes and operations."""

from . import movement, quantized, recurrent
from .registry import REWRITES

__all__ = ["REWRITES", "movement", "quantized", "recurrent"]
