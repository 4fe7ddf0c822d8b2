"""Quantization: matrices and filters as float16, or as int8 with a scale for each row.

float16: each weight is rounded to the nearest half; all arithmetic is in float32.
int8: weight = scale q with q = round(weight / scale) in [-127, 127] and scale = max |row| / 127. The vectors
that a matrix multiplies are quantized in the same way at each time step, with one scale for each row of the
batch (for each window of a convolution), so no calibration is needed; products are summed exactly.
Biases and all elementwise arithmetic stay in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.arrays import FLOAT32, Array, Shape
from ..core.checks import non_negative
from ..errors import ArgumentError, DtypeError, PrecisionError
from .base import Layer, call

PRECISIONS: dict[str, np.dtype[Any]] = {"float16": np.dtype(np.float16), "int8": np.dtype(np.int8)}

WIDEST = 2**17  # columns of an int8 matrix: longer sums could overflow 32 bits
LEAST = np.float32(1e-30)  # a row of smaller numbers is stored as zeros


def stored(shapes: Iterator[tuple[str, Shape]], precision: str) -> Iterator[tuple[str, Shape]]:
    """The names and shapes of quantized weights, from those of the float weights."""
    for name, shape in shapes:
        yield name, shape
        if precision == "int8" and len(shape) > 1:
            yield f"{name}_scale", shape[:1]


def compressed(weights: Mapping[str, NDArray[Any]], precision: str) -> dict[str, NDArray[Any]]:
    """Quantized weights by name, from float32. Raises ArgumentError for weights out of range."""
    result: dict[str, NDArray[Any]] = {}
    for name, weight in weights.items():
        result[name] = weight
        if weight.ndim > 1:
            matrix, scale = quantized_matrix(name, weight.reshape(len(weight), -1), precision)
            result[name] = matrix.reshape(weight.shape)
            if scale is not None:
                result[f"{name}_scale"] = scale
    return result


def _halves(name: str, weight: Array) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        halves = weight.astype(np.float16)
    if not np.isfinite(halves).all():
        largest = np.abs(weight).max()
        raise ArgumentError(f"{name} has values up to {largest}, but float16 only reaches 65504")
    return halves


def _bytes(name: str, weight: Array) -> tuple[NDArray[np.int8], Array]:
    check_width(name, weight.shape)
    largest = np.abs(weight).max(axis=1)
    if not np.isfinite(largest).all():
        raise ArgumentError(f"{name} has NaN or infinite values, which int8 cannot represent")
    scale = np.where(largest < LEAST, np.float32(0), largest / np.float32(127))
    steps = np.where(scale == 0, np.float32(1), scale)[:, None]
    return np.rint(np.where(scale[:, None] == 0, np.float32(0), weight) / steps).astype(np.int8), scale


def quantize(model: Layer, precision: str, check: ArrayLike | None, tolerance: float | None) -> Any:
    """See `Layer.quantize`."""
    check_precision(precision)
    check_pair(check, tolerance)
    if model.dtype != FLOAT32:
        raise DtypeError(f"{model!r} computes in {model.dtype}, but quantized models compute in float32")
    frozen = model.frozen()  # another thread may replace the weights
    small = frozen.with_sublayers(
        {name: layer._compressed(precision) for name, layer in frozen.sublayers().items()}
    )
    if check is not None and tolerance is not None:
        allowed = non_negative("tolerance", tolerance)
        outputs = [np.asarray(each._run(check, None, None, call)[0], np.float64) for each in (small, model)]
        check_difference(np.abs(outputs[0] - outputs[1]), precision, allowed)
    return small


def check_precision(precision: Any) -> None:
    """Raise ArgumentError for an unknown precision."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ArgumentError(f"precision={precision!r}; expected one of {', '.join(map(repr, PRECISIONS))}")


def check_pair(check: Any, tolerance: Any) -> None:
    """Raise ArgumentError unless both arguments are given or neither is."""
    if (check is None) != (tolerance is None):
        raise ArgumentError(
            "pass both check (inputs) and tolerance (the largest error of outputs), or neither"
        )


def check_difference(difference: Array, precision: str, allowed: float) -> None:
    """Raise PrecisionError if a quantized model's outputs differ by more than allowed."""
    if not difference.size:
        raise ArgumentError(
            f"check gives outputs of shape {difference.shape}: pass at least one sequence of one step"
        )
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
    return (_halves(name, matrix), None) if precision == "float16" else _bytes(name, matrix)
