"""The ATen operators of PyTorch as operations of graphs; may import every folder up to graph."""
