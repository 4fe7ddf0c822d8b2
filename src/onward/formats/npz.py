"""NumPy's own files, .npz and .npy: numbers alone, views of the file where not compressed."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from .torch.archive import MAX_AXES, Members, native
from .torch.unpickle import Data

MAGIC = b"\x93NUMPY"
SIZE_OF_LENGTH = {1: 2, 2: 4, 3: 4}  # bytes that give the header's length, by version
MAX_HEADER = 1 << 12
HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|=]?[biufc]\d{1,2})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,19}, ?)*(?:\d{1,19})?)\),? ?\} *\n?"
)


def is_npz(members: Members) -> bool:
    """Whether a zip archive holds nothing but arrays."""
    return bool(members.entries) and all(name.endswith(".npy") for name in members.entries)


def read(members: Members) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name. Raises FileError."""
    return {name.removesuffix(".npy"): array(members[name], name) for name in members.entries}


def array(content: Data | memoryview, name: str) -> NDArray[Any]:
    """The array of an .npy, checked against its size before memory is taken. Raises FileError."""
    start = bytes(content[: MAX_HEADER + 12])
    size = SIZE_OF_LENGTH.get(start[6]) if start[:6] == MAGIC and len(start) > 12 else None
    if size is None:
        raise FileError(f"{name} does not begin as an array of NumPy of version 1, 2 or 3")
    length = int.from_bytes(start[8 : 8 + size], "little")
    at = 8 + size + length
    header = HEADER.fullmatch(start, 8 + size, at) if length <= MAX_HEADER else None
    if header is None:
        raise FileError(
            f"{name} has a header that is not of an array of numbers: {start[8 + size : at][:200]!r}"
        )
    shape = [int(n) for n in header["shape"].split(b",") if n.strip()]
    try:
        if len(shape) > MAX_AXES:
            raise ValueError(f"it has more than {MAX_AXES} axes")
        fortran = header["fortran"] == b"True"
        return native(np.ndarray(shape, header["dtype"].decode(), content, at, order="F" if fortran else "C"))
    except (ValueError, TypeError, OverflowError) as error:
        raise FileError(f"{name} has shape {tuple(shape)}: {error}") from error
