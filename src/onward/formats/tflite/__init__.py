"""Read models of TensorFlow Lite; may import core, graph and layers."""

IDENTIFIER = b"TFL3"  # at byte 4 of a file
