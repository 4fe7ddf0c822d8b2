"""Compressed weights: the matrices of recurrent layers as halves, or as bytes with a scale for each row.

float16: each weight rounded to the nearest half; all is computed in float32.
int8: weight = scale q with q = round(weight / scale) in [-127, 127] and scale = max |row| / 127. What the
matrix is multiplied with is quantised the same way as it comes, each row of a batch at each time step by its
own scale, so nothing has to be calibrated; products are summed exactly.
Biases, and everything between the products, stay in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.arrays import FLOAT32, Array, Shape
from ..core.checks import non_negative
from ..errors import ArgumentError, DtypeError, PrecisionError
from .base import Layer, call

PRECISIONS: dict[str, np.dtype[Any]] = {"float16": np.dtype(np.float16), "int8": np.dtype(np.int8)}

WIDEST = 2**17  # columns of an int8 matrix: sums of more products might not fit 32 bits
LEAST = np.float32(1e-30)  # a row of smaller numbers is one of zeros


def stored(shapes: Iterator[tuple[str, Shape]], precision: str) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of weights once they are compressed, from those before."""
    for name, shape in shapes:
        yield name, shape
        if precision == "int8" and len(shape) == 2:
            yield f"{name}_scale", shape[:1]


def compressed(weights: Mapping[str, NDArray[Any]], precision: str) -> dict[str, NDArray[Any]]:
    """Weights by name as they are stored, from float32. Raises ArgumentError for what cannot be."""
    result: dict[str, NDArray[Any]] = {}
    for name, weight in weights.items():
        if weight.ndim != 2:
            result[name] = weight
        elif precision == "float16":
            result[name] = _halves(name, weight)
        else:
            result[name], result[f"{name}_scale"] = _bytes(name, weight)
    return result


def _halves(name: str, weight: Array) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        halves = weight.astype(np.float16)
    if not np.isfinite(halves).all():
        largest = np.abs(weight).max()
        raise ArgumentError(f"{name} has numbers up to {largest}, but float16 ends at 65504")
    return halves


def _bytes(name: str, weight: Array) -> tuple[NDArray[np.int8], Array]:
    largest = np.abs(weight).max(axis=1)
    if not np.isfinite(largest).all():
        raise ArgumentError(f"{name} has numbers that are NaN or infinite, which int8 has not")
    scale = np.where(largest < LEAST, np.float32(0), largest / np.float32(127))
    steps = np.where(scale == 0, np.float32(1), scale)[:, None]
    return np.rint(np.where(scale[:, None] == 0, np.float32(0), weight) / steps).astype(np.int8), scale


def quantize(model: Layer, precision: str, check: ArrayLike | None, tolerance: float | None) -> Any:
    """The model with its recurrent layers compressed; see `Layer.quantize`."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ArgumentError(f"precision={precision!r}, but must be one of {', '.join(map(repr, PRECISIONS))}")
    if (check is None) != (tolerance is None):
        raise ArgumentError("check and tolerance go together: inputs, and the error allowed of their outputs")
    if model.dtype != FLOAT32:
        raise DtypeError(f"{model!r} computes in {model.dtype}, but compressed weights compute in float32")
    frozen = model.frozen()  # another thread may replace the weights
    small = frozen.with_sublayers(
        {name: layer._compressed(precision) for name, layer in frozen.sublayers().items()}
    )
    if check is not None and tolerance is not None:
        allowed = non_negative("tolerance", tolerance)
        largest, mean = error(small, model, check)
        if not largest <= allowed:
            raise PrecisionError(
                f"{precision} changes outputs by up to {largest:.2g} (mean {mean:.2g}), beyond the tolerance "
                f"of {allowed:g}: allow more" + (", or take 'float16'" if precision == "int8" else "")
            )
    return small


def error(small: Layer, model: Layer, x: ArrayLike) -> tuple[float, float]:
    """The largest and the mean absolute difference of two models' outputs for x."""
    outputs = [np.asarray(layer._run(x, None, None, call)[0], np.float64) for layer in (small, model)]
    difference = np.abs(outputs[0] - outputs[1])
    if not difference.size:
        raise ArgumentError(f"nothing comes out for inputs of shape {np.shape(x)}, so no error shows")
    return float(difference.max()), float(difference.mean())
