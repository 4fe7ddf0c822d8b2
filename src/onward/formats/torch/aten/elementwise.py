"""ATen's elementwise operators: arithmetic, comparisons, logic, functions of one number, and activations."""

import math
from typing import Any

import numpy as np

from ....errors import ArgumentError
from ....graph.operations.expressions import (
    Expression,
    atan,
    erf,
    exp,
    expm1,
    is_infinite,
    is_nan,
    log,
    log1p,
    maximum,
    reciprocal,
    sin,
    softplus,
    sqrt,
    square,
    unary,
    where,
    x_times,
)
from .expressions import define_formulas, expression, floating, promoted
from .registry import BOOL, Number, Operand, Tensor, aten, define
from .translator import Translator


def binary(
    t: Translator, operation: str, a: Operand, b: Operand, dtype: Any = None, **attributes: Any
) -> str:
    """Add an operation on two operands of one dtype, by default the promoted one."""
    dtype = promoted(a, b) if dtype is None else dtype
    return t.add(operation, t.cast(a, dtype), t.cast(b, dtype), **attributes)


def _sum(operation: str) -> Any:
    """self + alpha other, or self - alpha other"""

    def function(t: Translator, self: Operand, other: Operand, alpha: Any = 1) -> str:
        dtype = promoted(self, other)
        if dtype == BOOL:
            return binary(t, "Or" if operation == "Add" else "Xor", self, other)
        if dtype.kind == "c" and alpha != 1:
            other = Tensor(mul(t, other, alpha), dtype, ())
        term = t.cast(other, dtype)
        term = term if alpha == 1 or dtype.kind == "c" else t.add("Mul", term, t.cast(alpha, dtype))
        return t.add(operation, t.cast(self, dtype), term)

    return function


add, sub = _sum("Add"), _sum("Sub")


@aten("mul.Tensor mul.Scalar", takes_complex=True)
def mul(t: Translator, self: Operand, other: Operand) -> str:
    dtype = promoted(self, other)
    if dtype.kind == "c":
        return _complex_product(t, t.cast(self, dtype), t.cast(other, dtype), 1)
    return binary(t, "And" if dtype == BOOL else "Mul", self, other, dtype)


def parts(t: Translator, pairs: Any) -> tuple[str, str]:
    """Return the real and imaginary parts of complex numbers."""
    return t.add("Gather", pairs, 0, axis=-1), t.add("Gather", pairs, 1, axis=-1)


def as_pairs(t: Translator, real: str, imaginary: str) -> str:
    """Return complex numbers from their parts."""
    return t.add("Concat", *(t.add("Unsqueeze", part, [-1]) for part in (real, imaginary)), axis=-1)


def _complex_product(t: Translator, a: str, b: str, sign: int) -> str:
    """a b, or a conj(b) if the sign is -1."""
    (ar, ai), (br, bi) = parts(t, a), parts(t, b)
    first, second = ("Sub", "Add") if sign > 0 else ("Add", "Sub")
    real = t.add(first, t.add("Mul", ar, br), t.add("Mul", ai, bi))
    return as_pairs(t, real, t.add(second, t.add("Mul", ai, br), t.add("Mul", ar, bi)))


@aten("div.Tensor div.Scalar", takes_complex=True)
def div(t: Translator, self: Operand, other: Operand) -> str:
    dtype = floating(self, other)
    if dtype.kind != "c":
        return binary(t, "Div", self, other, dtype)
    if not (isinstance(other, Tensor) and other.dtype.kind == "c"):
        part = t.cast(other, np.float32 if dtype == np.complex64 else np.float64)
        return t.add("Div", t.cast(self, dtype), t.add("Unsqueeze", part, [-1]))
    pairs = t.cast(other, dtype)
    size = t.add("ReduceSumSquare", pairs, [-1])
    return t.add("Div", _complex_product(t, t.cast(self, dtype), pairs, -1), size)


@aten("div.Tensor_mode div.Scalar_mode")
def div_mode(t: Translator, self: Operand, other: Operand, rounding_mode: str | None = None) -> str:
    if rounding_mode is None:
        return div(t, self, other)
    if rounding_mode == "floor":
        return floor_divide(t, self, other)
    dtype = promoted(self, other)
    quotient = binary(t, "Div", self, other)
    return quotient if dtype.kind in "iu" else _truncate(t, quotient, dtype)


