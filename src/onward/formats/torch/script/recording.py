"""A graph that knows the shape and dtype of each value while it is recorded."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

import numpy as np

from ....core import budget
from ....core.identity import Identity
from ....errors import ArgumentError, OnwardError
from ....graph import Graph, Input
from ....graph.node import REFUSALS, AnyArray, Naming, Node, Signature, described
from ....graph.operations import OPERATIONS
from ....graph.operations.evaluation import evaluate
from ....graph.operations.registry import Operation
from ....graph.polynomial import Guard
from ....graph.size import Axes, Size, are_same, hint, is_symbolic
from ....graph.sized import has_sizes, integers

MAX_KEY = 256  # bytes of an array that is compared by its content
MAX_INTEGERS = 8  # of a value, which count as sizes
UNKNOWN = 2  # the hint of an integer that a call determines

# What is known about a value: the array, which may hold sizes, or its shape and dtype.
Known = AnyArray | Signature
Guards = dict[Any, Guard]


def declaration(name: str, known: Known | None) -> Input:
    """Return the declaration of a value."""
    if known is None or (known.dtype == object and not has_sizes(known)):
        return Input(name)
    shape, dtype = Signature.of(known)
    return Input(name, dtype, tuple("" if type(size) is Size else size for size in shape))


def is_like(a: Known | None, b: Known | None) -> bool:
    """Whether two values have the same shape and dtype, whatever the sizes of the axes."""
    if a is None or b is None:
        return a is b
    (shape, dtype), (other, other_dtype) = Signature.of(a), Signature.of(b)
    return dtype == other_dtype and len(shape) == len(other) and all(map(are_same, shape, other))


@dataclass
class Folded:
    """Arrays computed from the weights of a file, which every recording of its code shares."""

    lasting: set[Identity] = field(default_factory=set)  # the weights and these arrays
    results: dict[Any, list[AnyArray]] = field(default_factory=dict)

    def key(self, operation: str, arrays: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        """Return the key of an operation on weights, or None if other large arrays are among its inputs."""
        parts: list[Any] = []
        for array in arrays:
            is_weight = array is None or Identity(array) in self.lasting
            if not is_weight and (array.nbytes > MAX_KEY or array.dtype == object):
                return None
            parts.append(Identity(array) if is_weight else (array.dtype.str, array.shape, array.tobytes()))
        uses_weights = any(isinstance(part, Identity) for part in parts)
        return (operation, *parts, repr(sorted(attributes.items()))) if uses_weights else None


class Recording(Graph):
    """A graph under construction: it infers what it can about each value, and computes known ones at once.

    Sizes are symbolic, as are integers that the values of the inputs determine. The hints of the axes decide
    comparisons of sizes. If the axes are general, the graph holds for all sizes, and computes the results of
    comparisons; otherwise, it holds for the sizes that satisfy the guards of the axes. The recording of a
    branch uses values of the recordings around it; they become its inputs.
    """

    def __init__(
        self,
        around: Recording | None = None,
        folded: Folded | None = None,
        axes: Axes | None = None,
    ) -> None:
        super().__init__()
        self.folded, self.axes = folded or Folded(), Axes(is_general=True) if axes is None else axes
        # by their names, first here and then in the recordings around this one
        self.makers = ChainMap[str, Node]()  # the nodes by their outputs
        self.values = ChainMap[str, Known | None]()  # None: the shape is unknown
        self.sizes_of = ChainMap[tuple[str, int], str]()  # the sizes that are values
        # the outputs and the guards of nodes, by what they follow from
        self._evaluated: dict[Any, tuple[Sequence[Known] | None, Guards]] = {}
        if around is not None:
            self._names, self.folded, self.axes = around._names, around.folded, around.axes
            self.makers, self.values = around.makers.new_child(), around.values.new_child()
            self.sizes_of, self._evaluated = around.sizes_of.new_child(), around._evaluated

    def declare(self, name: str, value: Known | None) -> str:
        """Add an input with a known shape and dtype, or a known value."""
        name = self.add_input(name)
        self.values[name] = self.unknown(value)
        if isinstance(value, np.ndarray):
            self.constants[name] = value
        return name

    def add_constant(self, array: AnyArray, name: str = "") -> str:
        """Add a constant and return its name."""
        name = super().add_constant(array, name)
        self.values[name] = array
        return name

    def known(self, name: str) -> Known | None:
        """Return the value, or its shape and dtype; None if they are unknown."""
        if name not in self.values:
            raise ArgumentError(f"the value {name} belongs to another branch")
        return self.values[name]

    def array(self, name: str) -> AnyArray | None:
        """Return the value if it is the same in every call, otherwise None."""
        known = self.known(name)
        return known if isinstance(known, np.ndarray) and not has_sizes(known) else None

    def by_hints(self, name: str) -> Known | None:
        """Return what the hints make of a condition on sizes; not an array if other values decide it."""
        found: dict[str, Known | None] = {"": None}
        pending = [name]
        while pending:
            value = pending[-1]
            known, node = self.known(value), self.makers.get(value)
            is_condition = isinstance(known, Signature) and known.dtype == np.bool_
            inputs = node.inputs if node is not None and is_condition else ()
            if missing := [x for x in inputs if x not in found]:
                pending += missing
                continue
            budget.spend(100 * budget.STEP)
            values = [found[x] for x in inputs]
            if node is not None and values and all(isinstance(each, np.ndarray) for each in values):
                operation = OPERATIONS[node.operation]
                results = self._outputs(operation, node, values) if operation.is_pure else None
                known = results[0] if results else known
            found[pending.pop()] = known
        return found[name]

    def find(self, name: str) -> str:
        """Make a value of a recording around this one available, and return its name."""
        if name and name not in self.values.maps[0]:
            self.values[name] = self.known(name)
            if (array := self.array(name)) is not None:
                self.constants[name] = array
        return name

    def find_size(self, name: str, axis: int) -> str:
        """Return the size of an axis of a value; the same size is always the same value."""
        if (name, axis) not in self.sizes_of:
            size = self.add("Gather", self.add("Shape", name), self.add_constant(np.array(axis)))
            self.sizes_of[name, axis] = size
        return self.find(self.sizes_of[name, axis])

    def add_all(
        self,
        operation: str,
        inputs: Sequence[str],
        outputs: int | Sequence[str] = 1,
        *,
        name: str = "",
        source: str = "",
        **attributes: Any,
    ) -> tuple[str, ...]:
        """Add a node and infer its outputs. Raises ArgumentError, which names the node."""
        inputs = [self.find(value) for value in inputs]
        names = super().add_all(operation, inputs, outputs, name=name, source=source, **attributes)
        budget.spend(100 * budget.STEP)
        node = self.nodes[-1]
        self.axes.node = str(node)
        with Naming(node):
            results = self._inferred(node)
        for value, known in zip(names, chain(map(self.unknown, results or ()), repeat(None)), strict=False):
            self.makers[value], self.values[value] = node, known
        if results and all([isinstance(each, np.ndarray) and not has_sizes(each) for each in results]):
            self.nodes.pop()
            self.constants.update(zip(names, results, strict=False))  # type: ignore[arg-type]
        return names

    def add_comparison(self, operation: str, a: str, b: str) -> str:
        """Add a comparison of two sizes that a call decides, even if axes with elements decide it."""
        (name,) = super().add_all(operation, [self.find(a), self.find(b)])
        self.values[name] = Signature((), np.dtype(np.bool_))
        return name

    # what is known about values

    def signature(self, name: str) -> Signature | None:
        """Return the shape and dtype of a value; None if they are unknown."""
        known = self.known(name)
        return None if known is None else Signature.of(known)

    def unknown(self, value: Known | None, hints: Any = None) -> Any:
        """Return what is known about a value of this shape and dtype: a few integers are sizes."""
        if not isinstance(value, Signature) or value.dtype != np.int64 or is_symbolic(value.shape):
            return value
        count = math.prod(value.shape)
        if count > MAX_INTEGERS or (count == 0 and hints is None):
            return value
        numbers = [UNKNOWN] * count if hints is None else hints.flat
        return integers([self._unknown_like(n) for n in numbers]).reshape(value.shape)

    def common(self, a: Known | None, b: Known | None, *, kept: type | None = None) -> Signature | None:
        """Return the shape and dtype of a value that is one of two; None if they are not known.

        Sizes that differ are unknown, except those of a type that is `kept` from the first value.
        """
        if a is None or b is None:
            return None
        (shape, dtype), (other, other_dtype) = Signature.of(a), Signature.of(b)
        if dtype != other_dtype or len(shape) != len(other):
            return None
        sizes = [
            n if type(n) is kept or are_same(n, m) else self._unknown_like(n)
            for n, m in zip(shape, other, strict=True)
        ]
        return Signature(tuple(sizes), dtype)

    def _unknown_like(self, size: Any) -> Size:
        return self.axes.unknown(max(hint(size), UNKNOWN))

    def _inferred(self, node: Node) -> Sequence[Known] | None:
        """Return the arrays that a node computes if they are known, otherwise their signatures."""
        operation, known = OPERATIONS[node.operation], [self.values[x] if x else None for x in node.inputs]
        if any([k is None and x for k, x in zip(known, node.inputs, strict=True)]):
            return None
        if operation.expand is not None and not operation.is_pure:
            return None  # the recording of its bodies tells
        text, count = described(node.attributes) if operation.is_pure else "", len(self.axes.factors)
        key = node.operation, text, *[k if type(k) is Signature else Identity(k) for k in known]
        if key in self._evaluated:
            return self._decided(operation, node, known, *self._evaluated[key])
        try:
            with self.axes.separate() as made:
                results = self._outputs(operation, node, known)
        except REFUSALS as error:
            _append(self.axes.guards, made)  # they tell what the operation needs
            decides = any(not guard.size.is_known for guard in made.values())
            if not decides and (isinstance(error, OnwardError) or not _has_unknown(known)):
                raise
            results = self._by_rule(operation, node, known)
        else:
            if text and len(self.axes.factors) == count:  # without new numbers, which other nodes do not have
                self._evaluated[key] = results, made
        return self._decided(operation, node, known, results, made)

    def _decided(
        self,
        operation: Operation,
        node: Node,
        known: Sequence[Known | None],
        results: Sequence[Known] | None,
        made: Guards,
    ) -> Sequence[Known] | None:
        """Record the guards of results and return them, without what depends on guards of one call."""
        if results is None or not made:
            return results
        is_certain = all(guard.size.is_known for guard in made.values())
        if self.axes.is_general or not is_certain:
            if all(isinstance(result, np.ndarray) for result in results):
                return [self.unknown(Signature.of(result), result) for result in results]
            results = self._decided_otherwise(operation, node, known, results, made)
            made = {key: guard for key, guard in made.items() if guard.condition != "= 0"}
        _append(self.axes.guards, made)
        return results

    def _decided_otherwise(
        self, operation: Operation, node: Node, known: Sequence[Known | None], results: Any, made: Guards
    ) -> Sequence[Known]:
        """Return results in which numbers are unknown that the contrary of a guard changes."""
        for guard in made.values():
            with suppress(*REFUSALS), self.axes.separate(guard):
                pairs = zip(results, operation.signatures(known, node.attributes) or (), strict=True)
                results = [self.common(result, other, kept=Size) or result for result, other in pairs]
        return results  # type: ignore[no-any-return]

    def _outputs(
        self, operation: Operation, node: Node, known: Sequence[Known | None]
    ) -> Sequence[Known] | None:
        deciding = range(len(known)) if operation.shape_inputs is None else operation.shape_inputs
        is_open = any(i < len(known) and has_sizes(known[i]) for i in deciding)
        # only sizes that decide the shape matter
        if is_open or not operation.computes_sizes(node.attributes):
            is_data = [i not in deciding and isinstance(k, np.ndarray) for i, k in enumerate(known)]
            known = [
                Signature.of(k) if data and (is_open or has_sizes(k)) else k
                for k, data in zip(known, is_data, strict=True)
            ]
        key = self.folded.key(node.operation, known, node.attributes) if operation.folds(known) else None
        if key in self.folded.results:
            return self.folded.results[key]
        if operation.ranked is not None and not operation.has_rule and any(map(has_sizes, known)):
            return self._by_rule(operation, node, known)  # its shapes follow from values that are unknown
        found = evaluate(node, known)
        if key is not None and found is not None:
            results = [result for result in found if isinstance(result, np.ndarray)]
            if len(results) == len(found):
                self.folded.results[key] = results
                self.folded.lasting.update(map(Identity, results))
        return self._by_rule(operation, node, known) if found is None else found

    def _by_rule(
        self, operation: Operation, node: Node, known: Sequence[Known | None]
    ) -> Sequence[Known] | None:
        """Return the signatures of the outputs without the values of the inputs, or None if these decide.

        Sizes that they decide are unknown if an operation has a rule for the ranks.
        """
        if operation.ranked is not None:
            return [
                Signature(
                    tuple(self.axes.unknown(UNKNOWN) if size is None else size for size in shape), dtype
                )
                for shape, dtype in operation.ranked(known, node.attributes)
            ]
        if not operation.has_rule:
            return None
        inputs = [Signature.of(k) if k is not None and has_sizes(k) else k for k in known]
        return operation.signatures(inputs, node.attributes)


def _append(guards: Guards, others: Guards) -> None:
    """Add guards; those that exist already move to the end."""
    for key, guard in others.items():
        guards.pop(key, None)
        guards[key] = guard


def _has_unknown(known: Sequence[Known | None]) -> bool:
    """Whether there is an integer or a size that a call determines."""
    numbers = (n for k in known if k is not None for n in (*k.shape, *(k.flat if has_sizes(k) else ())))  # type: ignore[union-attr]  # an array
    return any(type(n) is Size and not n.is_known for n in numbers)
