"""Control flow and state: IF, CALL_ONCE and variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...graph import Graph, Input
from .registry import ANY, INT64, Call, Value, operator


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
    o = call.options
    branches = {"then_branch": branch(call, o.then_subgraph, inputs)}
    branches["else_branch"] = branch(call, o.else_subgraph, inputs)
    names = call.t.add_all("If", [x.name for x in (condition, *inputs)], len(call.results), **branches)
    return [Value(call.t, name, x.inner_dtype) for name, x in zip(names, call.results, strict=True)]


def branch(call: Call, number: int, inputs: Sequence[Value]) -> Graph:
    """Return a subgraph as a graph of its own."""
    inner = inner_translator(call)
    graph: Graph = inner.graph
    taken = [Value(inner, graph.add_input(f"input_{place}"), x.dtype) for place, x in enumerate(inputs)]
    graph.outputs = tuple(y.name for y in inner.subgraph(number, taken))
    pairs = zip(graph.outputs, call.results, strict=True)
    graph.declared_outputs = tuple(Input(name, x.inner_dtype, x.declared_axes) for name, x in pairs)
    return graph


def inner_translator(call: Call) -> Any:
    """Return what translates a subgraph as a graph of its own."""
    t = call.t
    inner = type(t)(t.model, Graph(), t)
    inner.label = t.label
    return inner


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
    inner = inner_translator(call)
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
