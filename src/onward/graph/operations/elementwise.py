"""Elementwise operations: arithmetic, comparison, logic and bits."""

from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np

from ...core.functions import unary
from ...errors import ArgumentError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import DTYPES, View
from ..sized import broadcast_shape
from . import expressions
from .compositions import composed, composing
from .integer_fusion import fuse
from .registry import Inputs, Operation, elementwise, elementwise_operation, operation
from .signatures import broadcast, broadcast_booleans, common_dtype, like_first_boolean
from .value import typed_view

# Functions of one array.

FLOATS, INTEGERS = {"float32", "float64"}, {"int8", "uint8", "int32", "int64"}
MAX_WHOLE = 2.0**63  # of the float exponents of integers that are exact
POWERS = (1.0, 2.0, 3.0, 4.0, 0.5, -1.0, -0.5, -2.0)  # that have steps of their own


def _define_unary(name: str, function: Any, core: str | None = None, **options: Any) -> Operation:
    """Define a function of one array; `core` is its name in the core, which computes floats if it has it."""

    @elementwise_operation(name, **options)
    def compute(x: AnyArray) -> Any:
        x = np.asarray(x, order="C")  # NumPy may round differently along strided axes
        if core is None or x.dtype not in (np.float32, np.float64):
            return function(x)
        return unary(core, x)

    if core is None:
        return compute

    @compute.steps(FLOATS | (INTEGERS if core in ("absolute", "negative", "sign") else set()))
    def _(b: Builder, x: View) -> View:
        return b.map("unary", core, x)

    compute.element = lambda: ("unary", core)
    return compute


_rows: list[tuple[str, Any, str]] = [
    ("Sign", np.sign, "sign"),
    ("Ceil", np.ceil, "ceil"),
    ("Floor", np.floor, "floor"),
    ("Round", np.rint, "round"),  # halves to even
    ("Log", np.log, "log"),
    ("Reciprocal", np.reciprocal, "reciprocal"),
    ("Sqrt", np.sqrt, "sqrt"),
    ("Sin", np.sin, "sine"),
    ("Cos", np.cos, "cosine"),
]
for _row in _rows:
    _define_unary(*_row)
