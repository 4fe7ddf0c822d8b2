"""Record statements in a graph of their own, as a side of a branch or the body of a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ....errors import ArgumentError
from ..aten.registry import Symbol, Tensor
from .calls import RaisedError
from .recorder import Change, Joined, Recorder
from .recording import Recording
from .values import Object, Unknown, items, rebuilt

if TYPE_CHECKING:
    from .interpreter import Environment, Interpreter

MISSING = Unknown("a variable has a value in only one side of a branch, or only in the body of a loop")
Key = tuple[int, str]


@dataclass
class Region:
    """Recorded statements: their graph, the variables after them, and what they changed, with the new values.

    If the statements raise an error, `error` is this error.
    """

    graph: Recording
    local: Environment
    changes: dict[Key, tuple[Change, Any]] = field(default_factory=dict)
    error: ArgumentError | None = None

    @contextmanager
    def entered(self, interpreter: Interpreter) -> Iterator[None]:
        """Record in the graph of the region."""
        outer = interpreter.recorder.enter(self.graph)
        try:
            yield
        finally:
            interpreter.recorder.enter(outer)

    def is_outer(self, tensor: Tensor) -> bool:
        """Whether the statements did not create a tensor or the memory that it shares."""
        return self.existed(tensor.root)

    def existed(self, tensor: Tensor) -> bool:
        """Whether a tensor is older than the region."""
        change = self.changes.get((id(tensor), ""))
        assert self.graph.around is not None
        return self.graph.around.has((change[0].before if change else tensor).name)


def is_same(a: Any, b: Any) -> bool:
    """Whether two values are the same value of one tensor, or the same number or string."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.root is b.root and a.name == b.name and a.version == b.version
    return type(a) is type(b) and isinstance(a, int | float | Symbol | str) and a == b


def record(interpreter: Interpreter, local: Environment, run: Callable[[Region], None]) -> Region:
    """Run statements that record nodes in a new graph, and undo what they change outside of it."""
    recorder = interpreter.recorder
    around = recorder.changes, recorder.created
    recorder.changes, recorder.created = own, created = list[Change](), dict[int, Any]()
    outer = recorder.enter(Recording(recorder.recording))
    region = Region(recorder.recording, dict(local))
    try:
        run(region)
    except RaisedError as error:
        region.error = error
    finally:
        for change in own:
            region.changes.setdefault(change.key, (change, change.value))
        before = list(region.changes.values())
        if region.error is None:
            _Settling(recorder, region).settle_all(local)
        for change, _ in before:
            if not isinstance(change.target, Tensor) or region.is_outer(change.target):
                change.set(change.before)
        recorder.enter(outer)
        recorder.changes, recorder.created = around
        if recorder.changes is not None:
            recorder.created |= created
    return region


class _Settling:
    """Gives the tensors that a region created values that do not depend on other tensors."""

    def __init__(self, recorder: Recorder, region: Region) -> None:
        self.recorder, self.region = recorder, region
        self.settled: dict[int, Any] = {}

    def settle_all(self, before: Environment) -> None:
        local, changes = self.region.local, self.region.changes
        for name, value in local.items():
            if value is not before.get(name):
                local[name] = self.settle(value)
        for key, (change, value) in list(changes.items()):
            if not isinstance(change.target, Tensor):
                changes[key] = change, self.elements(value) if change.attribute == "" else self.settle(value)
            elif change.target.base is not None or not self.region.is_outer(change.target):
                del changes[key]  # views follow the tensors that they show

    def settle(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return self.elements(value)
        if id(value) in self.settled:
            return self.settled[id(value)]
        if isinstance(value, Tensor):
            self.settled[id(value)] = self._tensor(value)
        elif id(value) in self.recorder.created:
            self.settled[id(value)] = value
            content = value.attributes if isinstance(value, Object) else value
            Change(content, "", None).set(self.elements(content))
        return self.settled.get(id(value), value)

    def elements(self, value: Any) -> Any:
        """Return a container with its elements as the region leaves them."""
        return rebuilt(value, [self.settle(element) for _, element in items(value)])

    def _tensor(self, value: Tensor) -> Tensor:
        is_outer = self.region.is_outer(value)
        if self.region.existed(value):
            return value
        now = self.recorder.read(value)
        return Joined(now.name, now.dtype, now.shape) if is_outer else replace(now, base=None)
