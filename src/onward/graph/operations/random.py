"""Operations that draw random numbers; they draw new ones in each call unless they have a seed."""

from __future__ import annotations  # importing np.random is slow

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import ShapeError
from ..node import AnyArray, Signature
from .registry import Known, operation

FLOAT32, INT32 = np.dtype(np.float32), np.dtype(np.int32)


def _generator(seed: float | None) -> np.random.Generator:
    """Return a generator of random numbers; with a seed, it draws the same numbers in every call."""
    return np.random.default_rng(None if seed is None else int(np.float32(seed).view(np.uint32)))


def _shape_signature(*, shape: Sequence[int], dtype: Any = FLOAT32, **attributes: Any) -> Signature:
    if min(shape, default=0) < 0:
        raise ShapeError(f"the shape {tuple(shape)} has negative sizes")
    return Signature(tuple(shape), dtype)


def _like_signature(x: Known, *, dtype: Any = None, **attributes: Any) -> Signature:
    return Signature(x.shape, dtype or x.dtype)


def _define(name: str, draw: Callable[..., Any], **defaults: float) -> None:
    """Define the operations that draw from a distribution: as many numbers as a shape or an array has."""

    @operation(name, signature=_shape_signature, attributes=tuple(defaults), is_pure=False)
    def of_shape(
        *, shape: Sequence[int], dtype: Any = FLOAT32, seed: float | None = None, **parameters: float
    ) -> Any:
        return draw(_generator(seed), *(defaults | parameters).values(), shape).astype(dtype)

    @operation(f"{name}Like", signature=_like_signature, attributes=tuple(defaults), is_pure=False)
    def like(x: AnyArray, *, dtype: Any = None, seed: float | None = None, **parameters: float) -> Any:
        return draw(_generator(seed), *(defaults | parameters).values(), x.shape).astype(dtype or x.dtype)


_define("RandomNormal", lambda generator, *numbers: generator.normal(*numbers), mean=0.0, scale=1.0)
_define("RandomUniform", lambda generator, *numbers: generator.uniform(*numbers), low=0.0, high=1.0)


@operation("Bernoulli", signature=_like_signature, is_pure=False)
def bernoulli(x: AnyArray, *, dtype: Any = None, seed: float | None = None) -> Any:
    """1 with probability x, otherwise 0."""
    return np.asarray(_generator(seed).random(x.shape) < x).astype(dtype or x.dtype)


def _multinomial_signature(
    x: Known, *, dtype: Any = INT32, sample_size: int = 1, seed: float | None = None
) -> Signature:
    if len(x.shape) != 2 or sample_size < 1:
        raise ShapeError(f"logits of shape {x.shape}, sample_size={sample_size}; expected (B, C), at least 1")
    return Signature((x.shape[0], sample_size), dtype)


@operation("Multinomial", signature=_multinomial_signature, is_pure=False, widens=True)
def multinomial(
    x: AnyArray, *, dtype: Any = INT32, sample_size: int = 1, seed: float | None = None
) -> AnyArray:
    """Indices (B, sample_size) of classes, whose unnormalized logarithmic probabilities are x (B, C)."""
    generator = _generator(seed)
    bounds = np.exp(x.astype(np.float64) - x.max(1, keepdims=True, initial=-np.inf)).cumsum(1)
    drawn = generator.random((len(x), sample_size)) * bounds[:, -1:]
    rows = [np.searchsorted(row, numbers, "right") for row, numbers in zip(bounds, drawn, strict=True)]
    return np.array(rows).reshape(len(x), sample_size).astype(dtype)
