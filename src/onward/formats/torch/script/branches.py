"""Record a branch that depends on the value of a tensor: both sides, as the bodies of an If node."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ArgumentError
from ....graph import Input
from ....graph.node import Node, Signature
from ....graph.operations import OPERATIONS
from ..aten.registry import Symbol, Tensor
from .calls import KINDS, RaisedError
from .recorder import Change, UnknownShape
from .recording import (
    Examples,
    Known,
    LearnedSizeError,
    Open,
    Recording,
    UnsuitableSizesError,
    example,
    replaced,
)
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
        raises = sides[0].error is not None
        body = node.orelse if raises else node.body
        found = example_values(interpreter, condition)
        if found is not None and raises in found:
            if found[0] == found[1]:
                learn(interpreter, condition, raises)
            raise UnsuitableSizesError(str(failed[0]))
        message = str(failed[0])
        interpreter.graph.add("Check", interpreter.name(condition), message=message, expected=not raises)
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


def example_values(interpreter: Interpreter, condition: Condition) -> tuple[bool, bool] | None:
    """Return the condition in both examples of the open sizes, or None if it does not follow from them."""
    known = interpreter.graph.known(interpreter.name(condition))
    if not isinstance(known, Examples) or not known.is_known:
        return None
    first, second = (bool(np.all(np.asarray(value))) for value in known)
    return first, second


def learn(interpreter: Interpreter, condition: Condition, raises: bool) -> None:
    """Raise LearnedSizeError if the condition is what it should be once an open axis has another size.

    Tries the integers that the nodes before the condition use, then to make the sides of each equation equal.
    """
    graph = interpreter.graph
    name = interpreter.name(condition)
    nodes = _nodes_before(graph, name)
    if not any(node.operation == "Equal" for node in nodes):
        return  # other conditions may hold for larger sizes
    constants = [graph.known(value) for node in nodes for value in node.inputs if value]
    numbers = [int(a.item()) for a in constants if isinstance(a, np.ndarray) and a.size == 1]
    others = {pair[0]: axis for axis, pair in graph.open_sizes.items()}
    for axis, sizes in graph.open_sizes.items():
        for size in dict.fromkeys([*(n for n in numbers if n > 0), *(n for n in others if n != sizes[0])]):
            try:
                values = _evaluated(graph, nodes, sizes[0], size)
            except Exception:
                continue
            if bool(np.all(values[name])) != raises:
                raise LearnedSizeError((axis, others.get(size, size)))
    for node in nodes:
        sides = [graph.known(value) for value in node.inputs]
        if node.operation == "Equal" and any(isinstance(side, Examples) for side in sides):
            _equate(graph, [[int(example(side, place)) for place in (0, 1)] for side in sides])


def _equate(graph: Recording, sides: list[list[int]]) -> None:
    """Raise LearnedSizeError if a size of an open axis makes two sizes equal; `sides` are the examples."""
    for (a, b), (size, other) in (sides, sides[::-1]):
        if a != b and size == other and a != size and b != size:
            axis = next((axis for axis, pair in graph.open_sizes.items() if pair == (a, b)), None)
            if axis is not None:
                raise LearnedSizeError((axis, size))
            guesses = list(dict.fromkeys(graph.sources(a, b, size)))
            if guesses:
                raise LearnedSizeError(*guesses)


def _nodes_before(graph: Recording, name: str) -> list[Node]:
    """Return the nodes from the shapes of tensors to a value, in order."""
    needed, found = {name}, []
    recording: Recording | None = graph
    while recording is not None:
        for node in reversed(recording.nodes):
            if needed.intersection(node.outputs) and node.operation not in ("If", "Loop", "Scan"):
                found.append(node)
                needed.update(() if node.operation in ("Shape", "Size") else node.inputs)
        recording = recording.around
    return found[::-1]


def _evaluated(graph: Recording, nodes: list[Node], old: int, new: int) -> dict[str, Any]:
    """Compute nodes in the first example, with another size of an axis."""
    values: dict[str, Any] = {}
    for node in nodes:
        inputs = [
            None
            if not name
            else values[name]
            if name in values
            else replaced(example(graph.known(name), 0), old, new)
            for name in node.inputs
        ]
        results = OPERATIONS[node.operation].compute(inputs, node.attributes)
        values |= zip(node.outputs, results, strict=False)
    return values


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
        selected = example_values(self.interpreter, condition)
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
            values = graphs[0].values[first], graphs[1].values[second]
            common = _common(*values) if selected is None else _selected(*values, selected)
            outer.values[name] = common
            vars(made)["name"] = name
            if isinstance(made, Tensor) and common is not None:
                made.dtype, made.shape = common.dtype, common.shape


def _common(a: Known | None, b: Known | None) -> Known | None:
    """Return the signature of both values, or None if they differ."""
    if a is None or b is None or a.dtype != b.dtype or len(a.shape) != len(b.shape):
        return None
    pairs = [(example(a, place), example(b, place)) for place in (0, 1)]
    if any(first.shape != second.shape or None in first.shape for first, second in pairs):
        return None
    first, second = (Signature(value.shape, value.dtype) for value, _ in pairs)
    return first if first == second else Examples(first, second)


def _selected(a: Known | None, b: Known | None, selected: tuple[bool, bool]) -> Known | None:
    """Return the value after a branch whose condition is known in both examples."""
    values = [example(a if is_first else b, place) for place, is_first in enumerate(selected)]
    if any(value is None or isinstance(value, Open) for value in values):
        return None
    first, second = values
    return Examples(first, second)
