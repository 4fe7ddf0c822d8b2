"""Control flow and state: WHILE, IF, CALL_ONCE and variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph import Graph, Input
from .read import working_dtype
from .registry import ANY, Call, Value, operator


class Handle:
    """The name of a variable, which a VAR_HANDLE returns."""

    def __init__(self, name: str) -> None:
        self.name, self.known = name, None


@operator(ANY, "VAR_HANDLE")
def var_handle(call: Call) -> Any:
    return Handle("/".join(filter(None, (call.options.container, call.options.name))))


@operator(ANY, "READ_VARIABLE")
def read_variable(call: Call, handle: Any) -> Any:
    return call.t.variable(handle.name, call.t.starts.get(handle.name))


@operator(ANY, "ASSIGN_VARIABLE")
def assign_variable(call: Call, handle: Any, value: Value) -> None:
    call.t.assign(handle.name, value)


@operator(ANY, "CALL_ONCE")
def call_once(call: Call) -> None:
    """Take the initial values of variables from a subgraph that assigns constants."""
    t = call.t
    inner = type(t)(t.model, Graph(), t)
    inner.starting = t.starts
    inner.subgraph(call.options.subgraph, [])


@operator(ANY, "IF")
def if_(call: Call, condition: Value, *inputs: Value) -> Any:
    o, t = call.options, call.t
    branches = {
        name: body(call, number, inputs)
        for name, number in (("then_branch", o.then_subgraph), ("else_branch", o.else_subgraph))
    }
    names = t.add_all("If", [x.name for x in (condition, *inputs)], len(call.results), **branches)
    return _results(call, names)


def body(call: Call, number: int, inputs: Sequence[Value]) -> Graph:
    """Return a subgraph as a graph of its own."""
    inner = _inner(call, number)
    taken = [Value(inner, inner.graph.add_input(f"input_{i}"), x.dtype) for i, x in enumerate(inputs)]
    inner.graph.outputs = tuple(y.name for y in inner.subgraph(number, taken))
    inner.graph.declared_outputs = _declared(call, inner.graph.outputs)
    graph: Graph = inner.graph
    return graph


def _inner(call: Call, number: int) -> Any:
    t = call.t
    inner = type(t)(t.model, Graph(), t)
    inner.label = t.label
    return inner


def _declared(call: Call, names: Sequence[str]) -> tuple[Input, ...]:
    found = []
    for name, tensor in zip(names, call.results, strict=True):
        axes = tuple(size if size >= 0 else "" for size in tensor.axes)
        found.append(Input(name, working_dtype(tensor), axes))
    return tuple(found)


def _results(call: Call, names: Sequence[str]) -> list[Value]:
    return [Value(call.t, n, working_dtype(x)) for n, x in zip(names, call.results, strict=True)]


@operator(ANY, "WHILE")
def while_(call: Call, *inputs: Value) -> Any:
    """Run the body as long as the condition holds for its outputs, which are its next inputs."""
    o, t = call.options, call.t
    count = _count(call, inputs)
    inner = _inner(call, o.body_subgraph)
    graph = inner.graph
    graph.add_input("i", np.int64, ())
    again = graph.add_input("condition", bool, ())
    taken = [Value(inner, graph.add_input(f"input_{i}"), x.dtype) for i, x in enumerate(inputs)]
    found = inner.subgraph(o.body_subgraph, taken)
    start = [call.constant(0 if count is None else count, np.int64).name, ""]
    if count is None:
        start = ["", t.subgraph(o.cond_subgraph, inputs)[0].name]
        again = inner.subgraph(o.cond_subgraph, found)[0].name
    graph.outputs = (again, *(y.name for y in found))
    graph.declared_outputs = (Input(again, np.dtype(bool), ()), *_declared(call, graph.outputs[1:]))
    names = [*start, *(x.name for x in inputs)]
    return _results(call, t.add_all("Loop", names, len(inputs), body=graph))


def _count(call: Call, inputs: Sequence[Value]) -> int | None:
    """Return the number of iterations if the loop counts up to a constant by ones, otherwise None."""
    o, graphs = call.options, call.t.model.subgraphs
    if not 0 <= min(o.cond_subgraph, o.body_subgraph) <= max(o.cond_subgraph, o.body_subgraph) < len(graphs):
        return None
    condition, body_ = graphs[o.cond_subgraph], graphs[o.body_subgraph]
    if [each.kind for each in condition.operators] != ["LESS"]:
        return None
    (test,) = condition.operators
    place = condition.inputs.index(test.inputs[0]) if test.inputs[0] in condition.inputs else -1
    limit = condition.tensors[test.inputs[1]].data
    if place < 0 or limit is None or condition.outputs != list(test.outputs) or len(body_.outputs) <= place:
        return None
    own = [each for each in body_.operators if body_.outputs[place] in each.outputs]
    if [each.kind for each in own] != ["ADD"] or body_.inputs[place] != own[0].inputs[0]:
        return None
    step, first = body_.tensors[own[0].inputs[1]].data, inputs[place].known
    if step is None or first is None or step.size != 1 or limit.size != 1 or int(step.item()) != 1:
        return None
    return max(0, int(limit.item()) - int(first.item()))
