"""Protocol Buffers: read and write messages whose classes declare their fields.

Source: https://protobuf.dev/programming-guides/encoding. Reading is bounded: every length is checked against
the bytes that remain before anything is sliced, the depth has a limit, and each field charges the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

import numpy as np
from numpy.typing import NDArray

import onward._core as _core

from ...core import budget
from ...core.identity import Identity
from ...errors import FileError

MAX_DEPTH = 100  # nested messages, as in Google's implementations
FIELD, NUMBER = 200, 40  # bytes of a value, and of a number in a list
VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5  # wire types
MAX_VARINT = 10  # bytes of a number
BLOCK = 1 << 16  # bytes or numbers that NumPy converts at a time, which bounds its temporary arrays

Data = memoryview | bytes
Run = memoryview | bytes  # fields of one number that follow each other, as they are in the file
M = TypeVar("M", bound="Message")


class Kind(NamedTuple):
    """The type of a field: its wire type, and the dtype of numbers or the type of other values."""

    wire: int
    dtype: str = ""


INT32, INT64, UINT64 = Kind(VARINT, "<i4"), Kind(VARINT, "<i8"), Kind(VARINT, "<u8")
ENUM = INT32
FLOAT, DOUBLE = Kind(FIXED32, "<f4"), Kind(FIXED64, "<f8")
STRING, BYTES = Kind(DELIMITED, "str"), Kind(DELIMITED, "bytes")
VIEW = Kind(DELIMITED, "memoryview")  # bytes that are not copied; a repeated field is a list of `Run`s
MESSAGE = Kind(DELIMITED, "message")


class Field:
    """A declared field. It is repeated if its default is () (a list) or an array, else singular."""

    def __init__(self, number: int, kind: Kind | str, default: Any, oneof: str) -> None:
        self.number, self.default, self.oneof = number, default, oneof
        self.kind, self.message_name = (MESSAGE, kind) if isinstance(kind, str) else (kind, "")
        self.is_array = isinstance(default, np.ndarray)
        self.is_repeated = self.is_array or default == ()
        self.is_packed = self.is_repeated and self.kind.wire != DELIMITED
        self.key = number << 3 | (DELIMITED if self.is_packed else self.kind.wire)
        self.name = ""  # in the class

    def described(self, message: Message) -> str:
        return f"{type(message).__name__}.{self.name}"


def field(number: int, kind: Kind | str, *, default: Any, oneof: str = "") -> Any:
    """Declare a field, whose kind is the name of a class for messages; one field of a oneof is present."""
    return Field(number, kind, default, oneof)


# The wire type of a field, its kind, its name, whether it is repeated, whether it is an array, the class of
# its messages, and the other members of its oneof.
Entry = tuple[int, str, str, bool, bool, str, tuple[str, ...]]


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
class Message:
    """The base class of messages. An absent field has the default of its declaration."""

    classes: ClassVar[dict[str, type[Message]]] = {}  # by name
    fields: ClassVar[dict[str, Field]]  # by name, in the order of their numbers
    by_key: ClassVar[dict[int, Entry]]  # by the number and wire type in the file

    def __init_subclass__(cls) -> None:
        declared = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        Message.classes[cls.__name__] = cls
        cls.fields = dict(sorted(declared.items(), key=lambda item: item[1].number))
        cls.by_key = {}
        for name, own in declared.items():
            own.name = name
            same = [other for other in declared if own.oneof and declared[other].oneof == own.oneof]
            alternatives = tuple(other for other in same if other != name)
            # readers must also accept a field for each number
            for wire in {own.key & 7, own.kind.wire}:
                described = wire, own.kind.dtype, name, own.is_repeated, own.is_array
                cls.by_key[own.number << 3 | wire] = *described, own.message_name, alternatives
            setattr(cls, name, own.default)

    def __init__(self, **values: Any) -> None:
        if unknown := values.keys() - self.fields.keys():
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        vars(self).update(values)

    def __reduce__(self) -> tuple[Any, ...]:
        return decode, (type(self), encode(self))


def decode(kind: type[M], data: Data) -> M:
    """Read a message. Arrays of fixed-size numbers and VIEW fields share the memory of `data`.

    Fields that the class does not declare are skipped. Raises FileError, which names the byte.
    """
    with budget.of_file(len(data)):
        message, reader = kind.__new__(kind), _Reader()
        try:
            _core.read_message(message, memoryview(data), MAX_DEPTH, reader.charge, reader.add_numbers)
        except ValueError as error:
            raise FileError(str(error)) from None
        reader.finish()
    return message


class _Reader:
    """Adds the numbers to the messages of one file."""

    def __init__(self) -> None:
        self._budget = budget.current()
        # the bytes of each array with its field and message, which the key identifies
        self._arrays: dict[tuple[Identity, str], tuple[Message, Field, memoryview | bytearray]] = {}

    def charge(self, fields: int) -> None:
        """Charge for so many fields."""
        self._budget.charge(10 * FIELD * fields, FIELD * fields)

    def add_numbers(self, message: Message, name: str, content: memoryview) -> None:
        """Append packed numbers to a list, or to the bytes of an array.

        The usual single part of an array is not copied.
        """
        own = message.fields[name]
        if not own.is_array:
            numbers = _array(message, own, content)
            self._budget.charge(10 * NUMBER * len(numbers), NUMBER * len(numbers))
            vars(message).setdefault(name, []).extend(numbers.tolist())
            return
        key = Identity(message), name
        before = self._arrays[key][2] if key in self._arrays else None
        if isinstance(before, bytearray):
            before += content
        else:
            parts = content if before is None else bytearray(before) + content
            self._arrays[key] = message, own, parts

    def finish(self) -> None:
        """Give each message its arrays, whose parts may have been anywhere in the file."""
        for message, own, content in self._arrays.values():
            vars(message)[own.name] = _array(message, own, content)


def _array(message: Message, own: Field, content: memoryview | bytearray) -> NDArray[Any]:
    """The numbers of a repeated field."""
    dtype = np.dtype(own.kind.dtype)
    if own.kind.wire == VARINT:
        if content and content[-1] > 127:
            raise FileError(f"the file is damaged: the last number of {own.described(message)} is incomplete")
        return _unpacked_varints(content, dtype)
    if len(content) % dtype.itemsize:
        raise FileError(
            f"the file is damaged: {own.described(message)} has {len(content)} bytes; "
            f"expected a multiple of {dtype.itemsize}"
        )
    return np.frombuffer(content, dtype)


def _unpacked_varints(content: memoryview | bytearray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The numbers in packed bytes, the last of which ends a number."""
    bytes_ = np.frombuffer(content, np.uint8)
    count = np.count_nonzero(bytes_ < 128)
    if count == len(bytes_):  # the usual case: each number has one byte
        return bytes_.astype(dtype)
    numbers = np.empty(count, dtype)
    start = done = 0
    while start < len(bytes_):
        block = bytes_[start : start + BLOCK]
        ends = np.flatnonzero(block < 128)
        if not len(ends):
            raise FileError(f"the file is damaged: a packed number has more than {MAX_VARINT} bytes")
        block = block[: ends[-1] + 1]
        starts = np.concatenate([[0], ends[:-1] + 1])
        sizes = ends + 1 - starts
        if sizes.max() > MAX_VARINT:
            raise FileError(f"the file is damaged: a packed number has more than {MAX_VARINT} bytes")
        values = (block[starts] & 127).astype(np.uint64)
        for place in range(1, int(sizes.max())):
            longer = np.flatnonzero(sizes > place)
            values[longer] |= (block[starts[longer] + place] & 127).astype(np.uint64) << np.uint64(7 * place)
        numbers[done : done + len(values)] = values.astype(dtype)
        done += len(values)
        start += len(block)
    return numbers


