"""Turn a graph over sequences into a graph over blocks with carries; may import errors and graphs."""
