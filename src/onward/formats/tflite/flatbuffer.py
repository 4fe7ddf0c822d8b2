"""Read flatbuffers: tables whose fields are found through offsets, each of which is checked.

A schema has a text for each table: its fields in order, as `name:kind` or `name:kind=default`. A kind is a
number, `string`, another table, a vector of one of them in brackets, or `table`: the place of a table whose
kind is found elsewhere in the file. Python reads it with `Reader.table`.
"""

import struct
from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ...core import budget
from ...errors import FileError

NUMBERS = {
    **{"bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I"},
    **{"int64": "q", "uint64": "Q", "float32": "f"},
}
FORMATS = {kind: struct.Struct(f"<{letter}") for kind, letter in NUMBERS.items()}
MAX_DEPTH = 16  # tables inside tables


class Field(NamedTuple):
    """A field of a table: its name, its kind, whether it is a vector, and its value if it is absent."""

    name: str
    kind: str
    is_vector: bool
    default: Any


@cache
def fields_of(text: str) -> tuple[Field, ...]:
    """Return the fields that the text of a table declares."""
    fields = []
    for declaration in text.split():
        name, _, rest = declaration.partition(":")
        kind, _, default = rest.partition("=")
        inner = kind.strip("[]")
        value: Any = {"string": "", "table": 0}.get(kind)
        if inner != kind:
            value = np.zeros(0, NUMBERS[inner]) if inner in NUMBERS else ()
        elif kind in NUMBERS:
            value = float(default or 0) if kind == "float32" else int(default or 0)
        fields.append(Field(name, inner, inner != kind, value))
    return tuple(fields)


class Reader:
    """Reads the tables of one file. Raises FileError, which names the byte, and the errors of the budget.

    A kind of table that the schema does not have has no fields.
    """

    def __init__(self, data: Any, schema: Mapping[str, str]) -> None:
        self.data = memoryview(data)
        self.schema = schema

    def root(self, kind: str) -> SimpleNamespace:
        """Return the table at the root of the file."""
        return self.table(kind, self._target(0))

    def table(self, kind: str, at: int, depth: int = 0) -> SimpleNamespace:
        """Return the table of a kind at a byte, with the tables inside it; the fields are attributes.

        Byte 0 stands for a table that a file omits.
        """
        if depth > MAX_DEPTH:
            raise FileError(f"the tables at byte {at} are nested more than {MAX_DEPTH} deep")
        declared = fields_of(self.schema.get(kind, ""))
        budget.charge(budget.STEP * (2 + len(declared)), budget.OBJECT * (2 + len(declared)))
        if not at:
            return SimpleNamespace(**{field.name: field.default for field in declared})
        offsets = at - self._number("int32", at)  # of the fields, behind two sizes
        size = self._number("uint16", offsets)
        if size < 4 or size % 2:
            raise FileError(f"the table {kind} at byte {at} has {size} bytes of offsets; expected 4 or more")
        self._span(offsets, size)
        values = {}
        for place, field in enumerate(declared):
            slot = 4 + 2 * place
            offset = self._number("uint16", offsets + slot) if slot + 2 <= size else 0
            read = self._vector if field.is_vector else self._value
            values[field.name] = read(field.kind, at + offset, depth) if offset else field.default
        return SimpleNamespace(**values)

    def _value(self, kind: str, at: int, depth: int) -> Any:
        """Return the number at a byte, or that to which the offset there leads."""
        if kind in NUMBERS:
            return self._number(kind, at)
        at = self._target(at)
        if kind == "table":
            return at
        return self._text(at) if kind == "string" else self.table(kind, at, depth + 1)

    def _vector(self, kind: str, at: int, depth: int) -> Any:
        """Return an array that shares the memory of the file, or a list of strings or tables."""
        at = self._target(at)
        count, first = self._number("uint32", at), at + 4
        if kind in NUMBERS:
            dtype = np.dtype(NUMBERS[kind]).newbyteorder("<")
            self._span(first, count * dtype.itemsize)
            budget.charge(budget.STEP, budget.OBJECT)
            return np.frombuffer(self.data, dtype, count, first) if count else np.zeros(0, dtype)
        self._span(first, 4 * count)
        budget.charge(budget.STEP * count, 8 * count)
        return [self._value(kind, first + 4 * place, depth) for place in range(count)]

    def _text(self, at: int) -> str:
        length = self._number("uint32", at)
        budget.charge(budget.STEP + length, budget.OBJECT + 4 * length)
        return bytes(self._span(at + 4, length)).decode(errors="replace")

    def _target(self, at: int) -> int:
        """Return the byte to which the offset at a byte leads."""
        offset: int = self._number("uint32", at)
        return at + offset

    def _number(self, kind: str, at: int) -> Any:
        number = FORMATS[kind]
        return number.unpack(self._span(at, number.size))[0]

    def _span(self, at: int, length: int) -> memoryview:
        """Return some bytes of the file. Raises FileError if it has fewer."""
        if at < 0 or at + length > len(self.data):
            raise FileError(
                f"the bytes {at} to {at + length} do not exist: the file of {len(self.data)} bytes is damaged"
            )
        return self.data[at : at + length]
