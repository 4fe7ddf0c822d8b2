"""Whole models as graphs, compiled to plans of core steps; may import errors and core."""

from typing import TYPE_CHECKING

from ..core.lazy import attributes

if TYPE_CHECKING:
    from ..model import Model
    from .graph import Graph, Input
    from .node import Node
    from .plan.planner import Planner

__all__ = ["Graph", "Input", "Model", "Node", "Planner"]
__getattr__ = attributes(
    __name__,
    {"Graph": "graph", "Input": "graph", "Model": ".model", "Node": "node", "Planner": "plan.planner"},
)
