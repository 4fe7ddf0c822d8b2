"""Zip archives and NumPy's arrays, within the budget for reading a file."""

import io
import math
import re
import struct
import zlib
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..core import budget
from ..errors import FileError

Data: TypeAlias = bytes | memoryview

SIGNATURE = b"PK\3\4"
MAX_AXES = 64
LOCAL_HEADER = struct.Struct("<4s22xHH")
STORED, DEFLATED = 0, 8
ENTRY = 1 << 10  # bytes that zipfile allocates for each member
ENCRYPTED = 1
NPY_SIGNATURE = b"\x93NUMPY"
LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # the size of the field that holds the header's length, by version
MAX_HEADER = 1 << 12
HEADER = (
    rb"\{'descr': '(?P<dtype>[<>|=]?[biufc]\d{1,2})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,19}, ?)*(?:\d{1,19})?)\),? ?\} *\n?"
)


class ZipMembers:
    """The members of a zip archive by name: views of the file, or decompressed copies.

    Raises FileError if the archive is damaged, or has member names that repeat or lead out of a folder, and
    LimitError if its members are larger than its budget.
    """

    def __init__(self, data: Data) -> None:
        import zipfile  # slow to import, and only zip archives need it

        self.view = memoryview(data)
        self._read: dict[str, memoryview] = {}
        try:
            with zipfile.ZipFile(_OpenedFile(self.view)) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, struct.error) as error:
            raise FileError(f"the zip archive is damaged: {error}") from error
        budget.take(ENTRY * len(infos))
        self.entries = {info.filename: info for info in infos}
        if len(self.entries) < len(infos):
            raise FileError("the zip archive has two members with the same name")
        for name in self.entries:
            if name.startswith("/") or ".." in re.split(r"[/\\]", name):
                raise FileError(f"the zip archive has a member {name!r}, which leads out of its folder")

    @classmethod
    def of(cls, data: "Data | ZipMembers") -> "ZipMembers":
        """Return the members of a zip archive, which may have been read before."""
        return data if isinstance(data, ZipMembers) else cls(data)

    def get(self, name: str) -> memoryview | None:
        """The member of this name, or None if there is none."""
        return self[name] if name in self.entries else None

    def __getitem__(self, name: str) -> memoryview:
        if name in self._read:
            return self._read[name]
        if name not in self.entries:
            raise FileError(f"the zip archive has no member {name}")
        info = self.entries[name]
        budget.take(info.file_size)  # also of a stored member, of which several names may lead to one
        at = info.header_offset
        header = bytes(self.view[at : at + LOCAL_HEADER.size]) if at >= 0 else b""
        if len(header) < LOCAL_HEADER.size or header[:4] != SIGNATURE or info.flag_bits & ENCRYPTED:
            raise FileError(f"the member {name} is encrypted, or damaged at byte {at}")
        _, name_size, extra_size = LOCAL_HEADER.unpack(header)
        at += LOCAL_HEADER.size + name_size + extra_size
        content = self.view[at : at + info.compress_size]
        if info.compress_type == DEFLATED:
            content = _inflate(content, info.file_size, name)
        elif info.compress_type != STORED:
            raise FileError(f"the member {name} uses compression method {info.compress_type}, not deflate")
        if len(content) != info.file_size:
            raise FileError(f"the member {name} has {len(content)} bytes; expected {info.file_size}")
        self._read[name] = content
        return content

    def checked(self, name: str) -> memoryview:
        """Return a member that has its checksum, as files of PyTorch may not. Raises FileError."""
        content = self[name]
        if zlib.crc32(content) != self.entries[name].CRC:
            raise FileError(f"the member {name} is damaged: its checksum differs")
        return content


class _OpenedFile(io.RawIOBase):
    """What zipfile reads: a content, which io.BytesIO would copy."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, len(self._view))[whence])
        return self._at

    def read(self, size: int = -1) -> bytes:
        found = bytes(self._view[self._at :][: len(self._view) if size < 0 else size])
        self._at += len(found)
        return found


def native_byte_order(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself if it has this machine's byte order, else a converted copy."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _inflate(content: memoryview, size: int, name: str) -> memoryview:
    try:
        return memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size or 1))
    except zlib.error as error:
        raise FileError(f"the member {name} is damaged: {error}") from error


def read_npz(data: Data) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name. Raises FileError."""
    members = ZipMembers(data)
    return {name.removesuffix(".npy"): read_npy(members.checked(name), name) for name in members.entries}


def read_npy(content: Data | memoryview, name: str) -> NDArray[Any]:
    """The array of an .npy, whose shape must agree with its size. Raises FileError."""
    start = bytes(content[: MAX_HEADER + 12])
    size = LENGTH_BYTES.get(start[6]) if start[:6] == NPY_SIGNATURE and len(start) > 12 else None
    if size is None:
        raise FileError(f"{name} does not start with the header of a NumPy array, version 1, 2 or 3")
    length = int.from_bytes(start[8 : 8 + size], "little")
    at = 8 + size + length
    header = re.compile(HEADER).fullmatch(start, 8 + size, at) if length <= MAX_HEADER else None
    if header is None:
        raise FileError(
            f"{name} does not have the header of an array of numbers: {start[8 + size : at][:200]!r}"
        )
    shape = [int(n) for n in header["shape"].split(b",") if n.strip()]
    order: Any = "F" if header["fortran"] == b"True" else "C"
    try:
        if len(shape) > MAX_AXES:
            raise ValueError(f"an array has at most {MAX_AXES} axes")
        dtype = np.dtype(header["dtype"].decode())
        if at + math.prod(shape) * dtype.itemsize > len(content):  # NumPy's own check overflows
            raise ValueError(f"{len(content)} bytes are too few")
        return native_byte_order(np.ndarray(shape, dtype, content, at, order=order))
    except (ValueError, TypeError, OverflowError) as error:
        raise FileError(f"{name} has shape {tuple(shape)}: {error}") from error
