"""Record a branch that depends on the value of a tensor: both sides, as the bodies of an If node."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ArgumentError
from ....graph import Input
from ....graph.node import Signature
from ..aten.registry import Symbol, Tensor
from .calls import KINDS, RaisedError
from .recorder import Change, UnknownShape
from .recording import Recording
from .values import NamedTuple, Unknown

if TYPE_CHECKING:
    from .interpreter import Environment, Interpreter

MISSING = Unknown("a variable has a value in only one side of a branch that depends on a tensor")
Condition = Tensor | Symbol


@dataclass
class Side:
    """One side of a branch after its recording: its graph, and what it changed, with the new values."""

    graph: Recording
    local: Environment
    changes: dict[tuple[int, str], tuple[Change, Any]]
    error: ArgumentError | None = None


def record(
    interpreter: Interpreter, condition: Condition, node: ast.If, local: Environment, file: str
) -> None:
    """Record an `if` statement whose condition is a tensor."""

    def runner(body: list[ast.stmt]) -> Callable[[Environment], None]:
        return lambda inner: interpreter.run(body, inner, file)

    sides = [_side(interpreter, local, runner(body)) for body in (node.body, node.orelse)]
    failed = [side.error for side in sides if side.error is not None]
    if len(failed) == 2:
        raise failed[0]
    if failed:
        body = node.orelse if sides[0].error is not None else node.body
        _check(interpreter, condition, failed[0], raises=sides[0].error is not None)
        interpreter.run(body, local, file)
        return
    _join(interpreter, condition, sides, local)


def select(interpreter: Interpreter, condition: Condition, node: ast.IfExp, local: Environment) -> Any:
    """Record a conditional expression whose condition is a tensor."""
    name = " value"  # no name of the code has a space

    def runner(body: ast.expr) -> Callable[[Environment], None]:
        def run(inner: Environment) -> None:
            inner[name] = interpreter.evaluate(body, inner)

        return run

    sides = [_side(interpreter, local, runner(body)) for body in (node.body, node.orelse)]
    for side in sides:
        if side.error is not None:
            raise side.error
    inner = dict(local)
    _join(interpreter, condition, sides, inner)
    return inner[name]


def _side(interpreter: Interpreter, local: Environment, run: Callable[[Environment], None]) -> Side:
    recorder, fresh = interpreter.recorder, interpreter.fresh
    changes, recorder.changes, interpreter.fresh = recorder.changes, [], set()
    outer = recorder.enter(recorder.recording.inside())
    side = Side(recorder.recording, dict(local), {})
    try:
        run(side.local)
    except RaisedError as error:
        side.error = error
    finally:
        side.local = {
            name: value
            if value is local.get(name) or not isinstance(value, Tensor)
            else replace(recorder.read(value), base=None)
            for name, value in side.local.items()
        }
        own = recorder.changes
        for change in own:
            side.changes[change.key] = change, change.value
        for change in reversed(own):
            change.set(change.before)
        recorder.enter(outer)
        recorder.changes, interpreter.fresh = changes, fresh
    return side


def _check(interpreter: Interpreter, condition: Condition, error: ArgumentError, raises: bool) -> None:
    """Record a node that raises the error of a side if the condition selects it."""
    message = str(error)

    def check(value: Any) -> Any:
        if bool(value) == raises:
            raise ArgumentError(message)
        return value

    interpreter.graph.add("Python", interpreter.name(condition), function=check)


def _join(interpreter: Interpreter, condition: Condition, sides: list[Side], local: Environment) -> None:
    """Add the If node and give variables, attributes and tensors their values after it."""
    merger = _Merger(interpreter, sides)
    first, second = sides
    for name in dict.fromkeys([*first.local, *second.local]):
        local[name] = merger.merge(first.local.get(name, MISSING), second.local.get(name, MISSING))
    assigned = []
    for key in dict.fromkeys([*first.changes, *second.changes]):
        change = (first.changes.get(key) or second.changes[key])[0]
        oldest = change.value  # restored
        values = [side.changes[key][1] if key in side.changes else oldest for side in sides]
        assigned.append((change, merger.merge(*values)))
    merger.finish(condition)
    for change, value in assigned:
        if interpreter.recorder.changes is not None:
            interpreter.recorder.changes.append(Change.of(change.target, change.attribute))
        change.set(_joined_tensor(change, value) if isinstance(change.target, Tensor) else value)


def _joined_tensor(change: Change, value: Any) -> Tensor:
    """Return a tensor with the value after a branch, in which both sides share memory as before."""
    before: Tensor = change.value
    version = before.version + 1 if before.base is None else -1
    return replace(before, name=value.name, version=version)


class _Merger:
    """Pairs the values of both sides; values that differ become outputs of the If node."""

    def __init__(self, interpreter: Interpreter, sides: list[Side]) -> None:
        self.interpreter, self.sides = interpreter, sides
        self.outputs: list[tuple[str, str, Any]] = []
        self.found: dict[tuple[str, str], Any] = {}

    def merge(self, a: Any, b: Any) -> Any:
        if a is b:
            return a
        if isinstance(a, Unknown) or isinstance(b, Unknown):
            return a if isinstance(a, Unknown) else b
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            both = isinstance(a, Tensor) and isinstance(b, Tensor)
            same = both and a.root is b.root and a.name == b.name and a.version == b.version
            return a if same else self._output(a, b) if both else self._unlike(a, b)
        number = (int, float, Symbol)
        if isinstance(a, number) and isinstance(b, number):
            return a if type(a) is type(b) and a == b else self._output(a, b)
        if type(a) is type(b):
            if isinstance(a, list | tuple) and len(a) == len(b):
                return type(a)(map(self.merge, a, b))
            if isinstance(a, NamedTuple) and a.kind is b.kind:
                return NamedTuple(a.kind, tuple(map(self.merge, a.elements, b.elements)))
            if isinstance(a, dict) and list(a) == list(b):
                return {key: self.merge(a[key], b[key]) for key in a}
            if isinstance(a, str) and a == b:
                return a
        return self._unlike(a, b)

    def _unlike(self, a: Any, b: Any) -> Unknown:
        kinds = " and a ".join(sorted({type(a).__name__, type(b).__name__}))
        return Unknown(f"the sides of a branch that depends on a tensor give different values: a {kinds}")

    def _output(self, a: Any, b: Any) -> Tensor | Symbol:
        names = (self._name(self.sides[0], a), self._name(self.sides[1], b))
        if names not in self.found:
            kinds = [
                np.dtype(v.dtype if isinstance(v, Symbol) else KINDS[type(v)])
                for v in (a, b)
                if not isinstance(v, Tensor)
            ]
            made = Symbol("", kinds[0]) if kinds else Tensor("", a.dtype, UnknownShape())
            self.found[names] = made
            self.outputs.append((*names, made))
        found: Tensor | Symbol = self.found[names]
        return found

    def _name(self, side: Side, value: Any) -> str:
        if not isinstance(value, Tensor | Symbol):
            return side.graph.add_constant(np.array(value, KINDS[type(value)]))
        recorder = self.interpreter.recorder
        outer = recorder.enter(side.graph)
        try:
            return self.interpreter.name(value)
        finally:
            recorder.enter(outer)

    def finish(self, condition: Condition) -> None:
        """Add the node, if its sides have outputs or checks."""
        graphs = [side.graph for side in self.sides]
        if not self.outputs and not any(graph.nodes for graph in graphs):
            return
        captured = list(dict.fromkeys(name for graph in graphs for name in graph.captured))
        for graph, names in zip(graphs, zip(*(o[:2] for o in self.outputs), strict=True), strict=False):
            graph.outputs = names
        for graph in graphs:
            graph.inputs = [Input(name) for name in captured]
        outer = self.interpreter.graph
        names = outer.add_all(
            "If",
            [self.interpreter.name(condition), *captured],
            len(self.outputs),
            then_branch=graphs[0],
            else_branch=graphs[1],
        )
        for name, (first, second, made) in zip(names, self.outputs, strict=True):
            common = _common(graphs[0].values[first], graphs[1].values[second])
            outer.values[name] = common
            vars(made)["name"] = name
            if isinstance(made, Tensor) and common is not None:
                made.dtype, made.shape = common.dtype, common.shape


def _common(a: Any, b: Any) -> Signature | None:
    """Return the signature of both values, or None if they differ."""
    if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
        return None
    return Signature(a.shape, a.dtype)
