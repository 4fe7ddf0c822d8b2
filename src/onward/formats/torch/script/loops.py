"""Record a loop whose number of iterations only a call knows: its body becomes the body of a Loop node."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ....core import budget
from ....errors import ArgumentError
from ....graph.node import Signature
from ....graph.patterns import Matcher
from ....graph.size import Size
from ....graph.structure import leaves
from ..aten.registry import Symbol, Tensor
from . import lists
from .branches import Join, Path, record_region
from .calls import dtype_of
from .lists import HIDDEN, Segment
from .recorder import Change, Key
from .recording import UNKNOWN, Known, declaration, is_like
from .values import MISSING, UNINITIALIZED, Unknown, items, rebuilt

if TYPE_CHECKING:
    from .interpreter import Environment, Interpreter

MAX_ATTEMPTS = 12  # recordings of one body, until they find every value that it carries
MAX_NESTED = 3  # nested loops of unknown length
Loop = ast.For | ast.While
# One step of a tensor is replaced along an axis.
_PLACE = ("Unsqueeze", ("Equal", "places", ("Mod", "round", "size")), "axes")
WRITE = ("Where", _PLACE, ("Unsqueeze", "step", "axis"), "before")


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
    recorder = interpreter.recorder
    runs = recorder.operate("gt", number, 0) if isinstance(node, ast.For) else number
    if isinstance(runs, Tensor | Symbol):
        message = f"code/{interpreter.file}, line {node.lineno}: the loop must run at least once"
        recorder.check(recorder.named(runs), message)
    elif not runs:
        return
    if isinstance(node, ast.For):
        interpreter.assign(node.target, 0, local)
        again = recorder.operate("sub", number, 1)
    interpreter.run(node.body, local)
    if isinstance(node, ast.While):
        again = interpreter.evaluate(node.test, local)
    if isinstance(again, Tensor | Symbol):
        _Loop(interpreter, node, local, again, 1).record()
    elif again:
        raise ArgumentError("the number of iterations depends on the value of a tensor")


@dataclass
class Carried:
    """A value that an iteration takes from the one before."""

    initial: Any  # a tensor, a number, or UNINITIALIZED
    known: Signature | None
    dtype: Any = None  # that of a number
    name: str = ""  # in the body, at the start of an iteration
    end: Any = None  # at its end
    output: str = ""  # the name of this


class _Loop(Join):
    """Records the body until it carries every value that it changes."""

    def __init__(
        self, interpreter: Interpreter, node: Loop, local: Environment, number: Any, start: int = 0
    ) -> None:
        super().__init__(interpreter.recorder)
        self.interpreter, self.node, self.local = interpreter, node, local
        self.number, self.start = number, start  # start: the iterations before
        self.carried: dict[Path, Carried] = {}
        self.grown: dict[Path, None] = {}  # lists to which the body appends
        self.added: dict[Path, tuple[list[Any], list[Any]]] = {}  # what it adds at both ends of these
        self.done: set[Path] = set()  # what the body already takes from the iteration before
        self.changes: dict[Key, Change] = {}

    def record(self) -> None:
        """Add the Loop node and give variables, attributes and containers their values after it."""
        for _ in range(MAX_ATTEMPTS):
            self.is_stable = True
            self.region = record_region(self.recorder, self._run)
            if self.region.error is not None:
                raise self.region.error
            self._compare()
            if self.is_stable:
                return self._finish()
        raise ArgumentError("an iteration changes too many values")

    # the body

    def _run(self) -> None:
        interpreter, body = self.interpreter, self.recorder.graph
        self.counter = body.declare("iteration", Signature((), np.dtype(np.int64)))
        self.condition = body.declare("condition", Signature((), np.dtype(np.bool_)))
        for each in self.carried.values():
            each.name = body.declare("carried", each.known)
        for key, change in self.changes.items():
            value = change.value
            change.repeat(self.recorder, self._replaced((key,), value, value, self._opened))
        if isinstance(self.node, ast.For):
            number: Any = Symbol(self.counter)
            if self.start:
                number = interpreter.recorder.operate("add", number, self.start)
            interpreter.assign(self.node.target, number, self.local)
        interpreter.budget.spend(100 * budget.STEP)
        interpreter.run(self.node.body, self.local)
        self.again: Any = Symbol(self.condition, np.dtype(np.bool_))
        if isinstance(self.node, ast.While):
            self.again = interpreter.recorder.operate(
                "Bool", interpreter.evaluate(self.node.test, self.local)
            )

    def _opened(self, path: Path, value: Any) -> Any:
        """Return the value at the start of an iteration, for a value that iterations change."""
        if path in self.grown:
            return self.recorder.create([HIDDEN])
        if value is UNINITIALIZED:
            return value
        name, dtype = self.carried[path].name, self.carried[path].dtype
        if isinstance(value, Tensor):
            return replace(self.recorder.tensor(name), is_ambiguous=True)
        return Symbol(name, dtype)

    def _replaced(self, path: Path, entry: Any, template: Any, new: Callable[[Path, Any], Any]) -> Any:
        """Replace the values inside a value that iterations change; `template` has its structure."""
        if path in self.done:
            return new(path, entry)
        if template is UNINITIALIZED or not any(other[: len(path)] == path for other in self.done):
            return entry
        elements = [
            self._replaced((*path, key), entry if entry is UNINITIALIZED else entry[key], after, new)
            for key, after in items(template)
        ]
        return self.recorder.create(rebuilt(template, elements))

    # what the body changed

    def _compare(self) -> None:
        """Compare the values after an iteration with those before; note what later iterations take over."""
        for key, (change, value) in self.region.changes.items():
            self.changes.setdefault(key, change)
            if change.value is not MISSING:
                self.join((key,), change.value, value)
        self.done = {*self.carried, *self.grown}

    def join(self, path: Path, a: Any, b: Any) -> Any:
        """Note that an iteration takes over a value or, if that is known, its value after the iteration."""
        if path not in self.done:
            return super().join(path, a, b)
        if path in self.grown:
            self.added[path] = _added(b)
        else:
            self.carried[path].end = b
            self.carried[path].output = self._output(self.carried[path])
        return a

    def leaf(self, path: Path, a: Any, b: Any) -> None:
        """Carry a tensor or number."""
        self.is_stable = False
        dtype = None if isinstance(b, Tensor) else dtype_of(b if a is UNINITIALIZED else a)
        known = dtype and Signature((), dtype)
        if isinstance(a, Tensor):
            known = self.recorder.graph.signature(self.recorder.named(a))
        self.carried[path] = Carried(a, known, dtype)

    def unlike(self, path: Path, a: Any, b: Any) -> None:
        """Note that a list grows. Raises UnlikeError for other values."""
        if isinstance(b, Unknown):
            if a is not UNINITIALIZED:
                raise UnlikeError(b.reason)
        elif isinstance(a, list) and isinstance(b, list) and _grows(a, b):
            self.grown[path] = None
            self.is_stable = False
        else:
            kinds = f"a {type(a).__name__} becomes a {type(b).__name__}"
            raise UnlikeError(f"an iteration changes the type or the length of a value: {kinds}")

    def _output(self, carried: Carried) -> str:
        """Return the name in the body of the value that the next iteration takes over."""
        if isinstance(carried.end, Unknown):
            raise UnlikeError(carried.end.reason)
        name = self.inside(self.region, carried.end, carried.dtype)
        known = self.region.graph.signature(name)
        if carried.initial is UNINITIALIZED:
            carried.known = known
        elif carried.dtype is None:
            joined = self.region.graph.common(carried.known, known)
            if not is_like(joined, carried.known):
                if not self.start:
                    raise UnlikeError("an iteration changes the shape or the dtype of a tensor")
                carried.known, self.is_stable = joined, False
        return name

    # the node

    def _finish(self) -> None:
        """Add the node, and give variables, attributes and containers their values after it."""
        outer, body = self.recorder.graph, self.region.graph
        is_for = isinstance(self.node, ast.For)
        number = self.recorder.named(self.number if is_for else self.recorder.operate("Bool", self.number))
        written = self._written() if is_for and not self.start else {}
        carried = {path: each for path, each in self.carried.items() if path not in written}
        segments = {path: self._segment(before or after) for path, (before, after) in self.added.items()}
        columns = [column.tensor.name for segment in segments.values() for column in leaves(segment.value)]
        columns += [name for name, _ in written.values()]
        body.outputs = (
            self.inside(self.region, self.again),
            *(each.output for each in carried.values()),
            *columns,
        )
        body.declared_outputs = tuple(declaration(name, body.known(name)) for name in body.outputs)
        own = [self.counter, self.condition, *(each.name for each in carried.values())]
        body.inputs = [declaration(name, body.known(name)) for name in (*own, *body.captured)]
        inputs = [number, ""] if is_for else ["", number]
        inputs += [*map(self._initial, carried.values()), *body.captured]
        count = len(carried) + len(columns)
        names = outer.add_all("Loop", inputs, count, body=body.without_unused(), captured=len(body.captured))
        made = iter(names)
        results = {path: self._result(each, next(made)) for path, each in carried.items()}
        rounds = outer.known(number) if is_for else None
        for path, segment in segments.items():
            before, after = map(len, self.added[path])
            stacked = segment.moved(lambda x: self._scanned(next(made), x.name, rounds))
            results[path] = stacked.moved(lambda x: lists.flat(self.recorder, x, before, after))  # noqa: B023
        for path, (name, axis) in written.items():
            results[path] = self._rewritten(path, self._scanned(next(made), name, rounds), axis)

        def final(path: Path, entry: Any) -> Any:
            found = results[path]
            if path not in self.grown:
                return found
            return self.recorder.create([found, *entry] if self.added[path][0] else [*entry, found])

        for key, (change, value) in self.region.changes.items():
            change.repeat(self.recorder, self._replaced((key,), change.value, value, final))

    def _result(self, carried: Carried, name: str) -> Any:
        """Return a carried value after the last iteration."""
        graph = self.recorder.graph
        graph.values[name] = graph.unknown(carried.known)
        if carried.dtype is not None:
            return Symbol(name, carried.dtype)
        is_shared = self.region.is_shared(carried.end, (each.end for each in self.carried.values()))
        return replace(self.recorder.tensor(name), is_ambiguous=is_shared)

    def _written(self) -> dict[Path, tuple[str, int]]:
        """Return the tensors of which each iteration only writes its own step.

        They are given by the name of the step in the body, and the axis.
        """
        graph = self.region.graph
        matcher = Matcher(graph)
        found = {}
        for path, carried in self.carried.items():
            match = matcher.find(WRITE, carried.output)
            if not match or (match.values["before"], match.values["round"]) != (carried.name, self.counter):
                continue
            step = match.values["step"]
            maker = matcher.makers.get(step)
            if maker is not None and maker.operation == "Expand":
                given = maker.inputs[0]
                step = given if is_like(graph.known(step), graph.known(given)) else step
            others = [other.output for other in self.carried.values() if other is not carried]
            kept = graph.replaced(
                outputs=(*others, self.inside(self.region, self.again), step)
            ).without_unused()
            if not any(carried.name in node.inputs for node in kept.nodes):
                found[path] = step, int(graph.constants[match.values["axis"]].item())
        return found

    def _rewritten(self, path: Path, steps: Tensor, axis: int) -> Tensor:
        """Return a tensor whose first steps along an axis are others."""
        r, graph, before = self.recorder, self.recorder.graph, self.carried[path].initial
        moved: Tensor = r.call("movedim", steps, 0, axis)
        if is_like(graph.known(moved.name), graph.known(before.name)):
            return moved
        rest = r.call("slice", before, axis, r.size(steps, 0), None, 1)
        return r.call("cat", [moved, rest], axis)  # type: ignore[no-any-return]  # a tensor

    def _initial(self, carried: Carried) -> str:
        if carried.initial is not UNINITIALIZED:
            return self.recorder.named(carried.initial)
        assert carried.dtype is not None or carried.known is not None
        return self.recorder.constant(0, carried.dtype or carried.known.dtype)  # type: ignore[union-attr]

    def _segment(self, elements: list[Any]) -> Segment:
        """Return what an iteration adds to a list as a segment of the body."""
        with self.recorder.recording(self.region.graph):
            segment = lists.segment_of(self.recorder, elements, "stack" if len(elements) > 1 else "")
        for column in leaves(segment.value):
            known = self.region.graph.known(column.tensor.name)
            if known is None or any(type(size) is Size and not size.is_known for size in known.shape):
                raise ArgumentError("the shape of an element of a list depends on the iteration or on values")
        return segment

    def _scanned(self, name: str, inner: str, count: Known | None) -> Tensor:
        """Return what all iterations gave, along the first axis; `inner` is its name in the body."""
        body = self.region.graph
        known = body.known(inner)
        assert known is not None
        rounds = body.axes.unknown(UNKNOWN) if count is None else count.item()  # type: ignore[union-attr]  # an array
        found = Signature((rounds, *known.shape), Signature.of(known).dtype)
        self.recorder.graph.values[name] = found
        return self.recorder.tensor(name)


def _grows(entry: Sequence[Any], value: Sequence[Any]) -> bool:
    """Whether a list got further elements at one of its ends."""
    count = len(value) - len(entry)
    ends = (value[: len(entry)], value[count:]) if count > 0 else ()
    return any(all(map(operator.is_, entry, end)) for end in ends)


def _added(value: Any) -> tuple[list[Any], list[Any]]:
    """Return the elements before and after those of earlier iterations."""
    places = [place for place, element in enumerate(value) if element is HIDDEN]
    if len(places) != 1 or (places[0] > 0) == (places[0] < len(value) - 1):
        raise ArgumentError("an iteration does not add elements at one end of a list")
    return value[: places[0]], value[places[0] + 1 :]
