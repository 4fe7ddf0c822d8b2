"""Whole models as graphs, compiled to plans of core steps; may import every folder up to layers."""

from .graph import Graph, Input
from .model import Model
from .node import Node
from .plan.planner import Planner

__all__ = ["Graph", "Input", "Model", "Node", "Planner"]
