"""The tensors and attributes of ONNX files as NumPy arrays and Python values."""

from __future__ import annotations

import math
import re
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core import budget
from ...errors import FileError
from .messages import ATTRIBUTE_FIELDS, Attribute, AttributeType, DataType, SparseTensor, Tensor

Array = NDArray[Any]
DATA_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


class Storage(NamedTuple):
    """The storage of a data type: its dtype, the bits of an element in raw_data, and the field without it."""

    dtype: str
    bits: int
    field: str


def _storage(text: str) -> Storage:
    dtype, _, field = text.partition("/")
    digits = re.search(r"\d+", dtype)
    return Storage(dtype, int(digits[0]) if digits else 8 * (dtype == "bool"), field or "int32_data")


# The dtype of each DataType, in order, and the field that holds its elements if it is neither raw_data nor
# int32_data. The dtypes of the last two lines come from the package ml_dtypes. Elements of fewer than 8 bits
# share bytes in raw_data, and those of 2 and 4 bits also in int32_data.
NAMES = (
    "float32/float_data uint8 int8 uint16 int16 int32 int64/int64_data object/string_data bool float16 "
    "float64/double_data uint32/uint64_data uint64/uint64_data complex64/float_data complex128/double_data "
    "bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz uint4 int4 float4_e2m1fn "
    "float8_e8m0fnu uint2 int2 float6_e2m3fn float6_e3m2fn"
)
STORAGE: dict[int, Storage] = dict(zip(DataType, map(_storage, NAMES.split()), strict=True))
DATA_TYPES = {storage.dtype: DataType(data_type) for data_type, storage in STORAGE.items()}
LAST_OF_NUMPY = DataType.COMPLEX128
DTYPES = {data_type: np.dtype(STORAGE[data_type].dtype) for data_type in range(1, LAST_OF_NUMPY + 1)}
COMPLEX = (DataType.COMPLEX64, DataType.COMPLEX128)
NUMBERS = (AttributeType.FLOATS, AttributeType.INTS)
ZEROS: dict[int, Any] = {AttributeType.FLOAT: 0.0, AttributeType.INT: 0, AttributeType.STRING: ""}
MAX_AXES = 64  # NumPy's limit
SHARED = (2, 4)  # bits of the types whose elements share an entry of int32_data


def dtype_of(data_type: int, owner: str) -> np.dtype[Any]:
    """The dtype of a data type. Raises FileError, which names the owner, such as "the tensor W"."""
    if (found := DTYPES.get(data_type)) is not None:
        return found
    name = storage_of(data_type, owner).dtype
    try:
        import ml_dtypes  # type: ignore[import-not-found, unused-ignore]  # an optional package

        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return dtype
    except (ModuleNotFoundError, AttributeError) as error:
        raise FileError(
            f"{owner} has the data type {DataType(data_type).name}, which NumPy lacks: "
            "pip install --upgrade ml_dtypes"
        ) from error


def storage_of(data_type: int, owner: str) -> Storage:
    """Return the storage of a data type. Raises FileError, which names the owner, if it is unknown."""
    if data_type not in STORAGE:
        raise FileError(f"{owner} has the unknown data type {data_type}; expected 1 to {max(DataType)}")
    return STORAGE[data_type]


def named(tensor: Tensor) -> str:
    """A tensor in messages."""
    return f"the tensor {tensor.name}" if tensor.name else "a tensor without a name"


