"""A pickle machine that imports nothing and calls nothing that a file asks for.

Plain values become plain values. Everything else becomes a PickledObject: the name of what the pickle would
have called, and the arguments. Sets become lists and tuples, because hashing nested values can take forever.
Each opcode uses memory for a few values and for what it reads from the file, and charges the budget for more.
"""

import contextlib
import io
import pickletools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core import budget
from ...errors import FileError

MAX_INTEGER = 2048  # bits
OPCODE, ENTRY = 40, 100  # bytes that an opcode and an entry of a dict take
PROTOCOL = 5


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


def load(data: bytes, at: int, persistent: Callable[[Any], Any]) -> tuple[Any, int]:
    """Read the pickle that starts at byte `at`; return its value and the byte where it ends.

    `persistent` turns persistent ids into values. Raises FileError, which names the byte.
    """
    file = io.BytesIO(data)
    file.seek(at)
    machine, left = _Machine(persistent), budget.current()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            left.charge(budget.STEP, OPCODE + (len(argument) if isinstance(argument, str | bytes) else 0))
            HANDLERS[opcode.name](machine, argument)
        return machine.stack.pop(), file.tell()
    except KeyError as error:
        what = f"memo entry {error}" if opcode.name in HANDLERS else f"opcode {opcode.name}"
        raise FileError(f"the pickle has an unknown {what} before byte {file.tell()}") from error
    except (LookupError, TypeError, ValueError, AttributeError, Warning) as error:
        # Python may turn its warning of an invalid escape in a name into an error
        raise FileError(f"the pickle is damaged before byte {file.tell()}: {error}") from error


class _Machine:
    def __init__(self, persistent: Callable[[Any], Any]) -> None:
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def number(self, value: int) -> None:
        if value.bit_length() > MAX_INTEGER:
            raise ValueError(f"an integer has more than {MAX_INTEGER} bits")
        self.push(value)

    def pop(self, count: int) -> tuple[Any, ...]:
        return tuple(self.stack.pop() for _ in range(count))[::-1]

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        if not self.below:
            raise ValueError("there is no mark")
        values, self.stack = self.stack, self.below.pop()
        return values

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def named(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError("the name of a class is not a string")
        budget.take(len(module) + len(name))
        self.push(Global(f"{module}.{name}"))

    def call(self, callee: Any, args: Any, state: Any = None) -> None:
        if not isinstance(args, tuple):
            raise TypeError(f"arguments are a {type(args).__name__}; expected a tuple")
        path = callee.path if isinstance(callee, Global) else "a value"
        if path in PLAIN:
            _charge_copy(sum(len(arg) for arg in args if isinstance(arg, str | list | tuple | dict)))
            self.push(PLAIN[path](*args))
        else:
            self.push(PickledObject(path, args, state))

    def build(self) -> None:
        state = self.stack.pop()
        # attributes of plain values are not needed
        if self.stack and isinstance(self.stack[-1], PickledObject):
            self.stack[-1].state = state

    def content(self, name: str, kind: type) -> Any:
        """The list or dict on top of the stack, or that of the object there."""
        top = self.stack[-1]
        if isinstance(top, PickledObject):
            if getattr(top, name) is None:
                setattr(top, name, kind())
            top = getattr(top, name)
        if not isinstance(top, kind):
            raise TypeError(f"a {type(top).__name__} does not take {name}")
        return top

    def append(self, values: list[Any]) -> None:
        self.content("elements", list).extend(values)

    def set_items(self, values: Iterable[Any]) -> None:
        self.content("entries", dict).update(_entries(values))


def _charge_copy(entries: int) -> None:
    """Charge for a copy of a container: an opcode may copy the same one again and again."""
    budget.spend(budget.STEP * entries)
    budget.take(ENTRY * entries)


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


def number_dtype(dtype: Any) -> np.dtype[Any] | None:
    """Return a pickled dtype of numbers, or None for any other value."""
    match dtype:
        case PickledObject("numpy.dtype", (str(kind), *_), state):
            byteorder = state[1] if isinstance(state, tuple) and len(state) > 1 else "="
            if re.fullmatch(r"[biufc]\d{1,2}|\?", kind) and byteorder in ("<", ">", "=", "|"):
                with contextlib.suppress(TypeError):  # for a size that NumPy does not have
                    return np.dtype(byteorder + kind)
    return None


def _number(dtype: Any, data: Any = None) -> Any:
    """A scalar of NumPy as a number of Python, or as an object if it is of another kind."""
    known = number_dtype(dtype)
    if known is None or not isinstance(data, bytes) or len(data) != known.itemsize or known.itemsize > 8:
        return PickledObject("numpy.core.multiarray.scalar", (dtype, data))
    return np.frombuffer(data, known)[0].item()


# The only functions that are called: they make plain values for which pickle has no opcode.
PLAIN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "_codecs.encode": _encoded,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
}


