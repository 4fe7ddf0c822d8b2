"""Models over arrays, CSV, Arrow, Parquet and Ray Data; may import every folder up to formats."""

from ..core.lazy import attributes

__getattr__ = attributes(__name__, {"Scorer": "scorer"})  # needs pyarrow, unlike arrays and CSV
