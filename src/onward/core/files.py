"""Read files: whole, as text, JSON, and arrays of bfloat16."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, FileError
from . import budget


def check_path(path: Any) -> str:
    """Return a path as a string. Raises ArgumentError: an integer would be taken for an open descriptor."""
    if not isinstance(path, str | os.PathLike) or not isinstance(found := os.fspath(path), str):
        raise ArgumentError(f"path={path!r}, but must be the path of a file: a str or a pathlib.Path")
    if not found or "\0" in found:
        raise ArgumentError(f"path={path!r}, but must name a file")
    return found


def content(path: str | os.PathLike[str]) -> memoryview:
    """Return the content of a file. Raises FileError, and ArgumentError for anything but a path.

    A memory map would read only what is accessed, but a process that truncates the file would end this one.
    NumPy's memory has large pages, so that reading takes a third of the time that it takes with bytes.
    """
    check_path(path)
    if not os.path.isfile(path):  # reading a device or a pipe might never end
        raise FileError(f"{path} is not a file" if os.path.exists(path) else f"{path} does not exist")
    try:
        with open(path, "rb", buffering=0) as file:
            found = np.empty(os.fstat(file.fileno()).st_size, np.uint8).data
            size = 0
            while count := file.readinto(found[size:]):  # reads at most 2 GB
                size += count
            return found[:size].toreadonly()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file in UTF-8. Raises FileError."""
    try:
        return str(content(path), "utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(
            f"{path} is not text in UTF-8: byte {error.start} is {error.object[error.start]:#x}"
        ) from error


def parse_json(content: bytes | memoryview | str, name: str) -> Any:
    """Return the value of a JSON text in UTF-8. Raises FileError, and LimitError before the value is made."""
    import json  # slow to import, and few formats need it

    try:  # of bytes, json.loads would guess the encoding
        budget.take(2 * len(content))
        text = content if isinstance(content, str) else bytes(content).decode()
        values, entries = sum(map(text.count, ",[{")), text.count(":")
        budget.spend(10 * len(text) + budget.STEP * values // 10)
        budget.take(budget.OBJECT * (values + entries))
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{name} is not valid JSON: {error}") from error


def widened(bfloat16: NDArray[Any]) -> NDArray[Any]:
    """Return float32 values from bfloat16 bits: they are the upper half of a float32."""
    wide = bfloat16.astype(np.uint32, order="C")
    wide <<= 16
    return wide.view(np.float32)
