"""Control flow and state: IF, WHILE, CALL_ONCE and variables.

A WHILE over the steps of a sequence becomes a loop of so many iterations, whose lists become scanned values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from types import SimpleNamespace
from typing import Any

import numpy as np

from ...graph import Graph, Input
from ...graph.node import Node
from .read import Subgraph, subgraph_of
from .registry import ANY, INT64, Call, Value, operator

LAST = np.iinfo(np.int64).max
MOVES = ("Cast", "Concat", "Max", "Reshape", "Squeeze", "Unsqueeze")  # they keep the first number


@operator(ANY, "VAR_HANDLE")
def var_handle(call: Call) -> Any:
    """The name of a variable, as another value."""
    name = "/".join(filter(None, (call.options.container, call.options.name)))
    return SimpleNamespace(name=name, known=None)


@operator(ANY, "READ_VARIABLE")
def read_variable(call: Call, handle: Any) -> Any:
    return call.t.variable(handle.name, call.t.starts.get(handle.name))


@operator(ANY, "ASSIGN_VARIABLE")
def assign_variable(call: Call, handle: Any, value: Value) -> None:
    call.t.assign(handle.name, value)


@operator(ANY, "CALL_ONCE")
def call_once(call: Call) -> None:
    """Take the initial values of variables from a subgraph that assigns constants."""
    inner = call.t.inner(has_variables=True)
    inner.subgraph(call.options.subgraph, [])
    for name, value in inner.variables.items():
        call.t.starts[name] = call.array(value, f"initial value of the variable {name}")


@operator(ANY, "IF")
def if_(call: Call, condition: Value, *inputs: Value) -> Any:
    def branch(number: int) -> Graph:
        inner = call.t.inner()
        graph: Graph = inner.graph
        taken = [Value(inner, graph.add_input(f"input_{place}"), x.dtype) for place, x in enumerate(inputs)]
        graph.outputs = tuple(y.name for y in inner.subgraph(number, taken))
        pairs = zip(graph.outputs, call.results, strict=True)
        graph.declared_outputs = tuple(Input(name, x.inner_dtype, x.declared_axes) for name, x in pairs)
        return graph

    branches = {"then_branch": branch(call.options.then_subgraph)}
    branches["else_branch"] = branch(call.options.else_subgraph)
    return condition.typed("If", [x.inner_dtype for x in call.results], *inputs, **branches)


def loop(
    call: Call,
    count: Value | None,
    first: Value | None,
    values: Sequence[Value],
    axes: Sequence[tuple[int | str, ...] | None],
    step: Callable[..., Sequence[Any]],
    captured: int = 0,
) -> list[Value]:
    """Run `step(i, *values)` a number of times, or while its first result holds, and before it `first`.

    A step returns whether another one follows (None: always), its next states, and values whose rows become
    an array. The values, with these axes, are states, except for the last ones, which it captures.
    """
    inner = call.t.inner()
    graph = inner.graph
    i = Value(inner, graph.add_input("i", np.int64, ()), INT64)
    again = graph.add_input("condition", bool, ())
    taken = [
        Value(inner, graph.add_input(f"input_{place}", x.dtype, sizes), x.dtype)
        for place, (x, sizes) in enumerate(zip(values, axes, strict=True))
    ]
    condition, *after = step(i, *taken)
    graph.outputs = (again if condition is None else condition.name, *(y.name for y in after))
    dtypes = [np.dtype(bool), *(y.dtype for y in after)]
    graph.declared_outputs = tuple(map(Input, graph.outputs, dtypes))
    names = ["" if x is None else x.name for x in (count, first, *values)]
    found = call.t.add_all("Loop", names, len(after), body=graph, captured=captured)
    return [Value(call.t, name, y.dtype) for name, y in zip(found, after, strict=True)]


# Loops.

# [list[:t], item, list[t + 1:]], as converters write it
LIST = (
    "CONCATENATION",
    ("SLICE", "list", {0}, ("CONCATENATION", ("RESHAPE", "t", ""), {-1})),
    "item",
    ("SLICE", "list", ("CONCATENATION", ("RESHAPE", ("ADD", "t", {1}), ""), {0}), {-1}),
)


@operator(ANY, "WHILE")
def while_(call: Call, *inputs: Value) -> Any:
    """Run the body as long as the condition holds for its outputs, which are its next inputs."""
    o, t, n = call.options, call.t, len(inputs)
    condition = subgraph_of(t.model, o.cond_subgraph, n, 1)
    steps = Steps(subgraph_of(t.model, o.body_subgraph, n, n), inputs)
    if limits := steps.limits(call, condition):
        return _counted(call, steps, inputs, limits)

    def step(i: Value, *before: Value) -> Sequence[Value]:
        after = i.t.subgraph(o.body_subgraph, before)
        return [i.t.subgraph(o.cond_subgraph, after)[0], *after]

    return loop(call, None, t.subgraph(o.cond_subgraph, inputs)[0], inputs, [None] * n, step)


class Terms:
    """The values of a subgraph as terms.

    A term is the name of an operator before the terms of its inputs, the set of the integers of a constant, a
    name for one value, or "" for any value.
    """

    def __init__(self, subgraph: Subgraph) -> None:
        self.tensors = subgraph.tensors
        self.makers = {number: each for each in subgraph.operators for number in each.outputs}

    def match(self, number: int, term: Any, found: dict[str, int]) -> bool:
        """Whether a value is a term; `found` tells for which values the names in it stand."""
        if isinstance(term, str):
            return not term or found.setdefault(term, number) == number
        if isinstance(term, set):
            data = self.tensors[number].data
            return data is not None and data.dtype.kind == "i" and set(data.ravel().tolist()) == term
        maker, (kind, *inputs) = self.makers.get(number), term
        if maker is None or maker.kind != kind or len(maker.inputs) != len(inputs):
            return False
        is_plain = not (getattr(maker.options, "axis", 0) or getattr(maker.options, "activation", 0))
        return is_plain and all(map(self.match, maker.inputs, inputs, [found] * len(inputs)))


class Steps:
    """What an iteration does with its inputs, in the bodies that converters write for recurrent layers.

    `unchanged` are the places that keep their values, `counters` maps those that count up by ones to their
    first numbers, and `items` maps those of lists to the item that an iteration adds at its end. `latest` are
    those among them whose lists have one item, which each iteration replaces.
    """

    def __init__(self, body: Subgraph, inputs: Sequence[Value]) -> None:
        self.body, self.inputs, self.terms = body, inputs, Terms(body)
        pairs = list(enumerate(zip(body.inputs, body.outputs, strict=True)))
        self.unchanged = [place for place, (before, after) in pairs if before == after]
        self.counters = {
            place: int(first.item())
            for place, (before, after) in pairs
            if (first := inputs[place].known) is not None
            and first.size == 1
            and body.tensors[after].axes in ((), (1,))
            and self.terms.match(after, ("ADD", "t", {1}), {"t": before})
        }
        found = {place: self._item(*pair) for place, pair in pairs}
        self.items = {place: item for place, item in found.items() if item is not None}
        self.latest = [place for place, pair in pairs if place not in self.items and self._is_latest(*pair)]
        self.items |= {place: body.outputs[place] for place in self.latest}

    def limits(self, call: Call, condition: Subgraph) -> list[Any] | None:
        """Return how many iterations a condition allows, or None if it tests anything else than counters."""
        terms, tests, limits = Terms(condition), [condition.outputs[0]], list[Any]()
        seen = set[int]()
        while tests:
            sides: dict[str, int] = {}
            if (test := tests.pop()) in seen:
                continue
            seen.add(test)
            if terms.match(test, ("LOGICAL_AND", "a", "b"), sides):
                tests += sides.values()
            elif terms.match(test, ("LESS", "counter", "limit"), sides):
                limits.append(self._limit(call, condition, **sides))
            else:
                return None
        return None if None in limits else limits

    def _limit(self, call: Call, condition: Subgraph, counter: int, limit: int) -> Any:
        inputs, data = condition.inputs, condition.tensors[limit].data
        count, place = (inputs.index(n) if n in inputs else -1 for n in (counter, limit))
        if count not in self.counters or (place not in self.unchanged and (data is None or data.size != 1)):
            return None
        most: Any = self.inputs[place].cast(INT64) if data is None else call.constant(int(data.item()), INT64)
        return most - self.counters[count] if self.counters[count] else most

    def _item(self, before: int, after: int) -> int | None:
        """Return the item that an iteration writes to a list at its counter, if it reads no other items."""
        found = {"list": before}
        if not self.terms.match(after, LIST, found) or self.body.tensors[found["item"]].axes[:1] != (1,):
            return None
        readers = [each for each in self.body.operators if before in each.inputs]
        places = [place for place, first in self.counters.items() if not first]
        is_alone = len(readers) == 2 and before not in self.body.outputs
        return found["item"] if is_alone and found["t"] in [self.body.inputs[k] for k in places] else None

    def _is_latest(self, before: int, after: int) -> bool:
        """Whether an iteration replaces a value, of one row, without reading it."""
        is_read = before in self.body.outputs or any(before in each.inputs for each in self.body.operators)
        return not is_read and self.body.tensors[after].axes[:1] == (1,)


def _counted(call: Call, steps: Steps, inputs: Sequence[Value], limits: Sequence[Any]) -> list[Value]:
    """Run a loop of a known number of iterations, which scans lists."""
    fixed = [place for place in steps.unchanged if inputs[place].known is not None]
    states = [place for place in range(len(inputs)) if place not in {*fixed, *steps.items}]
    places = [*states, *steps.items]
    wanted = [steps.items.get(place, number) for place, number in enumerate(steps.body.outputs)]

    def step(i: Value, *values: Value) -> Sequence[Any]:
        taken = dict(zip(places, values, strict=True))
        taken |= {place: i.number(inputs[place].known, inputs[place].dtype) for place in fixed}
        found = i.t.subgraph(call.options.body_subgraph, [taken[k] for k in range(len(inputs))], wanted)
        items = [found[place].apply("Squeeze", [0]) for place in steps.items]
        return [None, *(found[place] for place in states), *items]

    least: Any = reduce(lambda a, b: a.apply("Min", b), limits)
    count = least.apply("Max", 0)
    known = None if count.known is None else int(count.known.item())
    number, sequences = count, [inputs[k] for k in steps.unchanged if call.shape(k)[:1] == [known]]
    if sequences:
        number = sequences[0].apply("Shape", dtype=INT64).apply("Gather", np.array(0), axis=0)
    axes = [call.tensor(place).declared_axes for place in places]
    made = loop(call, number, None, [inputs[place] for place in places], axes, step, len(steps.items))
    after: dict[int, Any] = dict(zip(places, made, strict=True))
    for place in steps.latest:
        past = after[place] if known else inputs[place].apply("Concat", after[place], axis=0)
        after[place] = past.apply("Slice", [-1], [LAST], [0])
    for place in steps.items.keys() - steps.latest:
        if call.shape(place)[0] != known and not _has_size(inputs[place], count):
            rest = inputs[place].apply(
                "Slice", count.reshaped(1), [LAST], [0]
            )  # which the loop does not reach
            after[place] = after[place].apply("Concat", rest, axis=0)
    return [after.get(place, x) for place, x in enumerate(inputs)]


def _has_size(x: Value, count: Value) -> bool:
    """Whether the first size of an array of equal numbers is another value."""
    makers: dict[str, Node] = {y: node for node in x.t.graph.nodes for y in node.outputs}

    def root(name: str) -> str:
        while name in makers and makers[name].operation in MOVES:
            name = makers[name].inputs[0]
        return name

    node = makers.get(x.name)
    return node is not None and node.operation == "Expand" and root(node.inputs[1]) == root(count.name)
