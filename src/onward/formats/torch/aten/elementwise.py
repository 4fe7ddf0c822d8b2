"""ATen's elementwise operators: arithmetic, comparisons, logic, and functions of one number."""

import math
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .expressions import (
    atan,
    define,
    erf,
    exp,
    floating,
    is_infinite,
    is_nan,
    log,
    maximum,
    reciprocal,
    sin,
    sqrt,
    square,
    unary,
    where,
    x_times,
)
from .promotion import promoted
from .registry import BOOL, Operand, Tensor, Translator, aten


def binary(t: Translator, operation: str, a: Operand, b: Operand, dtype: Any = None) -> str:
    """Add an operation on two operands of one dtype, by default the promoted one."""
    dtype = promoted(a, b) if dtype is None else dtype
    return t.add(operation, t.cast(a, dtype), t.cast(b, dtype))


def _sum(operation: str, t: Translator, a: Operand, b: Operand, alpha: Any) -> str:
    """a + alpha b, or a - alpha b"""
    dtype = promoted(a, b)
    if dtype == BOOL:
        return binary(t, "Or", a, b)
    term = t.cast(b, dtype) if alpha == 1 else t.add("Mul", t.cast(b, dtype), t.cast(alpha, dtype))
    return t.add(operation, t.cast(a, dtype), term)


@aten("add.Tensor", "add.Scalar")
def add(t: Translator, self: Operand, other: Operand, alpha: Any = 1) -> str:
    return _sum("Add", t, self, other, alpha)


@aten("sub.Tensor", "sub.Scalar")
def sub(t: Translator, self: Operand, other: Operand, alpha: Any = 1) -> str:
    return _sum("Sub", t, self, other, alpha)


@aten("rsub.Tensor", "rsub.Scalar")
def rsub(t: Translator, self: Operand, other: Operand, alpha: Any = 1) -> str:
    return sub(t, other, self, alpha)


@aten("mul.Tensor", "mul.Scalar")
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


@aten("div.Tensor", "div.Scalar")
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


def _of_two(operation: str) -> Any:
    def function(t: Translator, self: Operand, other: Operand) -> str:
        return binary(t, operation, self, other)

    return function


for _operation, _names in {
    "Max": ["maximum", "fmax", "max.other"],
    "Min": ["minimum", "fmin", "min.other"],
    **{
        operation: [f"{name}.{kind}" for name in names for kind in ("Tensor", "Scalar")]
        for operation, names in {
            "Equal": ["eq"],
            "Greater": ["gt"],
            "GreaterOrEqual": ["ge"],
            "Less": ["lt"],
            "LessOrEqual": ["le"],
        }.items()
    },
}.items():
    aten(*_names)(_of_two(_operation))


@aten("ne.Tensor", "ne.Scalar")
def not_equal(t: Translator, self: Operand, other: Operand) -> str:
    return t.add("Not", binary(t, "Equal", self, other))


