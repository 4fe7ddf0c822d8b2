"""Files: written atomically, read through memory maps, and safetensors as the format of models.

Onward's own files hold their architecture as JSON, with a format version, under the metadata key "onward".
"""

import json
import mmap
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from ..errors import FileError

if sys.platform != "win32":
    import fcntl

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
    metadata = None if architecture is None else {"onward": json.dumps({"format": FORMAT, **architecture})}
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    replace(path, safetensors.numpy.save(contiguous, metadata))


def replace(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically: after a crash or an error, the previous file is intact. Raises FileError."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path and, on success, move the file written there to `path` atomically.

    Concurrent writers do not interfere: the last one to finish determines the content. Raises FileError.
    """
    target = Path(path).resolve()  # a link stays a link: its target is replaced
    try:
        with temporary_path(target) as temporary:
            yield temporary
            with open(temporary, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def temporary_path(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` for a temporary file or folder, which is removed unless it was moved.

    A process that is killed leaves it behind; the next one to write to `target` removes it. Raises OSError.
    """
    _remove_abandoned(target)
    temporary, lock, descriptor = _claim(target)
    try:
        yield temporary
    finally:
        _remove(temporary)
        os.close(descriptor)
        with suppress(OSError):  # another writer may be removing it
            lock.unlink()


def _remove(path: Path) -> None:
    """Remove a file or a folder if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# A lock file accompanies each temporary path: it is created earlier and removed later. The writer holds the
# lock while it runs: on Windows it keeps the file open, so that no process can remove it; elsewhere it uses
# flock. A temporary path whose lock is free or missing is abandoned.


def _claim(target: Path) -> tuple[Path, Path, int]:
    """Return a new temporary path, its lock file, and the descriptor that holds the lock."""
    while True:
        temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
        lock = Path(f"{temporary}.lock")
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        if sys.platform != "win32":
            with suppress(OSError):  # this file system has no locks, so other writers remove nothing
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        if lock.exists():  # otherwise another writer considered it abandoned and locked it first
            return temporary, lock, descriptor
        os.close(descriptor)


def _remove_abandoned(target: Path) -> None:
    """Remove the temporary files and folders of writers to `target` that no longer run."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}")
    with suppress(OSError):  # a folder that cannot be listed
        names = {entry.name.removesuffix(".lock") for entry in os.scandir(target.parent)}
        for name in filter(pattern.fullmatch, names):
            temporary = target.with_name(name)
            with suppress(OSError):  # its writer is alive, or belongs to another user
                _remove_free(Path(f"{temporary}.lock"))
                _remove(temporary)


def _remove_free(lock: Path) -> None:
    """Remove a lock file. Raises OSError if a writer holds it."""
    if sys.platform == "win32":
        lock.unlink(missing_ok=True)
        return
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.unlink()
    finally:
        os.close(descriptor)


def mapped(path: str | os.PathLike[str]) -> mmap.mmap | bytes:
    """Return the content of a file as a memory map, which reads only what is accessed. Raises FileError."""
    if not os.path.isfile(path):  # reading a device or a pipe might never end
        raise FileError(f"{path} is not a file" if os.path.exists(path) else f"{path} does not exist")
    try:
        with open(path, "rb") as file:
            # an empty file cannot be mapped
            size = os.fstat(file.fileno()).st_size
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file in UTF-8. Raises FileError."""
    try:
        return bytes(mapped(path)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(
            f"{path} is not text in UTF-8: byte {error.start} is {error.object[error.start]:#x}"
        ) from error


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
    """Return float32 values from bfloat16 bits: they are the upper half of a float32."""
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
