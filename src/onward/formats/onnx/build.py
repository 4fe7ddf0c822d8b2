"""Build ONNX messages from arrays and Python values."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .messages import (
    ATTRIBUTE_FIELDS,
    Attribute,
    AttributeType,
    Dimension,
    Graph,
    Node,
    Tensor,
    TensorShape,
    TensorType,
    Type,
    ValueInfo,
)
from .tensors import EXTRA_STORAGE, STORAGE

ALL_STORAGE = {**STORAGE, **EXTRA_STORAGE}
DATA_TYPES = {storage.dtype: data_type for data_type, storage in ALL_STORAGE.items()}


def tensor(array: NDArray[Any], name: str = "") -> Tensor:
    """An array of numbers, bools or str as a tensor."""
    data_type = DATA_TYPES[array.dtype.name]
    shared = {"dims": list(array.shape), "data_type": data_type, **_present(name=name)}
    if array.dtype == object:
        return Tensor(string_data=[item.encode() for item in array.ravel()], **shared)
    bits = ALL_STORAGE[data_type].bits
    if bits < 8:
        content = _packed(array.reshape(-1).view(np.uint8), bits)
    else:
        little = array.dtype.newbyteorder("<") if data_type in STORAGE else array.dtype
        content = array.astype(little, copy=False).tobytes()
    return Tensor(raw_data=content, **shared)


def _packed(elements: NDArray[np.uint8], bits: int) -> bytes:
    """Elements that share bytes, the first in the lowest bits."""
    digits = np.unpackbits(elements[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(digits.reshape(-1), bitorder="little").tobytes()


def _present(**texts: str) -> dict[str, Any]:
    """The texts that are not empty; an absent field is not written."""
    return {name: text for name, text in texts.items() if text}


def value_info(name: str, data_type: int, axes: Sequence[int | str | None] | None) -> ValueInfo:
    """The declaration of a tensor; each axis is a size, the name of a size, or None."""
    kind = TensorType(elem_type=data_type)
    if axes is not None:
        kind.shape = TensorShape(dim=[_dimension(axis) for axis in axes])
    return ValueInfo(name=name, type=Type(tensor_type=kind))


def _dimension(axis: int | str | None) -> Dimension:
    if axis is None:
        return Dimension()
    return Dimension(dim_param=axis) if isinstance(axis, str) else Dimension(dim_value=axis)


def node(
    op_type: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    name: str = "",
    domain: str = "",
    **attributes: Any,
) -> Node:
    """A node."""
    return Node(
        input=list(inputs),
        output=list(outputs),
        op_type=op_type,
        attribute=[attribute(key, value) for key, value in sorted(attributes.items())],
        **_present(name=name, domain=domain),
    )


def attribute(name: str, value: Any) -> Attribute:
    """An attribute whose value is a number, a str, an array, a graph, or a list of numbers or strs."""
    if isinstance(value, np.ndarray):
        value = tensor(value)
    kind = _attribute_type(value)
    if kind in (AttributeType.STRING, AttributeType.STRINGS):
        value = value.encode() if isinstance(value, str) else [item.encode() for item in value]
    return Attribute(name=name, type=kind, **{ATTRIBUTE_FIELDS[kind]: value})


def _attribute_type(value: Any) -> AttributeType:
    match value:
        case Tensor():
            return AttributeType.TENSOR
        case Graph():
            return AttributeType.GRAPH
        case str():
            return AttributeType.STRING
        case Integral():
            return AttributeType.INT
        case float():
            return AttributeType.FLOAT
    if all(isinstance(item, str) for item in value):
        return AttributeType.STRINGS
    return AttributeType.INTS if all(isinstance(item, Integral) for item in value) else AttributeType.FLOATS