def check_size(tensor: Tensor) -> None:
    """Raise FileError unless a tensor has the number of elements that its shape requires."""
    name, shape, given = named(tensor), tuple(tensor.dims), vars(tensor)
    _check_shape(shape, name)
    if tensor.segment is not None:
        raise FileError(f"{name} contains only a segment; expected a whole tensor")
    storage, count = storage_of(tensor.data_type, name), math.prod(shape)
    found = [field for field in given if field in DATA_FIELDS and len(given[field])]
    if tensor.raw_data is not None:
        if found or storage.bits == 0:
            raise FileError(f"{name} has raw_data; expected only {', '.join(found) or storage.field}")
        actual, expected, unit = len(tensor.raw_data), -(-count * storage.bits // 8), "bytes"
    else:
        if found not in ([], [storage.field]):
            raise FileError(f"{name} has the fields {', '.join(found)}; expected {storage.field}")
        actual, unit = len(getattr(tensor, storage.field)), "elements"
        expected = -(-count * storage.bits // 8) if storage.bits in SHARED else count
        expected *= 1 + (tensor.data_type in COMPLEX)
    if actual != expected:
        raise FileError(f"{name} has {actual} {unit}; its shape {shape} requires {expected}")


def _check_shape(shape: tuple[int, ...], owner: str) -> None:
    if len(shape) > MAX_AXES:  # whose product might be a number of millions of digits
        raise FileError(f"{owner} has {len(shape)} axes; expected at most {MAX_AXES}")
    if min(shape, default=0) < 0:
        raise FileError(f"{owner} has the shape {shape}; expected sizes of at least 0")


def tensor_array(tensor: Tensor) -> Array:
    """A tensor that passed `check_size` as an array, read-only and possibly unaligned in the file's memory.

    Strings become an object array of str. Types that NumPy lacks need the package ml_dtypes. Raises
    FileError.
    """
    name, count = named(tensor), math.prod(tensor.dims)
    dtype, storage = dtype_of(tensor.data_type, name), STORAGE[tensor.data_type]
    array: Array
    if storage.bits == 0:
        array = np.empty(count, object)
        array[:] = [_text(item, name) for item in tensor.string_data]
    elif storage.bits < 8 and (tensor.raw_data is not None or storage.bits in SHARED):
        packed = tensor.raw_data
        source = tensor.int32_data.astype(np.uint8) if packed is None else np.frombuffer(packed, np.uint8)
        array = _unpacked(source, storage.bits)[:count].view(dtype)
    elif tensor.raw_data is not None:
        array = np.frombuffer(tensor.raw_data, dtype)
        if sys.byteorder == "big" and tensor.data_type <= LAST_OF_NUMPY:
            array = array.byteswap()
    else:
        numbers = getattr(tensor, storage.field)
        if tensor.data_type in COMPLEX:
            array = numbers.view(dtype)
        elif storage.field == "int32_data" and dtype.kind not in "iub":  # the bits of floats
            array = numbers.astype(f"u{dtype.itemsize}").view(dtype)
        else:
            array = numbers.astype(dtype, copy=False)
    try:
        return array.reshape(tensor.dims)
    except ValueError as error:  # larger sizes, beside one of 0, or more axes than NumPy accepts
        raise FileError(f"{name} has the shape {tuple(tensor.dims)}: {error}") from error


def _unpacked(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The elements that share bytes, the first in the lowest bits."""
    digits = np.unpackbits(packed, count=8 * len(packed) // bits * bits, bitorder="little")
    return np.packbits(digits.reshape(-1, bits), axis=1, bitorder="little").reshape(-1)


def attribute_value(attribute: Attribute) -> Any:
    """The value of an attribute: int, float, str, array, graph, type, or a list of these.

    The attribute must come from `read`, which checks it, and must not be a reference. Raises FileError.
    """
    value = getattr(attribute, ATTRIBUTE_FIELDS[attribute.type])
    if value is None:  # Protocol Buffers 3 omits zeros
        return ZEROS[attribute.type]
    if isinstance(value, list | tuple):
        return [*value] if attribute.type in NUMBERS else [_plain(item, attribute) for item in value]
    return _plain(value, attribute)


def _plain(value: Any, owner: Attribute) -> Any:
    if isinstance(value, Tensor):
        return tensor_array(value)
    return _text(value, f"the attribute {owner.name}") if isinstance(value, bytes) else value


def _text(content: bytes, owner: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise FileError(f"{owner} has the string {content[:60]!r}; expected UTF-8") from error


def dense(sparse: SparseTensor) -> Tensor:
    """A sparse tensor, whose parts passed check_size, as a dense one. Raises FileError, MemoryLimitError."""
    if sparse.values is None or sparse.indices is None:
        raise FileError("a sparse tensor has no values or no indices")
    name, shape = f"the sparse tensor {sparse.values.name}", tuple(sparse.dims)
    values, indices = tensor_array(sparse.values), tensor_array(sparse.indices)
    bits = storage_of(sparse.values.data_type, name).bits
    _check_shape(shape, name)
    if bits < 8:
        raise FileError(f"{name} has elements of less than a byte, or strings; expected whole bytes")
    size = math.prod(shape)
    budget.take(2 * max(size, *shape, 0) * bits // 8)  # also of an axis beside one of size 0
    flat = _flat_indices(indices, shape)
    fits = indices.dtype == np.int64 and values.ndim == 1 and flat.shape == values.shape
    if not fits or np.any((flat < 0) | (flat >= size)):
        raise FileError(
            f"{name} has values {values.shape} and {indices.dtype} indices {indices.shape}; "
            f"expected an int64 index inside the shape {shape} for each value"
        )
    opaque = f"V{bits // 8}"
    array = np.zeros(size, opaque)
    array[flat] = values.view(opaque)
    name, data_type = sparse.values.name, sparse.values.data_type
    return Tensor(name=name, dims=list(shape), data_type=data_type, raw_data=array.tobytes())


def _flat_indices(indices: Array, shape: tuple[int, ...]) -> Array:
    """Indices (N, axes) into the flat array; -1 for those outside. Indices (N,) are flat already."""
    if indices.ndim != 2 or indices.shape[1] != len(shape):
        return indices
    strides = np.array([math.prod(shape[axis + 1 :]) for axis in range(len(shape))], np.int64)
    inside = np.all((indices >= 0) & (indices < np.array(shape, np.int64)), axis=1)
    flat: Array = np.where(inside, np.where(inside.reshape(-1, 1), indices, 0) @ strides, -1)
    return flat
