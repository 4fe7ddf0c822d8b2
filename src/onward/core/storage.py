"""The format of models: safetensors.

Onward's own files hold their architecture as JSON, with a format version, under the metadata key "onward".
"""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from ..errors import FileError, LimitError
from . import budget, files
from .atomic import replace
from .files import widened

FORMAT = 1
MODEL = "one that Onward saved, or a PyTorch state dict saved with safetensors.torch.save_file or torch.save"
DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
}  # fmt: skip


def write(
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]],
    architecture: Mapping[str, Any] | None = None,
) -> None:
    """Write a model, or a state dict if there is no architecture. Raises FileError."""
    replace(path, content(tensors, architecture))


def content(tensors: Mapping[str, NDArray[Any]], architecture: Mapping[str, Any] | None = None) -> bytes:
    """The content of the file that `write` writes."""
    metadata = None if architecture is None else {"onward": json.dumps({"format": FORMAT, **architecture})}
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    return safetensors.numpy.save(contiguous, metadata)


def read(
    path: str | os.PathLike[str], data: bytes | memoryview | None = None, expected: str = MODEL
) -> tuple[dict[str, NDArray[Any]], dict[str, Any] | None]:
    """Return all tensors of a file by key, as views of its content, and the architecture if Onward wrote it.

    `data` is the content, if it was read before; `expected` states which file the caller wants, for the error
    of another one. bfloat16, which NumPy lacks, becomes float32 without loss.
    Raises FileError.
    """
    data = files.content(path) if data is None else data
    with budget.of_file(len(data)):
        start = 8 + int.from_bytes(data[:8], "little")
        try:
            header, metadata = _header(data, start)
        except (FileError, LimitError) as error:
            raise FileError(
                f"{path} is not a complete safetensors file ({error}); expected {expected}"
            ) from error
        return (
            {key: _tensor(path, key, data, start, entry) for key, entry in sorted(header.items())},
            _architecture(path, metadata.get("onward")),
        )


def _header(data: bytes | memoryview, start: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the description of each tensor and the metadata; tensors fill the file without gaps."""
    if start > len(data):
        raise FileError(f"its header takes {start} bytes; the file has {len(data)}")
    header = files.parse_json(memoryview(data)[8:start], "the header")
    if not isinstance(header, dict):
        raise FileError("the header is not an object")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise FileError("the metadata are not texts by name")
    ranges = []
    for key, entry in header.items():
        match entry:
            case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(first), int(last)]} if all(
                type(size) is int and size >= 0 for size in shape
            ):
                size = (
                    math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize if dtype in DTYPES else last - first
                )
                if last - first != size:
                    raise FileError(f"{key} has shape {shape} and dtype {dtype}, but {last - first} bytes")
                ranges.append((first, last))
            case _:
                raise FileError(f"{key} has no dtype, shape and data_offsets")
    ends = [0, *(last for _, last in sorted(ranges))]
    if [first for first, _ in sorted(ranges)] != ends[:-1] or ends[-1] != len(data) - start:
        raise FileError(f"the tensors do not take the {len(data) - start} bytes after the header, once each")
    return header, metadata


def _tensor(
    path: object, key: str, data: bytes | memoryview, start: int, entry: Mapping[str, Any]
) -> NDArray[Any]:
    dtype, shape = entry["dtype"], entry["shape"]
    if dtype not in DTYPES:
        raise FileError(f"{path}: {key} has dtype {dtype}; expected one of {', '.join(DTYPES)}")
    try:
        array: NDArray[Any] = np.ndarray(shape, DTYPES[dtype], data, start + entry["data_offsets"][0])
    except (TypeError, ValueError, OverflowError) as error:
        raise FileError(f"{path}: {key} has shape {shape}: {error}") from error
    return widened(array) if dtype == "BF16" else array


def _architecture(path: object, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        architecture: dict[str, Any] = files.parse_json(text, "it")
        version = architecture.pop("format")
    except (FileError, LookupError, TypeError, AttributeError) as error:
        raise FileError(
            f"{path}: the metadata entry 'onward' is not the JSON that Onward writes: {error}"
        ) from error
    if version != FORMAT:
        raise FileError(
            f"{path} has format {version!r}, but this Onward reads format {FORMAT}: upgrade Onward"
        )
    return architecture
