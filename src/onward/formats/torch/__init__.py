"""Read PyTorch files without torch. May import what formats may, and formats.zip."""
