"""Record code in a graph of its own, such as the sides of a branch that depends on the value of a tensor."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ....core import budget
from ....core.identity import Identity
from ....errors import ArgumentError
from ....graph.graph import close
from ....graph.structure import CONTAINERS
from ..aten.registry import Symbol, Tensor
from . import layouts
from .calls import Calls, RaisedError, dtype_of
from .recorder import STALE, Change, Key, Recorder
from .recording import Recording
from .values import UNINITIALIZED, Unknown, alike, items, rebuilt

VALUE = 10 * budget.STEP  # operations for a value that leaves a branch or loop
NUMBERS = Symbol | int | float
Path = tuple[Any, ...]  # a key of a change, and places in nested values


@dataclass
class Region:
    """Recorded code: its graph, the log of its changes, and those that last, with the new values.

    `error` is the error that the code raises, or None.
    """

    graph: Recording
    log: Mapping[Key, Change]
    changes: dict[Key, tuple[Change, Any]] = field(default_factory=dict)
    error: ArgumentError | None = None
    roots: dict[Identity, Tensor] = field(default_factory=dict)  # of the new tensors

    def root(self, tensor: Tensor) -> Tensor:
        """Return the tensor whose memory a tensor shares, also if the region created both."""
        return self.roots.get(Identity(tensor), tensor.root)

    def is_shared(self, tensor: Tensor, others: Iterable[Any]) -> bool:
        """Whether a tensor shares memory with an older one, or with another one that the region returns."""
        root = self.root(tensor)
        roots = [self.root(other) for other in others if isinstance(other, Tensor)]
        return tensor.is_ambiguous or roots.count(root) > 1 or self.existed(root)

    def older(self, tensor: Tensor) -> dict[Identity, Tensor]:
        """Return the tensors that are older than the region and may have the memory of a tensor."""
        root = self.root(tensor)
        found = root, *(other for other, _ in root.aliases)
        return {Identity(each): each for each in found if self.existed(each)}

    def is_stale(self, tensor: Tensor) -> bool:
        """Whether the region changes another tensor of which a tensor may be a view."""
        for other, version in self.root(tensor).aliases:
            _, now = self.changes.get((Identity(other), None), (None, other))
            if now.version != version:
                return True
        return False

    def writes(self, tensor: Tensor) -> bool:
        """Whether the region writes into the memory of a tensor."""
        return (Identity(tensor), None) in self.log

    def at_end(self, value: Any) -> Any:
        """Return an older tensor or the elements of a container as they are at the end of the region."""
        if isinstance(value, list | dict):
            return self.changes.get((Identity(value), None), (None, value))[1]
        if not isinstance(value, Tensor) or not self.writes(value.root):
            return value
        if value.base is not None:
            raise ArgumentError(STALE)
        new = replace(self.changes[Identity(value), None][1])
        self.roots[Identity(new)] = value
        return new

    def existed(self, tensor: Tensor) -> bool:
        """Whether a tensor is older than the region."""
        change = self.log.get((Identity(tensor), None))
        return (change.before if change else tensor).name in self.graph.values.parents


def record_region(recorder: Recorder, run: Callable[[], None]) -> Region:
    """Run code that records nodes in a new graph, and undo what it changes outside of it."""
    outer, created = recorder.changes, recorder.created
    recorder.changes, recorder.created = changes, own = dict[Key, Change](), set[Identity]()
    region = Region(Recording(recorder.graph), changes)
    with recorder.recording(region.graph):
        try:
            run()
        except RaisedError as error:
            region.error = error
        finally:
            region.changes = {key: (change, change.value) for key, change in changes.items()}
            if region.error is None:
                _settle(recorder, region)
            for change in changes.values():
                if not isinstance(change.target, Tensor) or region.existed(change.target.root):
                    change.set(change.before)
            recorder.changes, recorder.created = outer, created
            if outer is not None:
                created |= own
    return region


def _settle(recorder: Recorder, region: Region) -> None:
    """Give the tensors that a region created values that do not depend on other tensors."""
    found: dict[Identity, Tensor] = {}

    def is_current(value: Tensor) -> bool:
        """Whether a tensor has this value also outside of the region."""
        return value.version == value.root.version and not region.writes(value.root)

    def settled(value: Any, inside: bool = False) -> Any:
        budget.spend(VALUE)
        key = Identity(value)
        if isinstance(value, Tensor) and (key in found or not (region.existed(value) and is_current(value))):
            if key not in found:
                found[key] = new = replace(recorder.read(value), base=None)
                region.roots[Identity(new)] = value.root
            return found[key]
        if inside or isinstance(value, tuple) or key in recorder.created:
            new = rebuilt(value, [settled(element) for _, element in items(value)])
            if key in recorder.created:
                recorder.relate(new, value)
            return new
        return value

    for key, (change, value) in list(region.changes.items()):
        if not isinstance(change.target, Tensor):
            region.changes[key] = change, settled(value, change.key is None)
        elif change.target.base is not None or not region.existed(change.target):
            del region.changes[key]  # views follow the tensors that they show


@dataclass(eq=False)
class Slot:
    """A place in nested values where one of two tensors or numbers stands; `result` takes the place.

    `a` may be UNINITIALIZED; `dtype` is that of a number.
    """

    a: Any
    b: Any
    dtype: Any = None
    result: Any = None

    @property
    def is_complex(self) -> bool:
        """Whether the tensors are complex. Raises ArgumentError if only one of them is."""
        kinds = {each.dtype.kind == "c" for each in (self.a, self.b) if isinstance(each, Tensor)}
        if len(kinds) > 1:
            raise ArgumentError("a tensor is complex on one side of a branch or in some rounds alone")
        return True in kinds


class Join:
    """Joins the values before and after the rounds of a loop, or those of both sides of a branch."""

    def __init__(self, recorder: Calls) -> None:
        self.recorder = recorder

    def inside(self, region: Region, value: Any, dtype: Any = None) -> str:
        """Return the name of a tensor or number in a region, converted to the dtype if one is given."""
        with self.recorder.recording(region.graph):
            name = self.recorder.named(value)
            is_cast = dtype is not None and dtype != dtype_of(value)
            return region.graph.add("Cast", name, to=dtype) if is_cast else name

    def result(self, slot: Slot, name: str, ends: Sequence[tuple[Region, Any, Sequence[Any]]]) -> Any:
        """Return the output of a node that takes the place of a slot.

        `ends` are the regions, the value of the slot in each, and all values that leave it.
        """
        if slot.dtype is not None:
            return Symbol(name, slot.dtype)
        if any(region.is_stale(value) for region, value, _ in ends):
            raise ArgumentError(STALE)
        tensor = self.recorder.tensor(name, slot.is_complex)
        if self.recorder.graph.known(name) is None:
            tensor.dtype = slot.b.dtype
        tensor.is_ambiguous = any(region.is_shared(value, values) for region, value, values in ends)
        older = {key: other for region, value, _ in ends for key, other in region.older(value).items()}
        tensor.aliases = [(other, 0) for other in older.values()]
        if not all(value.is_in_order for _, value, _ in ends):
            tensor.layout = layouts.unknown
        return tensor

    def repeat(self, joined: Iterable[tuple[Change, Any]], slots: Iterable[Slot]) -> None:
        """Give variables, attributes, containers and tensors their values after the node."""
        for change, value in joined:
            if isinstance(value, Unknown) and change.key is None:
                raise ArgumentError(value.reason)
            change.repeat(self.recorder, self.filled(value))
        for slot in slots:
            if isinstance(slot.result, Tensor):
                slot.result.aliases = [(other, other.version) for other, _ in slot.result.aliases]

    def slot(self, path: Path, a: Any, b: Any) -> Slot:
        """Return the slot of two tensors or numbers, of which one may be UNINITIALIZED."""
        raise NotImplementedError

    def unlike(self, path: Path, a: Any, b: Any) -> Any:
        """Return the value or the slot of two values of different kinds."""
        raise NotImplementedError

    def join(self, path: Path, a: Any, b: Any) -> Any:
        """Return the value that is a or b, which may be nested, with slots where they differ."""
        budget.spend(VALUE)
        if a is b or _is_same(a, b):
            return a
        given = b if a is UNINITIALIZED else a
        pair = [given if each is UNINITIALIZED else each for each in (a, b)]
        if all(isinstance(each, Tensor) for each in pair) or all(isinstance(each, NUMBERS) for each in pair):
            return self.slot(path, a, b)
        if not alike(*pair):
            return self.unlike(path, a, b)
        elements = [
            self.join((*path, key), *(each if each is UNINITIALIZED else each[key] for each in (a, b)))
            for key, _ in items(given)
        ]
        return self.recorder.create(rebuilt(given, elements))

    def filled(self, value: Any) -> Any:
        """Return a joined value with the results of its slots."""
        budget.spend(VALUE)
        if isinstance(value, Slot):
            return value.result
        if not isinstance(value, CONTAINERS):
            return value
        before = [element for _, element in items(value)]
        elements = [self.filled(element) for element in before]
        is_same = all(map(operator.is_, elements, before))
        return value if is_same else self.recorder.create(rebuilt(value, elements))


def _is_same(a: Any, b: Any) -> bool:
    """Whether two values are the same value of one tensor, or the same number or string."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        same_memory = a.root is b.root and a.version == b.version
        return same_memory and a.name == b.name and a.dtype == b.dtype
    return type(a) is type(b) and isinstance(a, int | float | Symbol | str) and a == b


