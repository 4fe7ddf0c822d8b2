"""WHILE: loops over the steps of a sequence, whose lists become scanned values, and all others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from ...graph.node import Node
from .control import loop
from .read import Operator, Subgraph
from .registry import ANY, INT64, Call, Value, operator

LAST = np.iinfo(np.int64).max


@operator(ANY, "WHILE")
def while_(call: Call, *inputs: Value) -> Any:
    """Run the body as long as the condition holds for its outputs, which are its next inputs."""
    o, n = call.options, len(inputs)
    condition = call.t.model.subgraph(o.cond_subgraph, n, 1)
    steps = Steps(call.t.model.subgraph(o.body_subgraph, n, n), inputs)
    limits = steps.limits(condition, condition.outputs[0])
    return _uncounted(call, inputs) if limits is None else _counted(call, steps, inputs, limits)


class Steps:
    """What an iteration does with its inputs, in the bodies that converters write for recurrent layers.

    `unchanged` are the places that keep their values, `counters` maps those that count up by ones to their
    first numbers, and `items` maps those of lists to the item that an iteration adds at its end. `latest` are
    those among them whose lists have one item, which each iteration replaces.
    """

    def __init__(self, body: Subgraph, inputs: Sequence[Value]) -> None:
        self.body, self.inputs = body, inputs
        self.makers = {number: each for each in body.operators for number in each.outputs}
        pairs = list(enumerate(zip(body.inputs, body.outputs, strict=True)))
        self.unchanged = [place for place, (before, after) in pairs if before == after]
        firsts = {
            place: x.known for place, x in enumerate(inputs) if x.known is not None and x.known.size == 1
        }
        counting = [place for place, pair in pairs if place in firsts and self._follows(*pair)]
        self.counters = {place: int(firsts[place].item()) for place in counting}
        found = {place: self._item(*pair) for place, pair in pairs}
        self.items = {place: item for place, item in found.items() if item is not None}
        self.latest = [place for place, pair in pairs if place not in self.items and self._is_latest(*pair)]
        self.items |= {place: body.outputs[place] for place in self.latest}

    def limits(self, condition: Subgraph, number: int) -> list[Any] | None:
        """Return how many iterations the counters allow, or None if the condition tests anything else."""
        makers = {n: each for each in condition.operators for n in each.outputs}
        test = makers.get(number)
        if test is not None and test.kind == "LOGICAL_AND":
            sides = [self.limits(condition, n) for n in test.inputs]
            return None if None in sides else [limit for side in sides for limit in side or ()]
        if test is None or test.kind != "LESS":
            return None
        counter, limit = (condition.inputs.index(n) if n in condition.inputs else -1 for n in test.inputs)
        data = condition.tensors[test.inputs[1]].data
        if counter not in self.counters or (limit not in self.unchanged and (data is None or data.size != 1)):
            return None
        most: Any = int(data.item()) if data is not None else self.inputs[limit].cast(np.int64)
        return [most - self.counters[counter] if self.counters[counter] else most]

    def _maker(self, number: int, kind: str) -> Operator | None:
        found = self.makers.get(number)
        return found if found is not None and found.kind == kind else None

    def _integers(self, number: int) -> set[int]:
        """Return the distinct integers of a constant."""
        data = self.body.tensors[number].data
        return set() if data is None or data.dtype.kind != "i" else set(data.ravel().tolist())

    def _follows(self, before: int, after: int) -> bool:
        """Whether a number is another one plus 1."""
        add = self._maker(after, "ADD")
        if add is None or add.inputs[0] != before or add.options.activation:
            return False
        return self.body.tensors[add.inputs[1]].axes in ((), (1,)) and self._integers(add.inputs[1]) == {1}

    def _item(self, before: int, after: int) -> int | None:
        """Return the item in [list[:t], item, list[t + 1:]], with a counter t that starts at 0."""
        join = self._maker(after, "CONCATENATION")
        if join is None or len(join.inputs) != 3 or join.options.axis or join.options.activation:
            return None
        head, item, tail = (self.makers.get(number) for number in join.inputs)
        readers = [each for each in self.body.operators if before in each.inputs]
        if head is None or item is None or tail is None or readers != [head, tail]:
            return None
        if (head.kind, head.inputs[0], tail.kind, tail.inputs[0]) != ("SLICE", before) * 2:
            return None
        if before in self.body.outputs or self.body.tensors[join.inputs[1]].axes[:1] != (1,):
            return None
        constants = self._integers(head.inputs[1]), self._integers(tail.inputs[2])
        if constants != ({0}, {-1}):
            return None
        ts = [self.body.inputs[place] for place, first in self.counters.items() if not first]
        starts = any(self._starts(head.inputs[2], -1, t) and self._starts(tail.inputs[1], 0, t) for t in ts)
        return join.inputs[1] if starts else None

    def _is_latest(self, before: int, after: int) -> bool:
        """Whether an iteration replaces a value, of one row, without reading it."""
        is_read = before in self.body.outputs or any(before in each.inputs for each in self.body.operators)
        return not is_read and self.body.tensors[after].axes[:1] == (1,)

    def _starts(self, number: int, rest: int, t: int) -> bool:
        """Whether a vector is the place of an item, followed by -1, or the next place, followed by 0."""
        join = self._maker(number, "CONCATENATION")
        if join is None or len(join.inputs) != 2 or self._integers(join.inputs[1]) != {rest}:
            return False
        first = self._maker(join.inputs[0], "RESHAPE")
        return first is not None and (first.inputs[0] == t if rest else self._follows(t, first.inputs[0]))


def _counted(call: Call, steps: Steps, inputs: Sequence[Value], limits: Sequence[Any]) -> list[Value]:
    """Run a loop of a known number of iterations, which scans lists."""
    fixed = [place for place in steps.unchanged if inputs[place].known is not None]
    states = [place for place in range(len(inputs)) if place not in {*fixed, *steps.items}]
    places = [*states, *steps.items]
    wanted = [steps.items.get(place, number) for place, number in enumerate(steps.body.outputs)]

    def step(i: Value, *values: Value) -> Sequence[Any]:
        taken = dict(zip(places, values, strict=True))
        for place in fixed:
            taken[place] = Value(i.t, i.t.cast(inputs[place].known, inputs[place].dtype), inputs[place].dtype)
        found = i.t.subgraph(call.options.body_subgraph, [taken[k] for k in range(len(inputs))], wanted)
        items = [found[place].apply("Squeeze", [0]) for place in steps.items]
        return [None, *(found[place] for place in states), *items]

    count = reduce(_least, limits)
    count = max(0, count) if isinstance(count, int) else count.apply("Max", 0)
    sequences = [inputs[place] for place in steps.unchanged if call.shape(place)[:1] == [count]]
    number = call.constant(count, np.int64) if isinstance(count, int) else count
    if sequences:
        number = sequences[0].apply("Shape", dtype=INT64).apply("Gather", np.array(0), axis=0)
    axes = [call.tensor(place).declared_axes for place in places]
    made = loop(call, number, None, [inputs[place] for place in places], axes, step, len(steps.items))
    after = dict(zip(places, made, strict=True))
    for place in steps.items:
        after[place] = _whole(call, steps, place, after[place], inputs[place], count)
    return [after.get(place, x) for place, x in enumerate(inputs)]


def _least(a: Any, b: Any) -> Any:
    """Return the smaller one of two numbers or expressions."""
    if isinstance(a, int):
        return min(a, b) if isinstance(b, int) else b.apply("Min", a)
    return a.apply("Min", b)


def _whole(call: Call, steps: Steps, place: int, scanned: Value, before: Value, count: Any) -> Any:
    """Return a list after a loop: the items, followed by what the loop does not reach."""
    if place in steps.latest:
        is_replaced = isinstance(count, int) and count > 0
        return (scanned if is_replaced else before.apply("Concat", scanned, axis=0)).apply(
            "Slice", [-1], [LAST], [0]
        )
    if call.shape(place)[0] == count or _first_size(before) == _root(count):
        return scanned
    start = [count] if isinstance(count, int) else count.reshaped(1)
    return scanned.apply("Concat", before.apply("Slice", start, [LAST], [0]), axis=0)


def _root(x: Any, name: str = "") -> str | None:
    """Return the value of which another one, an expression, has the first number."""
    if isinstance(x, int):
        return None
    name = name or x.name
    makers: dict[str, Node] = {y: node for node in x.t.graph.nodes for y in node.outputs}
    while name in makers and makers[name].operation in (
        "Cast",
        "Concat",
        "Max",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
    ):
        name = makers[name].inputs[0]
    return name


def _first_size(x: Value) -> str | None:
    """Return the value that is the first size of an array of equal numbers."""
    node = next((node for node in x.t.graph.nodes if x.name in node.outputs), None)
    return None if node is None or node.operation != "Expand" else _root(x, node.inputs[1])


def _uncounted(call: Call, inputs: Sequence[Value]) -> list[Value]:
    """Run a loop that computes its condition in each iteration."""
    o, t = call.options, call.t

    def step(i: Value, *before: Value) -> Sequence[Value]:
        after = i.t.subgraph(o.body_subgraph, before)
        return [i.t.subgraph(o.cond_subgraph, after)[0], *after]

    return loop(call, None, t.subgraph(o.cond_subgraph, inputs)[0], inputs, [None] * len(inputs), step)
