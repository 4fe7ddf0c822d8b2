"""ATen's elementwise operators: arithmetic, comparisons, logic, and functions of one number."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .promotion import promoted
from .registry import BOOL, FLOAT32, OPERATORS, Operand, Tensor, Translator, aten


def floating(*values: Operand) -> np.dtype[Any]:
    """Return the promoted dtype, or float32 if that is not a dtype of floats."""
    dtype = promoted(*values)
    return dtype if dtype.kind in "fc" else FLOAT32


def binary(t: Translator, operation: str, a: Operand, b: Operand, dtype: Any = None) -> str:
    """Add an operation on two operands of one dtype, by default the promoted one."""
    dtype = promoted(a, b) if dtype is None else dtype
    return t.add(operation, t.cast(a, dtype), t.cast(b, dtype))


@aten("add.Tensor", "add.Scalar")
def add(t: Translator, self: Operand, other: Operand, alpha: Any = 1) -> str:
    dtype = promoted(self, other)
    if dtype == BOOL:
        return binary(t, "Or", self, other)
    if alpha == 1:
        return binary(t, "Add", self, other)
    return t.add("Add", t.cast(self, dtype), t.add("Mul", t.cast(other, dtype), t.cast(alpha, dtype)))


@aten("sub.Tensor", "sub.Scalar")
def sub(t: Translator, self: Operand, other: Operand, alpha: Any = 1) -> str:
    if alpha == 1:
        return binary(t, "Sub", self, other)
    dtype = promoted(self, other)
    return t.add("Sub", t.cast(self, dtype), t.add("Mul", t.cast(other, dtype), t.cast(alpha, dtype)))


@aten("rsub.Tensor", "rsub.Scalar")
def rsub(t: Translator, self: Operand, other: Operand, alpha: Any = 1) -> str:
    return sub(t, other, self, alpha)


@aten("mul.Tensor", "mul.Scalar", "multiply.Tensor")
def mul(t: Translator, self: Operand, other: Operand) -> str:
    dtype = promoted(self, other)
    if dtype.kind == "c":
        return _complex_product(t, t.cast(self, dtype), t.cast(other, dtype), 1)
    return binary(t, "And" if dtype == BOOL else "Mul", self, other)


def parts(t: Translator, pairs: Any) -> tuple[str, str]:
    """Return the real and imaginary parts of complex numbers."""
    return t.add("Gather", pairs, t.constant(0), axis=-1), t.add("Gather", pairs, t.constant(1), axis=-1)


def as_pairs(t: Translator, real: str, imaginary: str) -> str:
    """Return complex numbers from their parts."""
    stacked = [t.add("Unsqueeze", part, t.constant([-1])) for part in (real, imaginary)]
    return t.add("Concat", *stacked, axis=-1)


def _complex_product(t: Translator, a: str, b: str, sign: int) -> str:
    """a b, or a conj(b) if the sign is -1."""
    (ar, ai), (br, bi) = parts(t, a), parts(t, b)
    first, second = ("Sub", "Add") if sign > 0 else ("Add", "Sub")
    real = t.add(first, t.add("Mul", ar, br), t.add("Mul", ai, bi))
    return as_pairs(t, real, t.add(second, t.add("Mul", ai, br), t.add("Mul", ar, bi)))


@aten("div.Tensor", "div.Scalar", "true_divide.Tensor", "divide.Tensor")
def div(t: Translator, self: Operand, other: Operand) -> str:
    dtype = floating(self, other)
    if dtype.kind == "c" and not (isinstance(other, Tensor) and other.dtype.kind == "c"):
        part = t.cast(other, np.float32 if dtype == np.complex64 else np.float64)
        return t.add("Div", t.cast(self, dtype), t.add("Unsqueeze", part, t.constant([-1])))
    if dtype.kind == "c":
        pairs = t.cast(other, dtype)
        square = t.add("ReduceSumSquare", pairs, t.constant([-1]))
        return t.add("Div", _complex_product(t, t.cast(self, dtype), pairs, -1), square)
    return binary(t, "Div", self, other, dtype)


@aten("div.Tensor_mode", "div.Scalar_mode")
def div_mode(t: Translator, self: Operand, other: Operand, rounding_mode: str | None = None) -> str:
    if rounding_mode is None:
        return div(t, self, other)
    if rounding_mode == "floor":
        return floor_divide(t, self, other)
    dtype = promoted(self, other)
    quotient = binary(t, "Div", self, other)
    return quotient if dtype.kind in "iu" else _truncate(t, quotient, dtype)


@aten("floor_divide", "floor_divide.Scalar")
def floor_divide(t: Translator, self: Operand, other: Operand) -> str:
    dtype = promoted(self, other)
    if dtype.kind == "f":
        return t.add("Floor", binary(t, "Div", self, other))
    a, b = t.cast(self, dtype), t.cast(other, dtype)
    return t.add("Div", t.add("Sub", a, t.add("Mod", a, b)), b)


def _truncate(t: Translator, x: str, dtype: Any) -> str:
    return t.add("Where", t.add("Less", x, t.cast(0, dtype)), t.add("Ceil", x), t.add("Floor", x))


@aten("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
def remainder(t: Translator, self: Operand, other: Operand) -> str:
    return binary(t, "Mod", self, other)


@aten("fmod.Tensor", "fmod.Scalar")
def fmod(t: Translator, self: Operand, other: Operand) -> str:
    dtype = promoted(self, other)
    return t.add("Mod", t.cast(self, dtype), t.cast(other, dtype), fmod=1)


@aten("pow.Tensor_Tensor", "pow.Tensor_Scalar", "pow.Scalar")
def power(t: Translator, self: Operand, exponent: Operand) -> str:
    return binary(t, "Pow", self, exponent)


def _define_binary(operation: str, *names: str) -> None:
    @aten(*names)
    def function(t: Translator, self: Operand, other: Operand) -> str:
        return binary(t, operation, self, other)


for _operation, _names in {
    "Max": ["maximum", "fmax", "max.other"],
    "Min": ["minimum", "fmin", "min.other"],
    "Equal": ["eq.Tensor", "eq.Scalar"],
    "Greater": ["gt.Tensor", "gt.Scalar", "greater.Tensor", "greater.Scalar"],
    "GreaterOrEqual": ["ge.Tensor", "ge.Scalar", "greater_equal.Tensor", "greater_equal.Scalar"],
    "Less": ["lt.Tensor", "lt.Scalar", "less.Tensor", "less.Scalar"],
    "LessOrEqual": ["le.Tensor", "le.Scalar", "less_equal.Tensor", "less_equal.Scalar"],
}.items():
    _define_binary(_operation, *_names)


@aten("ne.Tensor", "ne.Scalar", "not_equal.Tensor", "not_equal.Scalar")
def not_equal(t: Translator, self: Operand, other: Operand) -> str:
    return t.add("Not", binary(t, "Equal", self, other))


def _define_logic(name: str, operation: str) -> None:
    @aten(f"logical_{name}")
    def logical(t: Translator, self: Operand, other: Operand) -> str:
        return binary(t, operation, self, other, BOOL)

    bits = {"And": "BitwiseAnd", "Or": "BitwiseOr", "Xor": "BitwiseXor"}[operation]

    @aten(
        *(f"bitwise_{name}.{kind}" for kind in ("Tensor", "Scalar")),
        f"__{name}__.Tensor",
        f"__{name}__.Scalar",
    )
    def bitwise(t: Translator, self: Operand, other: Operand) -> str:
        dtype = promoted(self, other)
        if dtype.kind not in "iub":
            raise ArgumentError(f"the operands have dtype {dtype}; expected integers or booleans")
        return binary(t, operation if dtype == BOOL else bits, self, other)


for _name, _operation in {"and": "And", "or": "Or", "xor": "Xor"}.items():
    _define_logic(_name, _operation)


@aten("logical_not")
def logical_not(t: Translator, self: Operand) -> str:
    return t.add("Not", t.cast(self, BOOL))


@aten("bitwise_not")
def bitwise_not(t: Translator, self: Tensor) -> str:
    if self.dtype.kind not in "iub":
        raise ArgumentError(f"the operand has dtype {self.dtype}; expected integers or booleans")
    return t.add("Not" if self.dtype == BOOL else "BitwiseNot", self)


@aten("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(t: Translator, condition: Tensor, self: Operand, other: Operand) -> str:
    dtype = promoted(self, other)
    return t.add("Where", t.cast(condition, BOOL), t.cast(self, dtype), t.cast(other, dtype))


@aten("clamp", "clamp.Tensor", "clip", "hardtanh")
def clamp(
    t: Translator, self: Tensor, min: Any = None, max: Any = None, min_val: Any = -1.0, max_val: Any = 1.0
) -> str:
    if min is None and max is None:
        min, max = min_val, max_val
    dtype = promoted(self, *(bound for bound in (min, max) if bound is not None))
    bounds = [None if bound is None else t.cast(bound, dtype) for bound in (min, max)]
    if any(isinstance(bound, Tensor) for bound in (min, max)):
        x = t.cast(self, dtype)
        x = x if bounds[0] is None else t.add("Max", x, bounds[0])
        return x if bounds[1] is None else t.add("Min", x, bounds[1])
    return t.add("Clip", t.cast(self, dtype), *bounds)


@aten("clamp_min", "clamp_min.Tensor")
def clamp_min(t: Translator, self: Tensor, min: Any) -> str:
    return clamp(t, self, min)


@aten("clamp_max", "clamp_max.Tensor")
def clamp_max(t: Translator, self: Tensor, max: Any) -> str:
    return clamp(t, self, None, max)


@aten("lerp.Scalar", "lerp.Tensor")
def lerp(t: Translator, self: Tensor, end: Tensor, weight: Operand) -> str:
    difference = t.add("Sub", end, self)
    return t.add("Add", self, t.add("Mul", t.cast(weight, self.dtype), difference))


@aten("addcmul")
def addcmul(t: Translator, self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1) -> str:
    dtype = promoted(self, tensor1, tensor2)
    product = t.add("Mul", t.cast(tensor1, dtype), t.cast(tensor2, dtype))
    return t.add("Add", t.cast(self, dtype), t.add("Mul", product, t.cast(value, dtype)))


@aten("addcdiv")
def addcdiv(t: Translator, self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1) -> str:
    dtype = floating(self, tensor1, tensor2)
    quotient = t.add("Div", t.cast(tensor1, dtype), t.cast(tensor2, dtype))
    return t.add("Add", t.cast(self, dtype), t.add("Mul", quotient, t.cast(value, dtype)))


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(t: Translator, self: Tensor, mask: Tensor, value: Operand) -> str:
    if mask.dtype != BOOL:
        raise ArgumentError(f"the mask has dtype {mask.dtype}; expected booleans")
    return t.add("Where", mask, t.cast(value, self.dtype), self)


# Functions of one number.

FLOAT_FUNCTIONS = {
    **{name: name.capitalize() for name in ("log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan")},
    **{name: name.capitalize() for name in ("sinh", "cosh", "asinh", "acosh", "atanh", "erf", "exp")},
    **{name: name.capitalize() for name in ("reciprocal", "sigmoid", "tanh")},
}
SAME_FUNCTIONS = {"neg": "Neg", "sign": "Sign", "sgn": "Sign"}
ROUNDING = {"ceil": "Ceil", "floor": "Floor", "round": "Round"}


def _define_unary(name: str, operation: str, dtype: Callable[[Tensor], Any]) -> None:
    @aten(name)
    def function(t: Translator, self: Tensor) -> str:
        return t.add(operation, t.cast(self, dtype(self)))


for _name, _operation in FLOAT_FUNCTIONS.items():
    _define_unary(_name, _operation, floating)
for _name, _operation in SAME_FUNCTIONS.items():
    _define_unary(_name, _operation, lambda x: x.dtype)
for _alias, _name in {
    "arctan": "atan",
    "negative": "neg",
    "special_erf": "erf",
    "special_expit": "sigmoid",
}.items():
    OPERATORS[f"{_alias}.default"] = OPERATORS[f"{_name}.default"]


def _define_rounding(name: str, operation: str) -> None:
    @aten(name)
    def function(t: Translator, self: Tensor) -> Any:
        return t.add(operation if self.dtype.kind == "f" else "Identity", self)


for _name, _operation in ROUNDING.items():
    _define_rounding(_name, _operation)


@aten("abs", "absolute")
def absolute(t: Translator, self: Tensor) -> str:
    if self.dtype.kind == "c":
        return t.add("ReduceL2", self, t.constant([-1]), keepdims=0)
    return t.add("Abs", self)


@aten("trunc", "fix")
def trunc(t: Translator, self: Tensor) -> str:
    return (
        _truncate(t, t.cast(self, self.dtype), self.dtype)
        if self.dtype.kind == "f"
        else t.add("Identity", self)
    )


@aten("frac")
def frac(t: Translator, self: Tensor) -> str:
    return t.add("Sub", self, trunc(t, self))


@aten("rsqrt")
def rsqrt(t: Translator, self: Tensor) -> str:
    return t.add("Reciprocal", t.add("Sqrt", t.cast(self, floating(self))))


@aten("square")
def square(t: Translator, self: Tensor) -> str:
    return t.add("Mul", self, self)


@aten("expm1")
def expm1(t: Translator, self: Tensor) -> str:
    dtype = floating(self)
    return t.add("Sub", t.add("Exp", t.cast(self, dtype)), t.cast(1, dtype))


@aten("log1p")
def log1p(t: Translator, self: Tensor) -> str:
    dtype = floating(self)
    return t.add("Log", t.add("Add", t.cast(self, dtype), t.cast(1, dtype)))


@aten("exp2")
def exp2(t: Translator, self: Tensor) -> str:
    dtype = floating(self)
    return t.add("Exp", t.add("Mul", t.cast(self, dtype), t.cast(math.log(2), dtype)))


def _define_logarithm(name: str, base: float) -> None:
    @aten(name)
    def function(t: Translator, self: Tensor) -> str:
        dtype = floating(self)
        return t.add("Mul", t.add("Log", t.cast(self, dtype)), t.cast(1 / math.log(base), dtype))


_define_logarithm("log2", 2)
_define_logarithm("log10", 10)


@aten("atan2")
def atan2(t: Translator, self: Operand, other: Operand) -> str:
    """The angle of (other, self), from the arc tangent of the quotient."""
    dtype = floating(self, other)
    y, x, zero, pi = t.cast(self, dtype), t.cast(other, dtype), t.cast(0, dtype), t.cast(math.pi, dtype)
    angle = t.add("Atan", t.add("Div", y, x))
    y_negative, x_negative = t.add("Less", y, zero), t.add("Less", x, zero)
    turn = t.add("Where", y_negative, t.add("Neg", pi), pi)
    turned = t.add("Where", x_negative, t.add("Add", angle, turn), angle)
    both = t.add("And", t.add("Equal", x, zero), t.add("Equal", y, zero))
    return t.add("Where", both, zero, turned)


@aten("isnan")
def isnan(t: Translator, self: Tensor) -> str:
    return t.add("IsNaN", t.cast(self, floating(self)))


@aten("isinf")
def isinf(t: Translator, self: Tensor) -> str:
    return t.add("IsInf", t.cast(self, floating(self)))


@aten("isfinite")
def isfinite(t: Translator, self: Tensor) -> str:
    x = t.cast(self, floating(self))
    return t.add("Not", t.add("Or", t.add("IsNaN", x), t.add("IsInf", x)))


@aten("nan_to_num")
def nan_to_num(t: Translator, self: Tensor, nan: Any = None, posinf: Any = None, neginf: Any = None) -> str:
    limits = np.finfo(self.dtype)
    x = t.add("Where", t.add("IsNaN", self), t.cast(nan or 0.0, self.dtype), self)
    for value, bound, direction in (
        (posinf, float(limits.max), "detect_negative"),
        (neginf, float(limits.min), "detect_positive"),
    ):
        found = t.add("IsInf", x, **{direction: 0})
        x = t.add("Where", found, t.cast(bound if value is None else value, self.dtype), x)
    return x
