"""The messages of ONNX files, with the field names of onnx.proto.

Fields of ONNX that no inference needs (training, devices, quantization annotations, documentation) are not
declared, so reading skips them. A default of None means that a field may be absent, which differs from zero
or empty.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .protobuf import BYTES, DOUBLE, ENUM, FLOAT, INT32, INT64, STRING, UINT64, VIEW, Message, Run, field

NO_NUMBERS: NDArray[Any] = np.empty(0)


class DataType(enum.IntEnum):
    """The types of a tensor's elements."""

    FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, STRING, BOOL, FLOAT16, DOUBLE = range(1, 12)
    UINT32, UINT64, COMPLEX64, COMPLEX128, BFLOAT16 = range(12, 17)
    FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2, FLOAT8E5M2FNUZ = range(17, 21)
    UINT4, INT4, FLOAT4E2M1, FLOAT8E8M0, UINT2, INT2, FLOAT6E2M3, FLOAT6E3M2 = range(21, 29)


class AttributeType(enum.IntEnum):
    """Which field of an attribute holds its value."""

    FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS, STRINGS, TENSORS, GRAPHS = range(1, 11)
    SPARSE_TENSOR, SPARSE_TENSORS, TYPE_PROTO, TYPE_PROTOS = range(11, 15)


ATTRIBUTE_FIELDS: dict[int, str] = dict(
    zip(
        AttributeType,
        "f i s t g floats ints strings tensors graphs sparse_tensor sparse_tensors tp type_protos".split(),
        strict=True,
    )
)


class DataLocation(enum.IntEnum):
    """Whether a tensor's data are in the model or in a file beside it."""

    DEFAULT, EXTERNAL = range(2)


OF_LAYERS = "onward.layers"  # the key of the metadata of files that Onward wrote from its layers


class StringStringEntry(Message):
    """An entry of a mapping from strings to strings."""

    key: str = field(1, STRING, default="")
    value: str = field(2, STRING, default="")


class OperatorSetId(Message):
    """The version of the operators of a domain; the domain of ONNX itself is empty."""

    domain: str = field(1, STRING, default="")
    version: int = field(2, INT64, default=0)


UNKNOWN_SIZE = -1  # what some exporters write instead of no size


class Dimension(Message):
    """A size of a shape: a number, the name of an unknown size, or neither."""

    dim_value: int | None = field(1, INT64, default=None, oneof="value")
    dim_param: str | None = field(2, STRING, default=None, oneof="value")
    denotation: str = field(3, STRING, default="")


class TensorShape(Message):
    """The sizes of a tensor's axes."""

    dim: Sequence[Dimension] = field(1, "Dimension", default=())


class TensorType(Message):
    """A tensor, dense or sparse; without a shape, it has any."""

    elem_type: int = field(1, INT32, default=0)
    shape: TensorShape | None = field(2, "TensorShape", default=None)


class ElementType(Message):
    """A sequence or an optional value."""

    elem_type: Type | None = field(1, "Type", default=None)


class MapType(Message):
    """A mapping."""

    key_type: int = field(1, INT32, default=0)
    value_type: Type | None = field(2, "Type", default=None)


class OpaqueType(Message):
    """A type that only one runtime knows."""

    domain: str = field(1, STRING, default="")
    name: str = field(2, STRING, default="")


class Type(Message):
    """The type of a value."""

    tensor_type: TensorType | None = field(1, "TensorType", default=None, oneof="value")
    sequence_type: ElementType | None = field(4, "ElementType", default=None, oneof="value")
    map_type: MapType | None = field(5, "MapType", default=None, oneof="value")
    denotation: str = field(6, STRING, default="")
    opaque_type: OpaqueType | None = field(7, "OpaqueType", default=None, oneof="value")
    sparse_tensor_type: TensorType | None = field(8, "TensorType", default=None, oneof="value")
    optional_type: ElementType | None = field(9, "ElementType", default=None, oneof="value")


class ValueInfo(Message):
    """The name and type of a value."""

    name: str = field(1, STRING, default="")
    type: Type | None = field(2, "Type", default=None)


class Segment(Message):
    """The part of a tensor that a message contains."""

    begin: int = field(1, INT64, default=0)
    end: int = field(2, INT64, default=0)


class Tensor(Message):
    """An array; its elements are in the field for its data_type, in raw_data, or in another file."""

    dims: Sequence[int] = field(1, INT64, default=())
    data_type: int = field(2, INT32, default=0)
    segment: Segment | None = field(3, "Segment", default=None)
    float_data: NDArray[np.float32] = field(4, FLOAT, default=NO_NUMBERS)
    int32_data: NDArray[np.int32] = field(5, INT32, default=NO_NUMBERS)
    string_data: Sequence[bytes] = field(6, BYTES, default=())
    int64_data: NDArray[np.int64] = field(7, INT64, default=NO_NUMBERS)
    name: str = field(8, STRING, default="")
    raw_data: memoryview | bytes | None = field(9, VIEW, default=None)
    double_data: NDArray[np.float64] = field(10, DOUBLE, default=NO_NUMBERS)
    uint64_data: NDArray[np.uint64] = field(11, UINT64, default=NO_NUMBERS)
    external_data: Sequence[StringStringEntry] = field(13, "StringStringEntry", default=())
    data_location: int = field(14, ENUM, default=0)


