"""Turn loops whose condition counts, as TensorFlow writes them, into loops of a number of iterations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..node import AnyArray, Node
from ..operations.control import keeps_condition, loop_inputs
from .sizes import holds_integers

if TYPE_CHECKING:
    from .simplify import Simplifier

Item = TypeVar("Item")


def as_counted(s: Simplifier, node: Node) -> Node | None:
    """Return a loop without its condition and its counters, which captures what it does not change.

    Returns None for a loop without them, and for one whose condition tests anything else than whether a
    counter, which starts at 0, is below the number of iterations. A condition that is always true goes too.
    The condition tells the number of iterations if the loop has no other limit.
    """
    loop, condition = Counting(s, node), node.inputs[1]
    if not loop.count:
        return None
    is_plain = (not condition or np.all(s.constants.get(condition, False))) and keeps_condition(
        node.attributes["body"]
    )
    if not loop.kept or (is_plain and not condition and len(loop.kept) == len(loop.states)):
        return None
    return loop.without_counters() if is_plain or loop.runs_to_the_end() else None


class Counting:
    """A loop with the places of its states that do not change, of its counters, and of all others."""

    def __init__(self, s: Simplifier, node: Node) -> None:
        self.s, self.node, self.body = s, node, node.attributes["body"]
        self.count, self.condition, *values = node.inputs
        self.states, _, outer = loop_inputs(values, node.captured)
        places, names = range(len(self.states)), [declared.name for declared in self.body.inputs]
        self.i, self.before, self.after = names[0], names[2:], self.body.outputs[1:]
        self.makers = {name: each for each in self.body.nodes for name in each.outputs}
        self.unchanged = [place for place in places if self.after[place] == self.before[place]]
        self.counters = [place for place in places if self._is_counter(place)]
        self.kept = [place for place in places if place not in {*self.unchanged, *self.counters}]
        self.outer = {self.before[place]: self.states[place] for place in self.unchanged}
        self.outer |= zip(names[len(names) - len(outer) :], outer, strict=True)
        # the values that are below the number of iterations as long as some are left
        self.numbers = {self.after[place] for place in self.counters}
        if self.count:
            self.numbers |= {self.i} | {self.before[place] for place in self.counters}
        elif self.condition:
            self.count = self._tested_count(self.makers.get(self.body.outputs[0])) or ""

    def _tested_count(self, test: Node | None) -> str | None:
        """Return an integer of 64 bits from around the loop with which a condition compares a number."""
        if test is None or test.operation not in ("And", "Less"):
            return None
        if test.operation == "And":
            found = map(self._tested_count, map(self.makers.get, test.inputs))
            return next(filter(None, found), None)
        inner = _root(test.inputs[1], self.makers)
        array, outer = self.body.constants.get(inner), _root(self.outer.get(inner, ""), self.s.makers)
        if array is None:
            array = self.s.constants.get(outer)
        if array is not None:
            is_integer = array.dtype.kind == "i" and array.size == 1
            name = next(filter(None, self.node.outputs), self.node.name)  # the bodies of loops share theirs
            return self.s.constant(f"{name}/limit", array.astype(np.int64)) if is_integer else None
        outer = self.s.wide.get(outer, outer)
        return outer if holds_integers(self.s, outer) else None

    def _is_counter(self, place: int) -> bool:
        """Whether a state starts at the integer 0, and each iteration adds 1."""
        first, add = self.s.constants.get(self.states[place]), self.makers.get(self.after[place])
        if first is None or first.ndim or first.dtype.kind != "i" or first or add is None:
            return False
        if add.operation != "Add" or self.before[place] not in add.inputs:
            return False
        return any(_is_number(self.body.constants.get(name), 1) for name in add.inputs)

    def runs_to_the_end(self) -> bool:
        """Whether the condition is true as long as iterations are left."""
        first, number = (self.s.constants.get(name) for name in (self.condition, self.count))
        if not self.node.inputs[0] and first is not None and (number is None or number.item() < 1):
            return False  # the first iteration runs whatever the condition would be

        def starts(name: str) -> bool:
            return _is_number(self.s.constants.get(name), 0)

        def counts(name: str) -> bool:
            return _root(name, self.makers) in self.numbers

        def is_inner_count(name: str) -> bool:
            root = _root(name, self.makers)
            if root in self.body.constants:
                return self._is_count("", self.body.constants[root])
            return root in self.outer and is_count(self.outer[root])

        def is_count(name: str) -> bool:
            return self._is_count(name, self.s.constants.get(name))

        is_first = not self.condition or _holds(
            self.condition, self.s.makers, self.s.constants, starts, is_count
        )
        again = self.body.outputs[0]
        return is_first and _holds(again, self.makers, self.body.constants, counts, is_inner_count)

    def _is_count(self, name: str, number: AnyArray | None) -> bool:
        """Whether a value or a known number is that of the iterations."""
        count = self.s.constants.get(self.count)
        if count is None or number is None:
            roots = {_root(each, self.s.makers) for each in (name, self.count)}
            return count is number and len({self.s.wide.get(root, root) for root in roots}) == 1
        return _is_number(number, count.item())

    def without_counters(self) -> Node:
        """Return the loop, and define the values after it of what it no longer carries."""
        node, s, body, first = self.node, self.s, self.body, 2 + len(self.states)
        casts = []
        for place in self.counters:
            dtype = {"to": s.constants[self.states[place]].dtype}
            casts.append(Node("Cast", (self.i,), (self.before[place],), dtype, node.name))
            self._define_number(place, dtype)
        for place in self.unchanged:
            if node.outputs[place]:
                s.alias(node.outputs[place], self.states[place])
        declared = [body.inputs[2 + place] for place in (*self.kept, *self.unchanged)]
        outputs = [self.after[place] for place in self.kept]
        inner = body.replaced(
            inputs=[*body.inputs[:2], *declared, *body.inputs[first:]],
            nodes=[*casts, *body.nodes],
            outputs=(body.inputs[1].name, *outputs, *self.after[len(self.states) :]),
            declared_outputs=self._kept_of(body.declared_outputs, 1),
        )
        values = [self.states[place] for place in (*self.kept, *self.unchanged)]
        changed = node.with_inputs(self.count, "", *values, *node.inputs[first:])
        captured = node.captured + len(self.unchanged)
        changed = changed.with_outputs(*self._kept_of(node.outputs, 0))
        return changed.with_attributes({**node.attributes, "body": inner, "captured": captured})

    def _kept_of(self, items: tuple[Item, ...], first: int) -> tuple[Item, ...]:
        """Return those of the outputs that stay; those of the states follow the first ones."""
        states = [items[first + place] for place in self.kept] if items else []
        return *items[:first], *states, *items[first + len(self.states) :]

    def _define_number(self, place: int, dtype: Mapping[str, object]) -> None:
        """Let a counter after the loop be the number of iterations."""
        output, node = self.node.outputs[place], self.node
        if output:
            zero = self.s.constant(f"{output}/zero", np.zeros((), np.int64))
            self.s.add(Node("Max", (self.count, zero), (f"{output}/count",), {}, node.name))
            self.s.add(Node("Squeeze", (f"{output}/count",), (f"{output}/number",), {}, node.name))
            self.s.add(Node("Cast", (f"{output}/number",), (output,), dtype, node.name))


def _holds(
    name: str,
    makers: Mapping[str, Node],
    constants: Mapping[str, AnyArray],
    counts: Callable[[str], bool],
    is_count: Callable[[str], bool],
) -> bool:
    """Whether a condition is true, or tests only whether counters are below the number of iterations."""
    if name in constants:
        return bool(constants[name])
    node = makers.get(name)
    if node is not None and node.operation == "And":
        return all(_holds(each, makers, constants, counts, is_count) for each in node.inputs)
    return (
        node is not None and node.operation == "Less" and counts(node.inputs[0]) and is_count(node.inputs[1])
    )


def _is_number(array: AnyArray | None, number: float) -> bool:
    return array is not None and array.size == 1 and bool(array.item() == number)


def _root(name: str, makers: Mapping[str, Node]) -> str:
    """Return the value of which another one is a cast that keeps the numbers of iterations."""
    while (node := makers.get(name)) is not None and node.operation == "Cast":
        to = node.attributes.get("to")
        if not isinstance(to, np.dtype) or to.kind not in "if" or to.itemsize < 4:
            break
        name = node.inputs[0]
    return name
