"""Build ONNX messages from arrays and Python values."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import messages
from .messages import AttributeType as Kind
from .messages import Graph, Tensor
from .tensors import DATA_TYPES, LAST_OF_NUMPY, STORAGE


def tensor(array: NDArray[Any], name: str = "") -> Tensor:
    """An array of numbers, bools or str as a tensor."""
    shared = {"dims": list(array.shape), "data_type": DATA_TYPES[array.dtype.name], **_present(name=name)}
    if array.dtype == object:
        return Tensor(string_data=[item.encode() for item in array.ravel()], **shared)
    return Tensor(raw_data=content(array), **shared)


def content(array: NDArray[Any]) -> bytes:
    """The bytes of an array of numbers or bools in a tensor."""
    data_type = DATA_TYPES[array.dtype.name]
    bits = STORAGE[data_type].bits
    if bits < 8:  # elements share bytes, the first in the lowest bits
        elements = array.reshape(-1, 1).view(np.uint8)
        digits = np.unpackbits(elements, axis=1, count=bits, bitorder="little")
        return np.packbits(digits.reshape(-1), bitorder="little").tobytes()
    little = array.dtype.newbyteorder("<") if data_type <= LAST_OF_NUMPY else array.dtype
    return array.astype(little, copy=False).tobytes()


def _present(**texts: str) -> dict[str, Any]:
    """The texts that are not empty; an absent field is not written."""
    return {name: text for name, text in texts.items() if text}


def value_info(name: str, data_type: int, axes: Sequence[int | str] | None) -> messages.ValueInfo:
    """The declaration of a tensor; each axis is a size, the name of a size, or "" for any."""
    kind = messages.TensorType(elem_type=data_type)
    if axes is not None:
        kind.shape = messages.TensorShape(dim=[messages.Dimension(**_size(axis)) for axis in axes])
    return messages.ValueInfo(name=name, type=messages.Type(tensor_type=kind))


def _size(axis: int | str) -> dict[str, Any]:
    return _present(dim_param=axis) if isinstance(axis, str) else {"dim_value": axis}


def node(
    op_type: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    name: str = "",
    domain: str = "",
    **values: Any,
) -> messages.Node:
    """A node whose attributes have these values."""
    return messages.Node(
        input=list(inputs),
        output=list(outputs),
        op_type=op_type,
        attribute=[attribute(key, value) for key, value in sorted(values.items())],
        **_present(name=name, domain=domain),
    )


def is_float32(value: Any) -> bool:
    """Whether an attribute, which holds float32, preserves a value."""
    with np.errstate(over="ignore"):
        return not isinstance(value, float) or np.isnan(value) or float(np.float32(value)) == value


class Reference(NamedTuple):
    """The value of an attribute of the function around a node, and its kind."""

    name: str
    kind: Kind


def attribute(name: str, value: Any) -> messages.Attribute:
    """An attribute whose value is a number, a str, an array or tensor, a graph, or a list of numbers or strs.

    A `Reference` takes the value of an attribute of the function around the node.
    """
    match value:
        case Reference(option, kind):
            return messages.Attribute(name=name, ref_attr_name=option, type=kind)
        case np.ndarray():
            kind, value = Kind.TENSOR, tensor(value)
        case Tensor():
            kind = Kind.TENSOR
        case Graph():
            kind = Kind.GRAPH
        case str():
            kind, value = Kind.STRING, value.encode()
        case Integral():
            kind = Kind.INT
        case float():
            kind = Kind.FLOAT
        case _ if all(isinstance(item, str) for item in value):
            kind, value = Kind.STRINGS, [item.encode() for item in value]
        case _:
            kind = Kind.INTS if all(isinstance(item, Integral) for item in value) else Kind.FLOATS
    return messages.Attribute(name=name, type=kind, **{messages.ATTRIBUTE_FIELDS[kind]: value})
