"""From what people pass to what the core takes: one rule for dtypes, one for memory layout, one for integers.

The rule for dtypes: bool, integer and floating arrays of any width and byte order convert once to the
layer's float32 or float64, and what overflows becomes infinite; anything else raises. Nobody's array is ever
written to.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..errors import ArgumentError, DtypeError, ShapeError

Array: TypeAlias = NDArray[np.floating[Any]]
Shape: TypeAlias = tuple[int, ...]
FloatDtype: TypeAlias = np.dtype[np.floating[Any]]

FLOAT32: FloatDtype = np.dtype(np.float32)
FLOAT64: FloatDtype = np.dtype(np.float64)


def float_dtype(dtype: DTypeLike) -> FloatDtype:
    """float32 or float64, in native byte order; DtypeError for anything else."""
    for known in (FLOAT32, FLOAT64):
        if dtype is not None and known == dtype:  # NumPy takes None for float64
            return known
    raise DtypeError(f"dtype={dtype!r}, but layers compute in 'float32' or 'float64'")


def working_dtype(*given: NDArray[Any]) -> FloatDtype:
    """What is computed in where no layer says: float64 if any of the arrays is, else float32."""
    return FLOAT64 if any(array.dtype == FLOAT64 for array in given) else FLOAT32


def as_array(value: ArrayLike, name: str) -> NDArray[Any]:
    """`value` as a NumPy array of whatever dtype; `name` is what errors call it."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists; tensors that need a gradient
        raise DtypeError(f"{name} cannot be read as an array: {error}") from error
    if array is not value and hasattr(value, "_mask"):
        raise DtypeError(
            f"{name} is a masked array: convert it with .filled(value), or give the number of valid steps of "
            "each row as lengths"
        )
    return array


def as_floats(value: ArrayLike, dtype: FloatDtype, name: str) -> Array:
    """`value` in `dtype`, without a copy where it already is."""
    array = as_array(value, name)
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "biuf":
        raise DtypeError(
            f"{name} has dtype {array.dtype}, but must hold booleans, integers or floats: convert it first"
        )
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def as_stored(value: ArrayLike, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """A weight in the dtype that it is stored in; int8 is taken as it is."""
    array = as_array(value, name)
    if dtype.kind == "i" and array.dtype != dtype:
        raise DtypeError(f"{name} has dtype {array.dtype}; expected {dtype}: load floats before quantising")
    return as_floats(array, dtype, name)


def as_gradient(value: ArrayLike, shape: Shape, dtype: FloatDtype) -> Array:
    """dy in `dtype`, once its shape is that of y."""
    dy = as_floats(value, dtype, "dy")
    if dy.shape != shape:
        raise ShapeError(f"dy has shape {dy.shape}, but y has {shape}, and they must be alike")
    return dy


def as_integers(value: ArrayLike, low: int, high: int, name: str, because: str) -> NDArray[np.int64]:
    """`value` as int64 once every entry is an integer from `low` to `high`; `because` says why it must be."""
    array = as_array(value, name)
    if array.size == 0:  # an empty list has a float dtype
        return np.zeros(array.shape, np.int64)
    if array.dtype.kind not in "iu":
        raise DtypeError(
            f"{name} has dtype {array.dtype}, but must hold integers: convert it with .astype(int)"
        )
    outside = np.argwhere((array < low) | (array > high))
    if len(outside):
        where = tuple(outside[0].tolist())
        index = "[" + ", ".join(map(str, where)) + "]" if where else ""
        raise ArgumentError(f"{name}{index} is {array[where]}, but must be from {low} to {high}: {because}")
    return array.astype(np.int64)


def reversed_steps(x: Array, lengths: NDArray[np.int64] | None = None) -> Array:
    """x (T, B, ...) with the valid steps of each row in reverse order; what comes after them stays."""
    if lengths is None:
        return x[::-1]
    steps = np.arange(len(x))[:, None]
    return x[np.where(steps < lengths, lengths - 1 - steps, steps), np.arange(x.shape[1])]


def as_lengths(value: ArrayLike, batch: Shape, steps: int) -> NDArray[np.int64]:
    """Valid steps per row as (B,), from `value` of shape `batch`: (B,), or () where x is unbatched."""
    lengths = as_integers(value, 0, steps, "lengths", f"x has {steps} time steps")
    if lengths.shape != batch:
        expected = f"{batch}, one for each row of x" if batch else "(), one integer, as x is unbatched"
        raise ShapeError(f"lengths has shape {lengths.shape}, but must have shape {expected}")
    return lengths.reshape(-1)


def padded(items: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Arrays (T, ...) of different T side by side, (longest T, B, ...), with 0 behind their ends."""
    first = items[0]
    rows = np.zeros((max(map(len, items)), len(items), *first.shape[1:]), first.dtype)
    for b, item in enumerate(items):
        rows[: len(item), b] = item
    return rows


def with_contiguous_rows(array: Array) -> Array:
    """The array itself where its last axis is aligned and contiguous, as the core needs it, else a copy."""
    return array if array.strides[-1] == array.itemsize and array.flags.aligned else array.copy()


def contiguous(array: Array) -> Array:
    """The array itself where it is aligned and C-contiguous, else a copy."""
    return array if array.flags.c_contiguous and array.flags.aligned else array.copy()
