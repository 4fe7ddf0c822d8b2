"""The layers that consist of one matrix: the affine layer and the lookup table (embedding)."""

from __future__ import annotations  # importing np.random is slow

from typing import TYPE_CHECKING, Any, Never

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import onward._core as _core

from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import Rng, flag, integer, unknown_arguments
from ..errors import ShapeError
from .quantize import Quantizable, packed, uniform

if TYPE_CHECKING:
    from .graphs import GraphBuilder


class Linear(Quantizable):
    """An affine layer, as torch.nn.Linear: y = x W^T + b.

    Weights: weight W (O, I) and bias b (O,), drawn from U(-1/sqrt(I), 1/sqrt(I)) with `rng`, a NumPy
    Generator or a seed. Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> Linear(5, 3)(np.zeros((7, 2, 5))).shape
    (7, 2, 3)
    """

    causal = True

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
        self.step_shape = (self.in_features,)
        bias_shape = (self.out_features,) if self.bias else None
        weight_shape = (self.out_features, self.in_features)
        self._draw(dtype, rng, uniform(self.in_features**-0.5), weight=weight_shape, bias=bias_shape)

    @packed
    def step_kernel(self, weights: dict[str, Array]) -> _core.Dense:
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
        self.step_kernel.forward(rows, y)
        return y.reshape(*x.shape[:-1], self.out_features)

    def _forward(self, x: ArrayLike, lengths: Any, rng: Rng) -> tuple[Array, Array]:
        self._check_gradients()
        return self(x), arrays.as_floats(x, self.dtype, "x")

    def _backward(self, dy: ArrayLike, cache: Any) -> tuple[Array, dict[str, Array]]:
        """dx = dy W, dW = dy^T x and db = dy, the last two summed over the rows.

        Rows of dy that are 0 contribute nothing, even if x is NaN.
        """
        self._check_cache(isinstance(cache, np.ndarray) and cache.shape[-1:] == (self.in_features,))
        dy = arrays.as_gradient(dy, (*cache.shape[:-1], self.out_features), self.dtype)
        dy, x = (arrays.contiguous(array).reshape(-1, array.shape[-1]) for array in (dy, cache))
        gradients = {name: np.zeros_like(weight) for name, weight in self._weights.items()}
        _core.add_gradients(dy, x, gradients["weight"], gradients.get("bias"))
        dx = np.empty_like(x)
        self._backward_kernel.forward(dy, dx)
        return dx.reshape(cache.shape), gradients

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        weights = self.weights_by_name()
        bias = [b.constant(weights["bias"])] if self.bias else []
        if self.precision:
            return b.add("QuantizedMatMul", x, *b.quantized(weights), *bias)
        return b.add("MatMul", x, b.constant(weights["weight"].T), *bias)


class Embedding(Quantizable):
    """A lookup table, as torch.nn.Embedding: y = weight[x].

    Weights: weight (num_embeddings, embedding_dim), drawn from N(0, 1) with `rng`, a NumPy Generator or a
    seed; the row `padding_idx` starts at zero. Raises ArgumentError, DtypeError, SignatureError.

    >>> Embedding(80, 16)([[3, 1, 4]]).shape
    (1, 3, 16)
    """

    causal = True

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
        self.step_shape = ()
        self._draw(dtype, rng, self._table, weight=(n, self.embedding_dim))

    def _table(self, generator: np.random.Generator, shape: Shape) -> Array:
        table = generator.standard_normal(shape)
        if self.padding_idx is not None:
            table[self.padding_idx] = 0
        return table

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """Map integers x of any shape to y (..., embedding_dim). Raises DtypeError, ArgumentError."""
        if unknown:
            raise unknown_arguments(self, unknown, "x")
        last = self.num_embeddings - 1
        x = arrays.as_integers(x, 0, last, "x", f"this Embedding has num_embeddings={self.num_embeddings}")
        weights = self._weights  # read once: another thread may replace them
        y = np.take(weights["weight"], x, axis=0).astype(self.dtype, copy=False)
        scale = weights.get("weight_scale")
        if scale is None:
            return y
        with np.errstate(all="ignore"), _core.Flushing():
            return y * np.take(scale, x)[..., None]

    def _forward(self, x: ArrayLike, lengths: Any, rng: Rng) -> tuple[Array, Any]:
        self._check_gradients()
        return self(x), np.array(x, np.int64)

    def _backward(self, dy: ArrayLike, cache: Any) -> tuple[None, dict[str, Array]]:
        """dweight[x] = dy, summed over equal x; 0 for padding_idx, as in PyTorch. dx is None."""
        self._check_cache(isinstance(cache, np.ndarray) and cache.dtype.kind == "i")
        dy = arrays.as_gradient(dy, (*cache.shape, self.embedding_dim), self.dtype)
        gradient = np.zeros_like(self._weights["weight"])
        np.add.at(gradient, cache.reshape(-1), dy.reshape(-1, self.embedding_dim))
        if self.padding_idx is not None:
            gradient[self.padding_idx] = 0
        return None, {"weight": gradient}

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        weights = self.weights_by_name()
        if b.is_layer:
            end = b.constant(np.int64(self.num_embeddings))
            x = b.add("Where", b.add("Less", x, b.constant(np.int64(0))), end, x)
        y = b.add("Gather", b.graph.add_constant(weights["weight"]), x)
        if self.precision:
            y = b.add("Cast", y, to=np.dtype(b.dtype))
        if "weight_scale" in weights:
            y = b.add("Mul", y, b.add("Gather", b.constant(weights["weight_scale"][:, None]), x))
        return y
