"""Simplify a graph once, before any plan; may import errors, core, cells, graphs and operations."""
