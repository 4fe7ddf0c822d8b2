"""The format of models: safetensors.

Onward's own files hold their architecture as JSON, with a format version, under the metadata key "onward".
"""

import json
import mmap
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from ..errors import FileError
from .atomic import replace
from .files import mapped, widened

FORMAT = 1
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


def read(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any] | None]:
    """Return all tensors of a file by key, as views of it, and the architecture if Onward wrote it.

    bfloat16, which NumPy lacks, becomes float32 without loss. Raises FileError.
    """
    data = mapped(path)
    try:
        # checks the sizes in the header against the file before any tensor is allocated
        with safetensors.safe_open(os.fspath(path), "numpy"):
            start = 8 + int.from_bytes(data[:8], "little")
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    except safetensors.SafetensorError as error:
        raise FileError(
            f"{path} is not a complete safetensors file ({error}); expected one that Onward saved, "
            "or a PyTorch state dict saved with safetensors.torch.save_file or torch.save"
        ) from error
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__", None) or {}
    return (
        {key: _tensor(path, key, data, start, entry) for key, entry in sorted(header.items())},
        _architecture(path, metadata.get("onward")),
    )


def _tensor(
    path: object, key: str, data: mmap.mmap | bytes, start: int, entry: Mapping[str, Any]
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
        architecture: dict[str, Any] = json.loads(text)
        version = architecture.pop("format")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise FileError(
            f"{path}: the metadata entry 'onward' is not the JSON that Onward writes: {error}"
        ) from error
    if version != FORMAT:
        raise FileError(
            f"{path} has format {version!r}, but this Onward reads format {FORMAT}: upgrade Onward"
        )
    return architecture
