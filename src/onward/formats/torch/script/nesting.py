"""How a method nests its inputs and outputs: tuples, lists and dicts of tensors, numbers and strings."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np

from ....core import budget
from ....errors import ArgumentError
from ....graph.structure import CONTAINERS, Fixed
from .code import Class, Code, annotation
from .values import Unknown, items, mapped, rebuilt

NUMBERS = {"int": np.int64, "bool": np.bool_, "float": np.float32}
MAX_TYPE_DEPTH = 16
# A template of graph.structure, in which UNSIZED stands for strings, and lists and dicts of unknown length.
Structure = Any
UNSIZED = Unknown("a list or dict of unknown length, or an unknown string")
UNCOMPUTED = Unknown("a result that no call has computed")
NOTHING = Fixed(None)  # the structure of an optional value that is None
RESULT = "output"  # the name of what a method returns


def structure_of(
    code: Code,
    name: str,
    kind: ast.expr | None,
    kinds: dict[str, str],
    given: Any = UNSIZED,
    depth: int = 0,
) -> Structure:
    """Return the structure of a value of a type; `kinds` gets the types of its tensors and numbers.

    Lists and dicts have the lengths and keys of those in a value that is `given`; None and strings are fixed.
    """
    budget.spend(10 * budget.STEP)
    outer, arguments = annotation(kind)
    if depth > MAX_TYPE_DEPTH:
        raise ArgumentError(f"the type of {name} has more than {MAX_TYPE_DEPTH} levels")
    if outer == "Optional" and arguments:
        if given is None:
            return NOTHING
        inner = structure_of(code, name, arguments[0], kinds, given, depth + 1)
        return inner if isinstance(inner, str) or given is not UNCOMPUTED else UNSIZED
    if outer == "Tensor" or outer in NUMBERS:
        kinds[name] = outer
        return name
    elements = dict(items(given)) if isinstance(given, CONTAINERS) else {}
    unknown = given if isinstance(given, Unknown) else UNSIZED
    found = code.find(outer) if outer.startswith("__torch__.") else None
    fields: Mapping[Any, ast.expr | None]
    if outer == "Tuple":
        fields = dict(enumerate(arguments))
    elif isinstance(found, Class) and found.base == "NamedTuple":
        fields = {field: declared.annotation for field, declared in found.fields.items()}
        elements |= zip(fields, [*elements.values()], strict=False)  # the fields in order
    elif outer == "List" and isinstance(given, tuple | list):
        fields = dict.fromkeys(elements, arguments[0])
    elif outer == "Dict" and isinstance(given, dict):
        fields = dict.fromkeys(elements, arguments[1])
    elif outer in ("str", "Device") and isinstance(given, str):
        return Fixed(given)
    else:
        return NOTHING if outer == "NoneType" else UNSIZED
    prefix = "" if name == RESULT and outer == "Dict" else f"{name}."
    parts = [
        structure_of(code, f"{prefix}{place}", each, kinds, elements.get(place, unknown), depth + 1)
        for place, each in fields.items()
    ]
    return rebuilt(given, parts) if outer in ("List", "Dict") else tuple(parts)


def form(value: Any, *, sized: bool) -> Any:
    """Return the containers of a value with its strings and None, and 0 instead of its other elements.

    If it is `sized`, these are integers and the shapes of the others instead.
    """

    def leaf(each: Any) -> Any:
        if each is None or isinstance(each, str) or (sized and isinstance(each, int)):
            return each
        return np.shape(each) if sized else 0

    return mapped(leaf, value)


class ResultsChangedError(ArgumentError):
    """A method returned lists and dicts of other lengths or keys than before."""
