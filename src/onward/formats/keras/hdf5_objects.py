"""The objects of an HDF5 file: headers and their messages, groups' members, heaps of names and texts, chunks.

Read as if the file were hostile: every address is checked, and every walk ends. Beside each part stands its
section of the "HDF5 File Format Specification Version 3.0". What libraries write only if they are told to,
dense groups and attributes and newer indices of chunks, is refused by name.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ...errors import FileError
from ..zip import MAX_RATIO, SLACK

NOWHERE = (1 << 64) - 1
MAX_STEPS = 1_000_000  # messages, nodes and entries looked at
MAX_DEPTH = 64
MAX_NAME = 4096

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL_FILES, LAYOUT = 1, 2, 3, 6, 7, 8
FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 11, 12, 16, 17, 21
SHARED = 2  # flag of a message that lies in another object


class Message(NamedTuple):
    """One message of an object's header."""

    kind: int
    at: int
    size: int


class File:
    """The bytes of a file, and how much of it may still be read. All methods raise FileError."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self._left = len(data) * MAX_RATIO + SLACK
        self._steps = MAX_STEPS
        self._heaps: dict[int, dict[int, memoryview]] = {}

    def take(self, size: int, path: str) -> None:
        """Before memory is taken for something of the file."""
        self._left -= size
        if self._left < 0:
            raise FileError(f"{path} and the objects before it claim {MAX_RATIO} times the size of the file")

    def step(self, path: str) -> None:
        """Before each part of what may have many, or lead in a circle."""
        self._steps -= 1
        if self._steps < 0:
            raise FileError(f"{path} and the objects before it have more than {MAX_STEPS} parts")

    def part(self, at: int, size: int, path: str) -> memoryview:
        """So many bytes from an address on."""
        if not 0 <= at <= at + size <= len(self.data):
            raise FileError(f"{path} is damaged: it leads to bytes {at} to {at + size} of {len(self.data)}")
        return self.data[at : at + size]

    def numbers(self, form: str, at: int, path: str) -> tuple[int, ...]:
        """Little-endian numbers, as struct names them."""
        return struct.unpack("<" + form, self.part(at, struct.calcsize("<" + form), path))

    def number(self, form: str, at: int, path: str) -> int:
        return self.numbers(form, at, path)[0]

    def expect(self, signature: bytes, at: int, path: str) -> None:
        if bytes(self.part(at, len(signature), path)) != signature:
            raise FileError(f"{path} is damaged: there is no {signature.decode()} at byte {at}")

    def root(self) -> int:
        """The address of the root group's header: II, superblock."""
        version = self.number("B", 8, "the superblock")
        if version > 3:
            raise FileError(f"the superblock has version {version}; expected 0 to 3")
        sizes, base, root = ((13, 24, 64), (13, 28, 68), (9, 12, 36), (9, 12, 36))[version]
        if self.numbers("BB", sizes, "the superblock") != (8, 8) or self.number("Q", base, "the superblock"):
            raise FileError("the superblock is damaged, or its addresses do not have 8 bytes and begin at 0")
        return self.number("Q", root, "the superblock")

    def messages(self, at: int, path: str) -> list[Message]:
        """The messages of an object's header: IV.A."""
        found: list[Message] = []
        newer = bytes(self.part(at, 4, path)) == b"OHDR"
        if newer:
            flags = self.number("B", at + 5, path)
            start = at + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            blocks = [(start + width, self.number("BHIQ"[flags & 3], start, path))]
            head = 6 if flags & 4 else 4
        else:
            version, size = self.numbers("B7xI", at, path)
            if version != 1:
                raise FileError(f"{path} is damaged: there is no header of an object at byte {at}")
            blocks, head = [(at + 16, size)], 8
        for start, size in blocks:  # which grows
            end = start + len(self.part(start, size, path))
            while start + head <= end:
                self.step(path)
                kind, length, flags = self.numbers("BHB" if newer else "HHB", start, path)
                start += head
                if start + length > end:
                    raise FileError(f"{path} is damaged: a message at byte {start} is longer than its block")
                if kind == CONTINUATION:
                    address, more = self.numbers("QQ", start, path)
                    if newer:
                        self.expect(b"OCHK", address, path)
                    blocks.append((address + 4, more - 8) if newer else (address, more))
                elif flags & SHARED and kind in (DATASPACE, DATATYPE, ATTRIBUTE, FILTERS):
                    raise FileError(f"{path} shares a part with other objects, which is not supported")
                else:
                    found.append(Message(kind, start, length))
                start += length
        return found

    def links(self, messages: list[Message], path: str) -> dict[str, int | None]:
        """The members of a group: the addresses of their headers, or None for what is no hard link."""
        found: dict[str, int | None] = {}
        for message in messages:
            if message.kind == SYMBOL_TABLE:
                tree, heap = self.numbers("QQ", message.at, path)
                found |= self._symbols(tree, heap, path)
            elif message.kind == LINK:
                name, address = self._link(message.at, path)
                found[name] = address
            elif message.kind in (LINK_INFO, ATTRIBUTE_INFO):
                self._check_not_dense(message, path)
        return found

    def _check_not_dense(self, message: Message, path: str) -> None:
        flags = self.number("B", message.at + 1, path)
        counter = 8 if message.kind == LINK_INFO else 2
        if self.number("Q", message.at + 2 + (counter if flags & 1 else 0), path) != NOWHERE:
            raise FileError(
                f"{path} has its members or attributes in a fractal heap, which is not supported: "
                "write the file with h5py's libver='earliest' and without track_order"
            )

    def _link(self, at: int, path: str) -> tuple[str, int | None]:
        """IV.A.2.g, link message."""
        flags = self.number("B", at + 1, path)
        at += 2
        kind = self.number("B", at, path) if flags & 8 else 0
        at += (1 if flags & 8 else 0) + (8 if flags & 4 else 0) + (1 if flags & 0x10 else 0)
        length = self.number("BHIQ"[flags & 3], at, path)
        at += 1 << (flags & 3)
        name = text(self.part(at, length, path), path)
        return name, self.number("Q", at + length, path) if kind == 0 else None

    def _symbols(self, tree: int, heap: int, path: str) -> dict[str, int | None]:
        """III.A.1, III.C and III.D: nodes of a B-tree lead to tables of names, which lie in a local heap."""
        self.expect(b"HEAP", heap, path)
        size, names = self.numbers("Q8xQ", heap + 8, path)
        self.part(names, size, path)
        found: dict[str, int | None] = {}
        for _, node in self.leaves(tree, 0, 8, path):
            self.expect(b"SNOD", node, path)
            for entry in range(self.number("H", node + 6, path)):
                self.step(path)
                name_at, address, cache = self.numbers("QQI", node + 8 + 40 * entry, path)
                if name_at >= size:
                    raise FileError(f"{path} is damaged: a name lies outside the heap at byte {heap}")
                name = self.data[names + name_at : names + min(size, name_at + MAX_NAME)]
                found[text(name, path)] = None if cache == 2 else address  # 2 is a symbolic link
        return found

    def leaves(self, at: int, kind: int, key: int, path: str, depth: int = 0) -> Iterator[tuple[int, int]]:
        """The addresses of what the leaves of a B-tree hold, each with that of its key: III.A.1."""
        self.expect(b"TREE", at, path)
        given, level, count = self.numbers("BBH", at + 4, path)
        if given != kind or depth > MAX_DEPTH:
            raise FileError(f"{path} is damaged: the tree at byte {at} is of another kind, or too deep")
        for entry in range(count):
            self.step(path)
            key_at = at + 24 + entry * (key + 8)
            child = self.number("Q", key_at + key, path)
            if level:
                yield from self.leaves(child, kind, key, path, depth + 1)
            else:
                yield key_at, child

    def of_heap(self, address: int, index: int, path: str) -> memoryview:
        """One object of a global heap: III.E."""
        if address not in self._heaps:
            self._heaps[address] = dict(self._objects(address, path))
        if index not in self._heaps[address]:
            raise FileError(f"{path} is damaged: the heap at byte {address} has no object {index}")
        return self._heaps[address][index]

    def _objects(self, heap: int, path: str) -> Iterator[tuple[int, memoryview]]:
        self.expect(b"GCOL", heap, path)
        at, end = heap + 16, heap + len(self.part(heap, self.number("Q", heap + 8, path), path))
        while at + 16 <= end:
            self.step(path)
            index, size = self.numbers("H6xQ", at, path)
            if index == 0:  # the space that is left
                return
            yield index, self.part(at + 16, size, path)
            at += 16 + -(-size // 8) * 8


def text(content: bytes | memoryview, path: str) -> str:
    """A name, or the text of an attribute, up to its zero."""
    try:
        return bytes(content).partition(b"\0")[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is damaged: a text in it is not UTF-8") from error
