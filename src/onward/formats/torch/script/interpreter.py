"""Interpret TorchScript: compute numbers, strings and containers, and record what happens to tensors."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from ....core import budget
from ....errors import ArgumentError, OnwardError
from ..aten.registry import Symbol, Tensor
from . import branches, loops
from .calls import Calls
from .code import Code, Function, annotation, dotted
from .operators import as_key, checked
from .recording import Recording
from .values import UNINITIALIZED, Object, Unknown

MAX_CALL_DEPTH = 60
MAX_DEPTH = 100  # nested expressions and blocks in one function

Environment = dict[str, Any]
TYPES: dict[str, Any] = {
    "Tensor": Tensor, "int": (int, Symbol), "float": (float, Symbol), "bool": bool, "str": str,
    "List": list, "Dict": dict, "Tuple": tuple, "NoneType": type(None),
}  # fmt: skip
# Python's functions, and the operators that they call
BUILTINS = {
    "int": "Int", "float": "Float", "bool": "Bool", "str": "str", "len": "len",
    "range": "builtin.range", "print": "builtin.print", "sorted": "sorted",
}  # fmt: skip
NAMES = {"inf": math.inf, "nan": math.nan}


class Interpreter:
    """Runs functions of an archive and records tensors in `graph`; `constants` are the archive's."""

    def __init__(self, code: Code, graph: Recording) -> None:
        self.code, self.recorder = code, Calls(graph)
        self.constants: Sequence[Any] = ()
        self._globals = dict[str, Any]()  # by their paths, so far
        self.budget = budget.current()
        self.call_depth = self.depth = self.loop_depth = 0
        self.file = ""  # the file in the archive of the code that runs

    def call(self, function: Function, arguments: Sequence[Any]) -> Any:
        """Call a function of the archive; its code gives all arguments, in order."""
        parameters = [name for name, *_ in function.parameters]
        self.budget.spend(budget.STEP * (4 + len(parameters)))
        if function.node.decorator_list:
            raise ArgumentError(f"code/{function.file}: {function.name} has a decorator, which cannot run")
        if len(arguments) != len(parameters) or function.node.args.vararg or function.node.args.kwarg:
            raise ArgumentError(f"{function.name} takes {len(parameters)} arguments, got {len(arguments)}")
        if self.call_depth >= MAX_CALL_DEPTH:
            raise ArgumentError(f"the code calls more than {MAX_CALL_DEPTH} functions inside one another")
        before = self.depth, self.file
        self.depth, self.file = 0, function.file
        self.call_depth += 1
        try:
            local = dict(zip(parameters, arguments, strict=True))
            return self.run(function.node.body, self.recorder.create(local))
        finally:
            self.depth, self.file = before
            self.call_depth -= 1

    # statements

    def run(self, body: Sequence[ast.stmt], local: Environment) -> Any:
        """Run statements and return what they return. Raises ArgumentError, which names the line."""
        for statement in body:
            try:
                self._descend()
                if isinstance(statement, ast.Return):
                    return None if statement.value is None else self.evaluate(statement.value, local)
                self._execute(statement, local)
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
        self.budget.spend(2 * budget.STEP)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ArgumentError(f"the code has more than {MAX_DEPTH} levels")

    def _execute(self, statement: ast.stmt, local: Environment) -> None:
        match statement:
            case ast.Assign(targets, value):
                found = self.evaluate(value, local)
                for target in targets:
                    self.assign(target, found, local)
            case ast.AnnAssign(target, _, value):
                if value is not None:
                    self.assign(target, self.evaluate(value, local), local)
            case ast.Expr(value):
                self.evaluate(value, local)
            case ast.If(test, body, orelse):
                condition = self.evaluate(test, local)
                if isinstance(condition, Tensor | Symbol):
                    sides = [partial(self.run, side, local) for side in (body, orelse)]
                    branches.record_branch(self.recorder, condition, sides)
                else:
                    self.run(body if condition else orelse, local)
            case ast.For(target, iterator, body):
                values = self.evaluate(iterator, local)
                if isinstance(values, Symbol):
                    return loops.record(self, statement, local, values)
                for found in self.recorder.elements(values):
                    self.assign(target, found, local)
                    self.run(body, local)
            case ast.While(test, body):
                while condition := self.evaluate(test, local):
                    if isinstance(condition, Tensor | Symbol):
                        return loops.record(self, statement, local, condition)
                    self.run(body, local)
            case ast.With(contexts, body):
                for context in contexts:
                    self.evaluate(context.context_expr, local)  # no_grad and its kind have no effect here
                self.run(body, local)
            case ast.Pass():
                pass
            case _:
                raise ArgumentError(f"the statement {type(statement).__name__} is not supported")

    def assign(self, target: ast.expr, value: Any, local: Environment) -> None:
        """Give variables, attributes or elements a value."""
        match target:
            case ast.Name(name):
                self.recorder.change(local, name)
                local[name] = value
            case ast.Tuple(targets) | ast.List(targets):
                values = self.recorder.elements(value, len(targets))
                if len(values) != len(targets):
                    raise ArgumentError(f"expected {len(targets)} values, got {len(values)}")
                for place, inner in enumerate(targets):
                    self.assign(inner, values[place], local)
            case ast.Attribute(expression, name):
                owner = self.evaluate(expression, local)
                if not isinstance(owner, Object):
                    raise ArgumentError(f"a {type(owner).__name__} has no attribute {name}")
                self.recorder.change(owner.attributes, name)
                owner.attributes[name] = value
            case _:
                raise ArgumentError(f"the target {type(target).__name__} is not supported")

    # expressions

    def evaluate(self, node: ast.expr, local: Environment) -> Any:
        """Return the value of an expression."""
        self._descend()
        try:
            value = self._value(node, local)
        finally:
            self.depth -= 1
        if isinstance(value, Unknown) and value is not UNINITIALIZED and not isinstance(node, ast.Name):
            raise ArgumentError(value.reason)
        return value

    def _value(self, node: ast.expr, local: Environment) -> Any:
        match node:
            case ast.Name(name):
                return local[name] if name in local else self._global(name)
            case ast.Attribute(owner, name):
                path = dotted(node)
                is_global = path and path.partition(".")[0] not in local
                return self._global(path) if is_global else self.attribute(self.evaluate(owner, local), name)
            case ast.Constant(value):
                return checked(value)
            case ast.Call():
                return self._called(node, local)
            case ast.Tuple(elements):
                self.budget.take(16 * len(elements) + budget.OBJECT)
                return tuple(self.evaluate(element, local) for element in elements)
            case ast.List(elements):
                self.budget.take(16 * len(elements) + budget.OBJECT)
                return self.recorder.create([self.evaluate(element, local) for element in elements])
            case ast.Dict(keys, values):
                self.budget.take(2 * budget.OBJECT * (1 + len(values)))
                names = [None if each is None else as_key(self.evaluate(each, local)) for each in keys]
                pairs = zip(names, values, strict=True)
                return self.recorder.create({name: self.evaluate(value, local) for name, value in pairs})
            case ast.Subscript(owner, place):
                return self.recorder.operate(
                    "__getitem__", self.evaluate(owner, local), self.evaluate(place, local)
                )
            case ast.UnaryOp(ast.USub(), operand):
                return self.recorder.operate("neg", self.evaluate(operand, local))
        raise ArgumentError(f"the expression {type(node).__name__} is not supported")

    def attribute(self, owner: Any, name: str) -> Any:
        """Return an attribute or a method of an object."""
        if isinstance(owner, Object):
            if name in owner.attributes:
                return owner.attributes[name]
            if name in owner.kind.methods:
                return partial(self._call_method, owner, owner.kind.methods[name])
        if isinstance(owner, Tensor) and name == "tolist":
            return partial(self.recorder.operate, "prim.tolist", owner)
        raise ArgumentError(f"a {type(owner).__name__} has no attribute {name}")

    def _global(self, path: str) -> Any:
        """Return the object that a dotted name stands for if it is not a variable."""
        self.budget.spend(len(path))
        if path not in self._globals:
            self._globals[path] = self._found(path)
        return self._globals[path]

    def _found(self, path: str) -> Any:
        if path in NAMES:
            return NAMES[path]
        if path.startswith("CONSTANTS.c") and path[11:].isdecimal():
            return self.constants[int(path[11:])]
        if path.startswith("__torch__."):
            return partial(self._call_path, path)
        if path in BUILTINS:
            return partial(self.recorder.operate, BUILTINS[path])
        for prefix in ("torch.", "ops.aten.", "ops."):
            if path.startswith(prefix):
                return partial(self.recorder.operate, path.removeprefix(prefix))
        raise ArgumentError(f"the name {path[:100]} is not defined")

    def _called(self, node: ast.Call, local: Environment) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) and node.func.id not in local else ""
        if name in ("annotate", "unchecked_cast"):  # functions of a type and a value
            return self.evaluate(node.args[1], local)
        if name == "uninitialized":
            return UNINITIALIZED
        if name == "isinstance":
            kind, _ = annotation(node.args[1])
            return isinstance(self.evaluate(node.args[0], local), TYPES.get(kind, ()))
        function = self.attribute if name == "getattr" else self.evaluate(node.func, local)
        if not callable(function):
            raise ArgumentError(f"a {type(function).__name__} cannot be called")
        arguments = [self.evaluate(argument, local) for argument in node.args]
        keywords = {word.arg: self.evaluate(word.value, local) for word in node.keywords if word.arg}
        return function(*arguments, **keywords)

    def _call_method(self, owner: Object, method: Function, /, *arguments: Any) -> Any:
        before = self.recorder.label
        self.recorder.label = owner.path or before[0], ""
        try:
            return self.call(method, [owner, *arguments])
        finally:
            self.recorder.label = before

    def _call_path(self, path: str, /, *arguments: Any) -> Any:
        """Call a function of the archive, or make an object of one of its classes or a named tuple."""
        if path.endswith(".__new__"):
            kind = self.code.class_at(path.removesuffix(".__new__"))
            return self.recorder.create(Object(self.code, kind.path))
        found = self.code.find(path)
        if isinstance(found, Function):
            return self.call(found, arguments)
        kind = self.code.class_at(path)
        if kind.base != "NamedTuple" or len(arguments) != len(kind.fields):
            raise ArgumentError(f"{path[:100]} is no named tuple of {len(arguments)} values")
        return arguments  # its code reads the fields by their places
