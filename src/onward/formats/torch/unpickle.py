"""A pickle machine that imports nothing and calls nothing that a file asks for.

Plain values become plain values. Everything else becomes a PickledObject: the name of what the pickle would
have called, and the arguments. Sets become lists and tuples, because hashing nested values can take forever.
Each opcode uses memory for a few values and for what it reads from the file, never more.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...errors import FileError
from ..zip import Data

MAX_OPCODES = 2_000_000
MAX_LINE = 1 << 16
MAX_NAME = 1000
MAX_INTEGER = 256  # bytes
PROTOCOL = 5
STOP = ord(".")


@dataclass(eq=False, slots=True, repr=False)
class Global:
    """The name of a class or function."""

    path: str


@dataclass(eq=False, slots=True, repr=False)
class PickledObject:
    """What a pickle would have created: `path(*args)`, then its state, entries and elements."""

    path: str
    args: tuple[Any, ...]
    state: Any = None
    entries: dict[Any, Any] | None = None
    elements: list[Any] | None = None


def load(data: Data, at: int, persistent: Callable[[Any], Any]) -> tuple[Any, int]:
    """Read the pickle that starts at byte `at`; return its value and the byte where it ends.

    `persistent` turns persistent ids into values. Raises FileError, which names the byte.
    """
    machine = _Machine(data, at, persistent)
    for _ in range(MAX_OPCODES):
        start = machine.at
        try:
            code = data[start]
            machine.at += 1
            if code == STOP:
                return machine.pop(), machine.at
            HANDLERS[code](machine)
        except KeyError as error:
            what = f"opcode {code}" if code not in HANDLERS else f"memo entry {error}"
            raise FileError(f"the pickle has an unknown {what} at byte {start}") from error
        except (LookupError, TypeError, ValueError, AttributeError, struct.error) as error:
            raise FileError(f"the pickle is damaged at byte {start}: {error}") from error
    raise FileError(f"the pickle has more than {MAX_OPCODES} opcodes, up to byte {start}")


class _Machine:
    def __init__(self, data: Data, at: int, persistent: Callable[[Any], Any]) -> None:
        self.data = data
        self.at = at
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.at:
            raise ValueError(f"the file ends before the next {size} bytes")
        self.at += size
        return self.data[self.at - size : self.at]

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at, self.at + MAX_LINE)
        if end < 0:
            raise ValueError("a line does not end")
        return self.take(end + 1 - self.at)[:-1]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def sized(self, size: int) -> bytes:
        """The bytes that follow their count, an integer of `size` bytes."""
        return self.take(self.number(size))

    def integer(self, size: int) -> int:
        content = self.sized(size)
        if len(content) > MAX_INTEGER:
            raise ValueError(f"an integer has {len(content)} bytes; expected at most {MAX_INTEGER}")
        return int.from_bytes(content, "little", signed=True)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise ValueError("the stack is empty")
        return self.stack.pop()

    def pop_last(self, count: int) -> tuple[Any, ...]:
        return tuple(self.pop() for _ in range(count))[::-1]

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        if not self.below:
            raise ValueError("there is no mark")
        values, self.stack = self.stack, self.below.pop()
        return values

    def pop_or_unmark(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def put(self, index: int) -> None:
        if not self.stack:
            raise ValueError("the stack is empty")
        self.memo[index] = self.stack[-1]

    def duplicate(self) -> None:
        value = self.pop()
        self.stack += [value, value]

    def named(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError("the name of a class is not a string")
        if len(module) + len(name) > MAX_NAME:  # names are copied
            raise ValueError(f"the name of a class has more than {MAX_NAME} characters")
        self.push(Global(f"{module}.{name}"))

    def call(self, callee: Any, args: Any, state: Any = None) -> None:
        if not isinstance(args, tuple):
            raise TypeError(f"arguments are a {type(args).__name__}; expected a tuple")
        path = callee.path if isinstance(callee, Global) else "a value"
        if path in PLAIN:
            self.copied += sum(len(arg) for arg in args if isinstance(arg, str | list))
            if self.copied > len(self.data):  # the same argument was copied again and again
                raise ValueError("the copied values are larger than the file")
            self.push(PLAIN[path](*args))
        else:
            self.push(PickledObject(path, args, state))

    def build(self) -> None:
        state = self.pop()
        # attributes of plain values are not needed
        if self.stack and isinstance(self.stack[-1], PickledObject):
            self.stack[-1].state = state

    def append(self, values: list[Any]) -> None:
        self._content("elements", list).extend(values)

    def set_items(self, values: Iterable[Any]) -> None:
        self._content("entries", dict).update(_entries(values))

    def _content(self, name: str, kind: type) -> Any:
        """The list or dict on top of the stack, or that of the object there."""
        top = self.stack[-1]
        if isinstance(top, PickledObject):
            if getattr(top, name) is None:
                setattr(top, name, kind())
            top = getattr(top, name)
        if not isinstance(top, kind):
            raise TypeError(f"a {type(top).__name__} does not take {name}")
        return top


def _entries(values: Iterable[Any]) -> dict[Any, Any]:
    """A dict of alternating keys and values; a key that is not a plain value becomes a PickledObject."""
    each = iter(values)
    return {
        key if _is_plain(key) else PickledObject("a key", (key,)): value
        for key, value in zip(each, each, strict=True)
    }


def _is_plain(key: Any) -> bool:
    """Whether a key is safe to hash: a hostile file can choose many long integers or floats with one hash."""
    return isinstance(key, str | bytes | None) or (isinstance(key, int) and -(2**63) <= key < 2**64)


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    return _entries(value for key_value in pairs for value in (key_value[0], key_value[1]))


def _encoded(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes have the encoding {encoding!r}; expected latin1")
    return text.encode("latin-1")


# The only functions that are called: they make plain values for which pickle has no opcode.
PLAIN: dict[str, Callable[..., Any]] = {"collections.OrderedDict": _ordered, "_codecs.encode": _encoded}


def _decimal(text: bytes) -> int | bool:
    if text in (b"00", b"01"):
        return text == b"01"
    return int(text.removesuffix(b"L"))


def _protocol(m: _Machine) -> None:
    if (protocol := m.number(1)) > PROTOCOL:
        raise ValueError(f"the protocol is {protocol}; expected at most {PROTOCOL}")


def _instance(m: _Machine) -> None:
    m.named(m.line().decode(), m.line().decode())
    callee = m.pop()
    m.call(callee, tuple(m.pop_mark()))


def _object(m: _Machine) -> None:
    callee, *args = m.pop_mark()
    m.call(callee, tuple(args))


# All opcodes of protocols 0 to 5, except the strings of protocol 0, which torch never wrote, extensions,
# which need a registry, and out-of-band buffers. Strings of Python 2 are text or bytes; latin-1 preserves
# both.
OPCODES: dict[bytes, Callable[[_Machine], object]] = {
    # the pickle itself
    b"\x80": _protocol,
    b"\x95": lambda m: m.number(8),  # the size of a frame
    b"(": lambda m: m.mark(),
    b"0": lambda m: m.pop_or_unmark(),
    b"1": lambda m: m.pop_mark().clear(),
    b"2": lambda m: m.duplicate(),
    # the memo
    b"p": lambda m: m.put(int(m.line())),
    b"q": lambda m: m.put(m.number(1)),
    b"r": lambda m: m.put(m.number(4)),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"g": lambda m: m.push(m.memo[int(m.line())]),
    b"h": lambda m: m.push(m.memo[m.number(1)]),
    b"j": lambda m: m.push(m.memo[m.number(4)]),
    # constants and numbers
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    **dict.fromkeys((b"I", b"L"), lambda m: m.push(_decimal(m.line()))),
    b"J": lambda m: m.push(int.from_bytes(m.take(4), "little", signed=True)),
    b"K": lambda m: m.push(m.number(1)),
    b"M": lambda m: m.push(m.number(2)),
    b"\x8a": lambda m: m.push(m.integer(1)),
    b"\x8b": lambda m: m.push(m.integer(4)),
    b"F": lambda m: m.push(float(m.line())),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    # text and bytes
    b"U": lambda m: m.push(m.sized(1).decode("latin-1")),
    b"T": lambda m: m.push(m.sized(4).decode("latin-1")),
    b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    b"\x8c": lambda m: m.push(m.sized(1).decode("utf-8", "surrogatepass")),
    b"X": lambda m: m.push(m.sized(4).decode("utf-8", "surrogatepass")),
    b"\x8d": lambda m: m.push(m.sized(8).decode("utf-8", "surrogatepass")),
    b"C": lambda m: m.push(m.sized(1)),
    b"B": lambda m: m.push(m.sized(4)),
    **dict.fromkeys((b"\x8e", b"\x96"), lambda m: m.push(m.sized(8))),
    # tuples, lists, sets, dicts
    b")": lambda m: m.push(()),
    **dict.fromkeys((b"t", b"\x91"), lambda m: m.push(tuple(m.pop_mark()))),
    b"\x85": lambda m: m.push(m.pop_last(1)),
    b"\x86": lambda m: m.push(m.pop_last(2)),
    b"\x87": lambda m: m.push(m.pop_last(3)),
    **dict.fromkeys((b"]", b"\x8f"), lambda m: m.push([])),
    b"l": lambda m: m.push(m.pop_mark()),
    b"a": lambda m: m.append([m.pop()]),
    **dict.fromkeys((b"e", b"\x90"), lambda m: m.append(m.pop_mark())),
    b"}": lambda m: m.push({}),
    b"d": lambda m: m.push(_entries(m.pop_mark())),
    b"s": lambda m: m.set_items(m.pop_last(2)),
    b"u": lambda m: m.set_items(m.pop_mark()),
    # everything else
    b"c": lambda m: m.named(m.line().decode(), m.line().decode()),
    b"\x93": lambda m: m.named(*m.pop_last(2)),
    **dict.fromkeys((b"R", b"\x81"), lambda m: m.call(*m.pop_last(2))),
    b"\x92": lambda m: m.call(*m.pop_last(3)),
    b"i": _instance,
    b"o": _object,
    b"b": lambda m: m.build(),
    b"P": lambda m: m.push(m.persistent(m.line().decode())),
    b"Q": lambda m: m.push(m.persistent(m.pop())),
}
HANDLERS = {opcode[0]: handler for opcode, handler in OPCODES.items()}
