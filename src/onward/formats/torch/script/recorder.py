"""Record ATen operators, which TorchScript calls without their overloads, in a graph of known shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....core import budget
from ....core.identity import Identity
from ....errors import ArgumentError
from ....graph.node import Signature
from ....graph.size import Size, are_same, hint
from ....graph.structure import leaves
from ..aten.overloads import overload
from ..aten.registry import OPERATORS, RESULTS, Symbol, Tensor, called
from ..aten.schemas import DTYPES, in_place, outputs, taken
from ..aten.translator import Translator
from . import layouts
from .recording import Recording
from .values import MISSING, Object, Unknown, mapped

NUMBERS = {np.dtype(dtype).name: number for number, dtype in DTYPES.items() if number != 15}
STALE = "the code reads a tensor that may be a view of one that it changed"
STALE_CONTAINER = "the code reads a list or dict that may be one that it changed"
Key = tuple[Identity, str | None]  # what changes, and the name of a variable or attribute


class UnknownShape(tuple[Any, ...]):
    """The shape of a tensor that depends on the values of the inputs; it cannot be used."""

    def _fail(self, *arguments: Any) -> Any:
        raise ArgumentError("the shape of a tensor depends on the values of the inputs")

    __len__ = __iter__ = __getitem__ = __eq__ = _fail
    __hash__ = tuple.__hash__


@dataclass(frozen=True)
class Change:
    """A variable, attribute, container or tensor that a branch or loop changed, and its value before.

    `key` names the variable or the attribute in `target`, the dict of all of them.
    """

    target: Any
    key: str | None = None
    before: Any = None

    @property
    def value(self) -> Any:
        """The value now."""
        return copy(self.target) if self.key is None else self.target.get(self.key, MISSING)

    def set(self, value: Any) -> None:
        """Assign the variable or attribute, the elements, or the value of the tensor."""
        if self.key is not None:
            self.target[self.key] = value
        elif isinstance(self.target, Tensor):
            vars(self.target).update(vars(value))
        elif isinstance(self.target, list):
            self.target[:] = value
        else:
            self.target.clear()
            self.target.update(value)

    def repeat(self, recorder: Recorder, value: Any) -> None:
        """Make the change, with this value, after the branch or loop."""
        recorder.change(self.target, self.key)
        if isinstance(self.target, Tensor):
            value = dataclasses.replace(self.target, name=value.name, version=self.target.version + 1)
        self.set(value)


class Recorder(Translator):
    """Records operators in `graph`.

    The name in the label is the path of the module whose code runs. In a branch or loop, `changes` are the
    changes that it made, and `created` are the containers that it created.
    """

    graph: Recording

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording)
        self.changes: dict[Key, Change] | None = None
        self.created: set[Identity] = set()
        self._same: dict[Identity, set[Identity]] = {}  # containers, and those that they may be
        self._stale: set[Identity] = set()  # those that may be another one that changed

    @contextmanager
    def recording(self, graph: Recording) -> Iterator[None]:
        """Record in another graph."""
        before, self.graph = self.graph, graph
        self._stored = {}  # the constants belong to the graph
        try:
            yield
        finally:
            self.graph, self._stored = before, {}

    def create(self, value: Any) -> Any:
        """Note that the current branch or loop created a container or an object, and return it."""
        content = value.attributes if isinstance(value, Object) else value
        if self.changes is not None and isinstance(content, list | dict):
            self.created.add(Identity(content))
        return value

    def change(self, target: Any, key: str | None = None) -> None:
        """Note that the code is about to change a container, a tensor, or what a key in a dict stands for."""
        if self.changes is not None and Identity(target) not in self.created:
            if (place := (Identity(target), key)) not in self.changes:
                self.changes[place] = Change(target, key, Change(target, key).value)

    def change_elements(self, container: Any) -> None:
        """Note that the code is about to change the elements of a container."""
        self.change(container)
        self._stale |= self._same.get(Identity(container), set())

    def relate(self, container: Any, original: Any) -> None:
        """Note that a container is or may be another one, at the end of a branch."""
        key, other = Identity(container), Identity(original)
        related = other, *self._same.get(other, ())
        budget.spend(budget.STEP * len(related))
        budget.take(4 * budget.OBJECT * len(related))
        for each in related:
            self._same.setdefault(key, set()).add(each)
            self._same.setdefault(each, set()).add(key)

    def check_current(self, *values: Any) -> None:
        """Raise ArgumentError if the elements of a container are not known."""
        if self._stale and any(Identity(value) in self._stale for value in values):
            raise ArgumentError(STALE_CONTAINER)

    # what Translator does by the declarations of a program follows from the recording here

    def fold(self) -> tuple[str, ...]:
        """Leave it to the recording."""
        return ()

    def known(self, name: str) -> Any:
        return self.graph.array(name)

    def named(self, x: Any) -> str:
        """Return the name of a value in the current graph."""
        return self.graph.find(self.constant(x) if isinstance(x, float) else super().named(x))

    def tensor(self, name: str, is_complex: bool = False) -> Tensor:
        """Return a new tensor with a value of the recording."""
        known = self.graph.known(name)
        if known is None:
            return Tensor(name, np.dtype(object), UnknownShape())
        sizes, dtype = Signature.of(known)
        shape = tuple(None if type(size) is Size else size for size in sizes)
        if is_complex:
            return Tensor(name, np.dtype(np.complex128 if dtype == np.float64 else np.complex64), shape[:-1])
        return Tensor(name, dtype, shape)

    def read(self, x: Tensor) -> Tensor:
        """Return the tensor with its current value."""
        if any(other.version != version for other, version in x.root.aliases):
            raise ArgumentError(STALE)
        if x.version != x.root.version:
            self.change(x)
        return super().read(x)

    def write(self, x: Tensor, value: str) -> None:
        """Give a tensor, and every other one that shares its memory, a new value."""
        if x.is_ambiguous:
            raise ArgumentError(
                "the code writes into a tensor whose memory differs between branches or rounds"
            )
        self._require_shape(x, value)
        for each in x.parts or (x,):
            self.change(each)
        super().write(x, value)

    def _require_shape(self, x: Tensor, value: str) -> None:
        """Raise ArgumentError, now or in a call, unless a value has the shape of the one that it replaces."""
        names = self.read(x).name, value
        before, after = map(self.graph.known, names)
        if before is None or after is None:
            return
        if len(before.shape) != len(after.shape):
            ranks = f"{len(after.shape)} axes is written into a tensor of {len(before.shape)}"
            raise ArgumentError(f"a value of {ranks}")
        for axis, (size, other) in enumerate(zip(before.shape, after.shape, strict=True)):
            if not are_same(size, other) and any(type(n) is not Size or n.is_known for n in (size, other)):
                message = f"a value of {hint(other)} elements along axis {axis} is written into {hint(size)}"
                a, b = (self.size(self.tensor(name), axis) for name in names)
                self.require("Equal", a, b, message)

    def size(self, x: Tensor, dim: int) -> int | Symbol:
        """Return the size of an axis; the same size is always the same value."""
        size = x.shape[x.axis(dim)]
        if size is not None:
            return int(size)
        return Symbol(self.graph.find_size(self.read(x).name, x.axis(dim)))

    def require(self, comparison: str, a: Any, b: Any, message: str, expected: bool = True) -> None:
        """Raise ArgumentError, now or in a call, unless the comparison of two sizes is as expected."""
        super().require(comparison, a, b, message, expected)
        if isinstance(a, Symbol) or isinstance(b, Symbol):
            holds = self.add(comparison, a, b)
            known = self.known(holds)
            if known is not None and bool(known) != expected:
                raise ArgumentError(message)
            if known is not None and self.graph.axes.is_general:  # known only if each axis has elements
                holds = self.graph.add_comparison(comparison, self.named(a), self.named(b))
            if known is None or self.graph.axes.is_general:
                self.check(holds, message, expected)

    def expect_like(self, name: str, x: Tensor, dtype: np.dtype[Any]) -> None:
        """Record that a value about which nothing was inferred has the shape of a tensor, and a dtype."""
        known = self.graph.known(self.read(x).name)
        self.graph.values[name] = None if known is None else Signature(known.shape, dtype)

    def in_numbers(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.graph.axes.is_general:
            return arguments
        numbers: Mapping[str, Any] = mapped(self._in_numbers, dict(arguments))
        return numbers

    def _in_numbers(self, value: Any) -> Any:
        known = self.graph.known(value.name) if isinstance(value, Symbol) else None
        size = known.item() if isinstance(known, np.ndarray) else None
        return int(size) if type(size) is Size and size.is_known else value

    def _known_size(self, x: Tensor, dim: int) -> Any:
        known = self.graph.known(self.read(x).name)
        return None if known is None else known.shape[x.axis(dim)]

    def has_open_axis(self, x: Tensor, dim: int) -> bool:
        """Whether other calls of the graph may have another size of an axis."""
        return self.graph.axes.is_general and type(self._known_size(x, dim)) is Size

    def parts(self, x: Tensor, dim: int, length: Any) -> int:
        """Return the number of parts of a length in an axis, for the sizes of the recording."""
        known: Any
        size, known = self._known_size(x, dim), np.array(length, object)
        if isinstance(length, Symbol):
            known = self.graph.known(length.name)
        if size is not None and isinstance(known, np.ndarray):
            count = -(-size // max(known.item(), 1))
            if type(count) is Size and self.graph.axes.is_general and isinstance(length, Symbol):
                found = self.add(
                    "Div", self.add("Add", self.size(x, dim), self.add("Sub", length, 1)), length
                )
                message = f"an axis does not have {hint(count)} parts"
                self.check(self.add("Equal", found, hint(count)), message)
            if type(count) is not Size or count.is_known:
                return int(count)
        raise ArgumentError("the number of slices depends on the values of the inputs")

    def in_memory_of(self, x: str, value: str) -> Tensor:
        tensor = self.tensor(value)
        tensor.layout = layouts.moved(self.graph, self.tensor(x), value)
        return tensor

    def moved(self, x: Tensor, value: str) -> Any:
        return layouts.moved(self.graph, x, value)

    def copies(self, x: Tensor, y: Tensor, all_out_of_order: bool) -> Callable[[], bool | None]:
        return layouts.copies(self.graph, x, y.name, all_out_of_order)

    # calls

    def call(self, name: str, /, *arguments: Any, **keywords: Any) -> Any:
        """Record an operator of TorchScript and return its results."""
        plain = in_place(name) or name
        key, bound = overload(plain, arguments, keywords, plain != name)
        first = next(iter(bound.values()), None)
        bound = {n: self._readied(value) for n, value in taken(key, OPERATORS[key], bound).items()}
        values, result = [*leaves([*bound.values()])], RESULTS.get(key, "")
        tensors = [x for x in values if isinstance(x, Tensor)]
        of_complex = any([isinstance(x, Tensor) and x.dtype.kind == "c" for x in values])
        is_complex = bool(bound.get(result, result == "c" if result else of_complex))
        for dtype in values:
            is_complex = dtype.kind == "c" if isinstance(dtype, np.dtype) else is_complex
        results = self.apply(key, bound, first, plain != name, lambda name, _: self.tensor(name, is_complex))

        def output(each: Any) -> Any:
            if each is None and outputs(key) > 1:
                return Unknown(f"an output of {key.removesuffix('.default')} is not supported")
            value = self.tensor(each, is_complex) if isinstance(each, str) else each
            is_new = isinstance(value, Tensor) and value.base is None and value is not first
            if is_new and value.layout is None and any([x.layout for x in tensors]):
                value.layout = layouts.like(self.graph, tensors, value.name)
            return value

        return mapped(output, results)

    def evaluate(self, key: str, arguments: Mapping[str, Any], node: Any) -> Any:
        before, self.label = self.label, (self.label[0], f"aten.{key}")
        try:
            return called(self, key, arguments)
        finally:
            self.label = before

    def _readied(self, value: Any) -> Any:
        budget.spend(budget.STEP)
        if isinstance(value, Tensor):
            return self.read(value)
        if isinstance(value, Symbol):
            known = self.known(value.name)
            return value if known is None else known.item()
        if isinstance(value, list | tuple):
            return [self._readied(element) for element in value]
        return value
