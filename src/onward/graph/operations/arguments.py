"""Axes, sizes and indices as the inputs and attributes of operations give them."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..node import AnyArray
from ..size import Size
from ..sized import integers

INTEGERS = frozenset((int, Size))
NEGATIVE = np.iinfo(np.int64).min  # stands for negative indices that do not count from the end


def as_integers(values: Any) -> list[Any]:
    """Return the integers of an array or sequence as Python's, which cannot overflow; sizes remain."""
    if type(values) is list and INTEGERS.issuperset(map(type, values)):
        return values[:]
    array = values if isinstance(values, np.ndarray) else np.asarray(values)
    numbers: list[Any] = array.tolist() if array.ndim == 1 else array.ravel().tolist()
    if array.dtype.kind in "iu":
        return numbers
    return [value if type(value) in INTEGERS else int(value) for value in numbers]


def as_axis(axis: int, rank: int) -> int:
    """Return an axis of an array counted from 0. Raises ArgumentError."""
    if not -rank <= axis < rank:
        raise ArgumentError(f"axis={axis}; expected {-rank} to {rank - 1} for an array with {rank} axes")
    return int(axis) % rank


def as_axes(axes: Iterable[int] | AnyArray | None, rank: int) -> list[int]:
    """Return axes counted from 0; None stands for all. Raises ArgumentError."""
    if axes is None:
        return list(range(rank))
    return [as_axis(axis, rank) for axis in as_integers(axes)]


def as_indices(indices: AnyArray, size: int) -> AnyArray:
    """Return indices of an axis counted from 0. Raises ArgumentError, as NumPy raises IndexError."""
    if indices.dtype != object and indices.size:
        low, high = (indices.min().item(), indices.max().item()) if indices.size > 1 else [indices.item()] * 2
        if low >= 0 and high < size:
            return indices.astype(np.int64)
    outside = indices[(indices < -size) | (indices >= size)]
    if outside.size:
        index = "a negative index" if outside[0] == NEGATIVE else f"the index {outside[0]}"
        raise ArgumentError(f"{index} is out of range for an axis of size {size}")
    found = np.where(indices < 0, indices + size, indices)
    return integers(found) if found.dtype == object else found.astype(np.int64)
