"""Functions of the core on arrays of any shape in float32 or float64, for layers, graphs and losses."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import onward._core as _core

from .activations import Call
from .arrays import Array


def activate(call: Call, x: Array) -> Array:
    """Return a function of each element."""
    x = np.asarray(x, order="C")
    y = np.empty_like(x)
    _core.activate(call, x.reshape(-1), y.reshape(-1))
    return y


def unary(name: str, x: Array) -> Array:
    """Return a function of the core, such as "log", of each element."""
    x = np.asarray(x, order="C")
    y = np.empty_like(x)
    _core.unary(name, x.reshape(-1), y.reshape(-1))
    return y


def _normal(x: Array) -> Array:
    """The normal distribution: the probability of a number below x."""
    y = activate(("gelu", 0, 0), x)
    return np.where(x == 0, x.dtype.type(0.5), y / np.where(x == 0, 1, x))


def _sigmoid(x: Array) -> Array:
    return activate(("sigmoid", 0, 0), x)


def _of_mish(x: Array, alpha: float, beta: float) -> Array:
    t = activate(("tanh", 0, 0), activate(("softplus", 0, 0), x))
    return t + x * _sigmoid(x) * (1 - t) * (1 + t)


def _of_hard_swish(x: Array, alpha: float, beta: float) -> Array:
    y = alpha * x + beta
    with np.errstate(invalid="ignore"):  # of infinities
        slope: Array = np.where(y <= 0, 0, np.where(y >= 1, 1, y + alpha * x)).astype(x.dtype)
    return slope


def _of_scaled_tanh(x: Array, alpha: float, beta: float) -> Array:
    t = activate(("tanh", 0, 0), beta * x)
    return alpha * beta * (1 - t) * (1 + t)


# The derivatives of the core's functions of x, alpha and beta; at a kink, those of PyTorch.
DERIVATIVES: dict[str, Callable[[Array, float, float], Any]] = {
    "affine": lambda x, alpha, beta: np.full_like(x, alpha),
    "elu": lambda x, alpha, beta: beta * np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))),
    "exponential": lambda x, alpha, beta: activate(("exponential", 0, 0), x),
    "gelu": lambda x, alpha, beta: _normal(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    "hard_sigmoid": lambda x, alpha, beta: alpha * ((alpha * x + beta > 0) & (alpha * x + beta < 1)),
    "hard_swish": _of_hard_swish,
    "leaky_relu": lambda x, alpha, beta: np.where(x > 0, 1, alpha),
    "mish": _of_mish,
    "relu": lambda x, alpha, beta: x > 0,
    "relu6": lambda x, alpha, beta: (x > 0) & (x < 6),
    "scaled_tanh": _of_scaled_tanh,
    "sigmoid": lambda x, alpha, beta: _sigmoid(x) * _sigmoid(-x),
    "silu": lambda x, alpha, beta: _sigmoid(x) * (1 + x * _sigmoid(-x)),
    "softplus": lambda x, alpha, beta: _sigmoid(x),
    "softsign": lambda x, alpha, beta: (1 + np.abs(x)) ** -2,
    "tanh": lambda x, alpha, beta: _of_scaled_tanh(x, 1, 1),
    "thresholded_relu": lambda x, alpha, beta: x > alpha,
}


def derivative(call: Call, x: Array) -> Array:
    """Return the derivative of a function at each element."""
    name, alpha, beta = call
    with np.errstate(all="ignore"):
        return np.asarray(DERIVATIVES[name](x, alpha, beta), x.dtype)


def softmax(x: Array, axis: int = -1, logarithm: bool = False) -> Array:
    """Return exp(x - max x) / sum(exp(x - max x)) along an axis, or its logarithm."""
    rows = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    y = np.empty_like(rows)
    flat = math.prod(rows.shape[:-1]), rows.shape[-1]
    _core.softmax(rows.reshape(flat), logarithm, y.reshape(flat))
    return np.moveaxis(y, -1, axis)


def standardized(x: Array, eps: float) -> Array:
    """Return (x - mean) / sqrt(var + eps) for each row of x (..., F); var is the mean of (x - mean)^2."""
    rows = np.ascontiguousarray(x).reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = np.empty_like(rows)
    _core.standardize(rows, eps, y)
    return y.reshape(x.shape)


def standardized_gradient(dz: Array, x: Array, eps: float) -> Array:
    """Return the gradient with respect to x from that with respect to z = standardized(x, eps).

    dx = (dz - mean dz - z mean(dz z)) / sqrt(var x + eps), the means over the last axis.
    """
    F = max(x.shape[-1], 1)
    with np.errstate(all="ignore"):
        z, centred = standardized(x, eps), x - x.sum(-1, keepdims=True) / F
        s = np.sqrt((centred * centred).sum(-1, keepdims=True) / F + x.dtype.type(eps))
        dx: Array = (dz - (dz.sum(-1, keepdims=True) + z * (dz * z).sum(-1, keepdims=True)) / F) / s
    return dx
