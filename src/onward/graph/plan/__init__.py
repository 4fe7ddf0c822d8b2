"""Compile a graph to a plan of core steps over one arena, and run it; may import graph operations."""
