"""Read Keras files without Keras; may import every folder up to tracing, and formats.zip."""