class SparseTensor(Message):
    """An array of zeros, except for `values` at `indices`; its name is that of `values`."""

    values: Tensor | None = field(1, "Tensor", default=None)
    indices: Tensor | None = field(2, "Tensor", default=None)
    dims: Sequence[int] = field(3, INT64, default=())


class Attribute(Message):
    """A named option of a node, or a reference to an attribute of the function around it."""

    name: str = field(1, STRING, default="")
    f: float | None = field(2, FLOAT, default=None)
    i: int | None = field(3, INT64, default=None)
    s: bytes | None = field(4, BYTES, default=None)
    t: Tensor | None = field(5, "Tensor", default=None)
    g: Graph | None = field(6, "Graph", default=None)
    floats: Sequence[float] = field(7, FLOAT, default=())
    ints: Sequence[int] = field(8, INT64, default=())
    strings: Sequence[bytes] = field(9, BYTES, default=())
    tensors: Sequence[Tensor] = field(10, "Tensor", default=())
    graphs: Sequence[Graph] = field(11, "Graph", default=())
    tp: Type | None = field(14, "Type", default=None)
    type_protos: Sequence[Type] = field(15, "Type", default=())
    type: int = field(20, ENUM, default=0)
    ref_attr_name: str = field(21, STRING, default="")
    sparse_tensor: SparseTensor | None = field(22, "SparseTensor", default=None)
    sparse_tensors: Sequence[SparseTensor] = field(23, "SparseTensor", default=())

    def subgraphs(self) -> list[Graph]:
        """The graphs in the value."""
        return [*self.graphs] if self.g is None else [self.g, *self.graphs]


class Node(Message):
    """A call of an operator or a function; an empty name stands for an omitted input or output."""

    input: Sequence[str] = field(1, STRING, default=())
    output: Sequence[str] = field(2, STRING, default=())
    name: str = field(3, STRING, default="")
    op_type: str = field(4, STRING, default="")
    attribute: Sequence[Attribute] = field(5, "Attribute", default=())
    domain: str = field(7, STRING, default="")
    overload: str = field(8, STRING, default="")
    metadata_props: Sequence[Run] = field(9, VIEW, default=())  # see `Metadata`

    @property
    def operator(self) -> str:
        """The operator with its domain."""
        return f"{self.domain}.{self.op_type}" if self.domain else self.op_type


class Graph(Message):
    """Nodes in the order of computation, with the inputs, outputs and constants of the graph."""

    node: Sequence[Node] = field(1, "Node", default=())
    name: str = field(2, STRING, default="")
    initializer: Sequence[Tensor] = field(5, "Tensor", default=())
    input: Sequence[ValueInfo] = field(11, "ValueInfo", default=())
    output: Sequence[ValueInfo] = field(12, "ValueInfo", default=())
    value_info: Sequence[Run] = field(13, VIEW, default=())  # see `Declarations`
    sparse_initializer: Sequence[SparseTensor] = field(15, "SparseTensor", default=())


class Metadata(Message):
    """What a run of fields says about a node, which few files need."""

    metadata_props: Sequence[StringStringEntry] = field(9, "StringStringEntry", default=())


class Declarations(Message):
    """The values that a run of fields declares in a graph, which few files need."""

    value_info: Sequence[ValueInfo] = field(13, "ValueInfo", default=())


class Function(Message):
    """An operator that is defined by nodes."""

    name: str = field(1, STRING, default="")
    input: Sequence[str] = field(4, STRING, default=())
    output: Sequence[str] = field(5, STRING, default=())
    attribute: Sequence[str] = field(6, STRING, default=())
    node: Sequence[Node] = field(7, "Node", default=())
    opset_import: Sequence[OperatorSetId] = field(9, "OperatorSetId", default=())
    domain: str = field(10, STRING, default="")
    attribute_proto: Sequence[Attribute] = field(11, "Attribute", default=())
    overload: str = field(13, STRING, default="")


class Model(Message):
    """A graph with the versions of its operators, and functions."""

    ir_version: int = field(1, INT64, default=0)
    producer_name: str = field(2, STRING, default="")
    producer_version: str = field(3, STRING, default="")
    domain: str = field(4, STRING, default="")
    model_version: int = field(5, INT64, default=0)
    graph: Graph | None = field(7, "Graph", default=None)
    opset_import: Sequence[OperatorSetId] = field(8, "OperatorSetId", default=())
    metadata_props: Sequence[StringStringEntry] = field(14, "StringStringEntry", default=())
    functions: Sequence[Function] = field(25, "Function", default=())
