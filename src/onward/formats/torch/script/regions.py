"""Record code in graphs of their own, as the sides of a branch or the body of a loop, and join values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ....errors import ArgumentError
from ..aten.registry import Symbol, Tensor
from .calls import RaisedError
from .recorder import Change, Key, Recorder
from .recording import Recording
from .values import UNINITIALIZED, alike, items, rebuilt

NUMBERS = Symbol | int | float
Path = tuple[Any, ...]  # a key of a change, and places in nested values


@dataclass
class Region:
    """Recorded code: its graph and what it changed, with the new values; the error if it raises one."""

    graph: Recording
    changes: dict[Key, tuple[Change, Any]] = field(default_factory=dict)
    error: ArgumentError | None = None
    roots: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # of the new tensors, by their ids

    def root(self, tensor: Tensor) -> Tensor:
        """Return the tensor whose memory a tensor shares, also if the region created both."""
        return self.roots.get(id(tensor), (tensor, tensor.root))[1]

    def existed(self, tensor: Tensor) -> bool:
        """Whether a tensor is older than the region."""
        change = self.changes.get((id(tensor), None))
        assert self.graph.around is not None
        return self.graph.around.has((change[0].before if change else tensor).name)


def record(recorder: Recorder, run: Callable[[], None]) -> Region:
    """Run code that records nodes in a new graph, and undo what it changes outside of it."""
    outer, created = recorder.changes, recorder.created
    recorder.changes, recorder.created = changes, own = dict[Key, Change](), dict[int, Any]()
    region = Region(Recording(recorder.graph))
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
    found: dict[int, Tensor] = {}

    def settled(value: Any, inside: bool = False) -> Any:
        recorder.visit()
        if isinstance(value, Tensor) and not region.existed(value):
            if id(value) not in found:
                new = replace(recorder.read(value), base=None)
                if id(value) in recorder.shared:
                    recorder.share(new)
                found[id(value)], region.roots[id(new)] = new, (new, value.root)
            return found[id(value)]
        if inside or isinstance(value, tuple) or id(value) in recorder.created:
            return rebuilt(value, [settled(element) for _, element in items(value)])
        return value

    for key, (change, value) in list(region.changes.items()):
        if not isinstance(change.target, Tensor):
            region.changes[key] = change, settled(value, change.key is None)
        elif change.target.base is not None or not region.existed(change.target):
            del region.changes[key]  # views follow the tensors that they show


class Join:
    """Joins the values before and after the rounds of a loop, or those of both sides of a branch."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.done: set[Path] = set()  # where values are joined already

    def leaf(self, path: Path, a: Any, b: Any) -> Any:
        """Return the value that is one of two tensors or numbers; one may be UNINITIALIZED."""
        raise NotImplementedError

    def unlike(self, path: Path, a: Any, b: Any) -> Any:
        """Return the value that is one of two of different kinds."""
        raise NotImplementedError

    def join(self, path: Path, a: Any, b: Any) -> Any:
        """Return the value that is a or b, which may be nested."""
        self.recorder.visit()
        if a is b or _is_same(a, b) or path in self.done:
            return a
        given = b if a is UNINITIALIZED else a
        pair = [given if each is UNINITIALIZED else each for each in (a, b)]
        if all(isinstance(each, Tensor) for each in pair) or all(isinstance(each, NUMBERS) for each in pair):
            return self.leaf(path, a, b)
        if not alike(*pair):
            return self.unlike(path, a, b)
        elements = [
            self.join((*path, key), *(each if each is UNINITIALIZED else each[key] for each in (a, b)))
            for key, _ in items(given)
        ]
        return self.recorder.create(rebuilt(given, elements))


def _is_same(a: Any, b: Any) -> bool:
    """Whether two values are the same value of one tensor, or the same number or string."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.root is b.root and a.name == b.name and a.version == b.version
    return type(a) is type(b) and isinstance(a, int | float | Symbol | str) and a == b
