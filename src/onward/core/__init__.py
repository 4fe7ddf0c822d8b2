"""Arrays, argument checks, storage, threads and gate orders; may import errors and _core only."""
