"""HDF5 read as if it were hostile: groups, text attributes and arrays of numbers, all inside the file.

No library is needed, nor trusted: the usual one runs for ever on some damaged files, and crashes on others.
"""

import math
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import FileError
from ..zip import native_byte_order
from .hdf5_objects import (
    ATTRIBUTE,
    DATASPACE,
    DATATYPE,
    EXTERNAL_FILES,
    FILTERS,
    LAYOUT,
    LINK,
    LINK_INFO,
    MAX_DEPTH,
    NOWHERE,
    SYMBOL_TABLE,
    File,
    Message,
    text,
)

MAX_AXES = 32
FIXED, FLOAT, STRING, VARIABLE = 0, 1, 3, 9  # classes of types
FLOATS = {  # by size: where sign, exponent and mantissa lie, and the exponent's bias, as IEEE has them
    2: (15, 10, 5, 0, 10, 15),
    4: (31, 23, 8, 0, 23, 127),
    8: (63, 52, 11, 0, 52, 1023),
}
DEFLATE, SHUFFLE, CHECKSUM = 1, 2, 3
COMPACT, CONTIGUOUS, CHUNKED = 0, 1, 2


class Type(NamedTuple):
    """What the elements of an array or an attribute are: numbers, or text of one length or of any."""

    kind: int
    size: int
    dtype: str  # numbers only


