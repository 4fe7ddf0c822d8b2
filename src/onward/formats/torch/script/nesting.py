"""How a method nests its inputs and outputs: tuples, lists and dicts of tensors and numbers."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ....core import budget
from ....errors import ArgumentError
from ....graph.structure import Fixed
from .code import Class, Code, annotation
from .values import Unknown, rebuilt

NUMBERS = {"int": np.int64, "bool": np.bool_, "float": np.float32}
MAX_TYPE_DEPTH = 16
# A template of graph.structure, in which UNSIZED stands for lists and dicts of unknown length.
Structure = Any
UNSIZED = Unknown("a list or dict of unknown length")
RESULT = ast.Name("return")  # stands for what a function returns; no variable has this name


def structure_of(
    code: Code, name: str, kind: ast.expr | None, kinds: dict[str, str], depth: int = 0
) -> Structure:
    """Return the structure of a value of a type; `kinds` gets the types of its tensors and numbers."""
    budget.spend(10 * budget.STEP)
    outer, arguments = annotation(kind)
    if depth > MAX_TYPE_DEPTH:
        raise ArgumentError(f"the type of {name} has more than {MAX_TYPE_DEPTH} levels")
    if outer == "Optional" and arguments:
        return structure_of(code, name, arguments[0], kinds, depth + 1)
    if outer == "Tensor" or outer in NUMBERS:
        kinds[name] = outer
        return name
    if outer == "Tuple":
        return tuple(structure_of(code, f"{name}.{i}", a, kinds, depth + 1) for i, a in enumerate(arguments))
    found = code.find(outer) if outer.startswith("__torch__.") else None
    if isinstance(found, Class) and found.base == "NamedTuple":
        fields = found.fields.items()
        return tuple(structure_of(code, f"{name}.{n}", f.annotation, kinds, depth + 1) for n, f in fields)
    return Fixed(None) if outer in ("NoneType", "str", "Device") else UNSIZED


class Literals:
    """Finds the lists and dicts that a function may return, whose lengths its annotations do not tell."""

    def __init__(self, function: ast.FunctionDef) -> None:
        self._values: dict[str, list[ast.expr]] = {}  # by their variables
        for node in ast.walk(function):
            pairs: Iterable[tuple[ast.expr, ast.expr]] = ()
            match node:
                case ast.Assign([ast.Tuple(targets)], ast.Tuple(elements)):
                    pairs = zip(targets, elements, strict=False)
                case ast.Assign([target], value):
                    pairs = [(target, value)]
                case ast.Return(ast.expr() as value):
                    self._values[RESULT.id] = [value]
            for target, value in pairs:
                if isinstance(target, ast.Name):
                    self._values.setdefault(target.id, []).append(value)

    def complete(self, name: str, structure: Structure, value: ast.expr = RESULT) -> Structure:
        """Return a structure with the elements of its lists and dicts, as the code writes them."""
        if not isinstance(structure, tuple | Unknown):
            return structure
        for literal in self._literals(value):
            match literal:
                case ast.List(elements) if structure is UNSIZED:
                    return [f"{name}.{i}" for i in range(len(elements))]
                case ast.Dict(keys) if name == "output" and all(isinstance(k, ast.Constant) for k in keys):
                    names = [str(key.value) for key in keys if isinstance(key, ast.Constant)]
                    return {key: key for key in names}
                case ast.Tuple(elements) if isinstance(structure, tuple) and len(elements) == len(structure):
                    pairs = enumerate(zip(structure, elements, strict=True))
                    return rebuilt(structure, [self.complete(f"{name}.{i}", s, e) for i, (s, e) in pairs])
        return structure

    def _literals(self, value: ast.expr) -> Iterator[ast.expr]:
        """Yield an expression, or those that a variable may hold."""
        pending, seen = [value], set[str]()
        for expression in pending:  # the loop body appends to the expressions
            if not isinstance(expression, ast.Name):
                yield expression
            elif expression.id not in seen:
                seen.add(expression.id)
                pending += self._values.get(expression.id, [])
