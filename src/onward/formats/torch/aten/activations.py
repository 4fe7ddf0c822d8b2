"""ATen's activation functions, and the dropouts, which change nothing at inference."""

from typing import Any

from ....errors import ArgumentError
from .registry import Number, Operand, Tensor, Translator, aten


def _define(name: str, operation: str, **attributes: Any) -> None:
    @aten(name)
    def function(t: Translator, self: Tensor) -> str:
        return t.add(operation, self, **attributes)


_define("relu", "Relu")
_define("silu", "Swish")
_define("mish", "Mish")
_define("selu", "Selu")
_define("hardswish", "HardSwish")
_define("hardsigmoid", "HardSigmoid", alpha=1 / 6, beta=0.5)


@aten("relu6")
def relu6(t: Translator, self: Tensor) -> str:
    return t.add("Clip", self, t.cast(0, self.dtype), t.cast(6, self.dtype))


@aten("gelu")
def gelu(t: Translator, self: Tensor, approximate: str = "none") -> str:
    return t.add("Gelu", self, approximate=approximate)


@aten("elu")
def elu(t: Translator, self: Tensor, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1) -> str:
    """scale (max(0, x) + min(0, alpha (exp(input_scale x) - 1)))"""
    if (scale, input_scale) == (1, 1):
        return t.add("Elu", self, alpha=float(alpha))  # type: ignore[arg-type]  # not complex
    zero = t.cast(0, self.dtype)
    negative = t.add(
        "Elu", t.add("Min", t.add("Mul", self, t.cast(input_scale, self.dtype)), zero), alpha=1.0
    )
    lower = t.add("Mul", negative, t.cast(alpha, self.dtype))
    return t.add("Mul", t.add("Add", t.add("Max", self, zero), lower), t.cast(scale, self.dtype))


@aten("celu")
def celu(t: Translator, self: Tensor, alpha: float = 1.0) -> str:
    return t.add("Celu", self, alpha=float(alpha))


@aten("leaky_relu")
def leaky_relu(t: Translator, self: Tensor, negative_slope: float = 0.01) -> str:
    return t.add("LeakyRelu", self, alpha=float(negative_slope))


@aten("rrelu")
def rrelu(
    t: Translator, self: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False
) -> str:
    return leaky_relu(t, self, (lower + upper) / 2)


@aten("prelu", "_prelu_kernel")
def prelu(t: Translator, self: Tensor, weight: Tensor) -> str:
    slope: Any = weight
    if weight.rank == 1 and self.rank > 1:
        slope = t.add("Reshape", weight, t.constant([-1] + [1] * (self.rank - 2)))
    return t.add("PRelu", self, slope)


@aten("softplus")
def softplus(t: Translator, self: Tensor, beta: Number = 1, threshold: Number = 20) -> str:
    """log(1 + exp(beta x)) / beta; x itself where beta x exceeds the threshold"""
    scaled: Any = self if beta == 1 else t.add("Mul", self, t.cast(beta, self.dtype))
    y = t.add("Softplus", scaled)
    y = y if beta == 1 else t.add("Div", y, t.cast(beta, self.dtype))
    if threshold == 20:  # beyond it, float32 makes no difference
        return y
    return t.add("Where", t.add("Greater", scaled, t.cast(threshold, self.dtype)), self, y)


@aten("log_sigmoid")
def log_sigmoid(t: Translator, self: Tensor) -> str:
    return t.add("Neg", t.add("Softplus", t.add("Neg", self)))


@aten("log_sigmoid_forward")
def log_sigmoid_forward(t: Translator, self: Tensor) -> tuple[str, None]:
    return log_sigmoid(t, self), None


@aten("glu")
def glu(t: Translator, self: Tensor, dim: int = -1) -> str:
    a, b = t.add_all("Split", (self,), 2, axis=self.axis(dim), num_outputs=2)
    return t.add("Mul", a, t.add("Sigmoid", b))


@aten("hardshrink")
def hardshrink(t: Translator, self: Tensor, lambd: float = 0.5) -> str:
    return t.add("Shrink", self, lambd=float(lambd))


@aten("softshrink")
def softshrink(t: Translator, self: Tensor, lambd: float = 0.5) -> str:
    return t.add("Shrink", self, lambd=float(lambd), bias=float(lambd))


@aten("threshold")
def threshold(t: Translator, self: Tensor, threshold: Number, value: Number) -> str:
    above = t.add("Greater", self, t.cast(threshold, self.dtype))
    return t.add("Where", above, self, t.cast(value, self.dtype))


@aten("logit")
def logit(t: Translator, self: Tensor, eps: float | None = None) -> str:
    x: Any = self
    if eps is not None:
        x = t.add("Clip", x, t.cast(eps, self.dtype), t.cast(1 - eps, self.dtype))
    return t.add("Log", t.add("Div", x, t.add("Sub", t.cast(1, self.dtype), x)))


@aten(*("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout"))
def dropout(t: Translator, input: Operand, p: float = 0.5, train: bool = False) -> Any:
    if train and p > 0:
        raise ArgumentError("dropout in training mode is not supported: export the module after eval()")
    y = t.add("Identity", input)
    return (y, None) if "native" in t.node.target else y