class Group:
    """A group of a file: its members by name, its text attributes.

    Every reading raises FileError for what is damaged, leads out of the file or in a circle, or claims more
    than the file can hold.
    """

    def __init__(
        self, file: File, at: int, messages: list[Message], path: str = "", above: tuple[int, ...] = ()
    ) -> None:
        self._file = file
        self._messages = messages
        self._links = file.links(messages, path or "the root")
        self._above = (*above, at)
        self.path = path

    def __iter__(self) -> Iterator[str]:
        return iter(self._links)

    def __contains__(self, name: str) -> bool:
        return name in self._links

    def group(self, path: str) -> "Group":
        """The group at a path from this one, or FileError."""
        found: Any = self
        for name in path.split("/"):
            found = found[name]
            if not isinstance(found, Group):
                raise FileError(f"{found.path} is no group")
        return found  # type: ignore[no-any-return]  # a Group, because the path has a part

    def __getitem__(self, name: str) -> "Group | Dataset":
        path = f"{self.path}/{name}"
        if name not in self._links:
            raise FileError(f"{path} is missing")
        address = self._links[name]
        if address is None:
            raise FileError(f"{path} is a soft or external link, which may lead anywhere: it is not followed")
        if address in self._above or len(self._above) > MAX_DEPTH:
            raise FileError(f"{path} leads in a circle, or deeper than {MAX_DEPTH} groups")
        messages = self._file.messages(address, path)
        kinds = {message.kind for message in messages}
        if LAYOUT in kinds:
            return Dataset(self._file, messages, path)
        if not kinds & {SYMBOL_TABLE, LINK, LINK_INFO}:
            raise FileError(f"{path} is neither a group nor an array")
        return Group(self._file, address, messages, path, self._above)

    def text(self, name: str) -> str | None:
        """The attribute of that name, if there is one."""
        values = self.texts(name)
        return None if values is None else values[0] if len(values) == 1 else "".join(values)

    def texts(self, name: str) -> list[str] | None:
        """A list of texts; Keras stores a long one in pieces, with the number of the piece after the name."""
        attributes = self._attributes()
        pieces = [name] if name in attributes else []
        while f"{name}{len(pieces)}" in attributes and pieces != [name]:
            pieces.append(f"{name}{len(pieces)}")
        return (
            [each for piece in pieces for each in self._read(piece, *attributes[piece])] if pieces else None
        )

    def _attributes(self) -> dict[str, tuple[int, int, int]]:
        """Return where each attribute has its type, shape and content (IV.A.2.m, attribute message)."""
        found = {}
        for message in self._messages:
            if message.kind == ATTRIBUTE:
                path = f"{self.path}@"
                version, *sizes = self._file.numbers("BxHHH", message.at, path)
                if version not in (1, 2, 3):
                    raise FileError(f"{path} has an attribute of version {version}; expected 1 to 3")
                at = message.at + (9 if version == 3 else 8)
                name = text(self._file.part(at, sizes[0], path), path)
                places = []
                for size in sizes:
                    at += -(-size // 8) * 8 if version == 1 else size
                    places.append(at)
                found[name] = (places[0], places[1], places[2])
        return found

    def _read(self, name: str, type_at: int, shape_at: int, at: int) -> Iterator[str]:
        path = f"{self.path}@{name}"
        count = math.prod(_shape(self._file, shape_at, path))
        if not count:
            return
        kind = _type(self._file, type_at, path)
        if kind.kind not in (STRING, VARIABLE):
            raise FileError(f"{path} is no text")
        self._file.take(count * max(kind.size, 64), path)
        for place in range(at, at + count * kind.size, kind.size):
            content: memoryview | bytes
            if kind.kind == STRING:
                content = self._file.part(place, kind.size, path)
            else:
                length, address, index = self._file.numbers("IQI", place, path)
                content = self._file.of_heap(address, index, path)[:length] if length else b""
            self._file.take(len(content), path)
            yield text(content, path)


class Dataset:
    """An array in a file, read when asked for."""

    def __init__(self, file: File, messages: list[Message], path: str) -> None:
        self._file = file
        self._messages = {message.kind: message for message in messages}
        self.path = path
        if EXTERNAL_FILES in self._messages:
            raise FileError(f"{path} has its numbers in other files, which are not read")
        self.shape = _shape(file, self._place(DATASPACE), path)

    def _place(self, kind: int) -> int:
        if kind not in self._messages:
            raise FileError(f"{self.path} is damaged: its header has no message {kind}")
        return self._messages[kind].at

    def read(self) -> NDArray[Any]:
        """The numbers, a view of the file if they lie in one piece; their size is checked before."""
        file, path = self._file, self.path
        kind = _type(file, self._place(DATATYPE), path)
        if kind.kind not in (FIXED, FLOAT):
            raise FileError(f"{path} has elements that are no numbers")
        size = math.prod(self.shape) * kind.size
        file.take(size, path)
        at = self._place(LAYOUT)
        version, layout = file.numbers("BB", at, path)
        if version not in (3, 4) or layout > CHUNKED or (version, layout) == (4, CHUNKED):
            raise FileError(
                f"{path} has a layout of version {version}, kind {layout}, which is not supported"
            )
        if layout == CHUNKED:
            return native_byte_order(self._of_chunks(at + 2, kind))
        address, given = (
            (at + 4, file.number("H", at + 2, path))
            if layout == COMPACT
            else file.numbers("QQ", at + 2, path)
        )
        if size and (address == NOWHERE or given != size):
            raise FileError(
                f"{path} has shape {self.shape}, {size} bytes, but the file contains {given} for it"
            )
        content = file.part(address, size, path) if size else b""
        return native_byte_order(np.ndarray(self.shape, kind.dtype, content))

    def _of_chunks(self, at: int, kind: Type) -> NDArray[Any]:
        """III.A.1: the leaves of a B-tree lead to chunks, whose places in the array are the keys."""
        file, path, rank = self._file, self.path, len(self.shape)
        if file.number("B", at, path) != rank + 1:
            raise FileError(f"{path} is damaged: its chunks have other axes than its shape {self.shape}")
        tree, *chunk = file.numbers(f"Q{rank}I", at + 1, path)
        size = math.prod(chunk) * kind.size
        filters = self._filters()
        if size and tree == NOWHERE and math.prod(self.shape):
            raise FileError(f"{path} claims the shape {self.shape}, but the file contains no data for it")
        array = np.zeros(self.shape, kind.dtype)
        filled = 0
        for key, address in file.leaves(tree, 1, 8 + 8 * (rank + 1), path) if array.size else ():
            stored, skipped, *start = file.numbers(f"II{rank}Q", key, path)
            file.take(size, path)
            content = _unfiltered(file.part(address, stored, path), filters, skipped, size, kind.size, path)
            if len(content) != size or any(
                s >= n or s % c for s, n, c in zip(start, self.shape, chunk, strict=True)
            ):
                raise FileError(f"{path} is damaged: a chunk at byte {address} does not fit in")
            target = array[tuple(slice(s, s + c) for s, c in zip(start, chunk, strict=True))]
            target[...] = np.ndarray(chunk, kind.dtype, content)[tuple(map(slice, target.shape))]
            filled += target.size
        if filled != array.size:
            raise FileError(f"{path} has shape {self.shape}, but chunks for {filled} of its numbers")
        return array

    def _filters(self) -> list[int]:
        """What was done to each chunk, in order: IV.A.2.l, filter pipeline message."""
        if FILTERS not in self._messages:
            return []
        file, path, at = self._file, self.path, self._place(FILTERS)
        version, count = file.numbers("BB", at, path)
        at += 8 if version == 1 else 2
        found = []
        for _ in range(count):
            kind = file.number("H", at, path)
            named = version == 1 or kind >= 256
            length = file.number("H", at + 2, path) if named else 0
            values = file.number("H", at + (6 if named else 4), path)
            at += (8 if named else 6) + (-(-length // 8) * 8 if version == 1 else length)
            at += 4 * (values + (values % 2 if version == 1 else 0))
            if kind not in (DEFLATE, SHUFFLE, CHECKSUM):
                raise FileError(
                    f"{path} is compressed with filter {kind}; expected gzip, shuffle or fletcher32"
                )
            found.append(kind)
        return found


def _unfiltered(
    content: memoryview | bytes, filters: list[int], skipped: int, size: int, itemsize: int, path: str
) -> memoryview | bytes:
    """A chunk before its filters, which never becomes larger than it should."""
    for place, kind in reversed(list(enumerate(filters))):
        if skipped >> place & 1:
            continue
        if kind == CHECKSUM:
            content = content[:-4]
        elif kind == SHUFFLE:
            planes = np.frombuffer(content, "u1")
            if len(planes) % itemsize:
                raise FileError(
                    f"{path} is damaged: a chunk has {len(planes)} bytes, of elements of {itemsize}"
                )
            content = planes.reshape(itemsize, -1).T.tobytes()
        else:
            try:
                content = zlib.decompressobj().decompress(content, size + 4)
            except zlib.error as error:
                raise FileError(f"{path} is damaged: {error}") from error
    return content


def _shape(file: File, at: int, path: str) -> tuple[int, ...]:
    """IV.A.2.b, dataspace message."""
    version, rank, _, kind = file.numbers("BBBB", at, path)
    if version not in (1, 2) or rank > MAX_AXES:
        raise FileError(f"{path} is damaged: its shape has version {version} and {rank} axes")
    if version == 2 and kind == 2:  # nothing at all
        return (0,)
    shape = file.numbers(f"{rank}Q", at + (8 if version == 1 else 4), path)
    if math.prod(size or 1 for size in shape) >= 1 << 60:
        raise FileError(f"{path} claims the shape {shape}, more than any file can hold")
    return shape


def _type(file: File, at: int, path: str) -> Type:
    """IV.A.2.d, datatype message."""
    first, bits, sign, _, size = file.numbers("BBBBI", at, path)
    kind, order = first & 15, ">" if bits & 1 else "<"
    if kind == FIXED:
        offset, precision = file.numbers("HH", at + 8, path)
        if size in (1, 2, 4, 8) and (offset, precision) == (0, 8 * size):
            return Type(kind, size, f"{order}{'i' if bits & 8 else 'u'}{size}")
    elif kind == FLOAT:
        offset, precision, *places, bias = file.numbers("HHBBBBI", at + 8, path)
        if (
            (offset, precision) == (0, 8 * size)
            and FLOATS.get(size) == (sign, *places, bias)
            and not bits & 64
        ):
            return Type(kind, size, f"{order}f{size}")
    elif (kind == STRING and size) or (kind == VARIABLE and bits & 15 == 1 and size == 16):
        return Type(kind, size, "")
    raise FileError(f"{path} has elements of a type (class {kind}, {size} bytes) that is not supported")


def read(data: Any) -> Group:
    """The root of a file in memory or mapped. Raises FileError."""
    file = File(memoryview(data))
    at = file.root()
    return Group(file, at, file.messages(at, "the root"))
