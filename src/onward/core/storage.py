"""The container of models: safetensors, written whole or not at all, checked before it is believed.

Onward's own files carry their architecture as JSON, with the version of that format, under the metadata key
"onward".
"""

import json
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from ..errors import FileError

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
    """Writes a model, or, without an architecture, a state dict. Raises FileError."""
    metadata = None if architecture is None else {"onward": json.dumps({"format": FORMAT, **architecture})}
    replace(path, safetensors.numpy.save(dict(tensors), metadata))


def replace(path: str | os.PathLike[str], content: bytes) -> None:
    """Puts a new file in the place of `path`; a crash or an error on the way leaves the old one whole.

    Raises FileError.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write what shall stand at `path`, once all of it is there. Raises FileError."""
    target = Path(path).resolve()  # of a link, the file that it leads to is replaced
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    try:
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error


def mapped(path: str | os.PathLike[str]) -> mmap.mmap | bytes:
    """The file's content, of which only what is looked at is read. Raises FileError."""
    if not os.path.isfile(path):  # a device or a pipe would be read for ever
        raise FileError(f"{path} is no file" if os.path.exists(path) else f"{path} does not exist")
    try:
        with open(path, "rb") as file:
            # of nothing, there is no map
            size = os.fstat(file.fileno()).st_size
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error


def read_text(path: str | os.PathLike[str]) -> str:
    """The characters of a text in UTF-8. Raises FileError."""
    try:
        return bytes(mapped(path)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(
            f"{path} is no text in UTF-8: byte {error.start} is {error.object[error.start]:#x}"
        ) from error


def read(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any] | None]:
    """All tensors of the file by key, as views of it, and the architecture if Onward wrote it.

    bfloat16, which NumPy lacks, is widened to float32, which is exact. Raises FileError.
    """
    data = mapped(path)
    try:
        # checks that the header's sizes are those of the file, before memory is taken for any tensor
        with safetensors.safe_open(os.fspath(path), "numpy"):
            start = 8 + int.from_bytes(data[:8], "little")
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    except safetensors.SafetensorError as error:
        raise FileError(
            f"{path} is not a whole safetensors file ({error}): expected one that Onward saved, "
            "or a PyTorch state dict saved with safetensors.torch.save_file or torch.save"
        ) from error
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__", None) or {}
    return (
        {
            key: _tensor(path, key, data, start, entry["dtype"], entry["shape"], entry["data_offsets"])
            for key, entry in sorted(header.items())
        },
        _architecture(path, metadata.get("onward")),
    )


def _tensor(
    path: object,
    key: str,
    data: mmap.mmap | bytes,
    start: int,
    dtype: str,
    shape: list[int],
    data_offsets: list[int],
) -> NDArray[Any]:
    if dtype not in DTYPES:
        raise FileError(f"{path}: {key} has dtype {dtype}; expected one of {', '.join(DTYPES)}")
    try:
        array: NDArray[Any] = np.ndarray(shape, DTYPES[dtype], data, start + data_offsets[0])
    except (TypeError, ValueError, OverflowError) as error:
        raise FileError(f"{path}: {key} has shape {shape}: {error}") from error
    return widened(array) if dtype == "BF16" else array


def widened(bfloat16: NDArray[Any]) -> NDArray[Any]:
    """float32 of bfloat16 in 16-bit integers, which are its upper half."""
    wide = bfloat16.astype(np.uint32, order="C")
    wide <<= 16
    return wide.view(np.float32)


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
