"""Reads and writes ONNX."""
