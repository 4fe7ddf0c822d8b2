"""Interpret TorchScript: compute numbers, strings and containers, and record what happens to tensors."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ....errors import ArgumentError, OnwardError
from ..aten.registry import Symbol, Tensor
from . import branches, lists, loops
from .calls import Calls
from .code import Class, Code, Function, annotation
from .operators import checked
from .recording import LearnedSizeError, Recording
from .values import UNINITIALIZED, Method, NamedTuple, Namespace, Object, Unknown

MAX_ROUNDS = 100_000  # iterations of loops and calls of functions, in total
MAX_CALL_DEPTH = 60
MAX_DEPTH = 100  # nested expressions and blocks in one function

Environment = dict[str, Any]
TYPED = ("annotate", "unchecked_cast")  # functions of a type and a value
TYPES: dict[str, Any] = {
    "Tensor": Tensor,
    "int": (int, Symbol),
    "float": (float, Symbol),
    "bool": bool,
    "str": str,
    "List": list,
    "Dict": dict,
    "Tuple": tuple,
    "NoneType": type(None),
}


class Interpreter(Calls):
    """Runs functions of an archive and records tensors in `graph`; `constants` are the archive's."""

    def __init__(self, code: Code, constants: Sequence[Any], graph: Recording) -> None:
        super().__init__(graph)
        self.code, self.constants = code, constants
        self.rounds = self.call_depth = self.depth = self.loop_depth = 0
        self.max_rounds = MAX_ROUNDS
        self.file = ""  # the file in the archive of the code that runs

    def count(self, rounds: int = 1) -> None:
        """Count iterations or calls. Raises ArgumentError if there are too many."""
        self.rounds += rounds
        if self.rounds > self.max_rounds:
            raise ArgumentError(f"the code needs more than {self.max_rounds} iterations and calls")

    def call(self, function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Call a function of the archive."""
        self.count()
        parameters = list(function.parameters)
        if function.node.decorator_list:
            raise ArgumentError(f"code/{function.file}: {function.name} has a decorator, which cannot run")
        if len(arguments) > len(parameters) or function.node.args.vararg or function.node.args.kwarg:
            raise ArgumentError(f"{function.name} takes {len(parameters)} arguments, got {len(arguments)}")
        local = {**dict(zip((name for name, *_ in parameters), arguments, strict=False)), **keywords}
        for name, _, default in parameters:
            if name not in local:
                if default is None:
                    raise ArgumentError(f"{function.name} lacks the argument {name}")
                local[name] = self.evaluate(default, {})
        if self.call_depth >= MAX_CALL_DEPTH:
            raise ArgumentError(f"the code calls more than {MAX_CALL_DEPTH} functions inside one another")
        before = self.depth, self.file
        self.depth, self.file = 0, function.file
        self.call_depth += 1
        try:
            return self.run(function.node.body, local)
        finally:
            self.depth, self.file = before
            self.call_depth -= 1

    def run(self, body: Sequence[ast.stmt], local: Environment) -> Any:
        """Run statements and return what they return. Raises ArgumentError, which names the line."""
        for statement in body:
            try:
                self._descend()
                if isinstance(statement, ast.Return):
                    return None if statement.value is None else self.evaluate(statement.value, local)
                self._handler("statement", statement)(statement, local)
            except LearnedSizeError:
                raise
            except OnwardError as error:
                if str(error).startswith("code/"):
                    raise
                raise type(error)(f"code/{self.file}, line {statement.lineno}: {error}") from error
            except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
                reason = f"{type(error).__name__}: {str(error)[:200]}"
                raise ArgumentError(f"code/{self.file}, line {statement.lineno}: {reason}") from error
            finally:
                self.depth -= 1
        return None

    def _descend(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ArgumentError(f"the code has more than {MAX_DEPTH} levels")

    def _handler(self, kind: str, node: ast.AST) -> Callable[[Any, Environment], Any]:
        name = type(node).__name__
        found: Callable[[Any, Environment], Any] | None = getattr(self, f"_{kind}_{name}", None)
        if found is None:
            raise ArgumentError(f"the {kind} {name} is not supported")
        return found

    # statements

    def _statement_Pass(self, node: ast.Pass, local: Environment) -> None:
        pass

    def _statement_Expr(self, node: ast.Expr, local: Environment) -> None:
        self.evaluate(node.value, local)

    def _statement_Assign(self, node: ast.Assign, local: Environment) -> None:
        value = self.evaluate(node.value, local)
        for target in node.targets:
            self.assign(target, value, local)

    def _statement_AnnAssign(self, node: ast.AnnAssign, local: Environment) -> None:
        if node.value is not None:
            self.assign(node.target, self.evaluate(node.value, local), local)

    def _statement_If(self, node: ast.If, local: Environment) -> None:
        condition = self.evaluate(node.test, local)
        if isinstance(condition, Tensor | Symbol):
            branches.record(self, condition, (node.body, node.orelse), local)
        else:
            self.run(node.body if self.truth(condition) else node.orelse, local)

    def _statement_For(self, node: ast.For, local: Environment) -> None:
        values = self.evaluate(node.iter, local)
        if isinstance(values, Symbol):
            return loops.record(self, node, local, values)
        for value in self.elements(values):
            self.count()
            self.assign(node.target, value, local)
            self.run(node.body, local)

    def _statement_While(self, node: ast.While, local: Environment) -> None:
        while True:
            condition = self.evaluate(node.test, local)
            if isinstance(condition, Tensor | Symbol):
                return loops.record(self, node, local, condition)
            if not self.truth(condition):
                return
            self.count()
            self.run(node.body, local)

    def _statement_With(self, node: ast.With, local: Environment) -> None:
        for item in node.items:
            self.evaluate(item.context_expr, local)  # no_grad and its kind have no effect here
        self.run(node.body, local)

    def assign(self, target: ast.expr, value: Any, local: Environment) -> None:
        """Give variables, attributes or elements a value."""
        match target:
            case ast.Name(name):
                local[name] = value
            case ast.Tuple(targets) | ast.List(targets):
                values = self.elements(value)
                if len(values) != len(targets):
                    raise ArgumentError(f"expected {len(targets)} values, got {len(values)}")
                for place, inner in enumerate(targets):
                    self.assign(inner, values[place], local)
            case ast.Attribute(owner, name):
                self.set_attribute(self.evaluate(owner, local), name, value)
            case ast.Subscript(owner, place):
                container = self.evaluate(owner, local)
                self.recorder.change(container)
                container[self.evaluate(place, local)] = value
                checked(container)
            case _:
                raise ArgumentError(f"the target {type(target).__name__} is not supported")

    def set_attribute(self, owner: Any, name: str, value: Any) -> None:
        """Assign an attribute of an object."""
        if not isinstance(owner, Object):
            raise ArgumentError(f"a {type(owner).__name__} has no attribute {name}")
        self.recorder.change(owner, name)
        owner.attributes[name] = value

    # expressions

    def evaluate(self, node: ast.expr, local: Environment) -> Any:
        """Return the value of an expression."""
        self._descend()
        try:
            value = self._handler("expression", node)(node, local)
        finally:
            self.depth -= 1
        if isinstance(value, Unknown) and value is not UNINITIALIZED:
            raise ArgumentError(value.reason)
        return value

    def _expression_Constant(self, node: ast.Constant, local: Environment) -> Any:
        return checked(node.value)

    def _expression_Name(self, node: ast.Name, local: Environment) -> Any:
        if node.id in local:
            return local[node.id]
        if node.id not in NAMES:
            raise ArgumentError(f"the name {node.id[:100]} is not defined")
        return NAMES[node.id]

    def _expression_Attribute(self, node: ast.Attribute, local: Environment) -> Any:
        owner = self.evaluate(node.value, local)
        if isinstance(owner, Namespace):
            return self._global(f"{owner.path}.{node.attr}")
        return self.attribute(owner, node.attr)

    def _global(self, path: str) -> Any:
        """Return what a dotted name stands for."""
        if path.startswith("CONSTANTS.c") and path[11:].isdecimal():
            return self.constants[int(path[11:])]
        if len(path) > 1000:
            raise ArgumentError(f"the name {path[:60]}... is too long")
        return Namespace(path)

    def attribute(self, owner: Any, name: str) -> Any:
        """Return an attribute or a method of an object."""
        if isinstance(owner, NamedTuple) and name in owner.kind.fields:
            return owner[list(owner.kind.fields).index(name)]
        if isinstance(owner, Object):
            if name in owner.attributes:
                return owner.attributes[name]
            if name in owner.kind.methods:
                return Method(owner, name)
            if owner.kind.fields.get(name) is not None:
                return self.evaluate(owner.kind.fields[name], {})  # type: ignore[arg-type]  # not None
        if isinstance(owner, Tensor) and name in ("real", "imag", "T"):
            return self.operate(name, [owner], {})
        raise ArgumentError(f"a {type(owner).__name__} has no attribute {name}")

    def _expression_Subscript(self, node: ast.Subscript, local: Environment) -> Any:
        container = self.evaluate(node.value, local)
        place = self.evaluate(node.slice, local)
        if isinstance(container, Tensor):
            return self.operate("select", [container, 0, place], {})
        if isinstance(container, list) and (isinstance(place, Symbol) or lists.is_long(container)):
            return lists.element(self, container, place)
        if not isinstance(container, list | tuple | dict | str):
            raise ArgumentError(f"a {type(container).__name__} has no elements")
        return container[place]

    def _expression_Tuple(self, node: ast.Tuple, local: Environment) -> Any:
        return tuple(self.evaluate(element, local) for element in node.elts)

    def _expression_List(self, node: ast.List, local: Environment) -> Any:
        return self.recorder.create([self.evaluate(element, local) for element in node.elts])

    def _expression_Dict(self, node: ast.Dict, local: Environment) -> Any:
        keys = [None if key is None else self.evaluate(key, local) for key in node.keys]
        return self.recorder.create(
            {key: self.evaluate(value, local) for key, value in zip(keys, node.values, strict=True)}
        )

    def _expression_UnaryOp(self, node: ast.UnaryOp, local: Environment) -> Any:
        names: dict[type, str] = {ast.USub: "neg", ast.Not: "__not__"}
        if type(node.op) not in names:
            raise ArgumentError(f"the operator {type(node.op).__name__} is not supported")
        return self.operate(names[type(node.op)], [self.evaluate(node.operand, local)], {})

    def _expression_IfExp(self, node: ast.IfExp, local: Environment) -> Any:
        condition = self.evaluate(node.test, local)
        if isinstance(condition, Tensor | Symbol):
            return branches.select(self, condition, node, local)
        return self.evaluate(node.body if self.truth(condition) else node.orelse, local)

    def _expression_Call(self, node: ast.Call, local: Environment) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in local:
            name = ""
        if name in TYPED:
            return self.evaluate(node.args[1], local)
        if name == "uninitialized":
            return UNINITIALIZED
        if name == "isinstance":
            kind, _ = annotation(node.args[1])
            return isinstance(self.evaluate(node.args[0], local), TYPES.get(kind, ()))
        function = self.evaluate(node.func, local)
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            raise ArgumentError("starred arguments are not supported")
        arguments = [self.evaluate(argument, local) for argument in node.args]
        keywords = {word.arg: self.evaluate(word.value, local) for word in node.keywords if word.arg}
        if name == "getattr":
            return self.attribute(*arguments[:2])
        return self.apply(function, arguments, keywords)

    def apply(self, function: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """Call a value: a method, a function or class of the archive, or an operator."""
        if isinstance(function, Method):
            method = function.owner.kind.methods[function.name]
            before = self.recorder.module
            self.recorder.module = function.owner.path or before
            try:
                return self.call(method, [function.owner, *arguments], keywords)
            finally:
                self.recorder.module = before
        if not isinstance(function, Namespace):
            raise ArgumentError(f"a {type(function).__name__} cannot be called")
        path = function.path
        if path.startswith("__torch__."):
            return self._call_path(path, arguments, keywords)
        for prefix in ("torch.", "ops.aten.", "ops."):
            if path.startswith(prefix):
                return self.operate(path.removeprefix(prefix), arguments, keywords)
        if path in BUILTINS:
            return self.operate(BUILTINS[path], arguments, keywords)
        raise ArgumentError(f"the function {path[:100]} is not supported")

    def _call_path(self, path: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        if path.endswith(".__new__"):
            return self.recorder.create(Object(self._class(arguments[0].path)))
        found = self.code.find(path)
        if isinstance(found, Function):
            return self.call(found, arguments, keywords)
        kind = self._class(path)
        if kind.base == "NamedTuple":
            defaults = {n: self.evaluate(node, {}) for n, node in kind.fields.items() if node is not None}
            values = {**defaults, **dict(zip(kind.fields, arguments, strict=False)), **keywords}
            return NamedTuple(kind, [values[name] for name in kind.fields])
        created = self.recorder.create(Object(kind))
        self.call(kind.methods["__init__"], [created, *arguments], keywords)
        return created

    def _class(self, path: str) -> Class:
        if isinstance(found := self.code.find(path), Class):
            return found
        raise ArgumentError(f"the archive has no class or function {path[:100]}")

    def elements(self, value: Any) -> Sequence[Any]:
        """Return the elements of a container, or the slices of a tensor."""
        if isinstance(value, Tensor):
            unbound: Sequence[Any] = self.operate("unbind", [value, 0], {})
            return unbound
        if not isinstance(value, list | tuple | dict | str | range):
            raise ArgumentError(f"a {type(value).__name__} cannot be iterated over")
        return value if isinstance(value, range) else list(value)


# Python's functions, and the operators that they call
BUILTINS = {
    "int": "Int",
    "float": "Float",
    "bool": "Bool",
    "str": "str",
    "len": "len",
    "range": "builtin.range",
    "print": "builtin.print",
    "hash": "builtin.hash",
}
NAMES = {
    "inf": math.inf,
    "nan": math.nan,
    **{name: Namespace(name) for name in ("torch", "ops", "__torch__", "CONSTANTS", "getattr", *BUILTINS)},
}
