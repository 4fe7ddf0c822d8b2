"""Whole models as graphs, compiled to one plan of core steps; may import every folder up to layers."""

from .node import Node

__all__ = ["Node"]
