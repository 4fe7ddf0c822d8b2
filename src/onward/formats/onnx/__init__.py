"""Read, run and write ONNX graphs. May import what formats may, formats.keras and the onnx package."""
