"""Record both sides of a branch that depends on the value of a tensor as the bodies of an If node."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ArgumentError
from ....graph import Input
from ....graph.node import Node
from ....graph.operations import OPERATIONS
from ..aten.registry import Symbol, Tensor
from . import regions
from .calls import dtype_of
from .recorder import Joined, UnknownShape
from .recording import (
    Examples,
    Known,
    LearnedSizeError,
    Open,
    Recording,
    UnsuitableSizesError,
    common,
    example,
    replaced,
    unvalued,
    varies,
)
from .regions import MISSING, Region, is_same
from .values import UNINITIALIZED, Object, Unknown, alike, items, mapped, rebuilt

if TYPE_CHECKING:
    from .interpreter import Environment, Interpreter

NUMBERS = int | float | Symbol
Condition = Tensor | Symbol


def record(
    interpreter: Interpreter,
    condition: Condition,
    bodies: tuple[Sequence[ast.stmt], Sequence[ast.stmt]],
    local: Environment,
) -> None:
    """Record the statements for a condition that holds, and those for one that does not."""

    def runner(body: Sequence[ast.stmt]) -> Callable[[Region], None]:
        return lambda region: interpreter.run(body, region.local)

    sides = [regions.record(interpreter, local, runner(body)) for body in bodies]
    failed = [side.error for side in sides if side.error is not None]
    if len(failed) == 2:
        raise failed[0]
    if not failed:
        return _join(interpreter, condition, sides, local)
    raises = sides[0].error is not None
    found = example_values(interpreter, condition)
    if found is not None and raises in found:
        if found[0] == found[1]:
            learn(interpreter, condition, raises)
        raise UnsuitableSizesError(str(failed[0]))
    interpreter.graph.add("Check", interpreter.name(condition), message=str(failed[0]), expected=not raises)
    interpreter.run(bodies[raises], local)


def select(interpreter: Interpreter, condition: Condition, node: ast.IfExp, local: Environment) -> Any:
    """Record a conditional expression whose condition is a tensor."""
    name = " value"  # no name of the code has a space

    def assigned(value: ast.expr) -> list[ast.stmt]:
        return [ast.copy_location(ast.Assign([ast.Name(name)], value), value)]

    inner = dict(local)
    record(interpreter, condition, (assigned(node.body), assigned(node.orelse)), inner)
    return inner[name]


def example_values(interpreter: Interpreter, condition: Condition) -> tuple[bool, bool] | None:
    """Return the condition in both examples of the open sizes, or None if it does not follow from them."""
    known = interpreter.graph.known(interpreter.name(condition))
    if not isinstance(known, Examples) or not known.is_known:
        return None
    return bool(np.all(np.asarray(known.first))), bool(np.all(np.asarray(known.second)))


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

    def flips(sizes: dict[int, int]) -> bool:
        try:
            return bool(np.all(_evaluated(graph, nodes, sizes)[name])) != raises
        except Exception:
            return False

    others = [size for size, _ in graph.open_sizes.values()]
    sizes = dict.fromkeys([*(n for n in numbers if n > 0), *others])
    graph.learn(({old: new} for old in others for new in sizes if new != old), flips)
    for node in nodes:
        sides = [graph.known(value) for value in node.inputs]
        if node.operation == "Equal" and any(isinstance(side, Examples) for side in sides):
            _equate(graph, [[int(example(side, place)) for place in (0, 1)] for side in sides])


def _equate(graph: Recording, sides: list[list[int]]) -> None:
    """Raise LearnedSizeError if a size of an open axis makes two sizes equal; `sides` are the examples."""
    for (a, b), (size, other) in (sides, sides[::-1]):
        if a != b and size == other and a != size and b != size:
            if axis := graph.axis_of(a, b):
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


def _evaluated(graph: Recording, nodes: list[Node], sizes: Mapping[int, int]) -> dict[str, Any]:
    """Compute nodes in the first example, with other sizes."""
    values: dict[str, Any] = {"": None}
    for node in nodes:
        inputs = [
            values[name] if name in values else replaced(example(graph.known(name), 0), sizes)
            for name in node.inputs
        ]
        results = OPERATIONS[node.operation].compute(inputs, node.attributes)
        values |= zip(node.outputs, results, strict=False)
    return values


def _join(interpreter: Interpreter, condition: Condition, sides: list[Region], local: Environment) -> None:
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
        if isinstance(value, Unknown) and not isinstance(change.target, Object):
            raise ArgumentError(value.reason)
        change.repeat(interpreter.recorder, value)


class _Merger:
    """Pairs the values of both sides; values that differ become outputs of the If node."""

    def __init__(self, interpreter: Interpreter, sides: list[Region]) -> None:
        self.interpreter, self.sides = interpreter, sides
        self.found: dict[tuple[str, str], Any] = {}  # the values after the node
        self.one_sided: dict[tuple[str, str], bool] = {}  # whether the second side gives the value

    def merge(self, a: Any, b: Any) -> Any:
        if a is b or is_same(a, b):
            return a
        if a is UNINITIALIZED or b is UNINITIALIZED:
            return self._one_sided(b if a is UNINITIALIZED else a, a is UNINITIALIZED)
        if isinstance(a, Unknown) or isinstance(b, Unknown):
            return a if isinstance(a, Unknown) else b
        if (isinstance(a, NUMBERS) and isinstance(b, NUMBERS)) or (
            isinstance(a, Tensor) and isinstance(b, Tensor)
        ):
            return self._output(a, b)
        if alike(a, b):
            pairs = zip(items(a), items(b), strict=True)
            return self.interpreter.recorder.create(
                rebuilt(a, [self.merge(x, y) for (_, x), (_, y) in pairs])
            )
        kinds = " and a ".join(sorted({type(a).__name__, type(b).__name__}))
        return Unknown(f"the sides of a branch that depends on a tensor give different values: a {kinds}")

    def _one_sided(self, value: Any, is_second: bool) -> Any:
        """Return a value that the code uses only after the side that gave it; the other gives zeros."""

        def merge(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor | NUMBERS):
                return leaf
            dtype = dtype_of(leaf)
            other = self.sides[not is_second].graph.add_constant(np.zeros((), dtype))
            zeros: Any = Tensor(other, dtype, ()) if isinstance(leaf, Tensor) else Symbol(other, dtype)
            if is_second:
                return self._output(zeros, leaf, is_second)
            return self._output(leaf, zeros, is_second)

        return mapped(merge, value)

    def _output(self, a: Any, b: Any, is_second: bool | None = None) -> Any:
        """Return the value that is a if the first side ran and b if the second did."""
        kinds = [dtype_of(value) for value in (a, b) if not isinstance(value, Tensor)]
        kind = np.result_type(*kinds) if kinds else None
        names = (self._name(self.sides[0], a, kind), self._name(self.sides[1], b, kind))
        if names not in self.found:
            is_shared = any(
                isinstance(v, Joined) or (isinstance(v, Tensor) and side.is_outer(v))
                for v, side in zip((a, b), self.sides, strict=True)
            )
            tensor = Joined if is_shared else Tensor
            self.found[names] = tensor("", a.dtype, UnknownShape()) if kind is None else Symbol("", kind)
        if is_second is not None:
            self.one_sided[names] = is_second
        return self.found[names]

    def _name(self, side: Region, value: Any, dtype: Any) -> str:
        with side.entered(self.interpreter):
            name = self.interpreter.leaf(value)
            is_cast = dtype is not None and dtype != dtype_of(value)
            return side.graph.add("Cast", name, to=dtype) if is_cast else name

    def finish(self, condition: Condition) -> None:
        """Add the node, if its sides have outputs or checks."""
        graphs = [side.graph for side in self.sides]
        if not self.found and not any(graph.without_unused().nodes for graph in graphs):
            return
        selected = example_values(self.interpreter, condition)
        captured = list(dict.fromkeys(name for graph in graphs for name in graph.captured))
        for place, graph in enumerate(graphs):
            graph.outputs = tuple(pair[place] for pair in self.found)
            graph.inputs = [Input(name) for name in captured]
        outer = self.interpreter.graph
        inputs = [self.interpreter.name(condition), *captured]
        names = outer.add_all("If", inputs, len(self.found), then_branch=graphs[0], else_branch=graphs[1])
        for name, (pair, made) in zip(names, self.found.items(), strict=True):
            values = graphs[0].values[pair[0]], graphs[1].values[pair[1]]
            if pair in self.one_sided:
                found = unvalued(values[self.one_sided[pair]])
            else:
                found = common(*values) if selected is None else _selected(*values, selected)
            outer.values[name] = found
            vars(made)["name"] = name
            if isinstance(made, Tensor) and found is not None:
                made.dtype, made.shape = found.dtype, found.shape


def _selected(a: Known | None, b: Known | None, selected: tuple[bool, bool]) -> Known | None:
    """Return the value after a branch whose condition is known in both examples."""
    chosen = [a if is_first else b for is_first in selected]
    values = [example(value, place) for place, value in enumerate(chosen)]
    if any(value is None or isinstance(value, Open) for value in values):
        return None
    if any(map(varies, chosen)):
        return common(*chosen)
    first, second = values
    return Examples(first, second)
