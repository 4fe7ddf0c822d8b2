"""Read, run and write ONNX graphs; may import every folder up to tracing, formats.keras and onnx."""
