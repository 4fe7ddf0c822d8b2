"""torch's higher-order operators, which become the control flow of graphs."""

from collections.abc import Callable, Sequence
from typing import Any

from ....errors import ArgumentError
from ....graph.graph import Graph, Input
from .. import exported_program as schema
from .promotion import dtype_of
from .registry import BOOL, INT64, OPERATORS, Operator, Symbol, Tensor, Translator

PREFIX = "higher_order."


class Body:
    """The body of a node: a graph of its own, whose first inputs are the node's own and the others captured.

    Captured constants are constants of the body, so that its layers have weights.
    """

    def __init__(self, t: Translator, own: Sequence[tuple[Any, Any]]) -> None:
        self.outer = t
        self.inner = Translator(Graph())
        self.inner.node = t.node
        self.own = [self._input(f"input_{i}", dtype, axes) for i, (dtype, axes) in enumerate(own)]
        self.captured: list[str] = []

    def _input(self, name: str, dtype: Any, axes: Any) -> str:
        return self.inner.graph.add_input(name, dtype, axes)

    def capture(self, value: Any) -> Any:
        """Return a value of the outer graph as a value of the body."""
        if not isinstance(value, Tensor | Symbol):
            return value
        name = value.name if isinstance(value, Symbol) else self.outer.read(value).name
        array = self.outer.array(value) if isinstance(value, Tensor) else None
        if array is not None:
            inner = self.inner.graph.add_constant(array)
        else:
            inner = self.inner.graph.add_input(f"captured_{len(self.captured)}")
            self.captured.append(name)
        if isinstance(value, Symbol):
            return Symbol(inner, value.dtype)
        return Tensor(inner, value.dtype, value.shape)

    def finish(self, graph: schema.Graph, results: Sequence[Any], before: Sequence[str] = ()) -> Graph:
        """Return the body with these outputs."""
        names = [self._output(result) for result in results]
        self.inner.graph.outputs = (*before, *names)
        self.inner.graph.declared_outputs = (
            *(Input(name) for name in before),
            *(Input(name, dtype_of(r), _sizes(r)) for name, r in zip(names, results, strict=True)),
        )
        return self.inner.graph

    def _output(self, result: Any) -> str:
        if isinstance(result, Tensor):
            return self.inner.read(result).name
        return self.inner.cast(result, dtype_of(result))


def _sizes(value: Any) -> tuple[int | str, ...]:
    return tuple("" if size is None else size for size in value.shape) if isinstance(value, Tensor) else ()


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _operator(name: str) -> Callable[[Operator], Operator]:
    def register(function: Operator) -> Operator:
        OPERATORS[PREFIX + name] = function
        return function

    return register


@_operator("cond")
def cond(t: Translator, predicate: Any, then: Any, otherwise: Any, operands: Any = ()) -> Any:
    branches, captured = {}, []
    body = None
    for key, graph in (("then_branch", then), ("else_branch", otherwise)):
        body = Body(t, [])
        results = body.inner.run(graph, [body.capture(value) for value in _list(operands)])
        branches[key], captured = body.finish(graph, results), body.captured
    condition = t.cast(predicate, BOOL)
    return t.add_all("If", (condition, *captured), len(then.outputs), **branches)


@_operator("while_loop")
def while_loop(t: Translator, condition: Any, body: Any, carried: Any, captured: Any = ()) -> Any:
    carried, captured = _list(carried), _list(captured)
    (first,) = t.run(condition, [*carried, *captured])
    inner = Body(t, [(INT64, ()), (BOOL, ()), *((dtype_of(v), _sizes(v)) for v in carried)])
    values = [_own(name, value) for name, value in zip(inner.own[2:], carried, strict=True)]
    extra = [inner.capture(value) for value in captured]
    results = inner.inner.run(body, [*values, *extra])
    (again,) = inner.inner.run(condition, [*results, *extra])
    graph = inner.finish(body, results, [inner.inner.cast(again, BOOL)])
    starts = [t.cast(value, dtype_of(value)) for value in carried]
    inputs = ("", t.cast(first, BOOL), *starts, *inner.captured)
    return t.add_all("Loop", inputs, len(results), body=graph, captured=len(inner.captured))


def _own(name: str, value: Any) -> Any:
    """Return the value of an input of a body, which is like the outer value at its first iteration."""
    if isinstance(value, Tensor):
        return Tensor(name, value.dtype, value.shape)
    return Symbol(name, dtype_of(value))


@_operator("scan")
def scan(t: Translator, combine: Any, init: Any, scanned: Any, captured: Any = ()) -> Any:
    return _scan(t, combine, _list(init), _list(scanned), _list(captured))


@_operator("map_impl")
def map_(t: Translator, function: Any, scanned: Any, captured: Any = ()) -> Any:
    return _scan(t, function, [], _list(scanned), _list(captured))


def _scan(t: Translator, graph: Any, carried: list[Any], scanned: list[Any], captured: list[Any]) -> Any:
    if not all(isinstance(value, Tensor) for value in (*carried, *scanned)):
        raise ArgumentError("a scan over numbers is not supported")
    slices = [(x.dtype, tuple("" if n is None else n for n in x.shape[1:])) for x in scanned]
    body = Body(t, [*((v.dtype, _sizes(v)) for v in carried), *slices])
    values = [_own(name, value) for name, value in zip(body.own, carried, strict=False)]
    values += [
        Tensor(name, x.dtype, x.shape[1:]) for name, x in zip(body.own[len(carried) :], scanned, strict=True)
    ]
    results = body.inner.run(graph, [*values, *(body.capture(value) for value in captured)])
    inputs = (*carried, *scanned, *body.captured)
    return t.add_all(
        "Scan",
        inputs,
        len(results),
        body=body.finish(graph, results),
        num_scan_inputs=len(scanned),
        captured=len(body.captured),
    )


@_operator("wrap_with_set_grad_enabled")
def wrap_with_set_grad_enabled(t: Translator, enabled: bool, graph: Any, *operands: Any) -> Any:
    return t.run(graph, operands)


@_operator("wrap_with_autocast")
def wrap_with_autocast(
    t: Translator, device: Any, dtype: Any, enabled: Any, cache: Any, graph: Any, *operands: Any
) -> Any:
    return t.run(graph, operands)
