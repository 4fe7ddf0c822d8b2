"""Record a loop whose number of iterations only a call knows: its body becomes the body of a Loop node."""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ....core import budget
from ....core.identity import Identity
from ....errors import ArgumentError
from ....graph.graph import Input, close
from ....graph.node import Signature
from ....graph.patterns import Matcher
from ....graph.size import Size, are_same
from ....graph.structure import leaves
from ..aten.registry import Symbol, Tensor
from . import layouts, lists
from .branches import Join, Path, Slot, record_region
from .calls import dtype_of
from .lists import HIDDEN, Segment
from .recorder import Change, Key
from .recording import UNKNOWN, Known, declaration, is_like
from .values import MISSING, UNINITIALIZED, Unknown

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


@dataclass(eq=False)
class Carried(Slot):
    """A tensor or number that an iteration, which gets `a` under a name, leaves to the next one as `b`."""

    known: Any = None  # the signature
    name: str = ""  # in the body, at the start of an iteration
    output: str = ""  # the name of `b`
    older: dict[Identity, Tensor] = field(default_factory=dict)  # of which it may be a view
    is_in_order: bool = True
    unlike: set[int] = field(default_factory=set)  # axes whose sizes iterations change


@dataclass(eq=False)
class Grown(Slot):
    """A list to which iterations add elements before or after those that it has."""

    before: list[Any] = field(default_factory=list)
    after: list[Any] = field(default_factory=list)
    columns: Any = None  # a segment of the body with what an iteration adds


