"""Replace expressions of operations, written as nested tuples, among the nodes of a graph.

A pattern is one of

- a name, such as "x": any value, and the same value wherever the name appears;
- a number: a constant of rank 0 that equals the number up to the rounding of float32;
- a tuple, such as ("Sub", "x", ("ReduceMean", "x", "axes")): an operation of these inputs;
- a list: any of its patterns.

Add and Mul match their inputs in any order; with more than two, they match sums and products in any grouping.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from ..core.cell import Cell
from .graph import Graph, checks, used_names
from .node import AnyArray, Node

ASSOCIATIVE = {"Add", "Mul"}

Pattern = Any  # str | float | tuple | list of patterns, see above
Operands = tuple[tuple[str, ...], tuple[Node, ...]]  # the inputs of an operation, and its nodes


class Match(NamedTuple):
    """The values that the names of a pattern stand for, and the nodes that it covers, its last one first."""

    matcher: "Matcher"
    values: dict[str, str]
    nodes: tuple[Node, ...]

    def constant(self, name: str) -> AnyArray | None:
        """Return the array that a name stands for, or None."""
        return self.matcher.constants.get(self.values[name])

    def number(self, name: str) -> float | None:
        """Return the floating-point number that a name stands for, or None."""
        array = self.constant(name)
        return None if array is None or array.ndim or array.dtype.kind != "f" else float(array)

    def node(self, operation: str, *names: str, **attributes: Any) -> Node:
        """Return a node with inputs by name, and with the name and the outputs of the last node."""
        last, inputs = self.nodes[0], tuple(self.values[name] for name in names)
        return Node(operation, inputs, last.outputs, attributes, last.name, last.source)


def occurs(pattern: Pattern, operands: Mapping[str, Collection[Any]]) -> bool:
    """Return whether each operation of a pattern has such operands anywhere, a check before a search."""
    operation, *parts = pattern
    return operation in operands and all([_is_operand(part, operation, operands) for part in parts])


def _is_operand(pattern: Pattern, operation: str, operands: Mapping[str, Collection[Any]]) -> bool:
    if isinstance(pattern, list):
        return any([_is_operand(choice, operation, operands) for choice in pattern])
    if isinstance(pattern, tuple):
        return pattern[0] in operands[operation] and occurs(pattern, operands)
    numbers = () if isinstance(pattern, str) else operands[operation]
    return isinstance(pattern, str) or any([type(x) is float and _is_close(x, pattern) for x in numbers])


def _is_made_by(operations: Collection[str], pattern: Pattern) -> bool:
    """Return whether one of the operations may make what a pattern describes."""
    if isinstance(pattern, list):
        return any([_is_made_by(operations, choice) for choice in pattern])
    return not isinstance(pattern, tuple) or pattern[0] in operations


def _is_close(x: float, number: float) -> bool:
    return abs(x - number) <= 1e-6 * abs(number)


# Returns the nodes that replace those of a match, or None to keep them.
Replace = Callable[[Match], Sequence[Node] | None]


class Matcher:
    """Finds patterns in a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.nodes, self.constants = graph, list(graph.nodes), dict(graph.constants)
        self.makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.cells: dict[Any, Cell] = {}  # of steps, by their weights
        self._uses = Counter([*graph.outputs, *used_names(graph.nodes)])

    @cached_property
    def operands(self) -> dict[str, set[Any]]:
        """For each operation, the operations that make its operands, and the numbers among these.

        After a replacement, there may be more.
        """
        operands: dict[str, set[Any]] = {}
        self._add_operands(operands, self.nodes)
        return operands

    def _add_operands(self, operands: dict[str, set[Any]], nodes: Iterable[Node]) -> None:
        for node in nodes:
            found = operands.setdefault(node.operation, set())
            for name in node.inputs:
                if (array := self.constants.get(name)) is None:
                    maker = self.makers.get(name)
                    found.add(maker and maker.operation)
                elif not array.ndim and array.dtype.kind in "fiu":
                    found.add(float(array))

    def replace(self, found: Sequence[Sequence[Node]]) -> None:
        """Put new nodes in the place of the first node that computes one of their outputs.

        Nodes whose outputs nothing reads any more disappear.
        """
        added = [(place, node) for place, nodes in enumerate(found) for node in nodes]
        made = {name: (place, node) for place, node in added for name in node.outputs if name}
        old = {maker.outputs for name in made if (maker := self.makers.get(name)) is not None}
        gone = [node for node in self.nodes if node.outputs in old]
        places: dict[tuple[str, ...], Sequence[Node]] = {}  # what replaces nodes, by their outputs
        waiting = dict(enumerate(found))
        for node in gone:
            for name in filter(made.__contains__, node.outputs):
                place, new = made[name]
                places[node.outputs] = places.get(node.outputs) or waiting.pop(place, ())
                for operands in self.operands.values():  # also of what reads the output
                    if node.operation in operands:
                        operands.add(new.operation)
        self.makers |= {name: node for name, (_, node) in made.items()}
        self._add_operands(self.operands, [node for _, node in added])
        self._uses.update(used_names([node for _, node in added]))
        self._remove(gone, places)
        for number in reversed([i for i, node in enumerate(self.nodes) if node.outputs in places]):
            self.nodes[number : number + 1] = places[self.nodes[number].outputs]

    def _remove(self, nodes: list[Node], places: dict[tuple[str, ...], Sequence[Node]]) -> None:
        """Count the uses without those of some nodes, and let nodes without uses leave their places."""
        while nodes:
            node = nodes.pop()
            self._uses.subtract(node.inputs)
            for maker in filter(None, map(self.makers.get, node.inputs)):
                is_used = any([self._uses[name] for name in maker.outputs if name])
                if not is_used and maker.outputs not in places and not checks(maker):
                    places[maker.outputs] = ()
                    nodes.append(maker)

    def replaced(self, patterns: Sequence[Pattern], replace: Replace, node: Node) -> Sequence[Node] | None:
        """Return what replaces the first match whose last node is `node` and that nothing else reads."""
        for pattern in patterns:
            if pattern[0] == node.operation and self._may_match(pattern, node):
                for found in self._match(pattern, node.outputs[0], Match(self, {}, ())):
                    nodes = replace(found)
                    if nodes and self.is_private(
                        found.nodes, {name for new in nodes for name in new.outputs}
                    ):
                        return nodes
        return None

    def _may_match(self, pattern: Pattern, node: Node) -> bool:
        """Return whether the operands of a node are made by those of a pattern, a check before a search."""
        makers = [maker.operation for name in node.inputs if (maker := self.makers.get(name)) is not None]
        is_deeper = len(pattern) > 3 and node.operation in ASSOCIATIVE
        return is_deeper or all([_is_made_by(makers, part) for part in pattern[1:]])

    def find(self, pattern: Pattern, value: str) -> Match | None:
        """Return how a pattern matches a value, or None."""
        return next(self._match(pattern, value, Match(self, {}, ())), None)

    def is_private(self, nodes: Iterable[Node], outputs: Collection[str]) -> bool:
        """Return whether only these nodes read their values, except for the given outputs."""
        distinct = list({id(node): node for node in nodes}.values())
        uses = Counter(used_names(distinct))
        values = {name for node in distinct for name in node.outputs if name}.difference(outputs)
        return all(self._uses[name] == uses[name] for name in values)

    def _match(self, pattern: Pattern, value: str, found: Match) -> Iterator[Match]:
        if isinstance(pattern, list):
            for choice in pattern:
                yield from self._match(choice, value, found)
        elif isinstance(pattern, str):
            if pattern not in found.values:
                yield Match(self, {**found.values, pattern: value}, found.nodes)
            elif self._is_same(found.values[pattern], value):
                yield found
        elif isinstance(pattern, tuple):
            operation, *inputs = pattern
            for operands, nodes in self._operands(operation, value, len(inputs)):
                yield from self._match_all(inputs, operands, Match(self, found.values, found.nodes + nodes))
        elif self._is_number(value, pattern):
            yield found

    def _match_all(self, patterns: list[Pattern], values: tuple[str, ...], found: Match) -> Iterator[Match]:
        if not patterns:
            yield found
            return
        for first in self._match(patterns[0], values[0], found):
            yield from self._match_all(patterns[1:], values[1:], first)

    def _operands(self, operation: str, value: str, count: int) -> Iterator[Operands]:
        """Yield the inputs of an operation in each order that means the same, and its nodes."""
        node = self.makers.get(value)
        if node is None or node.operation != operation or node.outputs[0] != value:
            return
        if operation in ASSOCIATIVE:
            for operands, nodes in self._terms(operation, value, count):
                for order in permutations(operands):
                    yield order, nodes
        elif len(node.inputs) == count:
            yield node.inputs, (node,)

    def _terms(self, operation: str, value: str, count: int) -> Iterator[Operands]:
        """Yield the terms of a value as a sum or product of `count` terms, and the nodes that join them."""
        if count == 1:
            yield (value,), ()
            return
        node = self.makers.get(value)
        if node is None or node.operation != operation or len(node.inputs) != 2:
            return
        first, second = node.inputs
        for number in range(1, count):
            for terms, nodes in self._terms(operation, first, number):
                for others, other_nodes in self._terms(operation, second, count - number):
                    yield terms + others, (node, *nodes, *other_nodes)

    def _is_same(self, first: str, second: str) -> bool:
        """Return whether two names stand for one value or for equal constants."""
        if first == second:
            return True
        a, b = self.constants.get(first), self.constants.get(second)
        return a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)

    def _is_number(self, name: str, number: float) -> bool:
        array = self.constants.get(name)
        if array is None or array.ndim or array.dtype.kind not in "fiu":
            return False
        return _is_close(float(array), number)
