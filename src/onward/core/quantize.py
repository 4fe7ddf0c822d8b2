"""Quantization: matrices and filters as float16, or as int8 with a scale for each row.

float16: each weight is rounded to the nearest half; all arithmetic is in float32.
int8: weight = scale q with q = round(weight / scale) in [-127, 127] and scale = max |row| / 127. The vectors
that a matrix multiplies are quantized in the same way at each time step, with one scale for each row of the
batch (for each window of a convolution), so no calibration is needed; products are summed exactly.
Biases and all elementwise arithmetic stay in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from .arrays import Array, Shape

PRECISIONS = ("float16", "int8")
WIDEST = 2**17  # columns of an int8 matrix: longer sums could overflow 32 bits
LEAST = np.float32(1e-30)  # a row of smaller numbers is stored as zeros


def check_precision(precision: Any) -> None:
    """Raise ArgumentError for an unknown precision."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ArgumentError(f"precision={precision!r}; expected one of {', '.join(map(repr, PRECISIONS))}")


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


def quantized_weights(
    owner: Any, weights: Mapping[str, Array], matrices: Mapping[str, Shape], precision: str
) -> dict[str, NDArray[Any]]:
    """Return the weights of a layer or a cell, of which these are `matrices`, or filters, quantized.

    Raises ArgumentError for weights that are quantized already or that the precision cannot represent; there
    may be no weights yet.
    """
    if owner.precision:
        raise ArgumentError(f"{owner!r} is already quantized: quantize the original layer instead")
    if precision == "int8":
        for name, shape in matrices.items():
            check_width(name, shape)
    quantized: dict[str, NDArray[Any]] = {}
    for name, weight in weights.items():
        quantized[name] = weight
        if name in matrices:
            matrix, scale = quantized_matrix(name, weight.reshape(len(weight), -1), precision)
            quantized[name] = matrix.reshape(weight.shape)
            if scale is not None:
                quantized[f"{name}_scale"] = scale
    return quantized
