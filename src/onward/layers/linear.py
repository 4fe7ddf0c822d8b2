"""The affine layer of torch.nn."""

from __future__ import annotations  # importing np.random is slow

from collections.abc import Iterator
from typing import Any, Never

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _core
from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import Rng, checked, flag, integer
from ..errors import ShapeError
from .base import packed, uniform
from .quantize import Quantizable


class Linear(Quantizable):
    """An affine layer, as torch.nn.Linear: y = x W^T + b.

    Weights: weight W (O, I) and bias b (O,), drawn from U(-1/sqrt(I), 1/sqrt(I)) with `rng`, a NumPy
    Generator or a seed. Raises ArgumentError, DtypeError, and SignatureError for unknown arguments.

    >>> import numpy as np
    >>> Linear(5, 3)(np.zeros((7, 2, 5))).shape
    (7, 2, 3)
    """

    causal = True

    @checked
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.in_features = integer("in_features", in_features, 1)
        self.out_features = integer("out_features", out_features, 1)
        self.bias = flag("bias", bias)
        self._draw(dtype, rng, uniform(self.in_features**-0.5))

    def _float_shapes(self) -> Iterator[tuple[str, Shape]]:
        yield "weight", (self.out_features, self.in_features)
        if self.bias:
            yield "bias", (self.out_features,)

    @property
    def step_shape(self) -> Shape:
        return (self.in_features,)

    @property
    def step_kernel(self) -> _core.Dense:
        return self._kernel

    @packed
    def _kernel(self, weights: dict[str, Array]) -> _core.Dense:
        return _core.Dense(weights["weight"], weights.get("bias"), weights.get("weight_scale"))

    @packed
    def _backward_kernel(self, weights: dict[str, Array]) -> _core.Dense:
        return _core.Dense(arrays.contiguous(weights["weight"].T), None)

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """Map x (..., I) to y (..., O), row by row. Raises ShapeError, DtypeError."""
        if type(x) is not np.ndarray or x.dtype != self.dtype or unknown:  # saves most calls a method call
            x = self._floats(x, unknown)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ShapeError(f"x has shape {x.shape}; the last axis must have in_features={self.in_features}")
        rows = arrays.contiguous(x).reshape(-1, self.in_features)
        y = np.empty((len(rows), self.out_features), self.dtype)
        self._kernel.forward(rows, y)
        return y.reshape(*x.shape[:-1], self.out_features)

    def forward(
        self, x: ArrayLike, state: None = None, *, lengths: Any = None, rng: Any = None
    ) -> tuple[Array, None, Array]:
        """Call the layer and also return a cache for backward: x."""
        self._check_gradients()
        return self(x), None, arrays.as_floats(x, self.dtype, "x")

    def backward(self, dy: ArrayLike, dstate: None, cache: Array) -> tuple[Array, None, dict[str, Array]]:
        """dx = dy W, dW = dy^T x and db = dy, the last two summed over the rows.

        Rows of dy that are 0 contribute nothing, even if x is NaN. Raises ShapeError, DtypeError.
        """
        self._check_cache(isinstance(cache, np.ndarray) and cache.shape[-1:] == (self.in_features,))
        dy = arrays.as_gradient(dy, (*cache.shape[:-1], self.out_features), self.dtype)
        dy, x = (arrays.contiguous(array).reshape(-1, array.shape[-1]) for array in (dy, cache))
        gradients = {name: np.zeros_like(weight) for name, weight in self._weights.items()}
        _core.add_gradients(dy, x, gradients["weight"], gradients.get("bias"))
        dx = np.empty_like(x)
        self._backward_kernel.forward(dy, dx)
        return dx.reshape(cache.shape), None, gradients