@aten("floor_divide floor_divide.Tensor floor_divide.Scalar")
def floor_divide(t: Translator, self: Operand, other: Operand) -> str:
    dtype = promoted(self, other)
    if dtype.kind == "f":
        wide = dtype if dtype == np.float64 else np.float32
        return _floor_quotient(expression(t, self, wide), expression(t, other, wide)).cast(dtype).name
    a, b = t.cast(self, dtype), t.cast(other, dtype)
    return t.add("Div", t.add("Sub", a, t.add("Mod", a, b)), b)


def _floor_quotient(a: Expression, b: Expression) -> Expression:
    """The floor of the exact quotient a / b, which may be rounded up to an integer."""
    rest = a.apply("Mod", b, fmod=1)
    is_below = ((rest < 0) & (b > 0)) | ((rest > 0) & (b < 0))
    q = (a - rest) / b - is_below.cast(a.dtype)
    return where(b.equals(0), a / b, q.apply("Round"))


def _truncate(t: Translator, x: str, dtype: Any) -> str:
    return t.add("Where", t.add("Less", x, t.cast(0, dtype)), t.add("Ceil", x), t.add("Floor", x))


def _pair(operation: str, dtype: Any = None, **attributes: Any) -> Any:
    """Return an operation on two operands as an operator."""
    return lambda t, self, other: binary(t, operation, self, other, dtype, **attributes)


def _bitwise(operation: str) -> Any:
    def function(t: Translator, self: Operand, other: Operand) -> str:
        dtype = promoted(self, other)
        if dtype.kind not in "iub":
            raise ArgumentError(f"the operands have dtype {dtype}; expected integers or booleans")
        return binary(t, operation if dtype == BOOL else f"Bitwise{operation}", self, other)

    return function


def power(t: Translator, self: Operand, exponent: Operand) -> str:
    """self^exponent"""
    if promoted(self, exponent).kind in "iu" and isinstance(exponent, int) and exponent < 0:
        raise ArgumentError(f"integers to the power of {exponent} are not integers")
    return binary(t, "Pow", self, exponent)


define({
    "add.Tensor add.Scalar": add,
    "sub.Tensor sub.Scalar": sub,
    "rsub.Tensor rsub.Scalar": lambda t, self, other, alpha=1: sub(t, other, self, alpha),
    "neg": lambda t, self: t.add("Neg", self),
}, takes_complex=True)  # fmt: skip
define({
    "abs": lambda t, self: (
        t.add("ReduceL2", self, [-1], keepdims=0) if self.dtype.kind == "c" else t.add("Abs", self)),
}, takes_complex=True, result="f")  # fmt: skip
define({
    "remainder.Tensor remainder.Scalar remainder.Scalar_Tensor": _pair("Mod"),
    "fmod.Tensor fmod.Scalar": _pair("Mod", fmod=1),
    "square": lambda t, self: power(t, self, 2),
    "pow.Tensor_Tensor pow.Tensor pow.Tensor_Scalar pow.Scalar": power,
    "float_power.Tensor_Scalar float_power.Tensor_Tensor float_power.Tensor float_power.Scalar": (
        lambda t, self, exponent: binary(t, "Pow", self, exponent, np.float64)),
    "maximum max.other": _pair("Max"),
    "minimum min.other": _pair("Min"),
    "eq.Tensor eq.Scalar": _pair("Equal"),
    "ne.Tensor ne.Scalar": lambda t, self, other: t.add("Not", binary(t, "Equal", self, other)),
    "gt.Tensor gt.Scalar": _pair("Greater"),
    "ge.Tensor ge.Scalar": _pair("GreaterOrEqual"),
    "lt.Tensor lt.Scalar": _pair("Less"),
    "le.Tensor le.Scalar": _pair("LessOrEqual"),
    "logical_not": lambda t, self: t.add("Not", t.cast(self, BOOL)),
    "trunc": lambda t, self: _rounded(t, self, None),
    "frac": lambda t, self: t.add("Sub", self, _rounded(t, self, None)),
    "ceil": lambda t, self: _rounded(t, self, "Ceil"),
    "floor": lambda t, self: _rounded(t, self, "Floor"),
    "round": lambda t, self: _rounded(t, self, "Round"),
})  # fmt: skip
for _name, _operation in {"and": "And", "or": "Or", "xor": "Xor"}.items():
    aten(f"logical_{_name}")(_pair(_operation, BOOL))
    aten(*(f"bitwise_{_name}.{kind}" for kind in ("Tensor", "Scalar", "Scalar_Tensor")))(_bitwise(_operation))
    aten(f"__{_name}__.Tensor", f"__{_name}__.Scalar")(_bitwise(_operation))
