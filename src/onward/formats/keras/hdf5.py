"""HDF5 read as if it were hostile: groups, text attributes and arrays of numbers, all inside the file.

No library is needed, nor trusted: the usual one runs for ever on some damaged files, and crashes on others.
Every address is checked, and every walk ends. Beside each part stands its section of the "HDF5 File Format
Specification Version 3.0". What libraries write only if they are told to, dense groups and attributes and
newer indices of chunks, is refused by name.
"""

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...core import budget
from ...errors import FileError
from ..zip import native_byte_order

NOWHERE = (1 << 64) - 1
STEP = 64  # bytes that a message, node or entry counts for
MAX_DEPTH, MAX_NAME, MAX_AXES = 64, 4096, 32

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL_FILES, LAYOUT = 1, 2, 3, 6, 7, 8
FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 11, 12, 16, 17, 21
SHARED = 2  # flag of a message that lies in another object
FIXED, FLOAT, STRING, VARIABLE = 0, 1, 3, 9  # classes of types
# By size: where sign, exponent and mantissa of IEEE's floats lie, and the exponent's bias.
FLOATS = {2: (15, 10, 5, 0, 10, 15), 4: (31, 23, 8, 0, 23, 127), 8: (63, 52, 11, 0, 52, 1023)}
# What undoes each filter: gzip, which must not unpack to more than a chunk, shuffle, and fletcher32.
UNDO: dict[int, Callable[[Any, int, int], Any]] = {
    1: lambda content, size, itemsize: zlib.decompressobj().decompress(content, size + 4),
    2: lambda content, size, itemsize: np.frombuffer(content, "u1").reshape(itemsize, -1).T.tobytes(),
    3: lambda content, size, itemsize: content[:-4],
}
COMPACT, CONTIGUOUS, CHUNKED = 0, 1, 2
Messages: TypeAlias = list[tuple[int, int]]  # of an object's header: the kind of each, and where it begins


