"""Operators on numbers that a call determines, such as sizes, and torch.export's assertions about them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .elementwise import add, binary, floor_divide, mul, power, remainder, sub
from .promotion import dtype_of, promoted
from .registry import BOOL, FLOAT32, INT64, OPERATORS, Symbol, Tensor, Translator, aten, ignore


def _symbol(t: Translator, value: Any) -> Symbol:
    """Return a number as a symbol."""
    return value if isinstance(value, Symbol) else Symbol(t.cast(value, dtype_of(value)), dtype_of(value))


def _define_symbolic(name: str, function: Callable[..., str], dtype: Any = None) -> None:
    def compute(t: Translator, *operands: Any) -> Symbol:
        first = promoted(*operands) if dtype is None else dtype
        return Symbol(function(t, *operands), first)

    OPERATORS[name] = compute


def _sym_division(t: Translator, a: Any, b: Any) -> str:
    return binary(
        t, "Div", a, b, FLOAT32 if isinstance(a, float | int) and isinstance(b, float) else np.float64
    )


for _name, _function in {
    "add": add,
    "sub": sub,
    "mul": mul,
    "floordiv": floor_divide,
    "mod": remainder,
}.items():
    _define_symbolic(f"_operator.{_name}", _function)
_define_symbolic("_operator.pow", power)
_define_symbolic("_operator.truediv", _sym_division, np.dtype(np.float64))
_define_symbolic("torch.sym_max", OPERATORS["maximum.default"])
_define_symbolic("torch.sym_min", OPERATORS["minimum.default"])
for _name in ("eq", "gt", "ge", "lt", "le", "ne"):
    _define_symbolic(f"_operator.{_name}", OPERATORS[f"{_name}.Tensor"], BOOL)
_define_symbolic("_operator.and_", lambda t, a, b: binary(t, "And", a, b, BOOL), BOOL)
_define_symbolic("_operator.or_", lambda t, a, b: binary(t, "Or", a, b, BOOL), BOOL)
_define_symbolic("_operator.neg", lambda t, a: t.add("Neg", a))
_define_symbolic("_operator.pos", lambda t, a: t.add("Identity", a))
_define_symbolic("torch.sym_not", lambda t, a: t.add("Not", a), BOOL)
_define_symbolic("torch.sym_float", lambda t, a: t.cast(a, np.float64), np.dtype(np.float64))
_define_symbolic("torch.sym_int", lambda t, a: t.cast(a, INT64), INT64)
_define_symbolic("math.trunc", lambda t, a: t.cast(a, INT64), INT64)
_define_symbolic("torch.sym_sqrt", lambda t, a: t.add("Sqrt", t.cast(a, np.float64)), np.dtype(np.float64))
_define_symbolic("torch._sym_sqrt", lambda t, a: t.add("Sqrt", t.cast(a, np.float64)), np.dtype(np.float64))
_define_symbolic("math.ceil", lambda t, a: t.cast(Symbol(t.add("Ceil", a), a.dtype), INT64), INT64)
_define_symbolic("math.floor", lambda t, a: t.cast(Symbol(t.add("Floor", a), a.dtype), INT64), INT64)


@aten("sym_size.int")
def sym_size(t: Translator, self: Tensor, dim: int) -> Symbol:
    return _symbol(t, t.size(self, dim))


@aten("sym_numel")
def sym_numel(t: Translator, self: Tensor) -> Symbol:
    return Symbol(t.add("Size", self))


@aten("_local_scalar_dense", "item")
def item(t: Translator, self: Tensor) -> Symbol:
    return Symbol(t.add("Reshape", self, t.constant([], np.int64)), self.dtype)


aten(
    *("sym_constrain_range", "sym_constrain_range_for_size", "_assert_scalar", "_assert_async.msg"),
    *("_assert_async", "_assert_tensor_metadata", "_linalg_check_errors"),
)(ignore)
