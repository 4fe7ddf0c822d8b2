"""Complete tasks: text, wake words, policies and estimators; may import every folder up to tables."""

from ..core.lazy import attributes

# imported when first named: scikit-learn and the micro front end are optional dependencies
__getattr__ = attributes(
    __name__,
    {
        "Policy": "policy",
        "SequenceClassifier": "estimators",
        "SequenceRegressor": "estimators",
        "WakeWord": "wake_word",
    },
)