_define_unary("Abs", np.abs, "absolute", takes_sizes=True)
_define_unary("Neg", np.negative, "negative", takes_sizes=True)
for _name in ("tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "arcsinh", "arccosh", "arctanh"):
    _define_unary(_name.replace("arc", "a").capitalize(), getattr(np, _name))
bitwise_not = _define_unary("BitwiseNot", np.invert, widens=False)
logical_not = _define_unary("Not", np.logical_not, signature=like_first_boolean, widens=False)
is_nan = _define_unary("IsNaN", np.isnan, signature=like_first_boolean, widens=False)


def inverted(b: Builder, x: View) -> View:
    """Return integers with the opposite bits, or the negation of booleans."""
    if x.dtype == "bool":
        return b.combined("compare", "equal", x, b.scalar(False, "bool"))
    return b.binary("subtract", b.constant(np.invert(np.zeros((), x.dtype))), x)


bitwise_not.steps(DTYPES)(inverted)
logical_not.steps(["bool"])(inverted)
is_nan.steps(DTYPES)(lambda b, x: b.combined("compare", "not_equal", x, x, dtype="bool"))


# Functions of two arrays, with broadcasting.


def _divide(a: AnyArray, b: AnyArray) -> Any:
    """a / b; the quotient of integers is rounded toward zero, and 0 if b is 0."""
    if a.dtype.kind not in "iuO":
        return np.divide(a, b)
    quotient = np.floor_divide(a, b)
    are_opposite = (a < 0) != (b < 0)
    if not are_opposite.any():
        return quotient
    return quotient + ((a - quotient * b != 0) & are_opposite & (b != 0))


def _larger(a: AnyArray, b: AnyArray) -> Any:
    """The first of two equal numbers, as in the core; np.maximum may return either -0 or 0."""
    return np.where((a >= b) | (a != a), a, b)


def _smaller(a: AnyArray, b: AnyArray) -> Any:
    return np.where((a <= b) | (a != a), a, b)


def _of_two(a: Operand, b: Operand) -> Signature:
    return broadcast(a, b)


def _define_combined(name: str, function: Any, core: str, rule: Any = _of_two) -> None:
    """Define a function that combines arrays from the first to the last; `core` is its name in the core."""

    @elementwise_operation(name, signature=rule, widens=rule is not broadcast_booleans, takes_sizes=True)
    def compute(*arrays: AnyArray) -> Any:
        return reduce(function, arrays)

    compute.element = lambda: ("binary", core)

    @compute.lowering
    def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
        views = [x for value in inputs if (x := typed_view(b, value)) is not None]
        if len(views) < len(inputs) or len({x.dtype for x in views}) > 1:
            return None
        if len(views) == 2 and b.has_integer_products:
            for value, x, other in zip(inputs, views, reversed(views), strict=True):
                if value is not None and value.used_once and (y := fuse(b, core, x, other)):
                    return [y]
        return [reduce(partial(b.binary, core), views)]


_define_combined("Add", np.add, "add")
_define_combined("Sub", np.subtract, "subtract")
_define_combined("Mul", np.multiply, "multiply")
_define_combined("Div", _divide, "divide")
_define_combined("And", np.logical_and, "minimum", broadcast_booleans)
_define_combined("Or", np.logical_or, "maximum", broadcast_booleans)
_define_combined("Max", _larger, "maximum", broadcast)
_define_combined("Min", _smaller, "minimum", broadcast)
_define_combined("Sum", np.add, "add", broadcast)


def _define_predicate(
    name: str, function: Any, step: str, core: str, is_swapped: bool = False, is_bitwise: bool = False
) -> None:
    """Define a function of two arrays, whose step in the core makes booleans, perhaps of swapped operands.

    If it is bitwise, its result has the dtype of the operands, and the core computes that of booleans.
    """
    rule = broadcast if is_bitwise else broadcast_booleans

    @elementwise_operation(name, signature=rule, widens=False, takes_sizes=not is_bitwise)
    def compute(a: AnyArray, b: AnyArray) -> Any:
        return function(a, b)

    @compute.steps(["bool"] if is_bitwise else DTYPES)
    def _(b: Builder, first: View, second: View) -> View | None:
        operands = (second, first) if is_swapped else (first, second)
        return b.combined(step, core, *operands, dtype="bool") if first.dtype == second.dtype else None


_define_predicate("Equal", np.equal, "compare", "equal")
_define_predicate("Xor", np.logical_xor, "compare", "not_equal")
_define_predicate("Less", np.less, "compare", "less")
_define_predicate("LessOrEqual", np.less_equal, "compare", "less_or_equal")
_define_predicate("Greater", np.greater, "compare", "less", is_swapped=True)
_define_predicate("GreaterOrEqual", np.greater_equal, "compare", "less_or_equal", is_swapped=True)
_define_predicate("BitwiseAnd", np.bitwise_and, "binary", "minimum", is_bitwise=True)
_define_predicate("BitwiseOr", np.bitwise_or, "binary", "maximum", is_bitwise=True)
_define_predicate("BitwiseXor", np.bitwise_xor, "compare", "not_equal", is_bitwise=True)


@elementwise_operation("BitShift", signature=broadcast, widens=False)
def bit_shift(a: AnyArray, b: AnyArray, *, direction: str) -> Any:
    shifts = {"LEFT": np.left_shift, "RIGHT": np.right_shift}
    if direction not in shifts:
        raise ArgumentError(f"direction={direction!r}; expected LEFT or RIGHT")
    return shifts[direction](a, b)


@elementwise_operation("Mod", signature=broadcast, takes_sizes=True)
def mod(a: AnyArray, b: AnyArray, *, fmod: int = 0) -> Any:
    """The remainder, with the sign of b, or of a if `fmod`; an integer modulo 0 is itself."""
    y = np.fmod(a, b) if fmod else np.mod(a, b)
    are_integers = a.dtype.kind in "iu" and b.dtype.kind in "iu"
    return np.where(b == 0, a, y) if are_integers and not np.all(b) else y


@composing(mod, lambda inputs: inputs[0].dtype.name in INTEGERS)
def _(x: Any, divisor: Any, *, fmod: int = 0) -> Any:
    """x without the whole multiples of the divisor; the remainder of floats is exact only in NumPy."""
    rest = x - x / divisor * divisor
    differs = (rest < 0).apply("Xor", divisor < 0) & ~rest.equals(0)
    return rest if fmod else expressions.where(differs, rest + divisor, rest)


@elementwise_operation(
    "Pow", signature=lambda x, p: Signature(broadcast_shape(x.shape, p.shape), x.dtype), widens=False
)
def power(x: AnyArray, exponent: AnyArray) -> Any:
    """The result has the dtype of x, whatever the dtype of the exponent."""
    if x.dtype.kind in "iu" and exponent.dtype.kind == "f":
        is_whole = np.abs(exponent) < MAX_WHOLE
        is_whole &= exponent == np.rint(exponent)
        roots = np.power(x.astype(np.float64), exponent).astype(x.dtype)
        whole = np.where(is_whole, exponent, 0).astype(np.int64)
        return np.where(is_whole, _integer_power(x, whole), roots)
    if x.dtype.kind in "iu":
        return _integer_power(x, exponent)
    if exponent.size == 1 and x.dtype.kind == "f" and (power := float(exponent.item())) in POWERS:
        y = _few_steps(power, x, np.multiply, np.sqrt, np.reciprocal)
        return np.broadcast_to(y, broadcast_shape(x.shape, exponent.shape))
    return np.power(np.asarray(x, order="C"), np.asarray(exponent, order="C")).astype(x.dtype)


def _integer_power(x: AnyArray, exponent: AnyArray) -> AnyArray:
    """x^exponent of integers, exact modulo overflow; negative powers are 0, 1 or -1."""
    power = np.power(x, np.maximum(exponent, 0), dtype=np.result_type(x, np.int64)).astype(x.dtype)
    unit = np.where(exponent % 2 == 0, x * x, x) * (np.abs(x) == 1)
    return np.where(exponent < 0, unit, power).astype(x.dtype)


@power.steps(FLOATS | INTEGERS, views=(0,))
def _(b: Builder, x: View, exponent: AnyArray) -> View | None:
    number = float(exponent.item()) if exponent.size == 1 and exponent.ndim <= len(x.shape) else 0.0
    if number not in POWERS or (x.dtype in INTEGERS and number < 1):
        return None
    multiply, step = partial(b.binary, "multiply"), partial(b.map, "unary")
    y: View = _few_steps(number, x, multiply, partial(step, "sqrt"), partial(step, "reciprocal"))
    return y


def _few_steps(power: float, x: Any, multiply: Any, sqrt: Any, reciprocal: Any) -> Any:
    """Return one of the POWERS of x, which the core and NumPy compute alike."""
    match power:
        case 1.0:
            return x
        case 2.0:
            return multiply(x, x)
        case 3.0:
            return multiply(multiply(x, x), x)
        case 4.0:
            square = multiply(x, x)
            return multiply(square, square)
        case 0.5:
            return sqrt(x)
        case -1.0:
            return reciprocal(x)
        case -0.5:
            return reciprocal(sqrt(x))
        case _:
            inverse = reciprocal(x)  # the square of small numbers may be 0
            return multiply(inverse, inverse)


def _where_signature(condition: Operand, x: Operand, y: Operand) -> Signature:
    return Signature(broadcast_shape(condition.shape, x.shape, y.shape), common_dtype(x, y))


@operation("Where", signature=_where_signature, combines=elementwise, takes_sizes=True)
def where(condition: AnyArray, x: AnyArray, y: AnyArray) -> Any:
    return np.where(condition, x, y)


@where.steps(DTYPES)
def _(b: Builder, condition: View, x: View, y: View) -> View | None:
    fits = condition.dtype == "bool" and x.dtype == y.dtype
    return b.combined("where", condition, x, y) if fits else None


# Compositions.


@composed("Mean", widens=True)
def mean(*arrays: Any) -> Any:
    """The mean of arrays, elementwise."""
    return reduce(add, arrays) / len(arrays)


@composed("Clip", widens=True, has_steps=True)
def clip(x: Any, low: Any = None, high: Any = None) -> Any:
    """The minimum is applied first: if it exceeds the maximum, all elements become the maximum."""
    for function, limit in (("Max", low), ("Min", high)):
        if limit is not None:
            x = x.apply(function, limit.apply("Reshape", []) if limit.rank else limit)
    return x


@composed("IsInf", has_steps=True)
def is_inf(x: Any, *, detect_negative: int = 1, detect_positive: int = 1) -> Any:
    """Whether elements are infinite, of the signs to detect."""
    wide = x.cast(np.float64) if x.dtype.kind in "iub" else x
    if not (detect_negative or detect_positive):
        return wide < wide
    size = abs(wide) if detect_negative and detect_positive else wide
    return size.equals(np.inf if detect_positive else -np.inf)
