"""Convert users' arrays to the dtypes and memory layouts that the core reads.

Boolean, integer and floating-point arrays of any width and byte order are converted once to the layer's
float32 or float64; values that overflow become infinite. Other dtypes raise DtypeError. Arguments are never
modified.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..errors import ArgumentError, DtypeError, OnwardError, ShapeError

Array: TypeAlias = NDArray[np.floating[Any]]
Shape: TypeAlias = tuple[int, ...]
FloatDtype: TypeAlias = np.dtype[np.floating[Any]]

FLOAT32: FloatDtype = np.dtype(np.float32)
FLOAT64: FloatDtype = np.dtype(np.float64)


def float_dtype(dtype: DTypeLike) -> FloatDtype:
    """float32 or float64 in native byte order. Raises DtypeError for anything else."""
    if isinstance(dtype, str | type | np.dtype):  # NumPy takes None and arrays, too
        for known in (FLOAT32, FLOAT64):
            if known == dtype:
                return known
    raise DtypeError(f"dtype={dtype!r}, but layers compute in 'float32' or 'float64'")


def working_dtype(*given: NDArray[Any]) -> FloatDtype:
    """The dtype in which a layer without weights computes: float64 if an array has it, else float32.

    Any byte order and wider floats count as float64.
    """
    return FLOAT64 if any(a.dtype.kind == "f" and a.dtype.itemsize >= 8 for a in given) else FLOAT32


def as_array(value: ArrayLike, name: str) -> NDArray[Any]:
    """`value` as a NumPy array of any dtype; errors call it `name`. Raises DtypeError."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, tuple) and any(getattr(part, "ndim", 0) for part in value):
        raise DtypeError(
            f"{name} is a tuple of arrays, but must be one array: of the (y, state) that a recurrent layer "
            "returns, pass y, or connect the layers with onward.Sequential; numpy.stack joins arrays"
        )
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, tensors that require a gradient
        raise DtypeError(f"{name} cannot be read as an array: {error}") from error
    parts = value if isinstance(value, list | tuple) and array.ndim > 1 else ()
    if array is not value and (hasattr(value, "_mask") or any(hasattr(part, "_mask") for part in parts)):
        raise DtypeError(
            f"{name} is a masked array: convert it with .filled(value), or give the number of valid steps of "
            "each row as lengths"
        )
    return array