def _define_logic(name: str, operation: str) -> None:
    @aten(f"logical_{name}")
    def logical(t: Translator, self: Operand, other: Operand) -> str:
        return binary(t, operation, self, other, BOOL)

    bits = {"And": "BitwiseAnd", "Or": "BitwiseOr", "Xor": "BitwiseXor"}[operation]

    @aten(
        *(f"bitwise_{name}.{kind}" for kind in ("Tensor", "Scalar", "Scalar_Tensor")),
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
def where_(t: Translator, condition: Tensor, self: Operand, other: Operand) -> str:
    dtype = promoted(self, other)
    return t.add("Where", t.cast(condition, BOOL), t.cast(self, dtype), t.cast(other, dtype))


@aten("clamp", "clamp.Tensor", "hardtanh")
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


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(t: Translator, self: Tensor, mask: Tensor, value: Operand) -> str:
    if mask.dtype != BOOL:
        raise ArgumentError(f"the mask has dtype {mask.dtype}; expected booleans")
    return t.add("Where", mask, t.cast(value, self.dtype), self)


# Functions of floats, as formulas. They keep the names of torch's parameters.


def _quotient_angle(y: Any, x: Any) -> Any:
    """The angle of (x, y), from the arc tangent of the quotient."""
    angle = atan(y / x)
    turned = where(x < 0, angle + where(y < 0, -math.pi, y.constant(math.pi)), angle)
    return where(x.equals(0) & y.equals(0), 0, turned)


def _is_close(self: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    difference = self - other
    close = abs(difference) <= atol + rtol * abs(other)
    close = (close & ~is_infinite(difference)) | self.equals(other)
    return close | (is_nan(self) & is_nan(other)) if equal_nan else close


def _log_of_sum(x: Any, y: Any, base: float) -> Any:
    """log(base^x + base^y) in that base, without overflow"""
    scale = math.log(base)
    larger = maximum(x, y)
    total = larger + log(1 + exp(-abs(x - y) * scale)) * (1 / scale)
    return where(x.equals(y), x + 1 / scale * math.log(2), where(is_infinite(larger), larger, total))


def _sinc(self: Any) -> Any:
    angle = where(self.equals(0), 1, self * math.pi)
    return where(self.equals(0), 1, sin(angle) / angle)


def _is_infinity(ignored: str) -> Any:
    return lambda self: self.apply("IsInf", dtype=BOOL, **{ignored: 0})


define({
    **{name: unary(name.capitalize()) for name in (
        "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh",
        "erf", "exp", "reciprocal", "sigmoid", "tanh")},
    "rsqrt": lambda self: reciprocal(sqrt(self)),
    "expm1": lambda self: exp(self) - 1,
    "log1p": lambda self: log(self + 1),
    "exp2": lambda self: exp(self * math.log(2)),
    "log2": lambda self: log(self) * (1 / math.log(2)),
    "log10": lambda self: log(self) * (1 / math.log(10)),
    "rad2deg": lambda self: self * (180 / math.pi),
    "deg2rad": lambda self: self * (math.pi / 180),
    "erfc": lambda self: 1 - erf(self),
    "special_ndtr": lambda self: (erf(self * math.sqrt(0.5)) + 1) * 0.5,
    "special_entr": lambda self: where(self < 0, -math.inf, -x_times(self, log(self))),
    "sinc": _sinc,
    "isnan": is_nan,
    "isinf": is_infinite,
    "isfinite": lambda self: ~(is_nan(self) | is_infinite(self)),
    "isposinf": _is_infinity("detect_negative"),
    "isneginf": _is_infinity("detect_positive"),
    "atan2": lambda self, other: _quotient_angle(self, other),
    "hypot": lambda self, other: sqrt(square(self) + square(other)),
    "ldexp.Tensor": lambda self, other: self * exp(other * math.log(2)),
    "logaddexp": lambda self, other: _log_of_sum(self, other, math.e),
    "logaddexp2": lambda self, other: _log_of_sum(self, other, 2),
    **{f"{name}.{kind}": lambda self, other: x_times(self, log(other)) for name, kind in (
        *(("xlogy", kind) for kind in ("Tensor", "Scalar_Self", "Scalar_Other")),
        *(("special_xlogy", kind) for kind in ("default", "self_scalar", "other_scalar")))},
    **{f"special_xlog1py.{kind}": lambda self, other: x_times(self, log(other + 1)) for kind in (
        "default", "self_scalar", "other_scalar")},
    "addcdiv": lambda self, tensor1, tensor2, value=1: self + tensor1 / tensor2 * value,
    "isclose": _is_close,
})  # fmt: skip
define({
    "lerp.Scalar lerp.Tensor": lambda self, end, weight: self + weight * (end - self),
    "addcmul": lambda self, tensor1, tensor2, value=1: self + tensor1 * tensor2 * value,
    "square": lambda self: square(self),
    "heaviside": lambda self, values: where(self.equals(0), values, (self > 0).cast(self.dtype)),
    "sign sgn": lambda self: self.apply("Sign"),
    "neg": lambda self: -self,
}, promoted)  # fmt: skip


def _rounding(operation: str) -> Any:
    def function(t: Translator, self: Tensor) -> str:
        return t.add(operation if self.dtype.kind == "f" else "Identity", self)

    return function


for _name in ("ceil", "floor", "round"):
    aten(_name)(_rounding(_name.capitalize()))


@aten("round.decimals")
def round_decimals(t: Translator, self: Tensor, decimals: int = 0) -> str:
    scale = t.cast(10.0**decimals, self.dtype)
    return t.add("Div", t.add("Round", t.add("Mul", self, scale)), scale)


@aten("abs")
def absolute(t: Translator, self: Tensor) -> str:
    if self.dtype.kind == "c":
        return t.add("ReduceL2", self, t.constant([-1]), keepdims=0)
    return t.add("Abs", self)


@aten("trunc")
def trunc(t: Translator, self: Tensor) -> str:
    is_float = self.dtype.kind == "f"
    return _truncate(t, self.name, self.dtype) if is_float else t.add("Identity", self)


@aten("frac")
def frac(t: Translator, self: Tensor) -> str:
    return t.add("Sub", self, trunc(t, self))


@aten("float_power.Tensor_Scalar", "float_power.Tensor_Tensor", "float_power.Scalar")
def float_power(t: Translator, self: Operand, exponent: Operand) -> str:
    return binary(t, "Pow", self, exponent, np.float64)


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


def _define_shift(name: str, direction: str) -> None:
    kinds = ("Tensor", "Tensor_Scalar", "Scalar_Tensor")
    words = [f"bitwise_{direction.lower()}_shift.{kind}" for kind in kinds]

    @aten(f"__{name}__.Scalar", f"__{name}__.Tensor", *words)
    def shift(t: Translator, self: Operand, other: Operand) -> str:
        dtype = promoted(self, other)
        return t.add("BitShift", t.cast(self, dtype), t.cast(other, dtype), direction=direction)


_define_shift("lshift", "LEFT")
_define_shift("rshift", "RIGHT")