class File:
    """The bytes of a file, and the heaps that were read."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.heaps: dict[int, dict[int, memoryview]] = {}


class Object:
    """An object of a file, whose path starts every error. All methods raise FileError."""

    def __init__(self, file: File, path: str) -> None:
        self._file, self.path = file, path

    def error(self, problem: str) -> FileError:
        return FileError(f"{self.path or 'the root'} {problem}")

    def damaged(self, problem: str) -> FileError:
        return self.error(f"is damaged: {problem}")

    def take(self, size: int = STEP) -> None:
        """Count memory before it is allocated, or a step of a walk: damaged addresses may form a circle."""
        budget.take(size)
        budget.spend(budget.STEP + size)

    def part(self, at: int, size: int) -> memoryview:
        """Return `size` bytes from an address."""
        data = self._file.data
        if not 0 <= at <= at + size <= len(data):
            raise self.damaged(f"it leads to bytes {at} to {at + size} of {len(data)}")
        return data[at : at + size]

    def numbers(self, form: str, at: int) -> tuple[int, ...]:
        """Return the little-endian numbers of a format of `struct` at an address."""
        return struct.unpack("<" + form, self.part(at, struct.calcsize("<" + form)))

    def number(self, form: str, at: int) -> int:
        return self.numbers(form, at)[0]

    def expect(self, signature: bytes, at: int) -> None:
        if bytes(self.part(at, len(signature))) != signature:
            raise self.damaged(f"there is no {signature.decode()} at byte {at}")

    def decoded(self, content: bytes | memoryview) -> str:
        """A name, or the text of an attribute, up to its zero."""
        text = bytes(content).partition(b"\0")[0]
        budget.spend(len(content))
        budget.take(2 * budget.OBJECT + len(text))  # several names may share their bytes
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged("a text in it is not UTF-8") from error

    def messages(self, at: int) -> Messages:
        """The messages of an object's header: IV.A."""
        found: Messages = []
        if newer := bytes(self.part(at, 4)) == b"OHDR":
            flags = self.number("B", at + 5)
            start = at + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            blocks = [(start + (1 << (flags & 3)), self.number("BHIQ"[flags & 3], start))]
            form, head = "BHB", 6 if flags & 4 else 4
        else:
            version, size = self.numbers("B7xI", at)
            if version != 1:
                raise self.damaged(f"there is no header of an object at byte {at}")
            blocks, form, head = [(at + 16, size)], "HHB", 8
        for start, size in blocks:  # which grows
            end = start + len(self.part(start, size))
            while start + head <= end:
                self.take()
                kind, length, flags = self.numbers(form, start)
                start += head
                if start + length > end:
                    raise self.damaged(f"a message at byte {start} is longer than its block")
                if kind == CONTINUATION:
                    address, more = self.numbers("QQ", start)
                    if newer:
                        self.expect(b"OCHK", address)
                    blocks.append((address + 4, more - 8) if newer else (address, more))
                elif flags & SHARED and kind in (DATASPACE, DATATYPE, ATTRIBUTE, FILTERS):
                    raise self.error("shares a part with other objects, which is not supported")
                else:
                    found.append((kind, start))
                start += length
        return found

    def leaves(self, at: int, kind: int, key: int, depth: int = 0) -> Iterator[tuple[int, int]]:
        """Yield the address of each child of the leaves of a B-tree, and the address of its key: III.A.1."""
        self.expect(b"TREE", at)
        given, level, count = self.numbers("BBH", at + 4)
        if given != kind or depth > MAX_DEPTH:
            raise self.damaged(f"the tree at byte {at} is of another kind, or too deep")
        for key_at in range(at + 24, at + 24 + count * (key + 8), key + 8):
            self.take()
            child = self.number("Q", key_at + key)
            if level:
                yield from self.leaves(child, kind, key, depth + 1)
            else:
                yield key_at, child

    def of_heap(self, address: int, index: int) -> memoryview:
        """One object of a global heap: III.E."""
        if address not in self._file.heaps:
            self.expect(b"GCOL", address)
            found: dict[int, memoryview] = {}
            at, end = address + 16, address + len(self.part(address, self.number("Q", address + 8)))
            while at + 16 <= end and (number := self.number("H", at)):  # 0 is the space that is left
                self.take()
                size = self.number("Q", at + 8)
                found[number] = self.part(at + 16, size)
                at += 16 + _padded(size)
            self._file.heaps[address] = found
        if index not in self._file.heaps[address]:
            raise self.damaged(f"the heap at byte {address} has no object {index}")
        return self._file.heaps[address][index]

    def shape_at(self, at: int) -> tuple[int, ...]:
        """IV.A.2.b, dataspace message."""
        version, rank, _, kind = self.numbers("BBBB", at)
        if version not in (1, 2) or rank > MAX_AXES:
            raise self.damaged(f"its shape has version {version} and {rank} axes")
        if version == 2 and kind == 2:  # nothing at all
            return (0,)
        shape = self.numbers(f"{rank}Q", at + (8 if version == 1 else 4))
        if math.prod(size or 1 for size in shape) >= 1 << 60:
            raise self.error(f"claims the shape {shape}, more than any file can hold")
        return shape

    def type_at(self, at: int) -> np.dtype[Any]:
        """IV.A.2.d, datatype message; text of one length is S, text of any length V."""
        first, bits, sign, _, size = self.numbers("BBBBI", at)
        kind, order = first & 15, ">" if bits & 1 else "<"
        if kind == FIXED:
            if size in (1, 2, 4, 8) and self.numbers("HH", at + 8) == (0, 8 * size):
                return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
        elif kind == FLOAT:
            offset, precision, *form = self.numbers("HHBBBBI", at + 8)
            is_whole = (offset, precision) == (0, 8 * size) and not bits & 64
            if is_whole and FLOATS.get(size) == (sign, *form):
                return np.dtype(f"{order}f{size}")
        elif (kind == STRING and 0 < size < 1 << 31) or (kind == VARIABLE and bits & 15 == 1 and size == 16):
            return np.dtype(f"{'S' if kind == STRING else 'V'}{size}")
        raise self.error(f"has elements of a type (class {kind}, {size} bytes) that is not supported")


