"""Elementwise operations: arithmetic, comparison, logic and bits."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..node import AnyArray, Node, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .integer_fusion import fuse
from .registry import (
    Inputs,
    Known,
    broadcast,
    broadcast_booleans,
    broadcast_shape,
    combining,
    common_dtype,
    elementwise,
    known,
    like_first,
    lowering,
    operation,
    typed_view,
    view,
)

Function = Callable[..., Any]
Functions = dict[str, Function]


def where_signature(condition: Known, x: Known, y: Known) -> Signature:
    """The output has the broadcast shape of the inputs and the dtype of x and y."""
    return Signature(broadcast_shape(condition.shape, x.shape, y.shape), common_dtype(x, y))


def power_signature(x: Known, exponent: Known) -> Signature:
    """The output has the broadcast shape of the inputs and the dtype of x."""
    return Signature(broadcast_shape(x.shape, exponent.shape), x.dtype)


def like_first_boolean(x: Known, **attributes: Any) -> Signature:
    """The output has the shape of the input; its dtype is bool."""
    return Signature(x.shape, np.dtype(bool))


# Functions of one array. NumPy's vectorized functions may round differently along strided axes, so that they
# always run on contiguous arrays.


def _define_unary(name: str, function: Function, widens: bool = True) -> None:
    @operation(name, signature=like_first, widens=widens)
    def compute(x: AnyArray) -> Any:
        return function(np.asarray(x, order="C"))


UNARY_FUNCTIONS: Functions = {
    **{"Abs": np.abs, "Neg": np.negative, "Sign": np.sign},
    **{"Ceil": np.ceil, "Floor": np.floor, "Round": np.rint},  # rint rounds halves to even
    **{"Log": np.log, "Reciprocal": np.reciprocal, "Sqrt": np.sqrt},
    **{"Sin": np.sin, "Cos": np.cos, "Tan": np.tan, "Asin": np.arcsin, "Acos": np.arccos},
    **{"Atan": np.arctan, "Sinh": np.sinh, "Cosh": np.cosh, "Asinh": np.arcsinh, "Acosh": np.arccosh},
    "Atanh": np.arctanh,
}
for _name, _function in UNARY_FUNCTIONS.items():
    _define_unary(_name, _function)
BITWISE_UNARY: Functions = {"BitwiseNot": np.invert}
for _name, _function in BITWISE_UNARY.items():
    _define_unary(_name, _function, widens=False)


@operation("Not", signature=like_first_boolean)
def not_(x: AnyArray) -> Any:
    return np.logical_not(x)


@operation("IsNaN", signature=like_first_boolean)
def is_nan(x: AnyArray) -> Any:
    return np.isnan(x)


@operation("IsInf", signature=like_first_boolean)
def is_inf(x: AnyArray, *, detect_negative: int = 1, detect_positive: int = 1) -> Any:
    found = np.isinf(x)
    if not detect_negative:
        found &= x > 0
    if not detect_positive:
        found &= x < 0
    return found


# Functions of two arrays, with broadcasting.


def _define_binary(name: str, function: Function, rule: Any = broadcast, widens: bool = False) -> None:
    @operation(name, signature=rule, widens=widens)
    def compute(a: AnyArray, b: AnyArray) -> Any:
        return function(a, b)


def _divide(a: AnyArray, b: AnyArray) -> Any:
    """a / b; the quotient of integers is rounded toward zero."""
    if a.dtype.kind not in "iu":
        return np.divide(a, b)
    quotient, remainder = np.divmod(a, b)
    return (quotient + ((remainder != 0) & ((a < 0) != (b < 0)))).astype(a.dtype)


ARITHMETIC: Functions = {**{"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divide}}
for _name, _function in ARITHMETIC.items():
    _define_binary(_name, _function, widens=True)
PREDICATES: Functions = {
    **{"Equal": np.equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal},
    **{"Less": np.less, "LessOrEqual": np.less_equal},
    **{"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor},
}
for _name, _function in PREDICATES.items():
    _define_binary(_name, _function, broadcast_booleans)
BITWISE: Functions = {
    **{"BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor}
}
for _name, _function in BITWISE.items():
    _define_binary(_name, _function)


@operation("BitShift", signature=broadcast)
def bit_shift(a: AnyArray, b: AnyArray, *, direction: str) -> Any:
    shifts = {"LEFT": np.left_shift, "RIGHT": np.right_shift}
    if direction not in shifts:
        raise ArgumentError(f"direction={direction!r}; expected LEFT or RIGHT")
    return shifts[direction](a, b)


@operation("Mod", signature=broadcast, widens=True)
def mod(a: AnyArray, b: AnyArray, *, fmod: int = 0) -> Any:
    """The remainder has the sign of b, or the sign of a with `fmod`."""
    return np.fmod(a, b) if fmod else np.mod(a, b)


@operation("Pow", signature=power_signature)
def power(x: AnyArray, exponent: AnyArray) -> Any:
    """The result has the dtype of x, whatever the dtype of the exponent."""
    if x.dtype.kind in "iu" and exponent.dtype.kind == "i" and (exponent < 0).any():
        exponent = exponent.astype(np.float64)  # NumPy rejects negative powers of integers
    return np.power(np.asarray(x, order="C"), np.asarray(exponent, order="C")).astype(x.dtype)


@power.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, exponent = view(b, inputs[0]), known(inputs[1])
    if x is None or exponent is None or exponent.size != 1 or shapes[0] != x.shape:
        return None
    match float(exponent.item()):
        case 2.0:
            return [b.binary("multiply", x, x)]
        case 3.0:
            return [b.binary("multiply", b.binary("multiply", x, x), x)]
        case 4.0:
            square = b.binary("multiply", x, x)
            return [b.binary("multiply", square, square)]
        case 0.5:
            return [b.map("unary", "sqrt", x)]
        case -1.0:
            return [b.map("unary", "reciprocal", x)]
    return None


# Functions of any number of arrays, combined from the first to the last.


def _define_variadic(name: str, function: Function) -> None:
    @operation(name, signature=broadcast, widens=True)
    def compute(*arrays: AnyArray) -> Any:
        return reduce(function, arrays)


VARIADIC: Functions = {"Max": np.maximum, "Min": np.minimum, "Sum": np.add}
for _name, _function in VARIADIC.items():
    _define_variadic(_name, _function)


@operation("Mean", signature=broadcast, widens=True)
def mean(*arrays: AnyArray) -> Any:
    return reduce(np.add, arrays) / len(arrays)


@operation("Where", signature=where_signature)
def where(condition: AnyArray, x: AnyArray, y: AnyArray) -> Any:
    return np.where(condition, x, y)


@operation("Clip", signature=like_first, widens=True)
def clip(x: AnyArray, low: AnyArray | None = None, high: AnyArray | None = None) -> Any:
    """The minimum is applied first: if it exceeds the maximum, all elements become the maximum."""
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


BINARY = {
    **{"Add": "add", "Sum": "add", "Mean": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide"},
    **{"Max": "maximum", "Min": "minimum"},
}
UNARY = {
    **{"Abs": "absolute", "Ceil": "ceil", "Cos": "cosine", "Floor": "floor", "Log": "log", "Neg": "negative"},
    **{"Reciprocal": "reciprocal", "Round": "round", "Sign": "sign", "Sin": "sine", "Sqrt": "sqrt"},
}


# For booleans, the minimum is "and" and the maximum is "or".
LOGICAL = {"And": "minimum", "Or": "maximum"}
# The comparison, and whether it takes the operands in the opposite order.
COMPARISONS = {
    "Equal": ("equal", False),
    "Xor": ("not_equal", False),
    "Less": ("less", False),
    "LessOrEqual": ("less_or_equal", False),
    "Greater": ("less", True),
    "GreaterOrEqual": ("less_or_equal", True),
}


@lowering(*COMPARISONS)
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    A, B = (typed_view(b, value) for value in inputs)
    if A is None or B is None or A.dtype != B.dtype:
        return None
    operation, swapped = COMPARISONS[node.operation]
    return [b.compare(operation, B, A) if swapped else b.compare(operation, A, B)]


@lowering("IsNaN")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = typed_view(b, inputs[0])
    return x and [b.compare("not_equal", x, x)]


@lowering("Not")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = typed_view(b, inputs[0])
    return None if x is None or x.dtype != "bool" else [b.compare("equal", x, b.scalar(False, "bool"))]


@where.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    condition, x, y = (typed_view(b, value) for value in inputs)
    if condition is None or condition.dtype != "bool" or x is None or y is None or x.dtype != y.dtype:
        return None
    return [b.where(condition, x, y)]


@lowering(*BINARY, *LOGICAL)
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    views = [x for value in inputs if (x := typed_view(b, value)) is not None]
    if len(views) < len(inputs) or len({x.dtype for x in views}) > 1:
        return None
    if node.operation in ("Div", "Mean") and views[0].dtype not in ("float32", "float64"):
        return None
    function = (BINARY | LOGICAL)[node.operation]
    if len(views) == 2:
        for value, x, other in zip(inputs, views, reversed(views), strict=True):
            if value is not None and value.used_once and (y := fuse(b, function, x, other)):
                return [y]
    total = reduce(lambda x, y: b.binary(function, x, y), views)
    return [b.binary("divide", total, b.scalar(len(views)))] if node.operation == "Mean" else [total]


@lowering(*UNARY)
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    return x and [b.map("unary", UNARY[node.operation], x)]


@clip.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    if x is None or any(value is not None and not value.known for value in inputs[1:]):
        return None
    for function, value in zip(("maximum", "minimum"), inputs[1:], strict=False):
        if value is not None:
            x = b.binary(function, x, b.scalar(float(value.array.item())))
    return [x]


combining(
    *UNARY_FUNCTIONS, *BITWISE_UNARY, *ARITHMETIC, *PREDICATES, *BITWISE, *VARIADIC, "Not", "IsNaN", "IsInf",
    "BitShift", "Mod", "Pow", "Mean", "Where", "Clip",
)(elementwise)  # fmt: skip
