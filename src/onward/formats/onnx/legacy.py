"""The meaning of operators before opset 7 or 21 that no operation of graphs has; each runs in NumPy."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ...graph.node import AnyArray
from ...graph.operations import OPERATIONS


def aligned(operation: str, axis: int) -> Callable[..., Any]:
    """An operation of A and B whose axes begin at `axis` of A."""
    return partial(_aligned, operation, axis)


def _aligned(operation: str, axis: int, A: AnyArray, B: AnyArray) -> Any:
    meets = A.shape[axis : axis + B.ndim] if axis >= 0 else ()
    if len(meets) != B.ndim or any(n not in (1, m) for n, m in zip(B.shape, meets, strict=True)):
        raise ArgumentError(f"B has shape {B.shape}, which does not fit A {A.shape} at axis={axis}")
    B = B.reshape(*B.shape, *[1] * (A.ndim - axis - B.ndim))
    return OPERATIONS[operation].compute([A, B], {})


def prelu(X: AnyArray, slope: AnyArray) -> AnyArray:
    """PRelu with one slope per channel, or one for all."""
    slopes = slope.reshape(() if slope.size == 1 else (-1, *[1] * (X.ndim - 2)))
    y: AnyArray = np.where(X < 0, slopes * X, X)
    return y


def group_norm(num_groups: int, epsilon: float = 1e-5) -> Callable[..., Any]:
    """GroupNormalization with one scale and one bias per group."""
    return partial(_group_norm, num_groups, epsilon)


def _group_norm(num_groups: int, epsilon: float, X: AnyArray, scale: AnyArray, bias: AnyArray) -> Any:
    repeats = X.shape[1] // num_groups
    inputs = [X, scale.repeat(repeats), bias.repeat(repeats)]
    return OPERATIONS["GroupNormalization"].compute(inputs, {"num_groups": num_groups, "epsilon": epsilon})
