"""Read PyTorch files without torch; may import every folder up to tracing, and formats.zip."""