for _name in ("left", "right"):
    _kinds = (f"bitwise_{_name}_shift.{kind}" for kind in ("Tensor", "Tensor_Scalar", "Scalar_Tensor"))
    _shift = _pair("BitShift", direction=_name.upper())
    aten(*_kinds, f"__{_name[0]}shift__.Scalar", f"__{_name[0]}shift__.Tensor")(_shift)


def _rounded(t: Translator, x: Tensor, operation: str | None) -> str:
    """Round floats, by default toward 0."""
    if x.dtype.kind != "f":
        return t.add("Identity", x)
    return t.add(operation, x) if operation else _truncate(t, x.name, x.dtype)


@aten("bitwise_not")
def bitwise_not(t: Translator, self: Tensor) -> str:
    if self.dtype.kind not in "iub":
        raise ArgumentError(f"the operand has dtype {self.dtype}; expected integers or booleans")
    return t.add("Not" if self.dtype == BOOL else "BitwiseNot", self)


@aten("where.self where.ScalarOther where.ScalarSelf where.Scalar")
def where_(t: Translator, condition: Tensor, self: Operand, other: Operand) -> str:
    dtype = promoted(self, other)
    return t.add("Where", t.cast(condition, BOOL), t.cast(self, dtype), t.cast(other, dtype))


@aten("clamp clamp.Tensor hardtanh")
def clamp(
    t: Translator, self: Tensor, min: Any = None, max: Any = None, min_val: Any = -1.0, max_val: Any = 1.0
) -> str:
    dtype = promoted(self, min, max)
    if min is None and max is None:
        min, max = min_val, max_val
    x, *bounds = (None if value is None else t.cast(value, dtype) for value in (self, min, max))
    if not any(isinstance(bound, Tensor) for bound in (min, max)):
        return t.add("Clip", x, *bounds)
    x = x if bounds[0] is None else t.add("Max", x, bounds[0])
    return str(x if bounds[1] is None else t.add("Min", x, bounds[1]))


define(
    {
        "clamp_min clamp_min.Tensor": lambda t, self, min: clamp(t, self, min),
        "clamp_max clamp_max.Tensor": lambda t, self, max: clamp(t, self, None, max),
    }
)


@aten("masked_fill.Scalar masked_fill.Tensor")
def masked_fill(t: Translator, self: Tensor, mask: Tensor, value: Operand) -> str:
    if mask.dtype != BOOL:
        raise ArgumentError(f"the mask has dtype {mask.dtype}; expected booleans")
    return t.add("Where", mask, t.cast(value, self.dtype), self)


@aten("nan_to_num")
def nan_to_num(t: Translator, self: Tensor, nan: Any = None, posinf: Any = None, neginf: Any = None) -> str:
    if self.dtype.kind != "f":
        return t.add("Identity", self)
    limits, x = np.finfo(self.dtype), expression(t, self, self.dtype)
    x = where(is_nan(x), nan or 0.0, x)
    x = where(_is_infinity("detect_negative")(x), float(limits.max) if posinf is None else posinf, x)
    return where(_is_infinity("detect_positive")(x), float(limits.min) if neginf is None else neginf, x).name


# Functions of floats, as formulas. They keep the names of torch's parameters.


def _without_nan(operation: str) -> Any:
    """Return the larger or smaller number of two, or the other one if one is NaN."""
    return lambda self, other: where(
        is_nan(self), other, where(is_nan(other), self, self.apply(operation, other))
    )


def _hypotenuse(self: Any, other: Any) -> Any:
    """sqrt(x^2 + y^2), from the quotient of the smaller and the larger size, whose square is finite."""
    a, b = abs(self), abs(other)
    larger = maximum(a, b)
    quotient = a.apply("Min", b) / larger
    return where(larger.equals(0) | is_infinite(larger), larger, larger * sqrt(1 + square(quotient)))


