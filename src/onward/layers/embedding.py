"""The lookup table (embedding) of torch.nn."""

from __future__ import annotations  # importing np.random is slow

from collections.abc import Iterator
from typing import Any, Never

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import Rng, checked, integer
from .base import unknown_arguments
from .quantize import Quantizable


class Embedding(Quantizable):
    """A lookup table, as torch.nn.Embedding: y = weight[x].

    Weights: weight (num_embeddings, embedding_dim), drawn from N(0, 1) with `rng`, a NumPy Generator or a
    seed; the row `padding_idx` starts at zero. Raises ArgumentError, DtypeError, and SignatureError for
    unknown arguments.

    >>> Embedding(80, 16)([[3, 1, 4]]).shape
    (1, 3, 16)
    """

    causal = True

    @checked
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.num_embeddings = n = integer("num_embeddings", num_embeddings, 1)
        self.embedding_dim = integer("embedding_dim", embedding_dim, 1)
        # a negative index counts from the end, as in PyTorch
        self.padding_idx = None if padding_idx is None else integer("padding_idx", padding_idx, -n, n - 1) % n
        self._draw(dtype, rng, self._table)

    def _table(self, generator: np.random.Generator, shape: Shape) -> Array:
        table = generator.standard_normal(shape)
        if self.padding_idx is not None:
            table[self.padding_idx] = 0
        return table

    def _float_shapes(self) -> Iterator[tuple[str, Shape]]:
        yield "weight", (self.num_embeddings, self.embedding_dim)

    @property
    def step_shape(self) -> Shape:
        return ()

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """Map integers x of any shape to y (..., embedding_dim). Raises DtypeError, ArgumentError."""
        if unknown:
            raise unknown_arguments(self, unknown, "x")
        last = self.num_embeddings - 1
        x = arrays.as_integers(x, 0, last, "x", f"this Embedding has num_embeddings={self.num_embeddings}")
        weights = self._weights  # read once: another thread may replace them
        y = np.take(weights["weight"], x, axis=0).astype(self.dtype, copy=False)
        scale = weights.get("weight_scale")
        return y if scale is None else y * np.take(scale, x)[..., None]

    def forward(
        self, x: ArrayLike, state: None = None, *, lengths: Any = None, rng: Any = None
    ) -> tuple[Array, None, NDArray[np.int64]]:
        """Call the layer and also return a cache for backward: x."""
        self._check_gradients()
        return self(x), None, np.array(x, np.int64)

    def backward(
        self, dy: ArrayLike, dstate: None, cache: NDArray[np.int64]
    ) -> tuple[None, None, dict[str, Array]]:
        """dweight[x] = dy, summed over equal x; 0 for padding_idx, as in PyTorch. dx is None."""
        self._check_cache(isinstance(cache, np.ndarray) and cache.dtype.kind == "i")
        dy = arrays.as_gradient(dy, (*cache.shape, self.embedding_dim), self.dtype)
        gradient = np.zeros_like(self._weights["weight"])
        np.add.at(gradient, cache.reshape(-1), dy.reshape(-1, self.embedding_dim))
        if self.padding_idx is not None:
            gradient[self.padding_idx] = 0
        return None, None, {"weight": gradient}
