"""ATen's activation functions, and the dropouts, which change nothing at inference."""

from typing import Any

from ....errors import ArgumentError
from .expressions import define, log, maximum, softplus, where
from .promotion import promoted
from .registry import Number, Operand, Tensor, Translator, aten


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


def _logit(self: Any, eps: float | None = None) -> Any:
    x = self if eps is None else self.apply("Clip", eps, 1 - eps)
    return log(x / (1 - x))


define({
    "relu": lambda self: self.apply("Relu"),
    "relu6": lambda self: self.apply("Clip", 0, 6),
    "threshold": lambda self, threshold, value: where(self > threshold, self, value),
}, promoted)  # fmt: skip
define({
    "silu": lambda self: self.apply("Swish"),
    "mish": lambda self: self.apply("Mish"),
    "selu": lambda self: self.apply("Selu"),
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
    "hardshrink": lambda self, lambd=0.5: self.apply("Shrink", lambd=float(lambd)),
    "softshrink": lambda self, lambd=0.5: self.apply("Shrink", lambd=float(lambd), bias=float(lambd)),
    "logit": _logit,
})  # fmt: skip


@aten("prelu", "_prelu_kernel")
def prelu(t: Translator, self: Tensor, weight: Tensor) -> str:
    slope: Any = weight
    if weight.rank == 1 and self.rank > 1:
        slope = t.add("Reshape", weight, t.constant([-1] + [1] * (self.rank - 2)))
    return t.add("PRelu", self, slope)


@aten("glu")
def glu(t: Translator, self: Tensor, dim: int = -1) -> str:
    a, b = t.add_all("Split", (self,), 2, axis=self.axis(dim), num_outputs=2)
    return t.add("Mul", a, t.add("Sigmoid", b))


@aten(*("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout"))
def dropout(t: Translator, input: Operand, p: float = 0.5, train: bool = False) -> Any:
    if train and p > 0:
        raise ArgumentError("dropout in training mode is not supported: export the module after eval()")
    return t.add("Identity", input)
