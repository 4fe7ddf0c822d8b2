"""Read Keras files without Keras; may import every folder up to tracing, and formats.zip."""

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
MEMBERS = {"config.json", "metadata.json"}  # in every archive that Keras writes
