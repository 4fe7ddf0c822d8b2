"""The base class of layers whose matrices can be stored in float16 or int8."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from ..core.arrays import Shape
from ..errors import ArgumentError
from . import quantize
from .base import Weighted


class Quantizable(Weighted):
    """A layer with matrices; filters are matrices with one row for each output."""

    precision = ""  # the stored dtype of the matrices once quantized: "float16" or "int8"

    def _float_shapes(self) -> Iterator[tuple[str, Shape]]:
        """The name and shape of each weight before quantization."""
        raise NotImplementedError

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        return quantize.stored(self._float_shapes(), self.precision)

    def _dtype_of(self, name: str, shape: Shape) -> np.dtype[Any]:
        is_matrix = len(shape) > 1
        return quantize.PRECISIONS[self.precision] if is_matrix and self.precision else self.dtype

    def _compressed(self, precision: str) -> Self:
        if self.precision:
            raise ArgumentError(f"{self!r} is already quantized: quantize the original layer instead")
        for name, shape in self._float_shapes():
            if precision == "int8":
                quantize.check_width(name, shape)
        small = copy.copy(self)
        small.__dict__["precision"] = precision
        small._weights = quantize.compressed(small._weights, precision)
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
