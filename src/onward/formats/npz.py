"""Read NumPy's .npz and .npy files: numbers only, as views of the file where it is not compressed."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from .zip import MAX_AXES, Data, ZipMembers, native_byte_order

SIGNATURE = b"\x93NUMPY"
LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # the size of the field that holds the header's length, by version
MAX_HEADER = 1 << 12
HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|=]?[biufc]\d{1,2})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,19}, ?)*(?:\d{1,19})?)\),? ?\} *\n?"
)


def read_npz(data: Data) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name. Raises FileError."""
    members = ZipMembers(data)
    return {name.removesuffix(".npy"): read_npy(members[name], name) for name in members.entries}


def read_npy(content: Data | memoryview, name: str) -> NDArray[Any]:
    """The array of an .npy, whose shape must agree with its size. Raises FileError."""
    start = bytes(content[: MAX_HEADER + 12])
    size = LENGTH_BYTES.get(start[6]) if start[:6] == SIGNATURE and len(start) > 12 else None
    if size is None:
        raise FileError(f"{name} does not start with the header of a NumPy array, version 1, 2 or 3")
    length = int.from_bytes(start[8 : 8 + size], "little")
    at = 8 + size + length
    header = HEADER.fullmatch(start, 8 + size, at) if length <= MAX_HEADER else None
    if header is None:
        raise FileError(
            f"{name} does not have the header of an array of numbers: {start[8 + size : at][:200]!r}"
        )
    shape = [int(n) for n in header["shape"].split(b",") if n.strip()]
    order: Any = "F" if header["fortran"] == b"True" else "C"
    try:
        if len(shape) > MAX_AXES:
            raise ValueError(f"an array has at most {MAX_AXES} axes")
        return native_byte_order(np.ndarray(shape, header["dtype"].decode(), content, at, order=order))
    except (ValueError, TypeError, OverflowError) as error:
        raise FileError(f"{name} has shape {tuple(shape)}: {error}") from error
