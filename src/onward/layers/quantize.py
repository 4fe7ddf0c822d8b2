"""Quantized copies of layers, and attributes that are derived from weights; see `core.quantize`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ..core.arrays import FLOAT32, Array
from ..core.checks import non_negative
from ..core.quantize import check_precision, quantized_weights
from ..errors import ArgumentError, DtypeError, PrecisionError
from .base import Draw, Layer
from .base_model import LOADING, call

Value = TypeVar("Value")


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


class Quantizable(Layer):
    """A layer with matrices; filters are matrices with one row for each output."""

    def compressed(self, precision: str) -> Self:
        matrices = {name: shape for name, shape in self.float_shapes() if self.is_matrix(name, shape)}
        weights = quantized_weights(self, self._weights, matrices, precision)
        small = copy.copy(self)
        small.__dict__["precision"] = precision
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
