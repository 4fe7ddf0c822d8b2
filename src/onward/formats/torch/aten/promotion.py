"""The dtypes of torch's results."""

from typing import Any

import numpy as np

from .registry import BOOL, FLOAT32, INT64, Operand, Symbol, Tensor


def category(dtype: np.dtype[Any]) -> int:
    """Return the rank of a kind of dtypes in promotions: booleans, integers, floats, complex numbers."""
    return "biufc".replace("u", "i").index(dtype.kind if dtype.kind != "u" else "i")


def dtype_of(value: Operand) -> np.dtype[Any]:
    """Return the dtype of an operand; numbers have torch's default dtypes."""
    if isinstance(value, Tensor | Symbol):
        return value.dtype if isinstance(value, Tensor) or value.dtype.kind != "f" else FLOAT32
    if isinstance(value, bool):
        return BOOL
    return (
        INT64 if isinstance(value, int) else FLOAT32 if isinstance(value, float) else np.dtype(np.complex64)
    )


def promoted(*values: Operand) -> np.dtype[Any]:
    """Return torch's dtype of a result: tensors with axes come first, then those without, then numbers."""
    groups: list[list[np.dtype[Any]]] = [[], [], []]
    for value in values:
        if value is not None:
            groups[2 if not isinstance(value, Tensor) else 0 if value.rank else 1].append(dtype_of(value))
    result = None
    for group in groups:
        for dtype in group:
            if result is None:
                result = dtype
            elif category(dtype) > category(result):
                result = _with_precision(dtype, result)
            elif category(dtype) == category(result) and group is groups[0]:
                result = np.promote_types(dtype, result)
            elif category(dtype) == category(result) and not groups[0] and group is groups[1]:
                result = np.promote_types(dtype, result)
    assert result is not None
    return result


def _with_precision(dtype: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
    """A complex dtype keeps the precision of the floats that it meets."""
    return np.dtype(np.complex128) if dtype.kind == "c" and other == np.float64 else dtype
