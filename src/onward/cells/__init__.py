"""Recurrent cells, which layers and the nodes of graphs share; may import every folder up to core."""
