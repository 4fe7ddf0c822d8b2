"""Read and validate ONNX files.

Every claim of a file must agree with its bytes: each tensor has the number of elements that its shape
requires, and external data are inside the model's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ...core import budget, files
from ...errors import FileError
from .messages import Attribute, AttributeType, DataLocation, Function, Graph, Model, SparseTensor, Tensor
from .protobuf import Data, decode
from .tensors import check_size, dense, named
from .validate import WITH_GRAPHS, check_attribute, check_model

if TYPE_CHECKING:
    from pathlib import Path

MAX_DEPTH = 16  # nested subgraphs


def read(path: str | os.PathLike[str], data: Data, arrays: Mapping[str, NDArray[Any]] | None = None) -> Model:
    """Read the content of a file: its tensors are views of it or of its external data.

    External data are in the folder of the file, or, if these are passed, in `arrays` by location. Sparse
    tensors become dense, and each attribute has a type. Raises FileError.
    """
    with budget.of_file(len(data)):
        return _checked(path, decode(Model, data), arrays)


def _checked(path: str | os.PathLike[str], model: Model, arrays: Mapping[str, NDArray[Any]] | None) -> Model:
    if model.graph is None:
        raise FileError("the file has no graph; expected a complete ONNX model")
    blocks, attributes = _blocks(model)
    tensors = list(_tensors(blocks, attributes))
    external = [tensor for tensor in tensors if tensor.data_location == DataLocation.EXTERNAL]
    if external and arrays is not None:
        _copy_external_data(arrays, external)
    elif external:
        from pathlib import Path  # slow to import

        _map_external_data(Path(path).resolve().parent, external)
    for tensor in tensors:
        check_size(tensor)
    _make_dense(blocks, attributes)
    check_model(model)
    return model


def _blocks(model: Model) -> tuple[list[Graph | Function], list[Attribute]]:
    """Return the graph, functions and subgraphs, and check and return their attributes. Raises FileError."""
    blocks: list[tuple[Graph | Function, int]] = [(model.graph or Graph(), 0)]
    blocks += [(function, 0) for function in model.functions]
    attributes = [attribute for function in model.functions for attribute in function.attribute_proto]
    for block, depth in blocks:  # the loop body appends to the blocks
        if depth > MAX_DEPTH:
            raise FileError(f"the subgraph {block.name} is nested more than {MAX_DEPTH} deep")
        for node in block.node:
            for attribute in node.attribute:
                check_attribute(attribute, node)
                attributes.append(attribute)
                if attribute.type in WITH_GRAPHS:
                    blocks += [(graph, depth + 1) for graph in attribute.subgraphs()]
    return [block for block, _ in blocks], attributes


def _tensors(blocks: Iterable[Graph | Function], attributes: Iterable[Attribute]) -> Iterator[Tensor]:
    """All tensors, including the parts of sparse ones."""
    sparse: list[SparseTensor] = []
    for block in blocks:
        if isinstance(block, Graph):
            yield from block.initializer
            sparse += block.sparse_initializer
    for attribute in attributes:
        if attribute.t is not None:
            yield attribute.t
        yield from attribute.tensors
        sparse += [attribute.sparse_tensor] if attribute.sparse_tensor is not None else []
        sparse += attribute.sparse_tensors
    for each in sparse:
        yield from (part for part in (each.values, each.indices) if part is not None)


def _make_dense(blocks: Iterable[Graph | Function], attributes: Iterable[Attribute]) -> None:
    """Replace sparse tensors by dense ones."""
    for block in blocks:
        if isinstance(block, Graph) and block.sparse_initializer:
            block.initializer = [*block.initializer, *map(dense, block.sparse_initializer)]
            block.sparse_initializer = ()
    for attribute in attributes:
        if attribute.sparse_tensor is not None:
            attribute.t, attribute.sparse_tensor = dense(attribute.sparse_tensor), None
            attribute.type = AttributeType.TENSOR
        if attribute.sparse_tensors:
            attribute.tensors, attribute.sparse_tensors = [*map(dense, attribute.sparse_tensors)], ()
            attribute.type = AttributeType.TENSORS


def _copy_external_data(arrays: Mapping[str, NDArray[Any]], tensors: Iterable[Tensor]) -> None:
    """Let copies of the arrays that are the external data of tensors be their raw_data. Raises FileError."""
    copies: dict[str, memoryview] = {}
    for tensor in tensors:
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        if location not in arrays:
            raise FileError(f"{named(tensor)} is {location!r}, which the file does not contain")
        if location not in copies:
            copies[location] = memoryview(arrays[location].tobytes())
        tensor.raw_data = copies[location]
        tensor.external_data, tensor.data_location = (), DataLocation.DEFAULT


def _map_external_data(folder: Path, tensors: Iterable[Tensor]) -> None:
    """Let the external data of tensors be their raw_data. Raises FileError."""
    opened: dict[Path, memoryview] = {}
    total = 0
    for tensor in tensors:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        what = f"the external data {entries.get('location')!r} of {named(tensor)}"
        path = _inside(folder, entries.get("location", ""), what)
        if path not in opened:
            opened[path] = files.content(path)
        content = opened[path]
        start, length = _number(entries, "offset", 0), _number(entries, "length", len(content))
        total += length
        if start + length > len(content) or total > sum(map(len, opened.values())):
            raise FileError(f"{what} end before the {length} bytes at {start}, or are used twice")
        tensor.raw_data = content[start : start + length]
        tensor.external_data, tensor.data_location = (), DataLocation.DEFAULT


def _inside(folder: Path, location: str, what: str) -> Path:
    """The path of a file inside the folder, links resolved. Raises FileError."""
    try:
        path = (folder / location).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte, a long name, a loop of links
        raise FileError(f"{what} have no valid path: {error}") from error
    if not path.is_relative_to(folder) or path == folder:
        raise FileError(f"{what} are not inside the model's folder")
    return path


def _number(entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise FileError(f"external data have {key}={text[:60]!r}; expected a number of bytes")
    return int(text)
