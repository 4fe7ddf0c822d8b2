"""Keras 3's operations in a graph: those in which it writes down how masks come about, and functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError, ShapeError
from ....layers.base import RunRecurrent
from .activation_layers import ACTIVATIONS, exp
from .layer import AnyArray, KerasLayer, Masked, as_floats
from .products import product


def _reduced(reduce: Callable[..., AnyArray]) -> Callable[..., AnyArray]:
    """The function over axes, of numbers side by side in memory: whatever else there is, in one order."""

    def reduced(x: AnyArray, axis: Any = None, keepdims: bool = False) -> AnyArray:
        given = range(x.ndim) if axis is None else axis if isinstance(axis, list) else [axis]
        axes = sorted(range(x.ndim)[each] for each in given)
        others = [each for each in range(x.ndim) if each not in axes]
        rows = np.ascontiguousarray(x.transpose(*others, *axes))
        y = reduce(rows.reshape(*rows.shape[: len(others)], -1), axis=-1)
        return np.expand_dims(y, tuple(axes)) if keepdims else y

    return reduced


def _of_floats(function: Callable[..., AnyArray]) -> Callable[..., AnyArray]:
    return lambda x, **options: function(as_floats(x), **options)


def _matmul(a: AnyArray, b: AnyArray) -> AnyArray:
    """The last two axes multiplied; those before them agree, or one array has none."""
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError("both must have two axes")
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    pairs = [np.broadcast_to(x, (*shape, *x.shape[-2:])).reshape(-1, *x.shape[-2:]) for x in (a, b)]
    if a.shape[-1] != b.shape[-2]:
        raise ValueError("the inner sizes differ")
    y = np.array([product(first, second.T) for first, second in zip(*pairs, strict=True)])
    return y.reshape(*shape, a.shape[-2], b.shape[-1])


def _item(x: AnyArray, key: Sequence[Any]) -> AnyArray:
    """x[key]: a number, None, {"ellipsis": True} or {"start": a, "stop": b, "step": c} for each axis."""
    index = [
        (... if "ellipsis" in each else slice(each["start"], each["stop"], each["step"]))
        if isinstance(each, Mapping)
        else each
        for each in key
    ]
    return x[tuple(index)]


OPERATIONS: dict[str, Callable[..., AnyArray | list[AnyArray]]] = {
    **{"".join(map(str.capitalize, name.split("_"))): _of_floats(f) for name, f in ACTIVATIONS.items()},
    "Exp": _of_floats(exp),
    "Log": _of_floats(np.log),
    "Sqrt": _of_floats(np.sqrt),
    "Square": np.square,
    "Absolute": np.abs,
    "Abs": np.abs,
    "Power": np.power,
    "Mean": _of_floats(_reduced(np.mean)),
    "Sum": _reduced(np.sum),
    "Max": _reduced(np.max),
    "Min": _reduced(np.min),
    "Matmul": _matmul,
    "GetItem": _item,
    "Transpose": lambda x, axes=None: x.transpose(axes),
    "Swapaxes": lambda x, axis1, axis2: x.swapaxes(axis1, axis2),
    "Moveaxis": lambda x, source, destination: np.moveaxis(x, source, destination),
    "Reshape": lambda x, newshape: x.reshape(newshape),
    "Flip": lambda x, axis=None: np.flip(x, _axis(axis)),
    "Stack": lambda *x, axis=0: np.stack(x, axis=axis),
    "Split": lambda x, indices_or_sections, axis=0: np.split(x, indices_or_sections, axis),
    "Repeat": lambda x, repeats, axis=None: np.repeat(x, repeats, axis),
    "Tile": lambda x, repeats: np.tile(x, repeats),
    "Clip": lambda x, x_min, x_max: np.clip(x, x_min, x_max),
    "Where": np.where,
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

    def run(self, inputs: Sequence[Masked], run_recurrent: RunRecurrent, **options: Any) -> list[Masked]:
        given = [x.array for x in inputs]
        kind = next((x.dtype for x in given if x.ndim and x.dtype.kind == "f"), None)
        # a number written in the graph takes the precision of what it meets
        arrays = [x.astype(kind) if kind is not None and not x.ndim else x for x in given]
        try:
            y = OPERATIONS[self.operation](*arrays, **self.settings, **options)
        except (IndexError, TypeError, ValueError) as error:
            shapes = ", ".join(str(x.shape) for x in arrays)
            raise ShapeError(
                f"{self.operation} cannot take {shapes} with {self.settings}: {error}"
            ) from error
        outputs = map(np.asarray, y if isinstance(y, list) else [y])
        # whole numbers do not raise the precision of what they meet, as they would in NumPy
        mixed = kind is not None and any(x.dtype.kind in "iu" for x in arrays)
        return [Masked(each.astype(kind) if mixed and each.dtype.kind == "f" else each) for each in outputs]


def _axis(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis
