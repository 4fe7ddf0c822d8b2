"""Operations that are compositions of others."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import onward._core as _core

from ...core import budget
from ...errors import ArgumentError
from ..node import AnyArray, Expansion, Node, Operand, Signature, needed_nodes
from ..plan.builder import Builder
from ..plan.passes import MOST_INPUTS, Fusion
from ..plan.view import View, name_of
from ..sized import broadcast_shape, dtype_of, has_sizes, have_same_sizes
from .evaluation import evaluate
from .expressions import Expression
from .registry import OPERATIONS, OPERATIONS_OF_ELEMENT, WIDENED, Operation, operation
from .value import Value, typed_view

FLOAT32 = np.dtype(np.float32)


class Part(Expression):
    """A value of a composition, whose shape and dtype are known."""

    __slots__ = ()
    t: Composition

    def __init__(self, t: Composition, name: str, dtype: Any = None) -> None:
        self.t, self.name, self.dtype = t, name, dtype_of(t.values[name])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape; a composition must not depend on sizes, which differ between the blocks of a stream."""
        return self.t.values[self.name].shape

    @property
    def known(self) -> Operand:
        """The array if it is known, otherwise its signature."""
        return self.t.values[self.name]

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def astype(self, dtype: Any) -> Expression:
        """Return the value in another dtype."""
        return self.cast(dtype)

    def reshape(self, *shape: int) -> Expression:
        """Return the value in another shape."""
        return self.apply("Reshape", shape)

    def apply_all(self, operation: str, *others: Any, outputs: int, **attributes: Any) -> list[Part]:
        """Return all outputs of an operation, at most a number."""
        names = self.t.add_all(operation, (self.name, *map(self._operand, others)), outputs, **attributes)
        return [Part(self.t, name) for name in names]


def computed(formula: Callable[..., Iterable[Any]], *parts: Part) -> list[Part]:
    """Return the results of a formula of parts, as constants of the formula of arrays if all are known.

    It uses names that parts have in common with arrays.
    """
    arrays = [part.known for part in parts]
    if Signature in map(type, arrays) or any(map(has_sizes, arrays)):
        return list(formula(*parts))
    with np.errstate(all="ignore"), _core.Flushing():
        return [parts[0].t.constant_of(y, y.dtype) for y in formula(*arrays)]


# Returns the outputs of a composition, from its inputs (parts, or None if omitted) and attributes. Where it
# yields them instead, outputs behind the last one that a node uses cost nothing.
Formula = Callable[..., "Expression | Iterable[Expression]"]


class DataDependent(Exception):
    """The nodes or the shapes of a composition depend on the values of unknown inputs."""


class Composition:
    """Records the nodes of a composition, and the array or the signature of each value.

    If it `computes`, all inputs are arrays. Otherwise, it evaluates as far as these are known.
    """

    def __init__(
        self,
        inputs: Mapping[str, Operand],
        computes: bool,
        prefix: str = "",
        name: str = "",
        source: str = "",
    ) -> None:
        self.values: dict[str, Operand] = dict(inputs)
        self.nodes: list[Node] = []
        self.constants: dict[str, AnyArray] = {}
        self.expands = bool(prefix)  # whether the nodes will run, not only their signatures be known
        self._prefix, self._label = prefix, (name, source)
        self._computes = computes

    def cast(self, value: Any, dtype: Any) -> str:
        """Return the name of a constant."""
        name = f"{self._prefix}constant_{len(self.constants)}"
        array = np.asarray(value)
        self.values[name] = self.constants[name] = array if array.dtype == dtype else array.astype(dtype)
        return name

    def constant_of(self, value: Any, dtype: Any) -> Part:
        """Return a constant array or number."""
        return Part(self, self.cast(value, dtype))

    def part(self, name: str) -> Part:
        """Return a value by its name."""
        return Part(self, name)

    def is_float(self, name: str) -> bool:
        """Whether a value holds floats."""
        return dtype_of(self.values[name]).kind == "f"

    def add(self, operation: str, *inputs: Any, **attributes: Any) -> str:
        """Add an operation of which one output is used."""
        return self.add_all(operation, inputs, 1, **attributes)[0]

    def _names(self, inputs: Sequence[Any]) -> tuple[str, ...]:
        """Return the names of inputs, some of which are integers."""
        return tuple(
            [x if isinstance(x, str) else "" if x is None else self.cast(x, np.int64) for x in inputs]
        )

    def add_all(self, operation: str, inputs: Sequence[Any], most: int, **attributes: Any) -> list[str]:
        """Add an operation and return its outputs, at most a number."""
        names = self._names(inputs)
        known = [self.values[name] if name else None for name in names]
        prefix = f"{self._prefix}{operation}_{len(self.values)}"
        node = Node(operation, names, (prefix,), attributes, *self._label)
        results: Sequence[Operand] | None
        if self._computes:
            results = OPERATIONS[operation].run(known, attributes)
        else:
            results = evaluate(node, known)
        if results is None:
            raise DataDependent
        found = {prefix + (f":{place}" if place else ""): y for place, y in enumerate(results[:most])}
        self.values |= found
        is_constant = any(names) and all([not name or name in self.constants for name in names])
        if is_constant and all([isinstance(y, np.ndarray) for y in results[:most]]):
            self.constants |= found
        else:
            self.nodes.append(node if len(found) == 1 else node.with_outputs(*found))
        return list(found)

    def run(
        self,
        body: Formula,
        names: Sequence[str],
        attributes: Mapping[str, Any],
        widens: bool,
        count: int | None,
    ) -> list[str]:
        """Add the nodes of a body; return the names of the first `count` outputs, or of all."""
        parts: list[Any] = [Part(self, name) if name else None for name in names]
        narrow = [x.dtype for x in parts if widens and x is not None and name_of(x.dtype) in WIDENED]
        if narrow:
            parts = [x.cast(np.float32) if x is not None and x.dtype in narrow else x for x in parts]
        found = body(*parts, **attributes)
        outputs = [found] if isinstance(found, Expression) else list(itertools.islice(found, count))
        if narrow:
            outputs = [y.cast(narrow[0]) if y.dtype == np.float32 else y for y in outputs]
        return [y.name for y in outputs]

    def expansion(self, results: Sequence[str], outputs: Sequence[str]) -> Expansion:
        """Return the nodes on which the used outputs depend; the outputs get the names of those of a node."""
        if any(outputs[len(results) :]):
            raise ArgumentError(f"has {len(outputs)} outputs; expected at most {len(results)}")
        renamed = {y: name for y, name in zip(results, outputs, strict=False) if name}
        needed = set(renamed)
        nodes = [node.returning(needed) for node in needed_nodes(self.nodes, needed)]
        made = {y for node in nodes for y in node.outputs}
        names = {y: name for y, name in renamed.items() if y in made}
        nodes = [
            Node(
                node.operation,
                tuple([names.get(x, x) for x in node.inputs]),
                tuple([names.get(y, y) for y in node.outputs]),
                node.attributes,
                *self._label,
            )
            for node in nodes
        ]
        for y, name in zip(results, outputs, strict=False):
            if name and names.get(y) != name:  # an input, or the same value as another output
                nodes.append(Node("Identity", (names.get(y, y),), (name,), {}, *self._label))
        found = ((names.get(y, y), self.values[y]) for y in made - {""})
        known = {name: a for name, a in found if isinstance(a, np.ndarray) and not has_sizes(a)}
        return Expansion(nodes, {name: a for name, a in self.constants.items() if name in needed}, known)


class _NoSteps(Exception):
    """An operation of a composition has no steps, or several outputs."""


class _Steps(Composition):
    """A composition of operations that become steps of the core at once, instead of nodes.

    Elementwise functions of float32 become one step, which is added when something else reads its result, or
    a second function does. `located` holds the other values by name, `work` counts the operations of their
    elements.
    """

    def __init__(self, b: Builder, inputs: Mapping[str, Value]) -> None:
        super().__init__({name: value.content for name, value in inputs.items()}, False)
        self._b, self.located, self.work = b, dict(inputs), 0
        # kinds, functions and operands, by result
        self._functions: dict[str, tuple[str, Any, list[str]]] = {}
        self._waiting: set[str] = set()  # the results of functions that are in no step yet
        self._read: set[str] = set()  # those that another function reads

    def cast(self, value: Any, dtype: Any) -> str:
        name = super().cast(value, dtype)
        self.located[name] = Value(self.values[name])
        return name

    def add_all(self, operation: str, inputs: Sequence[Any], most: int, **attributes: Any) -> list[str]:
        return [self.add(operation, *inputs, **attributes)]

    def add(self, operation: str, *inputs: Any, **attributes: Any) -> str:
        found = OPERATIONS[operation]
        names = [x if type(x) is str else self.cast(x, np.int64) for x in inputs]
        known = [self.values[name] for name in names]
        y = f"step_{len(self.values)}"
        if found.element is not None and self._add_function(y, found.element(**attributes), names, known):
            return y
        node = Node(operation, tuple(names), (y,), attributes, "")
        values = [self.value(name) for name in names]
        if found.write is None or found.folds(known):
            written = self._lowered(found, node, values, known)
        else:
            written = found.write(self._b, node, values)
        if written is None:
            raise _NoSteps
        ((value,), work) = written
        self.values[y], self.located[y] = value.content, value
        self.work += work
        return y

    def _add_function(
        self, y: str, function: tuple[str, Any], names: list[str], known: list[Operand]
    ) -> bool:
        """Add an elementwise function of float32; return False for other dtypes, constants and several steps.

        No more functions wait than one step may include.
        """
        if len(names) != 1 + (function[0] == "binary") or Signature not in map(type, known):
            return False
        if not all([x.dtype == FLOAT32 for x in known]):
            return False
        shape = broadcast_shape(*[x.shape for x in known])
        is_full = len(self._waiting) >= MOST_INPUTS - 1
        for name in dict.fromkeys(names):
            if name not in self.located:
                if is_full or name in self._read or not have_same_sizes(self.values[name].shape, shape):
                    self.value(name)
                self._read.add(name)
        self.values[y], self._functions[y] = Signature(shape, FLOAT32), (*function, names)
        self._waiting.add(y)
        return True

    def value(self, name: str) -> Value:
        """Return a value; if functions compute it, they become a step."""
        if name not in self.located:
            signature, inputs, operations = self.values[name], dict[View, int](), list[Any]()
            elements = self._collect(name, inputs, operations)
            count, size = len(operations), math.prod(signature.shape)
            y = self._b.new_result([*inputs])
            step, arguments = Fusion([*inputs], operations, y).step()
            self._b.add(step, *arguments)
            self.work += OPERATIONS_OF_ELEMENT * (elements + (2 * count - 1) * size) + count * budget.STEP
            self.located[name] = Value(signature, y)
        return self.located[name]

    def _collect(self, name: str, inputs: dict[View, int], operations: list[Any]) -> Any:
        """Add a function, and those that compute its operands, to those of a step.

        Returns the number of elements that they read of the inputs.
        """
        kind, function, operands = self._functions[name]
        self._waiting.discard(name)
        places, elements = dict[str, int](), 0
        for x in reversed(operands):
            if x not in self.located and x not in places:
                elements += self._collect(x, inputs, operations)
                places[x] = -len(operations)
        for x in operands:
            if x not in places:
                view = typed_view(self._b, self.located[x])
                if view is None or 0 in view.shape:
                    raise _NoSteps
                elements += math.prod(view.shape)
                places[x] = inputs.setdefault(view, len(inputs))
        operations.append((kind, function, tuple([places[x] for x in operands])))
        return elements

    def _lowered(
        self, operation: Operation, node: Node, values: Sequence[Value], known: Sequence[Operand]
    ) -> tuple[list[Value], Any] | None:
        """Add the steps of an operation with an inferred signature; return the same as `write`."""
        found: Any = evaluate(node, known)
        if found is not None and Signature not in map(type, found):
            return list(map(Value, found)), 0
        if operation.lower is None or found is None or len(found) > 1:
            return None
        views = operation.lower(self._b, node, values, [found[0].shape])
        if views is None or views[0].dtype != name_of(found[0].dtype):
            return None
        return [Value(found[0], views[0])], operation.work(known, node.attributes, found)