def record_branch(recorder: Calls, condition: Tensor | Symbol, runs: Sequence[Callable[[], Any]]) -> None:
    """Record the code for a condition that holds, and that for one that does not."""
    sides = [record_region(recorder, run) for run in runs]
    failed = [side.error for side in sides if side.error is not None]
    if len(failed) == 2:
        raise failed[0]
    if not failed:
        return _Branch(recorder, sides).finish(condition)
    raises = sides[0].error is not None
    with recorder.graph.axes.separate() as guards:
        value = recorder.graph.by_hints(recorder.named(condition))
    if isinstance(value, np.ndarray) and all(guard.size.is_known for guard in guards.values()):
        recorder.graph.axes.guards |= guards  # the code needs them
        if bool(value) == raises:
            raise ArgumentError(str(failed[0]))
    recorder.check(recorder.named(condition), str(failed[0]), not raises)
    runs[raises]()


class _Branch(Join):
    """Joins the values of both sides; values that differ become outputs of the If node."""

    def __init__(self, recorder: Calls, sides: Sequence[Region]) -> None:
        super().__init__(recorder)
        self.sides = sides
        # by the names of the values in both sides, and their memory
        self.slots: dict[tuple[Any, ...], Slot] = {}
        self.originals: dict[Identity, tuple[Any, Any]] = {}  # the containers that joined ones may be

    def join(self, path: Path, a: Any, b: Any) -> Any:
        """Return the value at the end of the branch; see `Join.join`."""
        if a is b:
            return a
        self.recorder.check_current(a, b)
        first, second = self.sides
        joined = super().join(path, first.at_end(a), second.at_end(b))
        if isinstance(joined, list | dict):
            self.originals[Identity(joined)] = a, b
        return joined

    def filled(self, value: Any) -> Any:
        filled = super().filled(value)
        for original in self.originals.get(Identity(value), ()):
            self.recorder.relate(filled, original)
        return filled

    def unlike(self, path: Path, a: Any, b: Any) -> Any:
        """Return the only value of two sides, or an Unknown if both give values."""
        if a is UNINITIALIZED or b is UNINITIALIZED:
            return b if a is UNINITIALIZED else a
        if isinstance(a, Unknown) or isinstance(b, Unknown):
            return a if isinstance(a, Unknown) else b
        kinds = " and a ".join(sorted({type(a).__name__, type(b).__name__}))
        return Unknown(f"the sides of a branch that depends on a tensor give different values: a {kinds}")

    def slot(self, path: Path, a: Any, b: Any) -> Slot:
        """Return the slot of a if the first side ran and b if the second did.

        The code uses an UNINITIALIZED value only after the other side; it becomes 0, of the same signature.
        """
        pair = [a, b]
        if UNINITIALIZED in pair:
            missing = pair.index(UNINITIALIZED)
            given, graph, other = pair[not missing], self.sides[missing].graph, self.sides[not missing]
            dtype = dtype_of(given)
            zero = graph.add_constant(np.zeros((), dtype))
            graph.values[zero] = other.graph.signature(self.inside(other, given))
            pair[missing] = Tensor(zero, dtype, ()) if isinstance(given, Tensor) else Symbol(zero, dtype)
        kinds = [dtype_of(value) for value in pair if not isinstance(value, Tensor)]
        kind = np.result_type(*kinds) if kinds else None
        names = tuple(self.inside(side, value, kind) for side, value in zip(self.sides, pair, strict=True))
        pairs = zip(self.sides, pair, strict=True)
        memory = [Identity(side.root(value)) for side, value in pairs if isinstance(value, Tensor)]
        return self.slots.setdefault((*names, *memory), Slot(pair[0], pair[1], kind))

    def finish(self, condition: Tensor | Symbol) -> None:
        """Add the If node, and give variables, attributes and tensors their values after it."""
        first, second = (side.changes for side in self.sides)
        joined = []
        for key in dict.fromkeys([*first, *second]):
            change = (first.get(key) or second[key])[0]
            values = (side[key][1] if key in side else change.value for side in (first, second))
            joined.append((change, self.join((key,), *values)))
        graphs = [side.graph for side in self.sides]
        for place, graph in enumerate(graphs):
            graph.outputs = tuple(names[place] for names in self.slots)
        inputs = [self.recorder.named(condition), *close(*graphs)]
        outer = self.recorder.graph
        names = outer.add_all("If", inputs, len(self.slots), then_branch=graphs[0], else_branch=graphs[1])
        for name, (inner, slot) in zip(names, self.slots.items(), strict=True):
            known = (graph.known(each) for graph, each in zip(graphs, inner, strict=False))
            outer.values[name] = outer.unknown(outer.common(*known))
            pairs = [(each.a, each.b) for each in self.slots.values()]
            ends = zip(self.sides, (slot.a, slot.b), zip(*pairs, strict=True), strict=True)
            slot.result = self.result(slot, name, list(ends))
        self.repeat(joined, self.slots.values())