def as_floats(value: ArrayLike, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """`value` as an array of `dtype`, copied only if it has another dtype. Raises DtypeError.

    The int8 weights of a quantized layer are never converted.
    """
    array = as_array(value, name)
    if array.dtype == dtype:
        return array
    if dtype.kind == "i":
        raise DtypeError(
            f"{name} has dtype {array.dtype}; expected {dtype}: load float weights before quantizing"
        )
    if array.dtype.kind not in "biuf":
        raise DtypeError(
            f"{name} has dtype {array.dtype}, but must hold booleans, integers or floats: convert it first"
        )
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def as_weights(
    owner: Any, given: Any, stored: Mapping[str, tuple[Shape, np.dtype[Any]]], strict: bool = True
) -> dict[str, Array]:
    """The `given` arrays under the names in `stored`, copied if they have another dtype or layout.

    Raises ArgumentError, which lists wrong shapes and dtypes and, if `strict`, missing and unexpected names.
    """
    if not isinstance(given, Mapping):
        kind = type(given).__name__
        raise ArgumentError(f"load_state_dict takes a dict of arrays by name, not {kind}")
    problems = [
        f"{name} is missing; expected shape {stored[name][0]}"
        for name in stored
        if strict and name not in given
    ]
    problems += [f"{name} is not expected" for name in given if strict and name not in stored]
    weights = {}
    for name, (shape, dtype) in stored.items():
        if name in given:
            try:
                array = as_floats(given[name], dtype, name)
                if array.shape != shape:
                    raise ShapeError(f"{name} has shape {array.shape}; expected {shape}")
                weights[name] = contiguous(array)
            except OnwardError as error:
                problems.append(str(error))
    if problems:
        raise ArgumentError("\n  ".join([f"{owner!r} cannot take these weights:", *problems]))
    return weights


def as_gradient(value: ArrayLike, shape: Shape, dtype: FloatDtype) -> Array:
    """dy as an array of `dtype`. Raises ShapeError unless it has the shape of y."""
    dy = as_floats(value, dtype, "dy")
    if dy.shape != shape:
        raise ShapeError(f"dy has shape {dy.shape}; expected {shape}, the shape of y")
    return dy


def as_integers(value: ArrayLike, low: int, high: int, name: str, because: str) -> NDArray[np.int64]:
    """`value` as int64. Raises DtypeError, and ArgumentError if an entry is not in [low, high] `because`."""
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
        raise ArgumentError(f"{name}{index} is {array[where]}, expected {low} to {high}, because {because}")
    return array.astype(np.int64)


def reversed_steps(x: Array, lengths: NDArray[np.int64] | None = None) -> Array:
    """x (T, B, ...) with the valid steps of each row in reverse order and the padding unchanged."""
    if lengths is None:
        return x[::-1]
    steps = np.arange(len(x))[:, None]
    return x[np.where(steps < lengths, lengths - 1 - steps, steps), np.arange(x.shape[1])]


def as_lengths(value: ArrayLike, batch: Shape, steps: int) -> NDArray[np.int64]:
    """The valid steps of each row, (B,), from `value` of shape `batch`: (B,), or () if unbatched."""
    lengths = as_integers(value, 0, steps, "lengths", f"x has {steps} time steps")
    if lengths.shape != batch:
        expected = f"{batch}, one for each row of x" if batch else "(), one integer, because x is unbatched"
        raise ShapeError(f"lengths has shape {lengths.shape}, expected {expected}")
    return lengths.reshape(-1)


def padded(items: Sequence[NDArray[Any]] | NDArray[Any]) -> NDArray[Any]:
    """Sequences (T, ...) of different T as one array (B, longest T, ...) of a common dtype, padded with 0."""
    dtype = np.result_type(*{item.dtype for item in items})
    # several times as fast as (T, B, ...), because it copies whole rows
    rows = np.zeros((len(items), max(map(len, items)), *items[0].shape[1:]), dtype)
    for row, item in zip(rows, items, strict=True):
        row[: len(item)] = item
    return rows


COLUMNS = 32  # of a matrix that are transposed at a time
MAX_WORK = 1000  # of the exact search for an element that two arrays share; more counts as sharing


def check_separate(outputs: Sequence[NDArray[Any]], inputs: Iterable[Any]) -> None:
    """Raise ArgumentError if arrays that take outputs share memory with one another or with an input.

    Otherwise an output would overwrite another one, or an input before it is read.
    """
    others = [*inputs]
    for out in outputs:
        if not (out.flags.c_contiguous or _has_distinct_elements(out)):
            raise ArgumentError(f"with the strides {out.strides}, the elements of out may overlap: copy it")
        for other in others:
            if _share_memory(out, other):
                raise ArgumentError("out shares memory with an input or another output: pass separate arrays")
        others.append(out)


def _share_memory(out: NDArray[Any], other: Any) -> bool:
    if type(other) is np.ndarray and other.base is None and out.base is None:  # both own their memory
        return other is out
    return np.may_share_memory(out, other, max_work=MAX_WORK)  # type: ignore[arg-type]  # any int, as documented


def _has_distinct_elements(array: NDArray[Any]) -> bool:
    """Whether each axis steps over all elements along the axes with smaller strides."""
    reach = array.itemsize
    for stride, size in sorted(zip(map(abs, array.strides), array.shape, strict=True)):
        if size > 1 and stride < reach:
            return not array.size
        reach += (size - 1) * stride
    return True


def with_contiguous_rows(array: Array) -> Array:
    """The array, or a copy if its last axis is not aligned and contiguous as the core requires."""
    return array if array.strides[-1] == array.itemsize and array.flags.aligned else array.copy()


def contiguous(array: Array) -> Array:
    """The array, or a copy if it is not aligned and C-contiguous.

    A matrix is transposed in blocks: a column of a large one has each number in another line of the cache.
    """
    if array.flags.c_contiguous and array.flags.aligned:
        return array
    if array.ndim != 2 or array.strides[0] >= array.strides[1]:
        return array.copy()
    copy = np.empty(array.shape, array.dtype)
    for first in range(0, array.shape[1], COLUMNS):
        copy[:, first : first + COLUMNS] = array[:, first : first + COLUMNS]
    return copy
