"""Keras 3's operations in a graph: those in which it writes down how masks come about, and arithmetic."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..base import Recur
from ..errors import ArgumentError, ShapeError
from .layer import AnyArray, KerasLayer, Masked

OPERATIONS: dict[str, Callable[..., AnyArray]] = {
    "Add": np.add,
    "Subtract": np.subtract,
    "Multiply": np.multiply,
    "Divide": np.true_divide,
    "TrueDivide": np.true_divide,
    "Negative": np.negative,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Equal": np.equal,
    "NotEqual": np.not_equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    "LogicalNot": np.logical_not,
    "Any": lambda x, axis=None, keepdims=False: np.any(x, axis=_axis(axis), keepdims=keepdims),
    "All": lambda x, axis=None, keepdims=False: np.all(x, axis=_axis(axis), keepdims=keepdims),
    "ExpandDims": lambda x, axis: np.expand_dims(x, _axis(axis)),
    "Squeeze": lambda x, axis=None: np.squeeze(x, _axis(axis)),
    "ZerosLike": lambda x, dtype=None: np.zeros_like(x, dtype),
    "OnesLike": lambda x, dtype=None: np.ones_like(x, dtype),
    "Concatenate": lambda *x, axis=0: np.concatenate(x, axis=axis),
    "Cast": lambda x, dtype: x.astype(dtype),
    "ConvertToTensor": lambda x, dtype=None: x if dtype is None else x.astype(dtype),
}


class Operation(KerasLayer):
    """An operation by Keras' name for it, and the settings that it has beside its inputs."""

    arguments = None

    def __init__(self, operation: str, settings: Mapping[str, Any] | None = None) -> None:
        if operation not in OPERATIONS:
            raise ArgumentError(f"operation={operation!r}, but must be one of {', '.join(OPERATIONS)}")
        self.operation = operation
        self.settings = settings or {}

    def run(self, inputs: Sequence[Masked], recur: Recur, **options: Any) -> list[Masked]:
        given = [x.array for x in inputs]
        kind = next((x.dtype for x in given if x.ndim and x.dtype.kind == "f"), None)
        # a number written in the graph takes the precision of what it meets
        arrays = [x.astype(kind) if kind is not None and not x.ndim else x for x in given]
        try:
            return [Masked(np.asarray(OPERATIONS[self.operation](*arrays, **self.settings, **options)))]
        except (TypeError, ValueError) as error:
            shapes = ", ".join(str(x.shape) for x in arrays)
            raise ShapeError(
                f"{self.operation} cannot take {shapes} with {self.settings}: {error}"
            ) from error


def _axis(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis
