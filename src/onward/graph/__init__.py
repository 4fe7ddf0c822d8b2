"""Graphs of whole models, compiled to one plan of core steps for each signature of the inputs.

May import errors, core and the compiled core (_core).
"""

from .node import Node
from .planner import Planner

__all__ = ["Node", "Planner"]
