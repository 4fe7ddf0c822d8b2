"""Simplify a graph once, before any plan; may import errors, core, layers, graphs and operations."""
