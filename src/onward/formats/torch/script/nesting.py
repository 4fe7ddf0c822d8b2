"""How a method nests its inputs and outputs: tuples, lists and dicts of tensors and numbers."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....errors import ArgumentError
from ....graph.structure import Fixed
from .code import Class, Code, annotation
from .operators import MAX_SIZE
from .values import CONTAINERS, NamedTuple, Unknown, items, leaves, rebuilt

NUMBERS = {"int": np.int64, "bool": np.bool_, "float": np.float32}
MAX_TYPE_DEPTH = 16


@dataclass(frozen=True)
class Leaf:
    """A tensor or number among the inputs or outputs; its name tells where it is in nested values."""

    name: str
    kind: str  # "Tensor", "int", "bool" or "float"

    @property
    def dtype(self) -> Any:
        """The dtype of a number; None for a tensor."""
        return NUMBERS.get(self.kind)


# A leaf, None, UNSIZED, or tuples, named tuples, lists and dicts of these.
Structure = Any
UNSIZED = Unknown("a list or dict of unknown length")


def structure_of(code: Code, name: str, kind: ast.expr | None, depth: int = 0) -> Structure:
    """Return the structure of a value that has a type."""
    outer, arguments = annotation(kind)
    if depth > MAX_TYPE_DEPTH:
        raise ArgumentError(f"the type of {name} has more than {MAX_TYPE_DEPTH} levels")
    if outer == "Optional" and arguments:
        return structure_of(code, name, arguments[0], depth + 1)
    if outer == "Tensor" or outer in NUMBERS:
        return Leaf(name, outer)
    if outer == "Tuple":
        return tuple(structure_of(code, f"{name}.{i}", a, depth + 1) for i, a in enumerate(arguments))
    found = code.find(outer) if outer.startswith("__torch__.") else None
    if isinstance(found, Class) and found.base == "NamedTuple":
        fields = found.fields.items()
        inner = [structure_of(code, f"{name}.{n}", field.annotation, depth + 1) for n, field in fields]
        return NamedTuple(found, inner)
    return None if outer in ("NoneType", "str", "Device") else UNSIZED


def leaves_of(structure: Structure) -> list[Leaf]:
    """Return the tensors and numbers of an input or of the outputs."""
    return [leaf for leaf in leaves(structure) if isinstance(leaf, Leaf)]


def template_of(structure: Structure) -> Any:
    """Return the nested names of the outputs, as the method returns their values."""
    if isinstance(structure, tuple):
        return tuple(map(template_of, structure))
    if isinstance(structure, CONTAINERS):
        return rebuilt(structure, [template_of(inner) for _, inner in items(structure)])
    return structure.name if isinstance(structure, Leaf) else Fixed(None)


class Literals:
    """Finds the lists and dicts that a function may return, whose lengths its annotations do not tell."""

    def __init__(self, function: ast.FunctionDef) -> None:
        self._values: dict[str, list[ast.expr]] = {}
        self._returned: list[ast.expr | None] = []
        for node in ast.walk(function):
            pairs: Iterable[tuple[ast.expr, ast.expr]] = ()
            match node:
                case ast.Assign([ast.Tuple(targets)], ast.Tuple(elements)):
                    pairs = zip(targets, elements, strict=False)
                case ast.Assign([target], value):
                    pairs = [(target, value)]
                case ast.Return(value):
                    self._returned = [value]
            for target, value in pairs:
                if isinstance(target, ast.Name):
                    self._values.setdefault(target.id, []).append(value)

    def complete(
        self, name: str, structure: Structure, found: Sequence[ast.expr | None] | None = None
    ) -> Structure:
        """Return a structure with the elements of its lists and dicts, as the code writes them."""
        if not isinstance(structure, tuple | Unknown):
            return structure
        for literal in self._literals(self._returned if found is None else found):
            match literal:
                case ast.List(elements) if structure is UNSIZED:
                    return [Leaf(f"{name}.{i}", "Tensor") for i in range(len(elements))]
                case ast.Dict(keys) if name == "output" and all(isinstance(k, ast.Constant) for k in keys):
                    names = [str(key.value)[:MAX_SIZE] for key in keys if isinstance(key, ast.Constant)]
                    return {key: Leaf(key, "Tensor") for key in names}
                case ast.Tuple(elements) if isinstance(structure, tuple) and len(elements) == len(structure):
                    pairs = enumerate(zip(structure, elements, strict=True))
                    return rebuilt(structure, [self.complete(f"{name}.{i}", s, [e]) for i, (s, e) in pairs])
        return structure

    def _literals(self, found: Sequence[ast.expr | None]) -> Iterator[ast.expr]:
        """Yield expressions, and those that their variables may hold instead of the variables."""
        pending, seen = list(found), set[str]()
        while pending:
            match pending.pop(0):
                case ast.Name(name):
                    if name not in seen:
                        seen.add(name)
                        pending += self._values.get(name, [])
                case ast.expr() as expression:
                    yield expression
