"""Shapes and arrays in which some integers are symbolic sizes.

An array of sizes, such as the result of Shape, has dtype object in NumPy and stands for an array of int64, or
of the integers that its dtype states.
"""

from operator import is_
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from .size import Size, are_same, is_symbolic

INT64, INT32 = np.dtype(np.int64), np.dtype(np.int32)
SIZES = {dtype: np.dtype(object, metadata={"integers": dtype}) for dtype in (INT64, INT32)}


def broadcast_shape(*shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the shape of arrays broadcast together. Raises ShapeError.

    It accepts sizes for which NumPy has no arrays.
    """
    first, *others = shapes or [()]
    for shape in others:
        if len(shape) != len(first) or not all(map(is_, shape, first)):
            break
    else:
        return first
    rank = max(map(len, shapes))
    joined: list[Any] = [*[1] * (rank - len(first)), *first]
    for shape in others:
        if shape is first:
            continue
        for place, size in enumerate(shape, rank - len(shape)):
            other = joined[place]
            if size is other:
                continue
            if other == 1:
                joined[place] = size
            elif size != 1 and size != other:
                raise ShapeError(f"the shapes {', '.join(map(str, shapes))} cannot be broadcast together")
    return tuple(joined)


def have_same_sizes(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether two shapes are the same for all sizes of the axes."""
    return len(a) == len(b) and all(map(are_same, a, b))


def integers(values: Any, dtype: np.dtype[Any] = INT64) -> Any:
    """Return integers as an array of a dtype, or of dtype object if some of them are sizes.

    Sizes that int32 does not hold become the numbers of the first call. Raises ArgumentError if those of a
    call do not fit into 64 bits.
    """
    array = np.empty((), object) if type(values) is Size else np.array(values, object)
    if type(values) is Size:
        array[()] = values
    if not all(map(_has_64_bits, array.flat)):
        raise ArgumentError("a number that is computed from those of a call has more than 64 bits")
    if dtype == INT32 and not all(map(_fits, array.flat)):
        array = array.astype(np.int64)
    return array.view(SIZES[dtype]) if is_symbolic(array.flat) else array.astype(dtype)


def _has_64_bits(size: Any) -> bool:
    """Whether int64 holds a size in the first call; the hints of open axes are no sizes of calls."""
    return type(size) is not Size or size.axes.is_open or -(1 << 63) <= size.hint < 1 << 63


def _fits(size: Any) -> bool:
    """Whether int32 holds a size; the hints of open axes are no sizes of calls."""
    return type(size) is not Size or size.axes.is_open or -(1 << 31) <= size < 1 << 31


def has_sizes(array: Any) -> bool:
    """Whether an array holds sizes."""
    return isinstance(array, np.ndarray) and array.dtype.hasobject and is_symbolic(array.flat)


def integers_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of the integers in an array of sizes of a dtype, or the dtype of other arrays."""
    return dtype.metadata["integers"] if dtype.metadata else dtype


def dtype_of(array: Any) -> np.dtype[Any]:
    """Return the dtype of an array or a signature; that of an array of sizes is that of its integers."""
    dtype: np.dtype[Any] = array.dtype
    if not dtype.hasobject or not has_sizes(array):
        return dtype
    return dtype.metadata["integers"] if dtype.metadata else INT64


def as_numbers(array: Any) -> Any:
    """Return an array in which sizes are fixed to those of the first call."""
    return array.astype(np.int64).astype(dtype_of(array)) if has_sizes(array) else array
