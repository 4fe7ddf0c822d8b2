"""Activation functions, which compute floats with the functions of the core."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ... import _core
from ...core import activations
from ...core.activations import Call
from ...errors import ArgumentError
from ..node import AnyArray, Node
from ..plan.builder import Builder
from ..plan.view import View
from .registry import Inputs, Operation, Value, combining, elementwise, like_first, operation, view

SIGMOID = activations.call("sigmoid")
HARD_SWISH = activations.call(("hard_sigmoid", 1 / 6, 0.5))


def activate(call: Call, x: AnyArray) -> AnyArray:
    """Apply a function of the core to a float32 or float64 array."""
    x = np.asarray(x, order="C")
    y = np.empty_like(x)
    _core.activate(call, x.reshape(-1), y.reshape(-1))
    return y


def add_activation(b: Builder, call: Call, value: Value | None) -> list[View] | None:
    """Add the step of a function of the core, fused into the product before it if possible."""
    x = view(b, value)
    if x is None or value is None:
        return None
    if value.used_once and b.fuse(call, x):
        return [x]
    return [b.map("activate", call, x)]


def _function(name: str) -> Callable[[Callable[..., Call]], Operation]:
    """Define an operation that is one function of the core, which a function of its attributes returns."""

    def register(call: Callable[..., Call]) -> Operation:
        @functools.wraps(call)
        def compute(x: AnyArray, **attributes: Any) -> Any:
            if name == "Relu" and x.dtype.kind == "i":
                return np.maximum(x, 0)
            return activate(call(**attributes), x)

        defined = operation(name, signature=like_first, widens=True)(compute)

        @defined.lowering
        def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
            return add_activation(b, call(**node.attributes), inputs[0])

        return defined

    return register


def _define_plain(name: str, function: str) -> None:
    @_function(name)
    def call() -> Call:
        return activations.call(function)


for _name, _core_name in {
    **{"Exp": "exponential", "Mish": "mish", "Relu": "relu", "Sigmoid": "sigmoid", "Softplus": "softplus"},
    **{"Softsign": "softsign", "Tanh": "tanh"},
}.items():
    _define_plain(_name, _core_name)


@_function("Elu")
def elu(*, alpha: float = 1.0) -> Call:
    return "elu", alpha, 1.0


@_function("HardSigmoid")
def hard_sigmoid(*, alpha: float = 0.2, beta: float = 0.5) -> Call:
    return "hard_sigmoid", alpha, beta


@_function("LeakyRelu")
def leaky_relu(*, alpha: float = 0.01) -> Call:
    return "leaky_relu", alpha, 0.0


@_function("Selu")
def selu(*, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Call:
    return "elu", alpha, gamma


@_function("Affine")
def affine(*, alpha: float, beta: float) -> Call:
    """alpha x + beta"""
    return activations.call(("affine", alpha, beta))


@_function("ScaledTanh")
def scaled_tanh(*, alpha: float, beta: float) -> Call:
    """alpha tanh(beta x)"""
    return activations.call(("scaled_tanh", alpha, beta))


@_function("ThresholdedRelu")
def thresholded_relu(*, alpha: float = 1.0) -> Call:
    return "thresholded_relu", alpha, 0.0


@operation("Celu", signature=like_first, widens=True)
def celu(x: AnyArray, *, alpha: float = 1.0) -> Any:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1))"""
    return np.maximum(x, 0) + np.minimum(alpha * activate(("elu", 1.0, 1.0), x / alpha), 0)


@operation("Gelu", signature=like_first, widens=True)
def gelu(x: AnyArray, *, approximate: str = "none") -> Any:
    if approximate == "none":
        return activate(activations.call("gelu"), x)
    if approximate != "tanh":
        raise ArgumentError(f"approximate={approximate!r}; expected none or tanh")
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1 + activate(activations.call("tanh"), inner))


@gelu.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    if node.attributes.get("approximate", "none") == "none":
        return add_activation(b, activations.call("gelu"), inputs[0])
    x = view(b, inputs[0])
    if x is None:
        return None
    cube = b.scalar(0.044715)
    for _ in range(3):
        cube = b.binary("multiply", cube, x)
    inner = b.binary("multiply", b.scalar(math.sqrt(2 / math.pi)), b.binary("add", x, cube))
    factor = b.binary("add", b.scalar(1.0), b.map("activate", activations.call("tanh"), inner))
    return [b.binary("multiply", b.binary("multiply", b.scalar(0.5), x), factor)]


@operation("HardSwish", signature=like_first, widens=True)
def hard_swish(x: AnyArray) -> Any:
    return x * activate(HARD_SWISH, x)


@hard_swish.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    return x and [b.binary("multiply", x, b.map("activate", HARD_SWISH, x))]


@operation("Swish", signature=like_first, widens=True)
def swish(x: AnyArray, *, alpha: float = 1.0) -> Any:
    """x sigmoid(alpha x)"""
    return activate(activations.call("silu"), x) if alpha == 1 else x * activate(SIGMOID, alpha * x)


@swish.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    alpha = node.attributes.get("alpha", 1.0)
    if alpha == 1:
        return add_activation(b, activations.call("silu"), inputs[0])
    x = view(b, inputs[0])
    if x is None:
        return None
    gate = b.map("activate", SIGMOID, b.binary("multiply", x, b.scalar(alpha)))
    return [b.binary("multiply", x, gate)]


@operation("PRelu", signature=like_first, widens=True)
def prelu(x: AnyArray, slope: AnyArray) -> Any:
    return np.where(x < 0, slope * x, x)


@prelu.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """max(x, 0) + slope min(x, 0)"""
    x, slope = view(b, inputs[0]), view(b, inputs[1])
    if x is None or slope is None or shapes[0] != x.shape:
        return None
    zero = b.scalar(0.0)
    negative = b.binary("multiply", b.binary("minimum", x, zero), slope)
    return [b.binary("add", b.binary("maximum", x, zero), negative)]


@operation("Shrink", signature=like_first, widens=True)
def shrink(x: AnyArray, *, bias: float = 0.0, lambd: float = 0.5) -> Any:
    """x + bias below -lambd, x - bias above lambd, 0 between."""
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)).astype(x.dtype)


# The Maclaurin series of erf(x) / x as a polynomial in x^2, for |x| <= 1/2.
ERF_SERIES = [2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(13)]


@operation("Erf", signature=like_first, widens=True)
def erf(x: AnyArray) -> Any:
    """The series near 0, elsewhere 2 Phi(sqrt(2) x) - 1 with Phi from the core's gelu; both in float64."""
    numbers = x.astype(np.float64)
    small = np.clip(numbers, -0.5, 0.5)
    series = np.zeros_like(small)
    for coefficient in reversed(ERF_SERIES):
        series = series * small * small + coefficient
    scaled = math.sqrt(2) * np.clip(np.abs(numbers), 0.5, 6)  # erf(6) rounds to 1
    tail = np.copysign(2 * activate(activations.call("gelu"), scaled) / scaled - 1, numbers)
    return np.where(np.abs(numbers) <= 0.5, series * small, tail).astype(x.dtype)


@erf.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    return x and [b.map("unary", "error_function", x)]


combining(
    "Exp", "Mish", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh", "Elu", "HardSigmoid", "LeakyRelu",
    "Selu", "Affine",
    "ScaledTanh", "ThresholdedRelu", "Celu", "Gelu", "HardSwish", "Swish", "PRelu", "Shrink", "Erf",
)(elementwise)  # fmt: skip
