"""Models of TensorFlow Lite (LiteRT): a reader of flatbuffers and a translator of their operators."""

IDENTIFIER = b"TFL3"  # at byte 4 of a file