class _Loop(Join):
    """Records the body until it carries every value that it changes."""

    def __init__(
        self, interpreter: Interpreter, node: Loop, local: Environment, number: Any, start: int = 0
    ) -> None:
        super().__init__(interpreter.recorder)
        self.interpreter, self.node, self.local = interpreter, node, local
        self.number, self.start = number, start  # start: the iterations before
        self.carried: dict[Path, Carried] = {}
        self.grown: dict[Path, Grown] = {}
        self.joined: dict[Key, tuple[Change, Any]] = {}  # what the body changes, with slots

    def record(self) -> None:
        """Add the Loop node and give variables, attributes and containers their values after it."""
        for _ in range(MAX_ATTEMPTS):
            self.is_stable = True
            self.region = record_region(self.recorder, self._run)
            if self.region.error is not None:
                raise self.region.error
            for key, (change, value) in self.region.changes.items():
                before = change.value
                joined = before if before is MISSING else self.join((key,), before, value)
                self.joined[key] = change, joined
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
            each.result = UNINITIALIZED if each.a is UNINITIALIZED else self._opened(each)
        for grown in self.grown.values():
            grown.result = self.recorder.create([HIDDEN])
        self.repeat(self.joined.values(), self.carried.values())
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

    def _opened(self, carried: Carried) -> Any:
        """Return a value at the start of an iteration."""
        if carried.dtype is not None:
            return Symbol(carried.name, carried.dtype)
        tensor = self.recorder.tensor(carried.name, carried.is_complex)
        tensor.is_ambiguous, tensor.aliases = True, [(other, 0) for other in carried.older.values()]
        tensor.layout = None if carried.is_in_order else layouts.unknown
        return tensor

    # what the body changed

    def join(self, path: Path, a: Any, b: Any) -> Any:
        """Return the value before the loop, with slots for what iterations take over or add."""
        if path in self.carried:
            self._carry(self.carried[path], b)
        elif path in self.grown:
            self.grown[path].before, self.grown[path].after = _added(b)
        else:
            return super().join(path, a, b)
        return self.carried.get(path) or self.grown[path]

    def slot(self, path: Path, a: Any, b: Any) -> Slot:
        """Carry a tensor or number."""
        self.is_stable = False
        dtype = None if isinstance(b, Tensor) else dtype_of(b if a is UNINITIALIZED else a)
        known = dtype and Signature((), dtype)
        if isinstance(a, Tensor):
            known = self.recorder.graph.signature(self.recorder.named(a))
        is_in_order = not isinstance(a, Tensor) or a.is_in_order
        older = [a.root, *(other for other, _ in a.root.aliases)] if isinstance(a, Tensor) else []
        found = {Identity(each): each for each in older}
        self.carried[path] = Carried(a, b, dtype, known=known, is_in_order=is_in_order, older=found)
        return self.carried[path]

    def unlike(self, path: Path, a: Any, b: Any) -> Any:
        """Let a list grow. Raises UnlikeError for other values."""
        if isinstance(b, Unknown) and a is UNINITIALIZED:
            return a
        if isinstance(b, Unknown):
            raise UnlikeError(b.reason)
        if isinstance(a, list) and isinstance(b, list) and _grows(a, b):
            self.grown[path] = Grown(a, b)
            self.is_stable = False
            return self.grown[path]
        kinds = f"a {type(a).__name__} becomes a {type(b).__name__}"
        raise UnlikeError(f"an iteration changes the type or the length of a value: {kinds}")

    def _carry(self, carried: Carried, end: Any) -> None:
        """Note the value that the next iteration takes over."""
        if isinstance(end, Unknown):
            raise UnlikeError(end.reason)
        carried.b = end
        carried.output = name = self.inside(self.region, end, carried.dtype)
        known = self.region.graph.signature(name)
        if carried.a is UNINITIALIZED:
            carried.known = known
        elif carried.dtype is None:
            joined = self.region.graph.common(carried.known, known)
            if not is_like(joined, carried.known):
                if not self.start:
                    raise UnlikeError("an iteration changes the shape or the dtype of a tensor")
                pairs = enumerate(zip(joined.shape, carried.known.shape, strict=True)) if joined else ()
                unlike = {axis for axis, sizes in pairs if not are_same(*sizes)}
                if joined is None or not unlike <= carried.unlike:
                    carried.known, self.is_stable = joined, False
                    carried.unlike |= unlike
                elif self.region.graph.axes.names and not self.region.graph.axes.is_general:
                    raise ArgumentError("the sizes of a tensor differ between iterations")
        if carried.dtype is None:
            older = {key: each for key, each in self.region.older(end).items() if self.region.writes(each)}
            if not (carried.older.keys() >= older.keys() and carried.is_in_order <= end.is_in_order):
                self.is_stable = False
            carried.older |= older
            carried.is_in_order &= end.is_in_order

    # the node

    def _finish(self) -> None:
        """Add the node, and give variables, attributes and containers their values after it."""
        outer, body = self.recorder.graph, self.region.graph
        is_for = isinstance(self.node, ast.For)
        number = self.recorder.named(self.number if is_for else self.recorder.operate("Bool", self.number))
        written = self._written() if is_for and not self.start else {}
        carried = [each for path, each in self.carried.items() if path not in written]
        for grown in self.grown.values():
            grown.columns = self._segment(grown.before or grown.after)
        columns = [column for grown in self.grown.values() for column in leaves(grown.columns.value)]
        stacked = [*(column.tensor.name for column in columns), *(name for name, _ in written.values())]
        body.outputs = self.inside(self.region, self.again), *(each.output for each in carried), *stacked
        body.declared_outputs = tuple(declaration(name, body.known(name)) for name in body.outputs)
        own = [self.counter, self.condition, *(each.name for each in carried)]
        graph = body.without_unused().replaced(inputs=list(map(Input, own)))
        captured = close(graph)
        graph.inputs = [declaration(each.name, body.known(each.name)) for each in graph.inputs]
        inputs = [*([number, ""] if is_for else ["", number]), *map(self._initial, carried), *captured]
        count = len(carried) + len(stacked)
        made = iter(outer.add_all("Loop", inputs, count, body=graph, captured=len(captured)))
        ends = [each.b for each in self.carried.values()]
        for each in carried:
            name = next(made)
            outer.values[name] = outer.unknown(each.known)
            each.result = self.result(each, name, [(self.region, each.b, ends)])
        rounds = outer.known(number) if is_for else None
        for grown in self.grown.values():
            self._grow(grown, made, rounds)
        for path, (name, axis) in written.items():
            steps = self._scanned(next(made), name, rounds, self.carried[path].is_complex)
            self.carried[path].result = self._rewritten(path, steps, axis)
        self.repeat([self.joined[key] for key in self.region.changes], carried)

    def _grow(self, grown: Grown, made: Iterator[str], rounds: Known | None) -> None:
        """Make the list after the last iteration; `made` are the elements of all iterations."""
        before, after = len(grown.before), len(grown.after)
        elements = [each for each in leaves(grown.before or grown.after) if isinstance(each, Tensor)]

        def added(x: Tensor) -> Tensor:
            found = self._scanned(next(made), x.name, rounds, x.dtype.kind == "c")
            lists.mark(found, [(each, self.region.older(each).values()) for each in elements])
            return lists.flat(self.recorder, found, before, after)

        segment = grown.columns.moved(added)
        grown.result = self.recorder.create([segment, *grown.a] if before else [*grown.a, segment])

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
        r, graph, before = self.recorder, self.recorder.graph, self.carried[path].a
        moved: Tensor = r.call("movedim", steps, 0, axis)
        if is_like(graph.known(moved.name), graph.known(before.name)):
            return moved
        rest = r.call("slice", before, axis, r.size(steps, 0), None, 1)
        return r.call("cat", [moved, rest], axis)  # type: ignore[no-any-return]  # a tensor

    def _initial(self, carried: Carried) -> str:
        if carried.a is not UNINITIALIZED:
            return self.recorder.named(carried.a)
        return self.recorder.constant(0, carried.dtype or carried.known.dtype)

    def _segment(self, elements: list[Any]) -> Segment:
        """Return what an iteration adds to a list as a segment of the body."""
        for each in leaves(elements):
            if isinstance(each, Tensor) and any(map(self.region.writes, self.region.older(each).values())):
                raise ArgumentError("a list gets views of a tensor that other iterations change")
        with self.recorder.recording(self.region.graph):
            segment = lists.segment_of(self.recorder, elements, "stack" if len(elements) > 1 else "")
        for column in leaves(segment.value):
            known = self.region.graph.known(column.tensor.name)
            if known is None or any(type(size) is Size and not size.is_known for size in known.shape):
                raise ArgumentError("the shape of an element of a list depends on the iteration or on values")
        return segment

    def _scanned(self, name: str, inner: str, count: Known | None, is_complex: bool) -> Tensor:
        """Return what all iterations gave, along the first axis; `inner` is its name in the body."""
        body = self.region.graph
        known = body.known(inner)
        assert known is not None
        rounds = body.axes.unknown(UNKNOWN) if count is None else count.item()  # type: ignore[union-attr]  # an array
        found = Signature((rounds, *known.shape), Signature.of(known).dtype)
        self.recorder.graph.values[name] = found
        return self.recorder.tensor(name, is_complex)


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
