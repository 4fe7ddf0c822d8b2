"""Activation functions, which compute floats with the functions of the core."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...core import activations
from ...core.activations import Call
from ...core.functions import activate, unary
from ...errors import ArgumentError
from ..activation_names import OPERATORS
from ..node import AnyArray, Node
from ..plan.builder import Builder
from ..plan.view import View
from .compositions import composed
from .expressions import maximum, where
from .registry import Inputs, elementwise_operation
from .signatures import check_broadcast
from .value import view


def _define(name: str, call: Callable[..., Call], *attributes: str) -> None:
    """Define an operation that is one function of the core, which `call` returns for its attributes."""

    @functools.wraps(call)
    def compute(x: AnyArray, **given: Any) -> Any:
        if name == "Relu" and x.dtype.kind in "iu":
            return np.maximum(x, 0)
        return activate(call(**given), x)

    defined = elementwise_operation(name, attributes=attributes)(compute)
    defined.element = lambda **given: ("activate", call(**given))

    @defined.lowering
    def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
        """Add the step of a function of the core, fused into the product before it if possible."""
        function, x, value = call(**node.attributes), view(b, inputs[0]), inputs[0]
        if x is None or value is None:
            return None
        return [x if value.used_once and b.fuse(function, x) else b.map("activate", function, x)]


def _function(name: str, defaults: Mapping[str, float]) -> Callable[..., Call]:
    """Return a function that turns attributes with defaults into a call of the core's function."""
    return lambda **given: activations.call((name, *{**defaults, **given}.values()))


_calls: dict[str, Callable[..., Call]] = {
    "Selu": lambda *, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875: ("elu", alpha, gamma),
    "Activate": lambda *, function: activations.call(function),
    "Affine": lambda *, alpha, beta: activations.call(("affine", alpha, beta)),  # alpha x + beta
    "ScaledTanh": lambda *, alpha, beta: activations.call(("scaled_tanh", alpha, beta)),  # alpha tanh(beta x)
}
for _name, _call in _calls.items():
    _define(_name, _call)
for _name, _meaning in OPERATORS.items():
    if _name not in (*_calls, "Gelu", "HardSwish", "Swish"):
        _define(_name, _function(*_meaning), *_meaning.parameters)


@composed("Celu", widens=True)
def celu(x: Any, *, alpha: float = 1.0) -> Any:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1))"""
    if alpha == 1:
        return x.apply("Elu")
    return maximum(x, 0) + (alpha * (x / alpha).apply("Elu")).apply("Min", 0)


@composed("Gelu", widens=True)
def gelu(x: Any, *, approximate: str = "none") -> Any:
    """x Phi(x), or x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))"""
    if approximate == "none":
        return x.apply("Activate", function="gelu")
    if approximate != "tanh":
        raise ArgumentError(f"approximate={approximate!r}; expected none or tanh")
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1 + inner.apply("Tanh"))


@composed("HardSwish", widens=True)
def hard_swish(x: Any) -> Any:
    """x max(0, min(1, x / 6 + 1 / 2))"""
    return x.apply("Activate", function="hard_swish")


@composed("Swish", widens=True)
def swish(x: Any, *, alpha: float = 1.0) -> Any:
    """x sigmoid(alpha x)"""
    return x.apply("Activate", function="silu") if alpha == 1 else x * (x * alpha).apply("Sigmoid")


@composed("PRelu", widens=True, has_steps=True)
def prelu(x: Any, slope: Any) -> Any:
    """max(x, 0) + slope min(x, 0)"""
    check_broadcast(x, slope)
    return maximum(x, 0) + x.apply("Min", 0) * slope


@composed("Shrink", widens=True, has_steps=True)
def shrink(x: Any, *, bias: float = 0.0, lambd: float = 0.5) -> Any:
    """x + bias below -lambd, x - bias above lambd, 0 between."""
    wide = x.cast(np.float64) if x.dtype.kind in "iu" else x
    return where(wide < -lambd, wide + bias, where(wide > lambd, wide - bias, 0)).cast(x.dtype)


@elementwise_operation("Erf")
def erf(x: AnyArray) -> Any:
    return unary("error_function", x.astype(np.float64)).astype(x.dtype)


@erf.steps()
def _(b: Builder, x: View) -> View:
    return b.map("unary", "error_function", x)
