"""Whole models as graphs, compiled to one plan of core steps; may import every folder up to core."""

from .node import Node
from .planner import Planner

__all__ = ["Node", "Planner"]
