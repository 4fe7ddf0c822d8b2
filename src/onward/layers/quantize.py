"""Quantization: matrices and filters as float16, or as int8 with a scale for each row.

float16: each weight is rounded to the nearest half; all arithmetic is in float32.
int8: weight = scale q with q = round(weight / scale) in [-127, 127] and scale = max |row| / 127. The vectors
that a matrix multiplies are quantized in the same way at each time step, with one scale for each row of the
batch (for each window of a convolution), so no calibration is needed; products are summed exactly.
Biases and all elementwise arithmetic stay in float32.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.arrays import FLOAT32, Array, Shape
from ..core.checks import non_negative
from ..errors import ArgumentError, DtypeError, PrecisionError
from .base import Draw, Layer
from .base_model import LOADING, call

PRECISIONS = ("float16", "int8")
Value = TypeVar("Value")

WIDEST = 2**17  # columns of an int8 matrix: longer sums could overflow 32 bits
LEAST = np.float32(1e-30)  # a row of smaller numbers is stored as zeros


def quantize(model: Layer, precision: str, check: ArrayLike | None, tolerance: float | None) -> Any:
    """See `Layer.quantize`."""
    check_precision(precision)
    if model.dtype != FLOAT32:
        raise DtypeError(f"{model!r} computes in {model.dtype}, but quantized models compute in float32")
    frozen = model.frozen()  # another thread may replace the weights
    layers = {name: layer.compressed(precision) for name, layer in frozen.sublayers().items()}
    small = frozen.with_sublayers(layers)
    check_outputs(small, model, lambda m: [m.run(check, None, None, call)[0]], precision, check, tolerance)
    return small


def check_precision(precision: Any) -> None:
    """Raise ArgumentError for an unknown precision."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ArgumentError(f"precision={precision!r}; expected one of {', '.join(map(repr, PRECISIONS))}")


def check_outputs(
    small: Any, model: Any, outputs: Callable[[Any], list[Any]], precision: str, check: Any, tolerance: Any
) -> None:
    """Raise PrecisionError if the outputs of the quantized model for `check` differ by more than allowed."""
    if (check is None) != (tolerance is None):
        raise ArgumentError(
            "pass both check (inputs) and tolerance (the largest error of outputs), or neither"
        )
    if check is None:
        return
    allowed = non_negative("tolerance", tolerance)
    pairs = list(zip(outputs(small), outputs(model), strict=True))
    difference = np.concatenate([np.abs(np.asarray(y, np.float64) - x).ravel() for y, x in pairs])
    if not difference.size:
        shapes = ", ".join(str(np.shape(y)) for y, _ in pairs)
        raise ArgumentError(f"check gives outputs of shape {shapes}: pass at least one sequence of one step")
    largest, mean = float(difference.max()), float(difference.mean())
    if not largest <= allowed:
        raise PrecisionError(
            f"{precision} changes outputs by up to {largest:.2g} (mean {mean:.2g}), above the tolerance "
            f"of {allowed:g}: increase it" + (" or use 'float16'" if precision == "int8" else "")
        )


def check_width(name: str, shape: Shape) -> None:
    """Raise ArgumentError if the rows of an int8 matrix are too long."""
    if (columns := math.prod(shape[1:])) > WIDEST:
        raise ArgumentError(f"{name} has {columns} columns, but int8 supports at most {WIDEST}")


def quantized_matrix(name: str, matrix: Array, precision: str) -> tuple[NDArray[Any], Array | None]:
    """Return a quantized matrix and, for int8, the scale of each row. Raises ArgumentError."""
    if precision == "float16":
        with np.errstate(over="ignore"):
            halves = matrix.astype(np.float16)
        if not np.isfinite(halves).all():
            largest = np.abs(matrix).max()
            raise ArgumentError(f"{name} has values up to {largest}, but float16 only reaches 65504")
        return halves, None
    check_width(name, matrix.shape)
    largest = np.abs(matrix).max(axis=1)
    if not np.isfinite(largest).all():
        raise ArgumentError(f"{name} has NaN or infinite values, which int8 cannot represent")
    scale = np.where(largest < LEAST, np.float32(0), largest / np.float32(127))
    steps = np.where(scale == 0, np.float32(1), scale)[:, None]
    return np.rint(np.where(scale[:, None] == 0, np.float32(0), matrix) / steps).astype(np.int8), scale


class Quantizable(Layer):
    """A layer with matrices; filters are matrices with one row for each output."""

    def compressed(self, precision: str) -> Self:
        if self.precision:
            raise ArgumentError(f"{self!r} is already quantized: quantize the original layer instead")
        if precision == "int8":
            for name, shape in self._float_shapes():
                if self.is_matrix(name, shape):
                    check_width(name, shape)
        small = copy.copy(self)
        small.__dict__["precision"] = precision
        weights: dict[str, NDArray[Any]] = {}
        for name, weight in self._weights.items():
            weights[name] = weight
            if self.is_matrix(name, weight.shape):
                matrix, scale = quantized_matrix(name, weight.reshape(len(weight), -1), precision)
                weights[name] = matrix.reshape(weight.shape)
                if scale is not None:
                    weights[f"{name}_scale"] = scale
        small.take_weights(weights)
        return small

    def _check_gradients(self) -> None:
        """Raise ArgumentError if the layer is quantized."""
        if self.precision:
            raise ArgumentError(
                f"{self!r} has no gradients: quantized weights are supported at inference only"
            )

    def description(self) -> dict[str, Any]:
        return super().description() | ({"precision": self.precision} if self.precision else {})

    def __repr__(self) -> str:
        return super().__repr__() + (f".quantize({self.precision!r})" if self.precision else "")


class packed(Generic[Value]):
    """An attribute of DERIVED: a cached property of the weights, discarded when they are replaced."""

    def __init__(self, make: Callable[[Any, dict[str, Array]], Value]) -> None:
        self._make = make

    def __get__(self, layer: Layer, owner: type) -> Value:
        weights: Any = layer.own_weights  # read once: another thread may replace them
        value = self._make(layer, weights)
        with LOADING:
            if layer.own_weights is weights:
                layer.__dict__[self._make.__name__] = value
        return value


def uniform(bound: float) -> Draw:
    """A function that draws from U(-bound, bound), PyTorch's initial weights."""
    return lambda generator, shape: generator.uniform(-bound, bound, shape)