def _is_below(x: Any) -> Any:
    """Whether a number is negative, or -0."""
    return (x < 0) | (reciprocal(x) < 0)


def _quotient_angle(y: Any, x: Any) -> Any:
    """The angle of (x, y), from the arc tangent of the quotient of their sizes."""
    a, b = abs(y), abs(x)
    are_zero, are_infinite = a.equals(0) & b.equals(0), is_infinite(a) & is_infinite(b)
    angle = where(are_zero, 0, where(are_infinite, math.pi / 4, atan(a / b)))
    angle = where(_is_below(x), math.pi - angle, angle)
    return where(_is_below(y), -angle, angle)


def _is_close(self: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    difference = self - other
    close = abs(difference) <= atol + rtol * abs(other)
    close = (close & ~is_infinite(difference)) | self.equals(other)
    return close | (is_nan(self) & is_nan(other)) if equal_nan else close


def log_of_sum(x: Any, y: Any, base: float = math.e) -> Any:
    """log(base^x + base^y) in that base, without overflow"""
    scale = math.log(base)
    larger = maximum(x, y)
    total = larger + log1p(exp(-abs(x - y) * scale)) * (1 / scale)
    return where(x.equals(y), x + 1 / scale * math.log(2), where(is_infinite(larger), larger, total))


def _x_times(x: Any, function: Any, y: Any) -> Any:
    """x function(y), which is 0 where x is, and NaN where y is"""
    return where(is_nan(y), y, x_times(x, function(y)))


def _wide(self: Any) -> Any:
    return self.cast(np.float32) if self.dtype == np.float16 else self


def _normal_distribution(self: Any, scale: float) -> Any:
    """scale Phi(x), which is also precise where it is small: there, it is scale gelu(x) / x."""
    near = (erf(self * math.sqrt(0.5)) + 1) * (scale / 2)
    return where(self < -0.5, self.apply("Gelu") * scale / self, near)


def _sinc(self: Any) -> Any:
    angle = _wide(where(self.equals(0), 1, self)) * math.pi
    return where(self.equals(0), 1, (sin(angle) / angle).cast(self.dtype))


def _sign(self: Any) -> Any:
    """The sign, which is 0 for NaN."""
    if self.dtype.kind != "f":
        return self.apply("Sign" if self.dtype != BOOL else "Identity")
    return (self > 0).cast(self.dtype) - (self < 0).cast(self.dtype)


def _is_infinity(ignored: str) -> Any:
    return lambda self: self.apply("IsInf", dtype=BOOL, **{ignored: 0})


define_formulas({
    **{name: unary(name.capitalize()) for name in (
        "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh",
        "erf", "exp", "reciprocal", "sigmoid", "tanh")},
    "rsqrt": lambda self: reciprocal(sqrt(self)),
    "expm1": lambda self: expm1(self),
    "log1p": lambda self: log1p(self),
    "exp2": lambda self: exp(self * math.log(2)),
    "log2": lambda self: log(self) * (1 / math.log(2)),
    "log10": lambda self: log(self) * (1 / math.log(10)),
    "rad2deg": lambda self: self * (180 / math.pi),
    "deg2rad": lambda self: self * (math.pi / 180),
    "erfc": lambda self: _normal_distribution(_wide(self) * -math.sqrt(2), 2).cast(self.dtype),
    "special_ndtr": lambda self: _normal_distribution(_wide(self), 1).cast(self.dtype),
    "special_entr": lambda self: where(self < 0, -math.inf, -x_times(self, log(self))),
    "sinc": _sinc,
    "isnan": is_nan,
    "isinf": is_infinite,
    "isfinite": lambda self: ~(is_nan(self) | is_infinite(self)),
    "isposinf": _is_infinity("detect_negative"),
    "isneginf": _is_infinity("detect_positive"),
    "atan2": lambda self, other: _quotient_angle(self, other),
    "hypot": _hypotenuse,
    "ldexp.Tensor ldexp": lambda self, other: self * exp(other * math.log(2)),
    "logaddexp": lambda self, other: log_of_sum(self, other),
    "logaddexp2": lambda self, other: log_of_sum(self, other, 2),
    **{f"{name}.{kind}": lambda self, other: _x_times(self, log, other) for name, kind in (
        *(("xlogy", kind) for kind in ("Tensor", "Scalar_Self", "Scalar_Other")),
        *(("special_xlogy", kind) for kind in ("default", "self_scalar", "other_scalar")))},
    **{f"special_xlog1py.{kind}": lambda self, other: _x_times(self, log1p, other) for kind in (
        "default", "self_scalar", "other_scalar")},
    "addcdiv": lambda self, tensor1, tensor2, value=1: self + tensor1 / tensor2 * value,
    "isclose": _is_close,
})  # fmt: skip
define_formulas({
    "lerp.Scalar lerp.Tensor": lambda self, end, weight: self + weight * (end - self),
    "addcmul": lambda self, tensor1, tensor2, value=1: self + tensor1 * tensor2 * value,
    "fmax": _without_nan("Max"),
    "fmin": _without_nan("Min"),
    "heaviside": lambda self, values: where(self.equals(0), values, (self > 0).cast(self.dtype)),
    "sign sgn": _sign,
    "round.decimals": lambda self, decimals=0: (self * 10.0**decimals).apply("Round") / 10.0**decimals,
}, promoted)  # fmt: skip


# Activations, and the dropouts, which change nothing at inference.


def _softplus(self: Any, beta: Number = 1, threshold: Number = 20) -> Any:
    """log(1 + exp(beta x)) / beta; x itself where beta x exceeds the threshold"""
    scaled = self if beta == 1 else self * beta
    y = softplus(scaled) if beta == 1 else softplus(scaled) / beta
    # beyond 20, float32 makes no difference
    return y if threshold == 20 else where(scaled > threshold, self, y)


def _elu(self: Any, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1) -> Any:
    """scale (max(0, x) + min(0, alpha (exp(input_scale x) - 1)))"""
    if (scale, input_scale) == (1, 1):
        return self.apply("Elu", alpha=float(alpha))  # type: ignore[arg-type]  # not complex
    negative = (self * input_scale).apply("Min", 0).apply("Elu", alpha=1.0)
    return (maximum(self, 0) + negative * alpha) * scale


def _shrink(self: Any, lambd: float, bias: float) -> Any:
    """ONNX's Shrink, and NaN for NaN"""
    return where(is_nan(self), self, self.apply("Shrink", lambd=lambd, bias=bias))


def _logit(self: Any, eps: float | None = None) -> Any:
    x = self if eps is None else self.apply("Clip", eps, 1 - eps)
    return log(x / (1 - x))


@aten("threshold")
def threshold(t: Translator, self: Tensor, threshold: float, value: float) -> str:
    x = expression(t, self, self.dtype)
    return where(expression(t, self, promoted(self, threshold)) <= threshold, x.constant(value), x).name


define_formulas({
    "relu": lambda self: self.apply("Relu"),
    "relu6": lambda self: self.apply("Clip", 0, 6),
}, promoted)  # fmt: skip
define_formulas({
    "silu": lambda self: self.apply("Swish"),
    "mish": lambda self: self.apply("Mish"),
    "selu": lambda self: self.apply("Selu", alpha=1.6732632423543772, gamma=1.0507009873554805),
    "hardswish": lambda self: self.apply("HardSwish"),
    "hardsigmoid": lambda self: self.apply("HardSigmoid", alpha=1 / 6, beta=0.5),
    "gelu": lambda self, approximate="none": self.apply("Gelu", approximate=approximate),
    "elu": _elu,
    "celu": lambda self, alpha=1.0: self.apply("Celu", alpha=float(alpha)),
    "leaky_relu": lambda self, negative_slope=0.01: self.apply("LeakyRelu", alpha=float(negative_slope)),
    "rrelu": lambda self, lower=1 / 8, upper=1 / 3, training=False: self.apply(
        "LeakyRelu", alpha=(lower + upper) / 2),
    "softplus": _softplus,
    "log_sigmoid log_sigmoid_forward": lambda self: -softplus(-self),
    "hardshrink": lambda self, lambd=0.5: _shrink(self, float(lambd), 0.0),
    "softshrink": lambda self, lambd=0.5: _shrink(self, float(lambd), float(lambd)),
    "logit": _logit,
})  # fmt: skip
