"""The functions in C that steps call: templates/*.c, and the literals of numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEMPLATES = Path(__file__).parent / "templates"
FUNCTIONS = ("functions", "steps", "integers", "fourier")  # files whose functions are used as they are

# The type in C of each dtype, and the field of the arena that holds it.
TYPES = {
    "float32": "float",
    "float64": "double",
    "int16": "int16_t",  # of constants alone
    "int32": "int32_t",
    "int64": "int64_t",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "bool": "uint8_t",
}
FIELDS = {"float": "floats", "double": "doubles", "int32_t": "ints", "int64_t": "longs", "uint8_t": "bytes"}
FIELD_TYPES = {field: kind for kind, field in FIELDS.items()}


def field_of(dtype: str) -> str:
    """Return the field of the arena that holds a dtype."""
    kind = TYPES[dtype]
    return FIELDS["uint8_t" if kind == "int8_t" else kind]


@cache
def text_of(file: str) -> str:
    """Return the content of a template."""
    return (TEMPLATES / f"{file}.c").read_text(encoding="utf-8")


@cache
def paragraphs(file: str) -> dict[str, str]:
    """Return the functions and types of a template by name, in order; blank lines separate them."""
    found = {}
    for text in text_of(file).strip().split("\n\n"):
        without_comments = re.sub(r"/\*.*?\*/\s*", "", text, flags=re.DOTALL)
        if without_comments.startswith("typedef"):
            name = re.findall(r"\w+", without_comments)[-1]
        else:
            name = re.findall(r"\w+", without_comments.partition("(")[0])[-1]
        found[name] = text
    return found


@cache
def functions() -> dict[str, str]:
    """Return all functions that are used as they are, so that each follows those that it calls."""
    return {name: text for file in FUNCTIONS for name, text in paragraphs(file).items()}


def words_of(text: str) -> set[str]:
    """Return the words of a text that may name functions, which are called, and types, which are not."""
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    types = {name for name, definition in functions().items() if "typedef" in definition}
    return set(re.findall(r"(\w+)\(", code)) | set(re.findall(r"\w+", code)) & types


def called(texts: Iterable[str], macros: str) -> list[str]:
    """Return the names of the functions that texts need, directly or through others or macros, in order."""
    known, waiting, needed = functions(), [*texts], set[str]()
    expansions = dict(re.findall(r"#define (\w+)(?:\([^)]*\))? (.*)", macros))
    while waiting:
        text = waiting.pop()
        text += " ".join(expansions[name] for name in re.findall(r"\w+", text) if name in expansions)
        for word in (words_of(text) & known.keys()) - needed:
            needed.add(word)
            waiting.append(known[word])
    return [name for name in known if name in needed]


def filled(file: str, place: int, name: str, **parts: str) -> str:
    """Return a function of a template with its parts; lines that become empty are left out."""
    text = text_of(file).strip().split("\n\n")[place]
    lines = Template(text).substitute(parts, name=name).split("\n")
    return "\n".join(line for line in lines if line.strip())


def literal(number: Any, dtype: str) -> str:
    """Return a number as a constant of C, which has exactly its value."""
    if dtype in ("float32", "float64"):
        if number != number:
            return "NOT_A_NUMBER"
        if number in (np.inf, -np.inf):
            return "INFINITE" if number > 0 else "-INFINITE"
        kind = np.float32 if dtype == "float32" else np.float64
        text = np.format_float_positional if 1e-4 <= abs(number) < 1e6 else np.format_float_scientific
        return text(kind(number), unique=True, trim="0") + ("f" if dtype == "float32" else "")
    if dtype == "int64":
        return "INT64_MIN" if number == -(1 << 63) else f"INT64_C({int(number)})"
    return "INT32_MIN" if number == -(1 << 31) else str(int(number))


def initializer(array: NDArray[Any]) -> Iterator[str]:
    """Yield the lines of the numbers of an array; ISO C needs at least one."""
    numbers = [literal(number, array.dtype.name) for number in array.ravel()] or ["0"]
    line = "   "
    for number in numbers:
        if len(line) + len(number) > 110:
            yield line
            line = "   "
        line += f" {number},"
    yield line
