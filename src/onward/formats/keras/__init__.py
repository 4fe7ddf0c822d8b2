"""Read Keras files without Keras. May import what formats may, and formats.zip."""
