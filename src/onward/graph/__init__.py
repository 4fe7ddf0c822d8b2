"""A whole model as one graph, and how the core runs it: a plan for each signature of its inputs.

May import errors, core and the compiled core (_core).
"""

from .node import Node
from .planner import Planner

__all__ = ["Node", "Planner"]