def _padded(size: int) -> int:
    """The next multiple of 8."""
    return -(-size // 8) * 8


class Group(Object):
    """A group of a file: its members by name, its text attributes.

    Every reading raises FileError for what is damaged, leads out of the file or in a circle, or claims more
    than the file can hold.
    """

    def __init__(self, file: File, path: str, messages: Messages, above: tuple[int, ...]) -> None:
        super().__init__(file, path)
        self._messages, self._above = messages, above  # the addresses of this group and those around it
        self._links = dict(self._members())

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
        messages = Object(self._file, path).messages(address)
        kinds = {kind for kind, _ in messages}
        if LAYOUT in kinds:
            return Dataset(self._file, path, messages)
        if not kinds & {SYMBOL_TABLE, LINK, LINK_INFO}:
            raise FileError(f"{path} is neither a group nor an array")
        return Group(self._file, path, messages, (*self._above, address))

    def _members(self) -> Iterator[tuple[str, int | None]]:
        """Yield the name of each member and the address of its header, None unless it is a hard link."""
        for kind, at in self._messages:
            if kind == SYMBOL_TABLE:
                yield from self._symbols(*self.numbers("QQ", at))
            elif kind == LINK:  # IV.A.2.g
                flags, link = self.numbers("BB", at + 1)
                at += 2 + (1 if flags & 8 else 0) + (8 if flags & 4 else 0) + (1 if flags & 0x10 else 0)
                length, at = self.number("BHIQ"[flags & 3], at), at + (1 << (flags & 3))
                is_hard = not flags & 8 or link == 0
                yield self.decoded(self.part(at, length)), self.number("Q", at + length) if is_hard else None
            elif kind in (LINK_INFO, ATTRIBUTE_INFO):
                counter = 8 if kind == LINK_INFO else 2
                if self.number("Q", at + 2 + (counter if self.number("B", at + 1) & 1 else 0)) != NOWHERE:
                    raise self.error(
                        "has its members or attributes in a fractal heap, which is not supported: "
                        "write the file with h5py's libver='earliest' and without track_order"
                    )

    def _symbols(self, tree: int, heap: int) -> Iterator[tuple[str, int | None]]:
        """III.A.1, III.C and III.D: nodes of a B-tree lead to tables of names, which lie in a local heap."""
        self.expect(b"HEAP", heap)
        size, address = self.numbers("Q8xQ", heap + 8)
        names = self.part(address, size)
        for _, node in self.leaves(tree, 0, 8):
            self.expect(b"SNOD", node)
            for entry in range(self.number("H", node + 6)):
                self.take()
                name_at, address, cache = self.numbers("QQI", node + 8 + 40 * entry)
                if name_at >= size:
                    raise self.damaged(f"a name lies outside the heap at byte {heap}")
                # 2 is a symbolic link
                yield self.decoded(names[name_at : name_at + MAX_NAME]), None if cache == 2 else address

    def text(self, name: str) -> str | None:
        """The attribute of that name, if there is one."""
        values = self.texts(name)
        return None if values is None else "".join(values)

    def texts(self, name: str) -> list[str] | None:
        """A list of texts; Keras stores a long one in pieces, with the number of the piece after the name."""
        found, own = {}, Object(self._file, f"{self.path}@")
        for kind, at in self._messages:
            if kind == ATTRIBUTE:  # IV.A.2.m: name, type, shape and content
                version, *sizes = own.numbers("BxHHH", at)
                if version not in (1, 2, 3):
                    raise own.error(f"has an attribute of version {version}; expected 1 to 3")
                lengths = map(_padded, sizes) if version == 1 else sizes
                name_at, *places = accumulate(lengths, initial=at + (9 if version == 3 else 8))
                found[own.decoded(own.part(name_at, sizes[0]))] = places
        pieces = [name] if name in found else []
        while f"{name}{len(pieces)}" in found and pieces != [name]:
            pieces.append(f"{name}{len(pieces)}")
        return [each for piece in pieces for each in self._read(piece, *found[piece])] if pieces else None

    def _read(self, name: str, type_at: int, shape_at: int, at: int) -> Iterator[str]:
        own = Object(self._file, f"{self.path}@{name}")
        count = math.prod(own.shape_at(shape_at))
        if not count:
            return
        kind = own.type_at(type_at)
        if kind.kind not in "SV":
            raise own.error("is no text")
        own.take(count * max(kind.itemsize, 64))
        for place in range(at, at + count * kind.itemsize, kind.itemsize):
            if kind.kind == "S":
                content = own.part(place, kind.itemsize)
            else:
                length, address, index = own.numbers("IQI", place)
                content = own.of_heap(address, index)[:length] if length else memoryview(b"")
            own.take(len(content))
            yield own.decoded(content)


class Dataset(Object):
    """An array in a file, read when asked for."""

    def __init__(self, file: File, path: str, messages: Messages) -> None:
        super().__init__(file, path)
        self._messages = dict(messages)
        if EXTERNAL_FILES in self._messages:
            raise self.error("has its numbers in other files, which are not read")
        self.shape = self.shape_at(self._place(DATASPACE))

    def _place(self, kind: int) -> int:
        if kind not in self._messages:
            raise self.damaged(f"its header has no message {kind}")
        return self._messages[kind]

    def read(self) -> NDArray[Any]:
        """The numbers, a view of the file if they lie in one piece; their size is checked before."""
        dtype = self.type_at(self._place(DATATYPE))
        if dtype.kind in "SV":
            raise self.error("has elements that are no numbers")
        size = math.prod(self.shape) * dtype.itemsize
        self.take(size)
        at = self._place(LAYOUT)
        version, layout = self.numbers("BB", at)
        if version not in (3, 4) or layout > CHUNKED or (version, layout) == (4, CHUNKED):
            raise self.error(f"has a layout of version {version}, kind {layout}, which is not supported")
        if layout == CHUNKED:
            return native_byte_order(self._of_chunks(at + 2, dtype))
        compact = layout == COMPACT
        address, given = (at + 4, self.number("H", at + 2)) if compact else self.numbers("QQ", at + 2)
        if size and (address == NOWHERE or given != size):
            raise self.error(f"has shape {self.shape}, {size} bytes, but the file contains {given} for it")
        content = self.part(address, size) if size else b""
        return native_byte_order(np.ndarray(self.shape, dtype, content)).copy()

    def _of_chunks(self, at: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """III.A.1: the leaves of a B-tree lead to chunks, whose places in the array are the keys."""
        rank = len(self.shape)
        if self.number("B", at) != rank + 1:
            raise self.damaged(f"its chunks have other axes than its shape {self.shape}")
        tree, *chunk = self.numbers(f"Q{rank}I", at + 1)
        size = math.prod(chunk) * dtype.itemsize
        filters = self._filters()
        if size and tree == NOWHERE and math.prod(self.shape):
            raise self.error(f"claims the shape {self.shape}, but the file contains no data for it")
        array = np.zeros(self.shape, dtype)
        filled = 0
        for key, address in self.leaves(tree, 1, 8 + 8 * (rank + 1)) if array.size else ():
            stored, skipped, *start = self.numbers(f"II{rank}Q", key)
            self.take(size)
            content: Any = self.part(address, stored)
            try:
                for place, undo in reversed(list(enumerate(filters))):
                    if not skipped >> place & 1:
                        content = undo(content, size, dtype.itemsize)
            except (zlib.error, ValueError) as error:
                raise self.damaged(f"the chunk at byte {address} cannot be unpacked: {error}") from error
            places = zip(start, self.shape, chunk, strict=True)
            if len(content) != size or any(s >= n or s % c for s, n, c in places):
                raise self.damaged(f"a chunk at byte {address} does not fit in")
            target = array[tuple(slice(s, s + c) for s, c in zip(start, chunk, strict=True))]
            target[...] = np.ndarray(chunk, dtype, content)[tuple(map(slice, target.shape))]
            filled += target.size
        if filled != array.size:
            raise self.error(f"has shape {self.shape}, but chunks for {filled} of its numbers")
        return array

    def _filters(self) -> list[Callable[[Any, int, int], Any]]:
        """What undoes the filters of each chunk, in the order in which they ran: IV.A.2.l."""
        if FILTERS not in self._messages:
            return []
        at, found = self._place(FILTERS), []
        version, count = self.numbers("BB", at)
        at += 8 if version == 1 else 2
        for _ in range(count):
            kind, length = self.numbers("HH", at)
            named = version == 1 or kind >= 256
            values = 4 * self.number("H", at + (6 if named else 4))
            sizes = (8, length, values) if named else (6, values)
            at += sum(map(_padded, sizes) if version == 1 else sizes)
            if kind not in UNDO:
                raise self.error(f"is compressed with filter {kind}; expected gzip, shuffle or fletcher32")
            found.append(UNDO[kind])
        return found


def read(data: Any) -> Group:
    """The root of a file in memory or mapped: II, superblock. Raises FileError."""
    file = File(memoryview(data))
    superblock = Object(file, "the superblock")
    version = superblock.number("B", 8)
    if version > 3:
        raise superblock.error(f"has version {version}; expected 0 to 3")
    sizes, base, root = ((13, 24, 64), (13, 28, 68), (9, 12, 36), (9, 12, 36))[version]
    if superblock.numbers("BB", sizes) != (8, 8) or superblock.number("Q", base):
        raise superblock.error("is damaged, or its addresses do not have 8 bytes and begin at 0")
    at = superblock.number("Q", root)
    return Group(file, "", Object(file, "").messages(at), (at,))