def encode(message: Message) -> bytes:
    """The bytes of a message; writes the fields that are present, in the order of their numbers."""
    parts: list[Any] = []
    _write(message, parts)
    return b"".join(parts)


def _write(message: Message, parts: list[Any]) -> int:
    """Append the bytes of a message and return how many they are."""
    size, values = 0, vars(message)
    for own in message.fields.values():
        value = values.get(own.name)
        if value is None:
            continue
        items: Sequence[Any] = value if own.is_repeated else [value]
        if own.is_packed:
            items = [_packed(own.kind, items)] if len(items) else []
        for item in items:
            if own.kind is VIEW and own.is_repeated:
                parts.append(item)
                size += len(item)
                continue
            place = len(parts)
            parts.append(b"")
            header = _varint(own.key)
            if isinstance(item, Message):
                length = _write(item, parts)
            else:
                parts.append(_content(own, item))
                length = len(parts[-1])
            if own.key & 7 == DELIMITED:
                header += _varint(length)
            parts[place] = header
            size += len(header) + length
    return size


def _content(own: Field, item: Any) -> Any:
    """The bytes of a value, without its length."""
    if own.kind is STRING:
        return item.encode()
    if own.is_packed or own.kind in (BYTES, VIEW):
        return item
    return _varint(item) if own.kind.wire == VARINT else np.array(item, own.kind.dtype).tobytes()


def _varint(number: int) -> bytes:
    number &= 0xFFFF_FFFF_FFFF_FFFF
    content = bytearray()
    while number > 127:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes((*content, number))


def _packed(kind: Kind, numbers: Any) -> bytes:
    """The bytes of repeated numbers."""
    array = np.asarray(numbers, kind.dtype)
    return array.tobytes() if kind.wire != VARINT else b"".join(_packed_varints(array))


def _packed_varints(array: NDArray[Any]) -> Iterator[bytes]:
    shifts = np.arange(0, 7 * MAX_VARINT, 7, dtype=np.uint64)
    for start in range(0, len(array), BLOCK):
        rest = array[start : start + BLOCK].astype(np.int64).view(np.uint64)[:, None] >> shifts
        present = rest != 0
        present[:, 0] = True
        content = (rest & np.uint64(127)).astype(np.uint8)
        content[:, :-1] |= present[:, 1:].view(np.uint8) << 7
        yield content[present].tobytes()
