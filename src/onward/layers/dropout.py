"""Dropout, which acts in training only, as in torch.nn."""

from __future__ import annotations  # importing np.random is slow

from typing import Any, Never

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays
from ..core.arrays import Array, FloatDtype, Shape
from ..core.checks import Rng, checked, generator, probability
from .base import Layer


def dropout_mask(rng: np.random.Generator, p: float, shape: Shape, dtype: FloatDtype) -> Array:
    """Factors that are 0 with probability p and otherwise 1 / (1 - p), which preserves the mean."""
    return (rng.random(shape) >= p).astype(dtype) / dtype.type(1 - p if p < 1 else 1)


class Dropout(Layer):
    """Dropout, as torch.nn.Dropout: y = x in a call; in training, y = 0 with probability p, else x / (1 - p).

    `forward` trains when it is given `rng`. Raises ArgumentError. Source: Srivastava et al. 2014.

    >>> Dropout(0.5)([1.0, 2.0])  # a call is inference
    array([1., 2.])
    >>> y, _, _ = Dropout(0.5).forward([1.0, 2.0, 3.0, 4.0], rng=0)
    >>> y
    array([2., 0., 0., 0.])
    """

    causal = unchanged_by_step = True

    @checked
    def __init__(self, p: float = 0.5) -> None:
        self.p = probability("p", p)

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """A copy of x, of any shape. float64 stays float64; other dtypes become float32."""
        return self._floats(x, unknown).copy()

    def forward(
        self,
        x: ArrayLike,
        state: None = None,
        *,
        lengths: Any = None,
        rng: Rng = None,
    ) -> tuple[Array, None, Array]:
        """Call the layer and also return a cache for backward: the factors of x."""
        y = self(x)
        mask = np.ones_like(y)
        if rng is not None and self.p:
            mask = dropout_mask(generator(rng), self.p, y.shape, y.dtype)
        return y * mask, None, mask

    def backward(self, dy: ArrayLike, dstate: None, cache: Array) -> tuple[Array, None, dict[str, Array]]:
        """dx = dy times the factors of x. Raises ShapeError, DtypeError."""
        self._check_cache(isinstance(cache, np.ndarray))
        return arrays.as_gradient(dy, cache.shape, cache.dtype) * cache, None, {}
