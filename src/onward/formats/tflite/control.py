"""Control flow and state: IF, CALL_ONCE and variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    return results(call, names)


def body(call: Call, number: int, inputs: Sequence[Value]) -> Graph:
    """Return a subgraph as a graph of its own."""
    inner = inner_translator(call)
    taken = [Value(inner, inner.graph.add_input(f"input_{i}"), x.dtype) for i, x in enumerate(inputs)]
    inner.graph.outputs = tuple(y.name for y in inner.subgraph(number, taken))
    inner.graph.declared_outputs = declared(call, inner.graph.outputs)
    graph: Graph = inner.graph
    return graph


def inner_translator(call: Call) -> Any:
    """Return what translates a subgraph as a graph of its own."""
    t = call.t
    inner = type(t)(t.model, Graph(), t)
    inner.label = t.label
    return inner


def declared(call: Call, names: Sequence[str]) -> tuple[Input, ...]:
    """Return the outputs of an operator, as its tensors declare them."""
    found = []
    for name, tensor in zip(names, call.results, strict=True):
        axes = tuple(size if size >= 0 else "" for size in tensor.axes)
        found.append(Input(name, working_dtype(tensor), axes))
    return tuple(found)


def results(call: Call, names: Sequence[str]) -> list[Value]:
    """Return the outputs of an operator as values."""
    return [Value(call.t, n, working_dtype(x)) for n, x in zip(names, call.results, strict=True)]
