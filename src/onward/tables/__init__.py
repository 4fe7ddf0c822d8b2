"""Models over arrays, CSV, Arrow, Parquet and Ray Data; may import every folder up to formats."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "Scorer":  # needs pyarrow, unlike arrays and CSV
        from .scorer import Scorer

        return Scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
