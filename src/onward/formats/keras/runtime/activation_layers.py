"""Keras' activations by name, and the layers that are one."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .... import layers
from ....core.arrays import Array, Shape
from ....core.arrays import as_floats as as_dtype
from ....core.checks import Rng
from ....errors import ArgumentError, ShapeError
from ....layers.base import RunRecurrent, Weighted, uniform
from .layer import AnyArray, KerasLayer, Masked, as_floats

exp, sigmoid, tanh, softplus, hard_sigmoid, _exact_gelu = map(
    layers.Activation, ("exponential", "sigmoid", "tanh", "softplus", "hard_sigmoid", "gelu")
)


def relu(
    x: Array, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Array:
    """x above the threshold, and at most max_value; below, negative_slope (x - threshold)."""
    y = np.where(x < threshold, negative_slope * (x - threshold) if negative_slope else 0, x)
    return y if max_value is None else np.minimum(y, max_value)


def celu(x: Array, alpha: float = 1.0) -> Array:
    return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha)


def gelu(x: Array, approximate: bool = False) -> Array:
    if not approximate:
        return _exact_gelu(x)
    return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def threshold(x: Array, threshold: float, default_value: float = 0.0) -> Array:
    return np.where(x > threshold, x, x.dtype.type(default_value))


def softmax(x: Array, axis: int = -1) -> Array:
    return layers.Softmax(axis)(x)


def log_softmax(x: Array, axis: int = -1) -> Array:
    rows = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    shifted = rows - rows.max(axis=-1, keepdims=True)
    return np.moveaxis(shifted - np.log(exp(shifted).sum(axis=-1, keepdims=True)), -1, axis)


def sparsemax(x: Array, axis: int = -1) -> Array:
    """As Keras defines it, whose threshold sums running totals where Martins and Astudillo, 2016, sum x."""
    z = np.moveaxis(x, axis, -1)
    falling = -np.sort(-z, axis=-1)
    total = np.cumsum(falling, axis=-1)
    support = falling - (total - 1) / np.arange(1, z.shape[-1] + 1, dtype=x.dtype) > 0
    count = support.sum(axis=-1, keepdims=True).astype(x.dtype)
    threshold = (np.where(support, total, 0).sum(axis=-1, keepdims=True) - 1) / count
    return np.moveaxis(np.maximum(z - threshold, 0), -1, axis)


def glu(x: Array, axis: int = -1) -> Array:
    first, second = np.split(x, 2, axis=axis)
    return first * sigmoid(second)


IN_CORE = (
    "linear", "sigmoid", "tanh", "relu6", "selu", "softplus", "softsign", "exponential", "silu", "mish",
    "hard_sigmoid", "hard_sigmoid_keras2",
)  # fmt: skip

ACTIVATIONS: dict[str, Callable[..., Array]] = {
    **{name: layers.Activation(name) for name in IN_CORE},
    "relu": relu,
    "leaky_relu": lambda x, negative_slope=0.2: layers.Activation("leaky_relu", negative_slope)(x),
    "elu": lambda x, alpha=1.0: layers.Activation("elu", alpha)(x),
    "celu": celu,
    "gelu": gelu,
    "hard_silu": lambda x: x * hard_sigmoid(x),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "hard_shrink": lambda x, threshold=0.5: x * (np.abs(x) > threshold),
    "soft_shrink": lambda x, threshold=0.5: np.sign(x) * np.maximum(np.abs(x) - threshold, 0),
    "tanh_shrink": lambda x: x - tanh(x),
    "threshold": threshold,
    "log_sigmoid": lambda x: -softplus(-x),
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x >= 1, x, 0.25 * (x + 1) ** 2)),
    "sparse_sigmoid": lambda x: np.clip(0.5 * (x + 1), 0, 1),
    "squareplus": lambda x, b=4: (x + np.sqrt(x * x + b)) / 2,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "sparsemax": sparsemax,
    "glu": glu,
}


class Activation(KerasLayer):
    """keras.layers.Activation, ReLU, LeakyReLU, ELU, ...: y = f(x), f by name, with its parameters."""

    @property
    def causal(self) -> bool:
        return bool((self.parameters or {}).get("axis", -1) == -1)

    def __init__(self, activation: str, parameters: Mapping[str, Any] | None = None) -> None:
        if activation not in ACTIVATIONS:
            raise ArgumentError(f"activation={activation!r}, but must be one of {', '.join(ACTIVATIONS)}")
        self.activation = activation
        self.parameters = parameters

    def compute(self, x: AnyArray) -> AnyArray:
        return ACTIVATIONS[self.activation](as_floats(x), **(self.parameters or {}))


class Softmax(KerasLayer):
    """keras.layers.Softmax: along an axis, over what its mask leaves, which must broadcast to x."""

    arguments = ("mask",)

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def compute(self, x: AnyArray) -> AnyArray:
        return softmax(as_floats(x), self.axis)

    def run(self, inputs: Sequence[Masked], run_recurrent: RunRecurrent, **options: Any) -> list[Masked]:
        x, mask = self.only(inputs, options)
        x = as_floats(x)
        if mask is None:
            return [Masked(self.compute(x))]
        try:
            counts = np.broadcast_to(mask, x.shape)
        except ValueError as error:
            raise ArgumentError(
                f"x has a mask {mask.shape}, which Softmax cannot broadcast to {x.shape}"
            ) from error
        y = softmax(np.where(counts, x, np.finfo(x.dtype).min / 2), self.axis)
        return [Masked(np.where(counts, y, 0), mask)]


class PReLU(Weighted, KerasLayer):
    """keras.layers.PReLU: y = max(x, 0) + alpha min(x, 0), alpha of the shape of a row, or 1 along an axis.

    Source: He et al. 2015.
    """

    def __init__(self, shape: Sequence[int], *, dtype: DTypeLike = "float32", rng: Rng = None) -> None:
        self.shape = shape
        self._draw(dtype, rng, uniform(1.0))

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        yield "alpha", tuple(self.shape)

    def compute(self, x: AnyArray) -> AnyArray:
        x = as_dtype(x, self.dtype, "x")
        if x.ndim != 1 + len(self.shape) or any(
            n not in (1, size) for n, size in zip(self.shape, x.shape[1:], strict=True)
        ):
            raise ShapeError(f"x has shape {x.shape}, but alpha {tuple(self.shape)} for each row")
        return np.maximum(x, 0) + self._weights["alpha"] * np.minimum(x, 0)
