"""The steps of Loop and If in the core: a body is compiled once, and repeated with its states in place."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..graph import Graph, bodies
from ..node import Node, Operand, Signature
from ..plan.builder import MOST_LOOPS, Builder
from ..plan.steps import Body
from ..plan.view import View
from ..size import are_same
from .arguments import as_axis
from .control import if_, inferred_outputs, keeps_condition, loop, loop_inputs
from .delta_rule import as_delta_rule
from .elementwise import inverted
from .registry import OPERATIONS, Inputs
from .value import Value, typed_view

MOST_BRANCHED = 256  # nodes of both branches of an If that the core runs


class Slices(NamedTuple):
    """An array of which each iteration reads or writes one slice, the last one first if `backward`."""

    array: View
    axis: int
    backward: bool

    def at(self, space: int) -> View:
        """Return the view of the present slice, whose lowest element is the first of its space."""
        axes = [axis for axis in range(len(self.array.shape)) if axis != self.axis]
        shape, strides = (
            [self.array.shape[axis] for axis in axes],
            [self.array.strides[axis] for axis in axes],
        )
        one = View(space, 0, tuple(shape), tuple(strides), self.array.dtype)
        return one.with_axes(shape, strides, -one.extent()[0])


class State(NamedTuple):
    """The views of a state before and after a loop, and of memory for one between iterations."""

    initial: View
    result: View
    spare: View


@loop.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Repeat a body whose number of iterations is known, and whose states keep their shapes."""
    count, _, *values = inputs
    if count is None or not count.known or not keeps_condition(node.attributes["body"]):
        return None
    times = count.array.item()
    views = as_delta_rule(b, node, times, values)
    if views is not None or (type(times) is int and times < 2):
        return views
    return _Repeated(b, node, times, values).views()


@if_.inferring
def _(node: Node, inputs: Sequence[Operand | None]) -> Sequence[Operand] | None:
    """Infer the outputs if the condition is not known and both branches return the same signatures.

    Branches without outputs check conditions, and large ones are planned when they first run.
    """
    (condition, *captured), left = inputs, MOST_BRANCHED
    if not isinstance(condition, Signature) or any(
        type(size) is not int or size != 1 for size in condition.shape
    ):
        return None
    branches = [node.attributes[name] for name in ("then_branch", "else_branch")]
    for branch in branches:
        left = _left_of(left, branch, MOST_LOOPS - 1)
    found = [inferred_outputs(branch, captured) for branch in branches if left >= 0]
    return found[0] if found and found[0] and found[0] == found[1] else None


def _left_of(most: int, body: Graph, depth: int) -> int:
    """Return how many of `most` nodes remain after those of a body and of the bodies inside it.

    The number is negative if there are too many nodes, or if bodies are nested deeper than `depth`.
    """
    left = most - len(body.nodes)
    for inner in chain.from_iterable(map(bodies, body.nodes)):
        if left < 0 or not depth:
            return -1
        left = _left_of(left, inner, depth - 1)
    return left


