"""A whole model as one graph, and how the core runs it: a plan for each signature of its inputs.

Imports `errors`, the compiled core and `core`.
"""

from .node import Node
from .planner import Planner

__all__ = ["Node", "Planner"]
