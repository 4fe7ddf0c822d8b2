"""Keras' activations by name, and the layers that are one."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...errors import FileError
from .layer import LAYERS, REQUIRED, Layer, PythonCall, layer
from .writer import Value

RENAMED = {"swish": "silu", "hard_swish": "hard_silu", "leaky_relu_v2": "leaky_relu"}
Function = Callable[..., Value]


def _plain(operation: str, **attributes: Any) -> Function:
    return lambda k, x: k.add(operation, x, **attributes)


def relu(
    k: Layer, x: Value, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Value:
    """x above the threshold, and at most max_value; below, negative_slope (x - threshold)."""
    if threshold:
        below = k.add("Mul", k.add("Sub", x, threshold), negative_slope) if negative_slope else 0
        y = k.add("Where", k.add("Less", x, threshold), below, x)
    else:
        y = k.add("LeakyRelu", x, alpha=float(negative_slope)) if negative_slope else k.add("Relu", x)
    return y if max_value is None else k.add("Min", y, max_value)


def _sparse_plus(k: Layer, x: Value) -> Value:
    """0 up to -1, x from 1 on, and a quarter of (x + 1)^2 between."""
    shifted = k.add("Clip", k.add("Add", x, 1.0), 0, 2)
    curve = k.add("Mul", k.add("Mul", shifted, shifted), 0.25)
    return k.add("Where", k.add("GreaterOrEqual", x, 1.0), x, curve)


def _squareplus(k: Layer, x: Value, b: float = 4) -> Value:
    root = k.add("Sqrt", k.add("Add", k.add("Mul", x, x), float(b)))
    return k.add("Mul", k.add("Add", x, root), 0.5)


def softmax(k: Layer, x: Value, axis: Any = -1) -> Value:
    """softmax along an axis, or along several jointly."""
    axes = axis if isinstance(axis, list) else [axis]
    if len(axes) == 1:
        return k.add("Softmax", x, axis=axes[0])
    powers = k.add("Exp", k.add("Sub", x, k.reduced("ReduceMax", x, axes, keepdims=True)))
    return k.add("Div", powers, k.reduced("ReduceSum", powers, axes, keepdims=True))


def _sparsemax(k: Layer, x: Value, axis: int = -1) -> Value:
    """As Keras defines it, whose threshold sums running totals where Martins and Astudillo, 2016, sum x."""
    last = [each for each in range(k.rank(x)) if each != axis % k.rank(x)] + [axis % k.rank(x)]
    z = k.transposed(x, *last)
    falling, _ = k.add_all("TopK", [z, k.shape_of(z, -1)], [x.rank, x.rank], axis=-1)
    axis_of = np.array(-1)
    total = k.add("CumSum", falling, axis_of)
    ones = k.filled(1, x, k.shape_of(z), x.rank)
    one_less = k.add("Div", k.add("Sub", total, 1.0), k.add("CumSum", ones, axis_of))
    support = k.add("Greater", k.add("Sub", falling, one_less), 0.0)
    count = k.reduced("ReduceSum", k.cast(support, x.dtype), [-1], keepdims=True)
    kept = k.reduced("ReduceSum", k.where(support, total), [-1], keepdims=True)
    y = k.add("Relu", k.add("Sub", z, k.add("Div", k.add("Sub", kept, 1.0), count)))
    return k.transposed(y, *map(int, np.argsort(last)))


def _glu(k: Layer, x: Value, axis: int = -1) -> Value:
    first, second = k.split(x, 2, axis)
    return k.add("Mul", first, k.add("Sigmoid", second))


ACTIVATIONS: dict[str, Function] = {
    "linear": lambda k, x: x,
    **{
        name: _plain(name.capitalize())
        for name in ("sigmoid", "tanh", "selu", "softplus", "softsign", "mish")
    },
    "relu": relu,
    "relu6": lambda k, x: k.add("Clip", x, 0.0, 6.0),
    "exponential": _plain("Exp"),
    "silu": _plain("Swish"),
    "hard_sigmoid": _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_sigmoid_keras2": _plain("HardSigmoid", alpha=0.2, beta=0.5),
    "leaky_relu": lambda k, x, negative_slope=0.2: k.add("LeakyRelu", x, alpha=float(negative_slope)),
    "elu": lambda k, x, alpha=1.0: k.add("Elu", x, alpha=float(alpha)),
    "celu": lambda k, x, alpha=1.0: k.add("Celu", x, alpha=float(alpha)),
    "gelu": lambda k, x, approximate=False: k.add("Gelu", x, approximate="tanh" if approximate else "none"),
    "hard_silu": _plain("HardSwish"),
    "hard_tanh": lambda k, x: k.add("Clip", x, -1.0, 1.0),
    "hard_shrink": lambda k, x, threshold=0.5: k.add("Shrink", x, bias=0.0, lambd=threshold),
    "soft_shrink": lambda k, x, threshold=0.5: k.add("Shrink", x, bias=threshold, lambd=threshold),
    "tanh_shrink": lambda k, x: k.add("Sub", x, k.add("Tanh", x)),
    "threshold": lambda k, x, threshold, default_value=0.0: k.add(
        "Where", k.add("Greater", x, threshold), x, default_value
    ),
    "log_sigmoid": lambda k, x: k.add("Neg", k.add("Softplus", k.add("Neg", x))),
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": lambda k, x: k.add("Clip", k.add("Mul", k.add("Add", x, 1.0), 0.5), 0, 1),
    "squareplus": _squareplus,
    "softmax": softmax,
    "log_softmax": lambda k, x, axis=-1: k.add("LogSoftmax", x, axis=axis),
    "sparsemax": _sparsemax,
    "glu": _glu,
}
OVER_LAST = ("softmax", "log_softmax", "sparsemax", "glu")  # functions of all elements along the last axis
NAMES = {function: name for name, function in ACTIVATIONS.items()}


def activation(k: Layer, x: Value, default: Any = "linear") -> Value:
    """Apply the activation of a layer."""
    return activation_function(k, "activation", default)(k, x)


def activation_function(k: Layer, key: str, default: Any) -> Function:
    """Return the activation under a key: a named one, a function of the user, or another layer."""
    value = k.option(key, default)
    if isinstance(value, dict) and value.get("class_name") in LAYERS:
        inner = k.part(key, value)
        if inner.type.masks != "kept":
            raise k.error(f"has {key}={inner.kind}, which is no function of one array")
        return inner.applied
    given = _function_name(value)
    if custom := k.custom_object(str(given), str(given).rpartition(">")[2]):
        call = PythonCall(custom, 1, (), {}, {}, k.dtype())
        return lambda k, x: k.add("Python", x, function=call, dtype=call.dtype)
    name = "linear" if given is None else RENAMED.get(given, given) if isinstance(given, str) else None
    if name not in ACTIVATIONS:
        raise k.error(f"has {key}={given!r}, which Onward does not know: pass a function as custom_objects")
    # hard_sigmoid changed its slope in Keras 3
    return ACTIVATIONS["hard_sigmoid_keras2" if name == "hard_sigmoid" and k.context.version < 3 else name]


def _function_name(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return value.get("config") if value.get("class_name") == "function" else value.get("class_name")


@layer("Activation", masks="kept")
def _activation(k: Layer, x: Value) -> Value:
    return activation(k, k.floats(x), REQUIRED)


def _parametric(kind: str, name: str, default: Mapping[str, Any] = {}, /, **keys: str) -> None:
    """Describe a layer that is an activation with parameters, each with its key in Keras 3 or in Keras 2."""

    @layer(kind, masks="kept")
    def parametric(k: Layer, x: Value) -> Value:
        given = {key: scalar(k.option(key, k.option(old, default.get(key)))) for key, old in keys.items()}
        given = {key: value for key, value in given.items() if value is not None}
        return ACTIVATIONS[name](k, k.only_floats(x), **given)


def scalar(value: Any) -> Any:
    """Return a number that the configuration may hold as an array."""
    return value["config"]["value"] if isinstance(value, dict) else value


_parametric("ReLU", "relu", negative_slope="negative_slope", max_value="max_value", threshold="theta")
_parametric("LeakyReLU", "leaky_relu", {"negative_slope": 0.3}, negative_slope="alpha")
_parametric("ELU", "elu", alpha="alpha")
_parametric("ThresholdedReLU", "threshold", threshold="theta")


@layer("PReLU", masks="kept")
def _prelu(k: Layer, x: Value) -> Value:
    """max(x, 0) + alpha min(x, 0), where alpha has axes of size 1 for shared axes; He et al. 2015."""
    return k.add("PRelu", k.only_floats(x), k.weight("alpha", *k.arrays(True)))


@layer("Softmax", masks="kept", arguments=("mask",))
def _softmax(k: Layer, x: Value, *, axis: Any = -1) -> Value:
    """A softmax over what the mask, which must broadcast to x, leaves."""
    x = k.floats(x)
    if x.mask is None:
        return softmax(k, x, axis)
    if x.mask.rank != x.rank and not (x.mask.rank or 0) < (x.rank or 0):
        raise FileError(f"layer {k.name} has a mask with more axes than its input")
    y = softmax(k, k.add("Where", x.mask, x, float(np.finfo(x.dtype).min / 2)), axis)
    # Keras 2: where no step counts, all have the same weight
    return y if k.context.version < 3 else k.add("Where", x.mask, y, 0)
