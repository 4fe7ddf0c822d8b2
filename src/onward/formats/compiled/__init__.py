"""Compiled models, `.onward` files of programs of the core; may import every folder up to streaming."""

SIGNATURE = b"\x89onward\n"  # as in cpp/run/model_file.h
HEADER = 64  # bytes, as there