def composed(
    name: str,
    *,
    widens: bool = False,
    signature: Any = None,
    has_steps: bool = False,
    **options: Any,
) -> Callable[[Formula], Operation]:
    """Define an operation as a composition of others, from which its meaning and its shape rule follow.

    Its signature rule may be given, for shapes that no array can have.
    If `widens`, it computes inputs of half precision in float32. If it `has_steps`, its operations have one
    output, and none becomes a part of the step that computes its input: they become steps without being
    nodes. `options` are those of `Operation`.
    """

    def register(body: Formula) -> Operation:
        def recorded(
            inputs: Sequence[Operand | None], attributes: Mapping[str, Any], computes: bool
        ) -> list[Operand]:
            names = ["" if x is None else f"input_{i}" for i, x in enumerate(inputs)]
            values = {name: x for name, x in zip(names, inputs, strict=True) if x is not None}
            composition = Composition(values, computes)
            results = composition.run(body, names, attributes, widens, None)
            return [composition.values[y] for y in results]

        @functools.wraps(body)
        def compute(*inputs: Any, **attributes: Any) -> tuple[Any, ...]:
            return tuple(recorded(inputs, attributes, True))

        def known(inputs: Sequence[Operand | None], attributes: Mapping[str, Any]) -> list[Operand] | None:
            try:
                return recorded(inputs, attributes, False)
            except DataDependent:
                return None

        def inferred(*inputs: Operand | None, **attributes: Any) -> Any:
            found = known(inputs, attributes)
            return None if found is None else list(map(Signature.of, found))

        defined = operation(name, signature=signature or inferred, **options)(compute)
        defined.composition = None if signature else known
        defined.formula = lambda t, names, attributes, count: t.run(body, names, attributes, widens, count)
        defined.write = functools.partial(_write, body) if has_steps else None

        composing(defined, widens=widens)(body)
        return defined

    return register


def _write(
    body: Formula, b: Builder, node: Node, inputs: Sequence[Value | None]
) -> tuple[list[Value], Any] | None:
    """Add the steps of a composition; return the value of its output and the work, or None without steps."""
    names = ["" if x is None else f"input_{place}" for place, x in enumerate(inputs)]
    given = {
        name: x.read_again() if x.used_once and not x.known else x
        for name, x in zip(names, inputs, strict=True)
        if x is not None
    }
    if len(node.outputs) != 1 or any([x.dtype.hasobject or 0 in x.shape for x in given.values()]):
        return None
    composition, before = _Steps(b, given), b.mark()
    try:
        (y,) = composition.run(body, names, node.attributes, False, 1)
        if y not in given and composition.value(y).view is not None:
            return [composition.value(y)], composition.work
    except _NoSteps:
        pass
    b.undo(before)
    return None


def composing(
    operation: Operation,
    applies: Callable[[Sequence[Operand]], bool] = lambda inputs: True,
    *,
    widens: bool = False,
    over_time: bool = False,
) -> Callable[[Formula], Formula]:
    """Define the nodes that compute an operation, for the inputs to which that `applies`.

    If `over_time`, they do so in graphs over time alone.
    """

    def register(body: Formula) -> Formula:
        @(operation.expanding_over_time if over_time else operation.expanding)
        def _(node: Node, inputs: Sequence[Operand | None]) -> Expansion | None:
            values = {name: x for name, x in zip(node.inputs, inputs, strict=True) if x is not None}
            if any(dtype_of(x).hasobject for x in values.values()):  # not known yet
                return None
            if not applies([x for x in inputs if x is not None]):
                return None
            used = max((i for i, output in enumerate(node.outputs, start=1) if output), default=0)
            prefix = f"{next(filter(None, node.outputs), node.name)}/{node.operation}/"
            while any(name.startswith(prefix) for name in node.inputs):  # it is part of such a composition
                prefix += f"{node.operation}/"
            composition = Composition(values, False, prefix, node.name, node.source or node.operation)
            try:
                results = composition.run(body, node.inputs, node.attributes, widens, used)
            except DataDependent:
                return None
            return composition.expansion(results, node.outputs)

        return body

    return register
