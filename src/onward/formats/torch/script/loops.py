"""Record a loop whose number of iterations only a call knows: its body becomes the body of a Loop node."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ArgumentError
from ....graph import Input
from ....graph.node import Node, Signature
from ..aten.registry import Symbol, Tensor
from . import lists, regions
from .calls import dtype_of
from .lists import HIDDEN, Segment
from .recorder import Change, Joined
from .recording import Examples, Known, Open, common, declaration, example, unknown, unvalued
from .regions import MISSING, Region, is_same
from .values import UNINITIALIZED, Unknown, alike, items, leaves, rebuilt

if TYPE_CHECKING:
    from .interpreter import Environment, Interpreter

MAX_ATTEMPTS = 12  # recordings of one body, until they find every value that it carries
MAX_NESTED = 3  # nested loops of unknown length
ROUNDS = 20  # what a recording of a body counts as
Loop = ast.For | ast.While
Path = tuple[Any, ...]  # a variable, or a key of a change, and places in nested values


class UnlikeError(ArgumentError):
    """An iteration changes the type, shape or structure of a value."""


def record(interpreter: Interpreter, node: Loop, local: Environment, number: Any) -> None:
    """Record a loop. `number` is the number of iterations of a for loop, or the condition of a while loop."""
    if interpreter.loop_depth >= MAX_NESTED:
        raise ArgumentError(f"more than {MAX_NESTED} loops of unknown length are nested")
    interpreter.loop_depth += 1
    try:
        _Loop(interpreter, node, local, number).record()
    except UnlikeError:  # the first iteration differs from the others, such as that from a state of None
        _record_after_first(interpreter, node, local, number)
    finally:
        interpreter.loop_depth -= 1


def _record_after_first(interpreter: Interpreter, node: Loop, local: Environment, number: Any) -> None:
    is_for = isinstance(node, ast.For)
    runs = interpreter.operate("gt", [number, 0], {}) if is_for else number
    message = f"code/{interpreter.file}, line {node.lineno}: the loop must run at least once"
    interpreter.graph.add("Check", interpreter.name(runs), message=message, expected=True)
    if isinstance(node, ast.For):
        interpreter.assign(node.target, 0, local)
    interpreter.run(node.body, local)
    if isinstance(node, ast.For):
        again = interpreter.operate("sub", [number, 1], {})
    else:
        again = interpreter.evaluate(node.test, local)
    if isinstance(again, Tensor | Symbol):
        _Loop(interpreter, node, local, again, 1).record()
    elif again:
        raise ArgumentError("the number of iterations depends on the value of a tensor")


@dataclass
class Carried:
    """A value that an iteration takes from the one before."""

    initial: Any  # a tensor, a number, or UNINITIALIZED
    known: Known | None
    dtype: Any = None  # that of a number


class _Loop:
    """Records the body until it carries every value that it changes."""

    def __init__(
        self, interpreter: Interpreter, node: Loop, local: Environment, number: Any, start: int = 0
    ) -> None:
        self.interpreter, self.node, self.local = interpreter, node, local
        self.number, self.start = number, start  # start: the iterations before
        self.carried: dict[Path, Carried] = {}
        self.grown: set[Path] = set()  # lists to which the body appends
        self.changes: dict[Any, Change] = {}
        self.is_stable = True

    def record(self) -> None:
        """Add the Loop node and give variables, attributes and containers their values after it."""
        for _ in range(MAX_ATTEMPTS):
            self.is_stable = True
            region = regions.record(self.interpreter, self.local, self._run)
            if region.error is not None:
                raise region.error
            self._compare(region)
            if self.is_stable:
                return self._finish(region)
        raise ArgumentError("an iteration changes too many values")

    # the body

    def _run(self, region: Region) -> None:
        interpreter, body, local = self.interpreter, region.graph, region.local
        self.counter = body.declare("iteration", Signature((), np.dtype(np.int64)))
        self.condition = body.declare("condition", Signature((), np.dtype(np.bool_)))
        self.names = {path: body.declare("carried", each.known) for path, each in self.carried.items()}
        for name, value in local.items():
            local[name] = self._replaced((name,), value, value, self._opened)
        for key, change in self.changes.items():
            value = change.value
            change.repeat(interpreter.recorder, self._replaced((key,), value, value, self._opened))
        if isinstance(self.node, ast.For):
            number: Any = Symbol(self.counter)
            if self.start:
                number = interpreter.operate("add", [number, self.start], {})
            interpreter.assign(self.node.target, number, local)
        interpreter.count(ROUNDS)
        interpreter.run(self.node.body, local)
        self.again: Any = Symbol(self.condition, np.dtype(np.bool_))
        if isinstance(self.node, ast.While):
            self.again = interpreter.operate("Bool", [interpreter.evaluate(self.node.test, local)], {})

    def _opened(self, path: Path, value: Any) -> Any:
        """Return the value at the start of an iteration, for a value that iterations change."""
        if path in self.grown:
            return self.interpreter.recorder.create([HIDDEN])
        if value is UNINITIALIZED:
            return value
        if isinstance(value, Tensor):
            found = self.interpreter.recorder.tensor(self.names[path])
            return Joined(found.name, found.dtype, found.shape)
        return Symbol(self.names[path], self.carried[path].dtype)

    def _replaced(self, path: Path, entry: Any, template: Any, new: Callable[[Path, Any], Any]) -> Any:
        """Replace the values inside a value that iterations change; `template` has its structure."""
        if path in self.carried or path in self.grown:
            return new(path, entry)
        changed = (*self.carried, *self.grown)
        if template is UNINITIALIZED or not any(other[: len(path)] == path for other in changed):
            return entry
        inner = items(template)
        entries = [UNINITIALIZED] * len(inner) if entry is UNINITIALIZED else [e for _, e in items(entry)]
        elements = [
            self._replaced((*path, key), before, after, new)
            for before, (key, after) in zip(entries, inner, strict=True)
        ]
        return self.interpreter.recorder.create(rebuilt(template, elements))

    # what the body changed

    def _compare(self, region: Region) -> None:
        self.exits: dict[Path, Any] = {}
        self.added: dict[Path, tuple[list[Any], list[Any]]] = {}
        self.region = region
        for name, value in self.local.items():
            self._close((name,), value, region.local[name])
        for key, (change, value) in region.changes.items():
            self.changes.setdefault(key, change)
            self._close((key,), change.value, value)

    def _close(self, path: Path, entry: Any, value: Any) -> None:
        """Compare a value after an iteration with the one before; note what later iterations take over."""
        if path in self.carried:
            self._close_carried(path, value)
        elif path in self.grown:
            self.added[path] = _added(value)
        elif entry is value or is_same(entry, value):
            return
        elif isinstance(value, Unknown):
            if entry is not UNINITIALIZED:
                raise UnlikeError(value.reason)
        elif entry is UNINITIALIZED and isinstance(value, tuple):
            for key, inner in items(value):
                self._close((*path, key), UNINITIALIZED, inner)
        elif isinstance(value, LEAVES) and (
            entry is UNINITIALIZED
            or (isinstance(entry, LEAVES) and isinstance(value, Tensor) == isinstance(entry, Tensor))
        ):
            self._close_leaf(path, entry, value)
        elif isinstance(value, list) and isinstance(entry, list) and _grows(entry, value):
            self.grown.add(path)
            self.is_stable = False
        elif alike(entry, value):
            for (key, before), (_, after) in zip(items(entry), items(value), strict=True):
                self._close((*path, key), before, after)
        else:
            kinds = f"a {type(entry).__name__} becomes a {type(value).__name__}"
            raise UnlikeError(f"an iteration changes the type or the length of a value: {kinds}")

    def _close_leaf(self, path: Path, entry: Any, value: Any) -> None:
        self.is_stable = False
        if not isinstance(value, Tensor):
            dtype = dtype_of(value if entry is UNINITIALIZED else entry)
            self.carried[path] = Carried(entry, unknown(Signature((), dtype)), dtype)
        elif entry is UNINITIALIZED:
            self.carried[path] = Carried(entry, None)
        else:
            known = self.interpreter.graph.known(self.interpreter.name(entry))
            self.carried[path] = Carried(entry, unvalued(known))

    def _close_carried(self, path: Path, value: Any) -> None:
        carried = self.carried[path]
        if isinstance(value, Unknown):
            raise UnlikeError(value.reason)
        name = self._inside(value)
        known = unvalued(self.region.graph.known(name))
        if carried.initial is UNINITIALIZED:
            carried.known = known
        elif carried.dtype is None:
            joined = common(carried.known, known)
            if joined != carried.known:
                if not self.start:
                    raise UnlikeError("an iteration changes the shape or the dtype of a tensor")
                carried.known, self.is_stable = joined, False
        elif dtype_of(value) != carried.dtype:
            name = self.region.graph.add("Cast", name, to=carried.dtype)
        self.exits[path] = value, name

    def _inside(self, value: Any) -> str:
        """Return the name of a tensor or number in the body."""
        with self.region.entered(self.interpreter):
            return self.interpreter.leaf(value)

    # the node

    def _finish(self, region: Region) -> None:
        """Add the node, and give variables, attributes and containers their values after it."""
        interpreter, outer, body = self.interpreter, self.interpreter.graph, region.graph
        is_for = isinstance(self.node, ast.For)
        number = interpreter.leaf(self.number if is_for else interpreter.operate("Bool", [self.number], {}))
        written = self._written() if is_for and not self.start else {}
        carried = [path for path in self.carried if path not in written]
        segments = {path: self._segment(before or after) for path, (before, after) in self.added.items()}
        columns = [column.tensor.name for segment in segments.values() for column in leaves(segment.value)]
        columns += [name for name, _ in written.values()]
        body.outputs = (self._inside(self.again), *(self.exits[path][1] for path in carried), *columns)
        body.declared_outputs = tuple(map(self._declared, body.outputs))
        own = [self.counter, self.condition, *(self.names[path] for path in carried)]
        body.inputs = [self._declared(name) for name in (*own, *body.captured)]
        inputs = [
            *((number, "") if is_for else ("", number)),
            *(self._initial(self.carried[p]) for p in carried),
        ]
        count, inner = len(carried) + len(columns), len(body.captured)
        inputs += body.captured
        names = outer.add_all("Loop", inputs, count, body=body.without_unused(), captured=inner)
        made = iter(names)
        results = {path: self._result(path, next(made)) for path in carried}
        rounds = outer.known(number) if is_for else None
        for path, segment in segments.items():
            before, after = map(len, self.added[path])
            stacked = segment.moved(lambda x: self._scanned(next(made), x.name, rounds))
            results[path] = stacked.moved(lambda x: lists.flat(interpreter, x, before, after))  # noqa: B023
        for path, (name, axis) in written.items():
            results[path] = self._rewritten(path, self._scanned(next(made), name, rounds), axis)

        def final(path: Path, entry: Any) -> Any:
            found = results[path]
            if path not in self.grown:
                return found
            return interpreter.recorder.create([found, *entry] if self.added[path][0] else [*entry, found])

        for variable, value in list(self.local.items()):
            self.local[variable] = self._replaced((variable,), value, region.local[variable], final)
        for variable in region.local.keys() - self.local.keys():
            self.local[variable] = MISSING
        for key, (change, value) in region.changes.items():
            change.repeat(interpreter.recorder, self._replaced((key,), change.value, value, final))

    def _result(self, path: Path, name: str) -> Any:
        """Return a carried value after the last iteration."""
        carried, (value, _) = self.carried[path], self.exits[path]
        self.interpreter.graph.values[name] = carried.known
        if carried.dtype is not None:
            return Symbol(name, carried.dtype)
        result = self.interpreter.recorder.tensor(name)
        roots = [other.root for other, _ in self.exits.values() if isinstance(other, Tensor)]
        is_shared = roots.count(value.root) > 1 or self.region.is_outer(value)
        return Joined(name, result.dtype, result.shape) if is_shared and value.base is None else result

    def _written(self) -> dict[Path, tuple[str, int]]:
        """Return the tensors of which each iteration only writes its own step.

        They are given by the name of the step in the body, and the axis.
        """
        graph = self.region.graph
        makers = {name: node for node in graph.nodes for name in node.outputs}

        def made(name: str, operation: str) -> Node | None:
            node = makers.get(name)
            return node if node is not None and node.operation == operation else None

        found = {}
        for path in self.carried:
            entry, name = self.names[path], self.exits[path][1]
            write = made(name, "Where")
            mask = write and made(write.inputs[0], "Unsqueeze")
            equal = mask and made(mask.inputs[0], "Equal")
            place = equal and made(equal.inputs[1], "Mod")
            step = write and made(write.inputs[1], "Unsqueeze")
            if not (
                place and step and write and write.inputs[2] == entry and place.inputs[0] == self.counter
            ):
                continue
            value = step.inputs[0]
            expanded = made(value, "Expand")
            if expanded and unvalued(graph.known(value)) == unvalued(graph.known(expanded.inputs[0])):
                value = expanded.inputs[0]
            others = [exit for other, (_, exit) in self.exits.items() if other != path]
            kept = graph.replaced(outputs=(*others, self._inside(self.again), value)).without_unused()
            if not any(entry in node.inputs for node in kept.nodes):
                found[path] = value, int(graph.constants[step.inputs[1]].item())
        return found

    def _rewritten(self, path: Path, steps: Tensor, axis: int) -> Tensor:
        """Return a tensor whose first steps along an axis are others."""
        call, before = self.interpreter.recorder.call, self.carried[path].initial
        moved: Tensor = call("movedim", [steps, 0, axis], {})
        if self.interpreter.graph.known(moved.name) == unvalued(self.interpreter.graph.known(before.name)):
            return moved
        length = self.interpreter.recorder.size(steps, 0)
        rest = call("slice", [before, axis, length, None, 1], {})
        return call("cat", [[moved, rest], axis], {})  # type: ignore[no-any-return]  # a tensor

    def _declared(self, name: str) -> Input:
        return declaration(name, self.region.graph.known(name))

    def _initial(self, carried: Carried) -> str:
        graph, value = self.interpreter.graph, carried.initial
        if value is UNINITIALIZED:
            assert carried.dtype is not None or carried.known is not None
            return graph.add_constant(np.zeros((), carried.dtype or carried.known.dtype))  # type: ignore[union-attr]
        if carried.dtype is None or isinstance(value, Symbol):
            return self.interpreter.name(value)
        return graph.add_constant(np.array(value, carried.dtype))

    def _segment(self, elements: list[Any]) -> Segment:
        """Return what an iteration adds to a list as a segment of the body."""
        with self.region.entered(self.interpreter):
            segment = lists.segment_of(self.interpreter, elements, stacks=len(elements) > 1)
        for column in leaves(segment.value):
            known = self.region.graph.known(column.tensor.name)
            if known is None or (None in getattr(known, "shape", ()) and isinstance(known, Open)):
                raise ArgumentError("the shape of an element of a list depends on the iteration or on values")
        return segment

    def _scanned(self, name: str, inner: str, count: Known | None) -> Tensor:
        """Return what all iterations gave, along the first axis; `inner` is its name in the body."""
        interpreter, graph = self.interpreter, self.interpreter.graph
        known = self.region.graph.known(inner)
        assert known is not None
        if isinstance(count, Examples) and count.is_known:
            first, second = (
                Signature((max(0, int(count[place])), *example(known, place).shape), known.dtype)  # type: ignore[arg-type]  # arrays
                for place in (0, 1)
            )
            graph.values[name] = Examples(first, second)
        else:
            graph.values[name] = Open((None, *known.shape), known.dtype)
        return interpreter.recorder.tensor(name)


LEAVES = Tensor | Symbol | int | float


def _grows(entry: Sequence[Any], value: Sequence[Any]) -> bool:
    """Whether a list got further elements at one of its ends."""
    count = len(value) - len(entry)

    def same(part: Sequence[Any]) -> bool:
        return all(a is b for a, b in zip(entry, part, strict=True))

    return count > 0 and (same(value[: len(entry)]) or same(value[count:]))


def _added(value: Any) -> tuple[list[Any], list[Any]]:
    """Return the elements before and after those of earlier iterations."""
    places = [place for place, element in enumerate(value) if element is HIDDEN]
    if len(places) != 1 or (places[0] > 0) == (places[0] < len(value) - 1):
        raise ArgumentError("an iteration does not add elements at one end of a list")
    return value[: places[0]], value[places[0] + 1 :]
