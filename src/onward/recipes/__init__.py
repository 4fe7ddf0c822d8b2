"""Complete tasks: text, sequences and scikit-learn estimators; may import every folder up to tables."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Import the estimators on first use, since scikit-learn is an optional dependency."""
    if name in ("SequenceClassifier", "SequenceRegressor"):
        return getattr(importlib.import_module(".estimators", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
