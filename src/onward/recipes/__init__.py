"""Complete tasks: text, sequences and scikit-learn estimators; may import every folder up to tables."""

from ..core.lazy import attributes

# imported when first named: scikit-learn is an optional dependency
__getattr__ = attributes(
    __name__, {"Policy": "policy", "SequenceClassifier": "estimators", "SequenceRegressor": "estimators"}
)