@if_.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Run each branch as a loop: once if the condition chooses it, otherwise not at all."""
    condition = typed_view(b, inputs[0], ["bool"])
    if condition is None:
        return None
    outputs: list[View] = []
    for branch, chosen in (("then_branch", condition), ("else_branch", inverted(b, condition))):
        found = _branch(b, node.attributes[branch], inputs[1:], shapes)
        if found is None:
            return None
        body, states = found
        # a loop that does not run returns its initial states, which for the second one are those of the first
        initial = outputs or list(map(b.like, states))
        outputs, spare = (list(map(b.like, states)) for _ in range(2))
        b.add("loop", 1, None, chosen, [], [*zip(initial, outputs, spare, strict=True)], body)
    return outputs


def _branch(
    b: Builder, graph: Graph, captured: Inputs, shapes: Sequence[tuple[int, ...]]
) -> tuple[Body, list[View]] | None:
    """Return the body of a loop that sets its states to the outputs of a branch, and the next states."""
    names = [declared.name for declared in graph.inputs]
    values = {name: x and x.read_again() for name, x in zip(names, captured, strict=True)}
    states = list[View]()

    def add(space: int) -> bool:
        found = b.add_nodes(graph, values, 1)
        for place, (value, shape) in enumerate(zip(found or (), shapes, strict=False)):
            x = typed_view(b, value)
            if x is None or x.shape != shape:
                return False
            states.append(View.contiguous(space + 2 * place + 1, 0, shape, x.dtype))
            b.add("copy", x, states[place])
        return found is not None

    body = b.body(0, len(shapes), add)
    return body and (body, states)


class _Repeated:
    """A loop, and what its body reads."""

    def __init__(self, b: Builder, node: Node, count: Any, values: Inputs) -> None:
        self._b, self._node, self._count = b, node, count
        body: Graph = node.attributes["body"].without_unused()
        states, _, outer = loop_inputs(values, node.captured)
        names = [declared.name for declared in body.inputs]
        self._counter, self._condition, self._states = names[0], names[1], names[2 : 2 + len(states)]
        self._next, self._scanned = body.outputs[1 : 1 + len(states)], body.outputs[1 + len(states) :]
        # the values from around the loop, with the states that never change
        self._outer = dict(zip(names[2 + len(states) :], outer, strict=True))
        self._outer |= {name: _known(array) for name, array in body.constants.items()}
        self._initial = dict(zip(self._states, states, strict=True))
        for name, after in zip(self._states, self._next, strict=True):
            if name == after:
                self._outer[name] = self._initial.pop(name)
        self._outer = {name: value and value.read_again() for name, value in self._outer.items()}
        self._inputs = dict[str, tuple[str, int, bool]]()  # arrays, axes, and whether backward
        self._products = set[str]()  # the slices that are products, or sums of them
        self._nodes = self._divided(body.nodes)

    def views(self) -> list[View] | None:
        """Add the loop, and return the views of its outputs, or None if an iteration needs Python."""
        b = self._b
        arrays = {name: typed_view(b, self._outer[x]) for name, (x, *_) in self._inputs.items()}
        initial = {name: typed_view(b, value) for name, value in self._initial.items()}
        if None in arrays.values() or None in initial.values():
            return None
        read = {name: Slices(x, *self._inputs[name][1:]) for name, x in arrays.items() if x is not None}
        states = {name: self._state(x) for name, x in initial.items() if x is not None}
        counter, written = b.new(dtype="int64"), list[Slices]()

        def add(space: int) -> bool:
            return self._add_body(space, counter, read, states, written)

        body = b.body(len(read) + len(self._scanned), len(states), add)
        if body is None:
            return None
        for place, each in enumerate(written):  # arrays of their slices
            array = b.new(self._count, *each.array.shape, dtype=each.array.dtype)
            written[place] = Slices(array, *each[1:])
        slices = [tuple(each) for each in (*read.values(), *written)]
        self._add(counter, slices, list(states.values()), body)
        results = [states[n].result if n in states else typed_view(b, self._outer[n]) for n in self._states]
        results += map(self._stacked, range(len(written)), written)
        return [view for view in results if view is not None] if None not in results else None

    def _divided(self, nodes: Sequence[Node]) -> list[Node]:
        """Find the slices that the iterations read, and return the nodes that depend on the iteration.

        What is the same in all iterations runs before the loop, as do products of slices, for all slices at
        once.
        """
        backwards, others = {self._counter: False}, list[Node]()  # whether a value counts the iterations back
        for node in nodes:
            first, index = (*node.inputs[:1], "")[0], (*node.inputs[-1:], "")[0]
            if node.operation == "Sub" and index in backwards and self._is_last(first):
                backwards[node.outputs[0]] = not backwards[index]
            if node.operation == "Gather" and index in backwards and (axis := self._axis(node)) is not None:
                self._inputs[node.outputs[0]] = first, axis, backwards[index]
            elif not self._runs_before(node) and not self._runs_on_all_slices(node):
                others.append(node)
        return others

    def _runs_before(self, node: Node) -> bool:
        """Add a node before the loop if it does not depend on the iteration; return whether it does not."""
        is_same = OPERATIONS[node.operation].is_pure and all(not x or x in self._outer for x in node.inputs)
        return is_same and self._add_before([node], node.outputs)

    def _runs_on_all_slices(self, node: Node) -> bool:
        """Add a product of slices, or a sum of one, for all slices at once; return whether it is one."""
        places = [place for place, name in enumerate(node.inputs) if name in self._inputs]
        is_sum = node.operation in ("Add", "Sub") and not self._products.isdisjoint(node.inputs)
        if len(places) != 1 or not (is_sum or (node.operation == "MatMul" and places == [0])):
            return False
        (place,), (x, axis, backward) = places, self._inputs[node.inputs[places[0]]]
        scanned, others = (
            self._outer[x],
            [self._outer.get(name) for name in node.inputs if name not in self._inputs],
        )
        assert scanned is not None
        rank, ranks = len(scanned.shape), [0 if other is None else len(other.shape) for other in others]
        if None in others or not (max(ranks) < rank if is_sum else ranks in ([2], [2, 1])):
            return False
        (y,), order = node.outputs, [axis, *(other for other in range(rank) if other != axis)]
        slices, all_y = f"{y}/slices", f"{y}/all"
        inputs = tuple(slices if number == place else name for number, name in enumerate(node.inputs))
        move = Node("Transpose", (x,), (slices,), {"perm": order}, node.name, node.source)
        if not self._add_before([move, node.with_inputs(*inputs).with_outputs(all_y)], [all_y]):
            return False
        self._inputs[y] = all_y, 0, backward
        self._products.add(y)
        return True

    def _add_before(self, nodes: list[Node], outputs: Sequence[str]) -> bool:
        """Add nodes before the loop, unless one needs Python; return whether they could be added."""
        names = [name for name in outputs if name]
        before = self._b.mark()
        found = self._b.add_nodes(Graph(nodes=nodes, outputs=tuple(names)), self._outer, 1)
        if found is None:
            self._b.undo(before)
            return False
        self._outer |= {n: value and value.read_again() for n, value in zip(names, found, strict=True)}
        return True

    def _is_last(self, name: str) -> bool:
        """Whether a value is -1, from which the number of an iteration is subtracted to count backwards."""
        value = self._outer.get(name)
        return value is not None and value.known and value.shape == () and bool(value.array == -1)

    def _axis(self, node: Node) -> int | None:
        """Return the axis of a Gather if that has a slice for each iteration, else None."""
        x = self._outer.get(node.inputs[0])
        if x is None:
            return None
        axis = as_axis(node.attributes.get("axis", 0), len(x.shape))
        return axis if are_same(x.shape[axis], self._count) else None

    def _state(self, initial: View) -> State:
        result, spare = (self._b.new(*initial.shape, dtype=initial.dtype) for _ in range(2))
        return State(self._b.contiguous(initial), result, spare)

    def _add_body(
        self,
        space: int,
        counter: View,
        read: dict[str, Slices],
        states: dict[str, State],
        written: list[Slices],
    ) -> bool:
        """Add the steps of an iteration; return False if one needs Python, or a state changes its shape."""
        b, first = self._b, space + len(read)
        values = {**self._outer, self._counter: _at(counter), self._condition: _known(np.array(True))}
        for number, (name, each) in enumerate(read.items(), start=space):
            values[name] = _at(each.at(number))
        places = range(first + len(self._scanned), first + len(self._scanned) + 2 * len(states), 2)
        for number, (name, state) in zip(places, states.items(), strict=True):
            values[name] = _at(View.contiguous(number, 0, state.initial.shape, state.initial.dtype))
        following = [after for name, after in zip(self._states, self._next, strict=True) if name in states]
        graph = Graph(nodes=self._nodes, outputs=(*following, *self._scanned))
        found = b.add_nodes(graph, values, self._count)
        views = [typed_view(b, value) for value in found or ()]
        if found is None or None in views:
            return False
        results = [x for x in views if x is not None]
        for number, state, x in zip(places, states.values(), results[: len(states)], strict=True):
            if x.shape != state.initial.shape or x.dtype != state.initial.dtype:
                return False
            b.add("copy", x, View.contiguous(number + 1, 0, x.shape, x.dtype))
        backwards = self._options("directions")
        for number, x in enumerate(results[len(states) :]):
            one = View.contiguous(first + number, 0, x.shape, x.dtype)
            b.add("copy", x, one)
            written.append(Slices(one, 0, bool(backwards[number])))
        return True

    def _add(self, counter: View, slices: list[Any], states: list[State], body: Body) -> None:
        carries = [tuple(state) for state in states]
        self._b.add("loop", self._count, counter, None, slices, carries, body)

    def _stacked(self, number: int, written: Slices) -> View:
        """Return the view of a scanned output, whose slices lie along an axis of its own."""
        rank, axis = len(written.array.shape), self._options("axes")[number]
        order = list(range(1, rank))
        order.insert(as_axis(axis, rank), 0)
        return written.array.permuted(*order)

    def _options(self, name: str) -> Sequence[int]:
        found: Sequence[int] = self._node.attributes.get(f"scan_output_{name}") or [0] * len(self._scanned)
        return found


def _known(array: Any) -> Value:
    return Value(array)


def _at(view: View) -> Value:
    return Value(Signature(view.shape, np.dtype(view.dtype)), view)
