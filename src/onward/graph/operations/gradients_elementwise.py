"""The gradients of operations on elements: arithmetic, functions of one number, and activation functions."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, reduce
from operator import or_
from typing import Any

import numpy as np

from ...core import activations
from ..activation_names import OPERATORS
from .expressions import where

Rule = Callable[..., Iterable[Any]]


def _kept(condition: Any, dy: Any) -> Any:
    """Return dy where a condition holds, and 0 elsewhere, which takes less time than `where`."""
    return dy * condition.cast(dy.dtype)


def _of_extremum(dy: Any, y: Any, *inputs: Any) -> Iterator[Any]:
    """Yield dy for the first input that is the largest, or the smallest, of all."""
    taken = None
    for x in inputs:
        is_first = x.equals(y) if taken is None else x.equals(y) & ~taken
        yield _kept(is_first, dy)
        taken = is_first if taken is None else taken | is_first


def _of_clip(dy: Any, y: Any, x: Any, low: Any = None, high: Any = None) -> Iterator[Any]:
    """Yield dy for x between the limits, and for the limit where x is not; it is 0 for x at a limit."""
    limits = [None if limit is None else limit.apply("Reshape", []) for limit in (low, high)]
    at_high = limits[1] and y.equals(limits[1])
    at_low = limits[0] and (y.equals(limits[0]) if at_high is None else y.equals(limits[0]) & ~at_high)
    outside = [each for each in (at_low, at_high) if each is not None]
    yield _kept(~reduce(or_, outside), dy) if outside else dy
    yield at_low and _kept(at_low, dy)
    yield at_high and _kept(at_high, dy)


def _of_where(dy: Any, y: Any, condition: Any, a: Any, b: Any) -> Iterator[Any]:
    yield None
    yield where(condition, dy, 0)
    yield where(condition, 0, dy)


def _of_power(dy: Any, y: Any, x: Any, exponent: Any) -> Iterator[Any]:
    power = exponent.cast(x.dtype)
    slope = power * x.apply("Pow", power - 1)  # where the exponent is 0, x may be 0 as well
    yield dy * (
        slope
        if isinstance(power.known, np.ndarray) and power.known.all()
        else where(power.equals(0), 0, slope)
    )
    yield where(x > 0, dy * y * where(x > 0, x, 1).apply("Log"), 0).cast(exponent.dtype)


def _same(dy: Any, y: Any, x: Any, *others: Any, **attributes: Any) -> Iterator[Any]:
    yield dy


def _of_gelu(dy: Any, x: Any, y: Any, alpha: float, beta: float) -> Any:
    normal = (x * math.sqrt(0.5)).apply("Erf") * 0.5 + 0.5
    return dy * (normal + x * (x * x * -0.5).apply("Exp") * (1 / math.sqrt(2 * math.pi)))


def _of_hard_sigmoid(dy: Any, x: Any, y: Any, alpha: float, beta: float) -> Any:
    gate = x * alpha + beta
    return _kept((gate > 0) & (gate < 1), dy * alpha)


def _of_hard_swish(dy: Any, x: Any, y: Any, alpha: float, beta: float) -> Any:
    gate = x * alpha + beta
    return where(gate <= 0, 0, where(gate >= 1, dy, dy * (gate + x * alpha)))


def _of_halves(dy: Any, x: Any, above: Any, below: Any) -> Any:
    """The gradient of a function whose slopes differ for x above 0 and for others."""
    is_positive = (x > 0).cast(x.dtype)
    return dy * (is_positive * above + (1 - is_positive) * below)


def _of_mish(dy: Any, x: Any, y: Any, alpha: float, beta: float) -> Any:
    t = x.apply("Softplus").apply("Tanh")
    return dy * (t + x * x.apply("Sigmoid") * (1 - t) * (1 + t))


def _of_scaled_tanh(dy: Any, x: Any, y: Any, alpha: float, beta: float) -> Any:
    t = (x * beta).apply("Tanh")
    return dy * ((1 - t) * (1 + t) * (alpha * beta))


def _of_silu(dy: Any, x: Any, y: Any, alpha: float, beta: float) -> Any:
    gate = x.apply("Sigmoid")
    return dy * (gate * (1 + x * (1 - gate)))


def _of_softsign(dy: Any, x: Any, y: Any, alpha: float, beta: float) -> Any:
    root = abs(x) + 1
    return dy / (root * root)


# For each function of the core, dx from dy, x, y = f(x), alpha and beta; at a kink, it is that of PyTorch.
FUNCTIONS: dict[str, Callable[[Any, Any, Any, float, float], Any]] = {
    "affine": lambda dy, x, y, alpha, beta: dy * alpha,
    "elu": lambda dy, x, y, alpha, beta: _of_halves(dy, x, beta, y + alpha * beta),
    "exponential": lambda dy, x, y, alpha, beta: dy * y,
    "gelu": _of_gelu,
    "hard_sigmoid": _of_hard_sigmoid,
    "hard_swish": _of_hard_swish,
    "leaky_relu": lambda dy, x, y, alpha, beta: _of_halves(dy, x, 1, alpha),
    "mish": _of_mish,
    "relu": lambda dy, x, y, alpha, beta: dy * y.apply("Sign"),
    "relu6": lambda dy, x, y, alpha, beta: _kept((x > 0) & (x < 6), dy),
    "scaled_tanh": _of_scaled_tanh,
    "sigmoid": lambda dy, x, y, alpha, beta: dy * y * (1 - y),
    "silu": _of_silu,
    "softplus": lambda dy, x, y, alpha, beta: dy * x.apply("Sigmoid"),
    "softsign": _of_softsign,
    "tanh": lambda dy, x, y, alpha, beta: dy * (1 - y) * (y + 1),
    "thresholded_relu": lambda dy, x, y, alpha, beta: _kept(x > alpha, dy),
}


def _of_function(dy: Any, y: Any, x: Any, *, function: Any) -> Iterator[Any]:
    name, alpha, beta = activations.call(function)
    yield FUNCTIONS[name](dy, x, y, alpha, beta)


def _of_operator(name: str, dy: Any, y: Any, x: Any, **given: float) -> Iterator[Any]:
    function, parameters = OPERATORS[name]
    yield from _of_function(dy, y, x, function=(function, *{**parameters, **given}.values()))


def _of_selu(
    dy: Any,
    y: Any,
    x: Any,
    *,
    alpha: float = 1.67326319217681884765625,
    gamma: float = 1.05070102214813232421875,
) -> Iterator[Any]:
    yield FUNCTIONS["elu"](dy, x, y, alpha, gamma)


RULES: Mapping[str, Rule] = {
    **{name: partial(_of_operator, name) for name in OPERATORS if name not in ("Gelu", "HardSwish", "Swish")},
    "Activate": _of_function,
    "Selu": _of_selu,
    "Add": lambda dy, y, a, b: (dy, dy),
    "Sub": lambda dy, y, a, b: (dy, -dy),
    "Mul": lambda dy, y, a, b: (dy * b, dy * a),
    "Div": lambda dy, y, a, b: (dy / b, -dy * y / b),
    "Neg": lambda dy, y, x: (-dy,),
    "Sum": lambda dy, y, *inputs: [dy] * len(inputs),
    "Max": _of_extremum,
    "Min": _of_extremum,
    "Clip": _of_clip,
    "Where": _of_where,
    "Pow": _of_power,
    "Abs": lambda dy, y, x: (dy * x.apply("Sign"),),
    "Log": lambda dy, y, x: (dy / x,),
    "Reciprocal": lambda dy, y, x: (-dy * y * y,),
    "Sqrt": lambda dy, y, x: (dy / (y + y),),
    "Erf": lambda dy, y, x: (dy * (-x * x).apply("Exp") * (2 / math.sqrt(math.pi)),),
    "Sin": lambda dy, y, x: (dy * x.apply("Cos"),),
    "Cos": lambda dy, y, x: (-dy * x.apply("Sin"),),
    "Tan": lambda dy, y, x: (dy * (y * y + 1),),
    "Sinh": lambda dy, y, x: (dy * x.apply("Cosh"),),
    "Cosh": lambda dy, y, x: (dy * x.apply("Sinh"),),
    "Asin": lambda dy, y, x: (dy / (1 - x * x).apply("Sqrt"),),
    "Acos": lambda dy, y, x: (-dy / (1 - x * x).apply("Sqrt"),),
    "Atan": lambda dy, y, x: (dy / (x * x + 1),),
    "Asinh": lambda dy, y, x: (dy / (x * x + 1).apply("Sqrt"),),
    "Acosh": lambda dy, y, x: (dy / (x * x - 1).apply("Sqrt"),),
    "Atanh": lambda dy, y, x: (dy / (1 - x * x),),
    "Cast": lambda dy, y, x, **attributes: (dy.cast(x.dtype),),
    "Identity": _same,
    "Dropout": _same,
}
# The operations of floats whose gradient is 0 wherever they have one.
CONSTANT = {"Ceil", "Floor", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Round", "Sign"}
