"""Read files: through memory maps, as text, and arrays of bfloat16."""

import mmap
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, FileError


def check_path(path: Any) -> str:
    """Return a path as a string. Raises ArgumentError: an integer would be taken for an open descriptor."""
    if not isinstance(path, str | os.PathLike) or not isinstance(found := os.fspath(path), str):
        raise ArgumentError(f"path={path!r}, but must be the path of a file: a str or a pathlib.Path")
    if not found or "\0" in found:
        raise ArgumentError(f"path={path!r}, but must name a file")
    return found


def mapped(path: str | os.PathLike[str]) -> mmap.mmap | bytes:
    """Return the content of a file as a memory map, which reads only what is accessed.

    Raises FileError, and ArgumentError for anything but a path.
    """
    check_path(path)
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


def widened(bfloat16: NDArray[Any]) -> NDArray[Any]:
    """Return float32 values from bfloat16 bits: they are the upper half of a float32."""
    wide = bfloat16.astype(np.uint32, order="C")
    wide <<= 16
    return wide.view(np.float32)
