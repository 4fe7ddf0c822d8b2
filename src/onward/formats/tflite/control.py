"""Control flow and state: WHILE, IF, CALL_ONCE and variables; conversions between types of real numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph import Graph, Input
from .integers import dequantized
from .registry import ANY, Call, Value, operator, working_dtype


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
    (start,) = t.subgraph(o.cond_subgraph, inputs)
    inner = _inner(call, o.body_subgraph)
    graph = inner.graph
    graph.add_input("i", np.int64, ())
    graph.add_input("condition", bool, ())
    taken = [Value(inner, graph.add_input(f"input_{i}"), x.dtype) for i, x in enumerate(inputs)]
    found = inner.subgraph(o.body_subgraph, taken)
    (again,) = inner.subgraph(o.cond_subgraph, found)
    graph.outputs = (again.name, *(y.name for y in found))
    graph.declared_outputs = (Input(again.name, np.dtype(bool), ()), *_declared(call, graph.outputs[1:]))
    names = ["", start.name, *(x.name for x in inputs)]
    return _results(call, t.add_all("Loop", names, len(inputs), body=graph))


@operator(ANY, "DEQUANTIZE")
def dequantize(call: Call, x: Value) -> Any:
    """Real numbers from float16, or from integers with scales."""
    tensor = call.tensor(0)
    if x.known is not None and x.dtype == np.float16:
        return call.constant(x.known)  # also where an operator takes constant weights only
    if not tensor.is_quantized:
        return x.cast(np.float32)
    return dequantized(call, x, tensor)
