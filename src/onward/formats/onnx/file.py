"""Parse and check ONNX files.

Every claim of a file must agree with its bytes: each tensor has the number of elements that its shape
requires, and external data are inside the model's folder.
"""

import math
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from ...core import storage
from ...errors import FileError

MAX_NODES, MAX_SUBGRAPHS = 100_000, 1000
FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
# bits per element of the types that share bytes
PACKED = {
    number: bits
    for name, number in TensorProto.DataType.items()
    for bits in (2, 4)
    if name in (f"INT{bits}", f"UINT{bits}") or (name, bits) == ("FLOAT4E2M1", 4)
}
COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)


def read(path: str | os.PathLike[str], data: mmap.mmap | bytes) -> ModelProto:
    """Parse the content of a file and read its external data. Raises FileError."""
    try:
        model = onnx.load_model_from_string(bytes(data))
    except Exception as error:  # protobuf's error, which the onnx package does not export
        raise FileError(f"the file is not a complete ONNX model: {error}") from error
    graphs, nodes = _graphs_and_nodes(model)
    tensors = [tensor for graph in graphs for tensor in graph.initializer]
    for node in nodes:
        for attribute in node.attribute:
            tensors += [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
    _read_external_data(Path(path).resolve().parent, tensors)
    for tensor in tensors:
        _check_size(tensor)
    _check_model(model, graphs)
    return model


def initializers(model: ModelProto) -> dict[str, NDArray[Any]]:
    """A copy of each array that the graph holds, by name."""
    return {tensor.name: onnx.numpy_helper.to_array(tensor).copy() for tensor in model.graph.initializer}


def _graphs_and_nodes(model: ModelProto) -> tuple[list[GraphProto], list[NodeProto]]:
    """All graphs and nodes, including those of subgraphs and functions. Raises FileError."""
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    for graph in graphs:  # the loop body appends to graphs
        nodes += graph.node
        if graph.sparse_initializer:
            name = graph.sparse_initializer[0].values.name
            raise FileError(f"the initializer {name} is a sparse tensor, which Onward does not support")
        graphs += [g for node in graph.node for g in _subgraphs(node)]
        if len(nodes) > MAX_NODES or len(graphs) > MAX_SUBGRAPHS:
            raise FileError(f"the graph has more than {MAX_NODES} nodes or {MAX_SUBGRAPHS} subgraphs")
    return graphs, nodes


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _check_model(model: ModelProto, graphs: Iterable[GraphProto]) -> None:
    """Raise FileError if the model violates the specification; missing shapes are common and allowed."""
    values = [value for graph in graphs for value in (*graph.input, *graph.output)]
    types = [value.type.tensor_type for value in values if value.type.HasField("tensor_type")]
    for value in values:
        if value.type.HasField("tensor_type"):
            _dtype(value.name, value.type.tensor_type.elem_type)
    without_shape = [kind for kind in types if not kind.HasField("shape")]
    for kind in without_shape:
        kind.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker's errors have no other base class
        raise FileError(f"the ONNX model is invalid: {error}") from error
    for kind in without_shape:
        kind.ClearField("shape")


def _dtype(name: str, kind: int) -> np.dtype[Any]:
    """The NumPy dtype of an ONNX data type. Raises FileError."""
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(kind)
    except (KeyError, TypeError) as error:
        raise FileError(f"the tensor {name} has the unknown data type {kind}") from error


def _check_size(tensor: TensorProto) -> None:
    """Raise FileError unless a tensor has the number of elements that its shape requires."""
    kind, count = tensor.data_type, math.prod(tensor.dims)
    if min(tensor.dims, default=0) < 0:
        raise FileError(f"the tensor {tensor.name} has shape {tuple(tensor.dims)}")
    itemsize = _dtype(tensor.name, kind).itemsize
    if kind in PACKED:
        count, itemsize = -(-count * PACKED[kind] // 8), 1
    if tensor.HasField("raw_data"):
        given, expected, unit = len(tensor.raw_data), count * itemsize, "bytes"
    else:
        given, unit = sum(len(getattr(tensor, field)) for field in FIELDS), "elements"
        expected = count * 2 if kind in COMPLEX else count
    if given != expected:
        shape = tuple(tensor.dims)
        raise FileError(f"the tensor {tensor.name} has {given} {unit}; its shape {shape} requires {expected}")


def _read_external_data(folder: Path, tensors: Iterable[TensorProto]) -> None:
    """Read external data into their tensors."""
    opened: dict[Path, mmap.mmap | bytes] = {}
    total = 0
    for tensor in tensors:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        where = f"the external data {entries.get('location')!r} of the tensor {tensor.name}"
        path = (folder / entries.get("location", "")).resolve()
        if not path.is_relative_to(folder) or path == folder:
            raise FileError(f"{where} are not inside the model's folder")
        content = opened[path] = opened.get(path) or storage.mapped(path)
        start, length = _number(entries, "offset", 0), _number(entries, "length", len(content))
        total += length
        if start + length > len(content) or total > sum(map(len, opened.values())):
            raise FileError(f"{where} end before the {length} bytes at {start}, or are used twice")
        tensor.raw_data = content[start : start + length]
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT


def _number(entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise FileError(f"external data have {key}={text[:60]!r}; expected a number of bytes")
    return int(text)
