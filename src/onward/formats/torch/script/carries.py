"""Find the attributes that the methods of a module assign or change in place."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from ....errors import ArgumentError
from .values import Object

MAX_VISITS = 20_000
Value = tuple[Any, tuple[str, ...]]  # an attribute and its path
NOTHING: Value = None, ()


def carried(module: Object, method: str) -> list[tuple[str, ...]]:
    """Return the paths of the attributes that a call of a method may change.

    Branches that an attribute, such as `training`, rules out are not searched.
    """
    found: list[tuple[str, ...]] = []
    visited: set[tuple[int, str]] = set()

    def visit(owner: Object, path: tuple[str, ...], method: str) -> None:
        function = owner.kind.methods.get(method)
        if function is not None and (id(owner), method) not in visited and len(visited) <= MAX_VISITS:
            visited.add((id(owner), method))
            names = [name for name, _, _ in function.parameters][:1]  # usually self
            search(function.node.body, dict.fromkeys(names, (owner, path)))

    def search(body: Sequence[ast.stmt], values: dict[str, Value]) -> None:
        """Search statements; `values` are the attributes in variables."""
        for statement in body:
            match statement:
                case ast.If(test, first, second):
                    decided, _ = _resolved(test, values)
                    search(() if decided is False else first, values)
                    search(() if decided is True else second, values)
                case ast.For(body=inner) | ast.While(body=inner) | ast.With(body=inner):
                    search(inner, values)
                case _:
                    for node in ast.walk(statement):
                        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                            follow(node.func, node.args, values)
            match statement:
                case ast.Assign([ast.Attribute(target, name)]):
                    owner, path = _resolved(target, values)
                    found.extend([(*path, name)] if isinstance(owner, Object) else [])
                case ast.Assign([ast.Name(name)], value):
                    values[name] = _resolved(value, values)

    def follow(function: ast.Attribute, arguments: Sequence[ast.expr], values: dict[str, Value]) -> None:
        owner, path = _resolved(function.value, values)
        if isinstance(owner, Object):
            visit(owner, path, function.attr)
        if function.attr.endswith("_") and not function.attr.endswith("__") and arguments:
            _, changed = _resolved(arguments[0], values)
            found.extend([changed] if changed else [])

    try:
        visit(module, (), method)
    except RecursionError:
        raise ArgumentError(f"the code of {method} is nested too deeply") from None
    return list(dict.fromkeys(found))


def _resolved(node: ast.expr, values: dict[str, Value]) -> Value:
    """Return the attribute that an expression stands for and its path, or NOTHING."""
    match node:
        case ast.Name(name):
            return values.get(name, NOTHING)
        case ast.Attribute(inner, name) | ast.Call(ast.Name("getattr"), [inner, ast.Constant(str(name))]):
            owner, path = _resolved(inner, values)
            if isinstance(owner, Object) and name in owner.attributes:
                return owner.attributes[name], (*path, name)
    return NOTHING