def _protocol(m: _Machine, protocol: int) -> None:
    if protocol > PROTOCOL:
        raise ValueError(f"the protocol is {protocol}; expected at most {PROTOCOL}")


def _instance(m: _Machine, name: str) -> None:
    args = tuple(m.pop_mark())
    m.named(*name.split(" ", 1))
    m.call(m.stack.pop(), args)


def _object(m: _Machine, _: None) -> None:
    callee, *args = m.pop_mark()
    m.call(callee, tuple(args))


# All opcodes of protocols 0 to 5, except the strings of protocol 0, which torch never wrote, extensions,
# which need a registry, and out-of-band buffers. pickletools decodes the arguments: strings of Python 2 as
# latin-1, which preserves text and bytes.
_TABLE: dict[str, Callable[[_Machine, Any], object]] = {
    # the pickle itself, and the memo
    "PROTO": _protocol,
    "FRAME STOP": lambda m, _: None,
    "MARK": lambda m, _: m.mark(),
    "POP": lambda m, _: m.stack.pop() if m.stack else m.pop_mark(),
    "POP_MARK": lambda m, _: m.pop_mark().clear(),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    "PUT BINPUT LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "GET BINGET LONG_BINGET": lambda m, index: m.push(m.memo[index]),
    # constants, numbers, text and bytes
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "INT LONG BININT BININT1 BININT2 LONG1 LONG4": _Machine.number,
    "FLOAT BINFLOAT SHORT_BINSTRING BINSTRING": _Machine.push,
    "UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8": _Machine.push,
    "SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8": lambda m, content: m.push(bytes(content)),
    # tuples, lists, sets, dicts
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE FROZENSET": lambda m, _: m.push(tuple(m.pop_mark())),
    "TUPLE1": lambda m, _: m.push(m.pop(1)),
    "TUPLE2": lambda m, _: m.push(m.pop(2)),
    "TUPLE3": lambda m, _: m.push(m.pop(3)),
    "EMPTY_LIST EMPTY_SET": lambda m, _: m.push([]),
    "LIST": lambda m, _: m.push(m.pop_mark()),
    "APPEND": lambda m, _: m.append([m.stack.pop()]),
    "APPENDS ADDITEMS": lambda m, _: m.append(m.pop_mark()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "DICT": lambda m, _: m.push(_entries(m.pop_mark())),
    "SETITEM": lambda m, _: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_mark()),
    # everything else
    "GLOBAL": lambda m, name: m.named(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.named(*m.pop(2)),
    "REDUCE NEWOBJ": lambda m, _: m.call(*m.pop(2)),
    "NEWOBJ_EX": lambda m, _: m.call(*m.pop(3)),
    "INST": _instance,
    "OBJ": _object,
    "BUILD": lambda m, _: m.build(),
    "PERSID": lambda m, pickled: m.push(m.persistent(pickled)),
    "BINPERSID": lambda m, _: m.push(m.persistent(m.stack.pop())),
}
HANDLERS = {name: handler for names, handler in _TABLE.items() for name in names.split()}
