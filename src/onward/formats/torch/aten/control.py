"""Operators on numbers that a call determines, and higher-order operators, which become control flow."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from ....graph.graph import Graph, Input, close
from .elementwise import add, binary, floor_divide, mul, power, sub
from .expressions import dtype_of, promoted
from .registry import BOOL, FLOAT32, INT64, OPERATORS, Symbol, Tensor, aten, define, ignore
from .translator import Translator

FLOAT64 = np.dtype(np.float64)


def _symbol(t: Translator, value: Any) -> Symbol:
    """Return a number as a symbol."""
    return value if isinstance(value, Symbol) else Symbol(t.cast(value, dtype_of(value)), dtype_of(value))


def _symbolic(function: Callable[..., str], dtype: Any = None) -> Callable[..., Symbol]:
    return lambda t, *operands: Symbol(
        function(t, *operands), promoted(*operands) if dtype is None else dtype
    )


def _quotient(t: Translator, a: Any, b: Any) -> str:
    is_single = isinstance(a, float | int) and isinstance(b, float)
    return binary(t, "Div", a, b, FLOAT32 if is_single else FLOAT64)


define({
    "_operator.add": _symbolic(add),
    "_operator.sub": _symbolic(sub),
    "_operator.mul": _symbolic(mul),
    "_operator.floordiv": _symbolic(floor_divide),
    "_operator.mod": _symbolic(OPERATORS["remainder.Tensor"]),
    "_operator.pow": _symbolic(power),
    "_operator.truediv": _symbolic(_quotient, FLOAT64),
    "_operator.neg": _symbolic(lambda t, a: t.add("Neg", a)),
    "_operator.pos": _symbolic(lambda t, a: t.add("Identity", a)),
    "_operator.and_": _symbolic(lambda t, a, b: binary(t, "And", a, b, BOOL), BOOL),
    "_operator.or_": _symbolic(lambda t, a, b: binary(t, "Or", a, b, BOOL), BOOL),
    **{f"_operator.{name}": _symbolic(OPERATORS[f"{name}.Tensor"], BOOL) for name in (
        "eq", "gt", "ge", "lt", "le", "ne")},
    "torch.sym_max": _symbolic(OPERATORS["maximum.default"]),
    "torch.sym_min": _symbolic(OPERATORS["minimum.default"]),
    "torch.sym_not": _symbolic(lambda t, a: t.add("Not", a), BOOL),
    "torch.sym_float": _symbolic(lambda t, a: t.cast(a, FLOAT64), FLOAT64),
    "torch.sym_sqrt torch._sym_sqrt": _symbolic(lambda t, a: t.add("Sqrt", t.cast(a, FLOAT64)), FLOAT64),
    "torch.sym_int math.trunc": _symbolic(lambda t, a: t.cast(a, INT64), INT64),
    "math.ceil": _symbolic(lambda t, a: t.cast(Symbol(t.add("Ceil", a), a.dtype), INT64), INT64),
    "math.floor": _symbolic(lambda t, a: t.cast(Symbol(t.add("Floor", a), a.dtype), INT64), INT64),
    "sym_size.int": lambda t, self, dim: _symbol(t, t.size(self, dim)),
    "sym_numel": lambda t, self: Symbol(t.add("Size", self)),
    "_local_scalar_dense item": lambda t, self: Symbol(t.add("Reshape", self, []), self.dtype),
})  # fmt: skip
aten("sym_constrain_range sym_constrain_range_for_size _assert_scalar _assert_async.msg _assert_async")(
    ignore
)
aten("_assert_tensor_metadata _linalg_check_errors")(ignore)


def _body(t: Translator) -> Translator:
    """Return a translator that writes the body of a node."""
    inner = Translator(t.graph.body())
    inner.label = t.label
    return inner


def _inputs(inner: Translator, values: Sequence[Any]) -> list[Any]:
    """Declare inputs of a body with the dtypes and axes of these values, and return them."""
    graph = inner.graph
    return [_own(graph.add_input("input", dtype_of(value), _sizes(value)), value) for value in values]


def _outer(t: Translator, inner: Translator, values: Sequence[Any]) -> list[Any]:
    """Return outer values for use in a body. Copy the constants into it, so that its layers have weights."""
    found = [_own(t.named(x), x) if isinstance(x, Tensor | Symbol) else x for x in values]
    names = [x.name for x in found if isinstance(x, Tensor | Symbol)]
    inner.graph.constants |= {name: array for name in names if (array := t.known(name)) is not None}
    return found


def _finished(inner: Translator, results: Sequence[Any], before: Sequence[str] = ()) -> Graph:
    """Return the body with these outputs."""
    names = [inner.cast(result, dtype_of(result)) for result in results]
    inner.graph.outputs = (*before, *names)
    inner.graph.declared_outputs = (
        *(Input(name) for name in before),
        *(Input(name, dtype_of(r), _sizes(r)) for name, r in zip(names, results, strict=True)),
    )
    return inner.graph


def _sizes(value: Any) -> tuple[int | str, ...]:
    return tuple("" if size is None else size for size in value.shape) if isinstance(value, Tensor) else ()


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


@aten("higher_order.cond")
def cond(t: Translator, predicate: Any, then: Any, otherwise: Any, operands: Any = ()) -> Any:
    branches = {}
    for key, graph in (("then_branch", then), ("else_branch", otherwise)):
        inner = _body(t)
        branches[key] = _finished(inner, inner.run(graph, _outer(t, inner, _list(operands))))
    inputs = t.cast(predicate, BOOL), *close(*branches.values())
    return t.add_all("If", inputs, len(then.outputs), **branches)


@aten("higher_order.while_loop")
def while_loop(t: Translator, condition: Any, body: Any, carried: Any, captured: Any = ()) -> Any:
    carried, captured = _list(carried), _list(captured)
    (first,) = t.run(condition, [*carried, *captured])
    inner = _body(t)
    inner.graph.add_input("iteration", INT64, ())
    inner.graph.add_input("condition", BOOL, ())
    values, extra = _inputs(inner, carried), _outer(t, inner, captured)
    results = inner.run(body, [*values, *extra])
    (again,) = inner.run(condition, [*results, *extra])
    graph = _finished(inner, results, [inner.cast(again, BOOL)])
    starts, names = [t.cast(value, dtype_of(value)) for value in carried], close(graph)
    inputs = ("", t.cast(first, BOOL), *starts, *names)
    return t.add_all("Loop", inputs, len(results), body=graph, captured=len(names))


def _own(name: str, value: Any) -> Any:
    """Return the value of an input of a body, which is like the outer value at its first iteration."""
    is_tensor = isinstance(value, Tensor)
    return Tensor(name, value.dtype, value.shape) if is_tensor else Symbol(name, dtype_of(value))


def _scan(t: Translator, graph: Any, carried: list[Any], scanned: list[Any], captured: list[Any]) -> Any:
    if not all(isinstance(value, Tensor) for value in (*carried, *scanned)):
        raise ArgumentError("a scan over numbers is not supported")
    slices, inner = [Tensor("", x.dtype, x.shape[1:]) for x in scanned], _body(t)
    values = _inputs(inner, [*carried, *slices])
    body = _finished(inner, inner.run(graph, [*values, *_outer(t, inner, captured)]))
    inputs = (*carried, *scanned, *(names := close(body)))
    options = {"num_scan_inputs": len(scanned), "captured": len(names)}
    return t.add_all("Scan", inputs, len(body.outputs), body=body, **options)


define({
    "higher_order.scan": lambda t, combine, init, scanned, captured=(): (
        _scan(t, combine, _list(init), _list(scanned), _list(captured))),
    "higher_order.map_impl": lambda t, function, scanned, captured=(): (
        _scan(t, function, [], _list(scanned), _list(captured))),
    "higher_order.wrap_with_set_grad_enabled": lambda t, enabled, graph, *operands: t.run(graph, operands),
    "higher_order.wrap_with_autocast": lambda t, device, dtype, enabled, cache, graph, *operands: (
        t.run(graph, operands)),
})  # fmt: skip
