"""Functions of the core on arrays of any shape in float32 or float64, for layers, graphs and losses."""

import math

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
