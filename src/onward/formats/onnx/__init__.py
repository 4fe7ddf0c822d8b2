"""Read, run and write ONNX graphs. May import every folder up to tracing, formats.keras and onnx."""
