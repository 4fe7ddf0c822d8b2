"""Read PyTorch files without torch. May import every folder up to tracing, and formats.zip."""
