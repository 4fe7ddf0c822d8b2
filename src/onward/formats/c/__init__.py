"""Models as C99 for microcontrollers; may import every folder up to streaming, and `formats.compiled`."""
