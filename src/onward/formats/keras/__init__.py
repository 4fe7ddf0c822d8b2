"""Read Keras files without Keras. May import every folder up to tracing, and formats.zip."""
