"""Find the attributes that the methods of a module assign or change in place."""

from __future__ import annotations

import ast

from .values import Object

MAX_VISITS = 20_000


def carried(module: Object, method: str) -> list[tuple[str, ...]]:
    """Return the paths of the attributes that a call of a method may change.

    Branches that an attribute, such as `training`, rules out are not searched.
    """
    finder = _Finder()
    finder.visit(module, (), method)
    return list(dict.fromkeys(finder.found))


Value = tuple[object, tuple[str, ...]]  # an attribute and its path


class _Finder:
    def __init__(self) -> None:
        self.found: list[tuple[str, ...]] = []
        self.visited: set[tuple[int, str]] = set()

    def visit(self, owner: Object, path: tuple[str, ...], method: str) -> None:
        """Search a method and those that it calls."""
        key = (id(owner), method)
        function = owner.kind.methods.get(method)
        if function is None or key in self.visited or len(self.visited) > MAX_VISITS:
            return
        self.visited.add(key)
        names = [name for name, _, _ in function.parameters][:1]  # usually self
        self._search(function.node.body, {name: (owner, path) for name in names})

    def _search(self, body: list[ast.stmt], values: dict[str, Value]) -> None:
        """Search statements; `values` are the attributes in variables and their paths."""
        for statement in body:
            if isinstance(statement, ast.If):
                test = self._resolve(statement.test, values)
                for side, excluded in ((statement.body, False), (statement.orelse, True)):
                    if test is None or test[0] is not excluded:
                        self._search(side, values)
            elif isinstance(statement, ast.For | ast.While | ast.With):
                self._search(statement.body, values)
            else:
                for node in ast.walk(statement):
                    if isinstance(node, ast.Call):
                        self._follow(node, values)
                if isinstance(statement, ast.Assign):
                    self._assign(statement, values)

    def _assign(self, statement: ast.Assign, values: dict[str, Value]) -> None:
        for target in statement.targets:
            if isinstance(target, ast.Attribute):
                owner = self._resolve(target.value, values)
                if owner is not None and isinstance(owner[0], Object):
                    self.found.append((*owner[1], target.attr))
            elif isinstance(target, ast.Name):
                value = self._resolve(statement.value, values)
                values.pop(target.id, None)
                if value is not None:
                    values[target.id] = value

    def _follow(self, call: ast.Call, values: dict[str, Value]) -> None:
        if not isinstance(call.func, ast.Attribute):
            return
        owner = self._resolve(call.func.value, values)
        if owner is not None and isinstance(owner[0], Object):
            self.visit(owner[0], owner[1], call.func.attr)
        name = call.func.attr
        if name.endswith("_") and not name.endswith("__") and call.args:
            changed = self._resolve(call.args[0], values)
            if changed is not None and changed[1]:
                self.found.append(changed[1])

    def _resolve(self, node: ast.expr, values: dict[str, Value]) -> Value | None:
        """Return the attribute that an expression stands for and its path, or None."""
        match node:
            case ast.Name(name):
                return values.get(name)
            case ast.Attribute(inner, name):
                pass
            case ast.Call(ast.Name("getattr"), [inner, ast.Constant(str(name))]):
                pass
            case _:
                return None
        owner = self._resolve(inner, values)
        if owner is None or not isinstance(owner[0], Object) or name not in owner[0].attributes:
            return None
        return owner[0].attributes[name], (*owner[1], name)
