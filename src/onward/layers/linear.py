"""Layers without a state, to stand around a recurrent one: Linear, Embedding, Last, Activation, Softmax."""

from __future__ import annotations  # np.random is slow to import: not before a layer draws weights

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import _core
from ..core import arrays
from ..core.arrays import Array, FloatDtype, Shape
from ..core.checks import Rng, checked, flag, generator, integer, probability
from ..errors import ShapeError
from . import activations
from .base import Layer, Recur, Weighted, packed, uniform


class Linear(Weighted):
    """The affine layer of torch.nn.Linear: y = x W^T + b.

    Weights: weight W (O, I), bias b (O,), drawn from U(-1/sqrt(I), 1/sqrt(I)) with `rng`, a NumPy Generator
    or a seed. Raises ArgumentError, DtypeError, and SignatureError for unknown arguments.
    """

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

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        yield "weight", (self.out_features, self.in_features)
        if self.bias:
            yield "bias", (self.out_features,)

    @property
    def per_step(self) -> bool:
        return True

    @property
    def _step_shape(self) -> Shape:
        return (self.in_features,)

    @packed
    def _kernel(self) -> _core.Dense:
        return _core.Dense(self._weights["weight"], self._weights.get("bias"))

    @packed
    def _backward_kernel(self) -> _core.Dense:
        return _core.Dense(arrays.contiguous(self._weights["weight"].T), None)

    def __call__(self, x: ArrayLike) -> Array:
        """x (..., I) to y (..., O), each row on its own. Raises ShapeError, DtypeError."""
        x = arrays.as_floats(x, self.dtype, "x")
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ShapeError(
                f"x has shape {x.shape}, but the last axis of what this Linear takes is {self.in_features}"
            )
        rows = arrays.contiguous(x).reshape(-1, self.in_features)
        y = np.empty((len(rows), self.out_features), self.dtype)
        self._kernel.forward(rows, y)
        return y.reshape(*x.shape[:-1], self.out_features)

    def forward(
        self, x: ArrayLike, state: None = None, *, lengths: Any = None, rng: Any = None
    ) -> tuple[Array, None, Array]:
        """As a call; the cache is x."""
        return self(x), None, arrays.as_floats(x, self.dtype, "x")

    def backward(self, dy: ArrayLike, dstate: None, cache: Array) -> tuple[Array, None, dict[str, Array]]:
        """dx = dy W, dW = dy^T x and db = dy, summed over the rows; where dy is 0, x counts for nothing.

        Raises ShapeError, DtypeError.
        """
        self._check_cache(isinstance(cache, np.ndarray) and cache.shape[-1:] == (self.in_features,))
        dy = arrays.as_gradient(dy, (*cache.shape[:-1], self.out_features), self.dtype)
        dy, x = (arrays.contiguous(array).reshape(-1, array.shape[-1]) for array in (dy, cache))
        gradients = {name: np.zeros_like(weight) for name, weight in self._weights.items()}
        _core.add_gradients(dy, x, gradients["weight"], gradients.get("bias"))
        dx = np.empty_like(x)
        self._backward_kernel.forward(dy, dx)
        return dx.reshape(cache.shape), None, gradients


class Embedding(Weighted):
    """The table of torch.nn.Embedding: y = weight[x].

    Weights: weight (num_embeddings, embedding_dim), drawn from N(0, 1) with `rng`, a NumPy Generator or a
    seed; the row `padding_idx` starts as zeros. Raises ArgumentError, DtypeError, and SignatureError for
    unknown arguments.
    """

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
        # a negative one counts from the end, as in PyTorch
        self.padding_idx = None if padding_idx is None else integer("padding_idx", padding_idx, -n, n - 1) % n
        self._draw(dtype, rng, self._table)

    def _table(self, generator: np.random.Generator, shape: Shape) -> Array:
        table = generator.standard_normal(shape)
        if self.padding_idx is not None:
            table[self.padding_idx] = 0
        return table

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        yield "weight", (self.num_embeddings, self.embedding_dim)

    @property
    def per_step(self) -> bool:
        return True

    @property
    def _step_shape(self) -> Shape:
        return ()

    def __call__(self, x: ArrayLike) -> Array:
        """Integers x of any shape to y (..., embedding_dim). Raises DtypeError, ArgumentError."""
        last = self.num_embeddings - 1
        x = arrays.as_integers(x, 0, last, "x", f"this Embedding has num_embeddings={self.num_embeddings}")
        return np.take(self._weights["weight"], x, axis=0)

    def forward(
        self, x: ArrayLike, state: None = None, *, lengths: Any = None, rng: Any = None
    ) -> tuple[Array, None, NDArray[np.int64]]:
        """As a call; the cache is x."""
        return self(x), None, np.array(x, np.int64)

    def backward(
        self, dy: ArrayLike, dstate: None, cache: NDArray[np.int64]
    ) -> tuple[None, None, dict[str, Array]]:
        """dweight[x] = dy, summed where x repeats; 0 for padding_idx, as in PyTorch. There is no dx."""
        self._check_cache(isinstance(cache, np.ndarray) and cache.dtype.kind == "i")
        dy = arrays.as_gradient(dy, (*cache.shape, self.embedding_dim), self.dtype)
        gradient = np.zeros_like(self._weights["weight"])
        np.add.at(gradient, cache.reshape(-1), dy.reshape(-1, self.embedding_dim))
        if self.padding_idx is not None:
            gradient[self.padding_idx] = 0
        return None, None, {"weight": gradient}


class Last(Layer):
    """Each row's last valid step: y_{T-1}, or y_{length-1}; zeros where there is no step."""

    @checked
    def __init__(self, batch_first: bool = False) -> None:
        self.batch_first = flag("batch_first", batch_first)

    @property
    def per_step(self) -> bool:
        return True  # after each step, that step is the last

    def _run(self, x: Any, state: Any, lengths: Any, recur: Recur) -> tuple[Any, Any]:
        return self(x, lengths), None

    def __call__(self, y: ArrayLike, lengths: ArrayLike | None = None) -> Array:
        """y (T, B, F), (B, T, F) with batch_first, or (T, F) unbatched to (B, F) or (F,), a new array.

        float64 stays float64, anything else becomes float32. Raises ShapeError, DtypeError, ArgumentError.
        """
        y = arrays.as_array(y, "y")
        y = arrays.as_floats(y, arrays.working_dtype(y), "y")
        if y.ndim not in (2, 3):
            layout = "(B, T, F)" if self.batch_first else "(T, B, F)"
            raise ShapeError(f"y has shape {y.shape}, but Last takes {layout}, or (T, F) unbatched")
        batched = y.ndim == 3
        steps = y.swapaxes(0, 1) if batched and self.batch_first else y if batched else y[:, None]
        T, B, F = steps.shape
        valid = np.full(B, T) if lengths is None else arrays.as_lengths(lengths, (B,) if batched else (), T)
        last = np.zeros((B, F), y.dtype)
        some = np.flatnonzero(valid)
        last[some] = steps[valid[some] - 1, some]
        return last if batched else last[0]

    def forward(
        self, x: ArrayLike, state: None = None, *, lengths: ArrayLike | None = None, rng: Any = None
    ) -> tuple[Array, None, tuple[Shape, NDArray[Any] | None]]:
        """As a call; the cache is the shape of x, and a copy of lengths."""
        return self(x, lengths), None, (np.shape(x), None if lengths is None else np.array(lengths))

    def backward(
        self, dy: ArrayLike, dstate: None, cache: tuple[Shape, NDArray[Any] | None]
    ) -> tuple[Array, None, dict[str, Array]]:
        """dx is dy at each row's last valid step, and 0 elsewhere. Raises ShapeError, DtypeError."""
        shape, lengths = cache if isinstance(cache, tuple) and len(cache) == 2 else ((), None)
        self._check_cache(isinstance(shape, tuple) and len(shape) in (2, 3))
        batch_major = len(shape) == 3 and self.batch_first
        dy = arrays.as_array(dy, "dy")
        *batch, F = shape[:1] + shape[2:] if batch_major else shape[1:]
        dy = arrays.as_gradient(dy, (*batch, F), arrays.working_dtype(dy))
        dx = np.zeros(shape, dy.dtype)
        steps = dx.swapaxes(0, 1) if batch_major else dx if len(shape) == 3 else dx[:, None]
        T, B, _ = steps.shape
        valid = np.full(B, T) if lengths is None else arrays.as_lengths(lengths, tuple(batch), T)
        some = np.flatnonzero(valid)
        steps[valid[some] - 1, some] = dy.reshape(B, F)[some]
        return dx, None, {}


def dropout_mask(rng: np.random.Generator, p: float, shape: Shape, dtype: FloatDtype) -> Array:
    """0 with probability p, else 1 / (1 - p), so that the mean stays."""
    return (rng.random(shape) >= p).astype(dtype) / dtype.type(1 - p if p < 1 else 1)


class Dropout(Layer):
    """torch.nn.Dropout: y = x in a call; with forward's `rng`, y = 0 with probability p, else x / (1 - p).

    Raises ArgumentError. Source: Srivastava et al. 2014.
    """

    @checked
    def __init__(self, p: float = 0.5) -> None:
        self.p = probability("p", p)

    @property
    def per_step(self) -> bool:
        return True

    def __call__(self, x: ArrayLike) -> Array:
        """x of any shape, as it is, in a new array. float64 stays float64, anything else becomes float32."""
        x = arrays.as_array(x, "x")
        return arrays.as_floats(x, arrays.working_dtype(x), "x").copy()

    def forward(
        self,
        x: ArrayLike,
        state: None = None,
        *,
        lengths: Any = None,
        rng: Rng = None,
    ) -> tuple[Array, None, Array]:
        """y, and what x was multiplied by, as the cache."""
        y = self(x)
        mask = np.ones_like(y)
        if rng is not None and self.p:
            mask = dropout_mask(generator(rng), self.p, y.shape, y.dtype)
        return y * mask, None, mask

    def backward(self, dy: ArrayLike, dstate: None, cache: Array) -> tuple[Array, None, dict[str, Array]]:
        """dx = dy where x came through, scaled alike. Raises ShapeError, DtypeError."""
        self._check_cache(isinstance(cache, np.ndarray))
        return arrays.as_gradient(dy, cache.shape, cache.dtype) * cache, None, {}


class Activation(Layer):
    """One of the functions that cells have, of each number: y = f(x), f by its name.

    affine(alpha, beta), elu(alpha), exponential, gelu, hard_sigmoid(alpha, beta), hard_sigmoid_keras2,
    leaky_relu(alpha), linear, mish, relu, relu6, scaled_tanh(alpha, beta), selu, sigmoid, silu (or swish),
    softplus, softsign, tanh, thresholded_relu(alpha), as ONNX and Keras define them; hard_sigmoid is that of
    Keras 3 and PyTorch.

    Raises ArgumentError for an unknown name, and for parameters missing or not taken.
    """

    @checked
    def __init__(self, name: str, alpha: float | None = None, beta: float | None = None) -> None:
        given = [parameter for parameter in (alpha, beta) if parameter is not None]
        self._spec = activations.spec("name", (name, *given) if given else name)
        self.name, self.alpha, self.beta = name, alpha, beta

    @property
    def per_step(self) -> bool:
        return True

    def __call__(self, x: ArrayLike) -> Array:
        """x of any shape to y of the same, a new array.

        NaN goes through, and infinities give the limit. float64 stays float64, anything else becomes float32.
        Raises DtypeError.
        """
        x = arrays.as_array(x, "x")
        x = arrays.contiguous(arrays.as_floats(x, arrays.working_dtype(x), "x"))
        y = np.empty_like(x)
        _core.activate(activations.call(self._spec), x.reshape(-1), y.reshape(-1))
        return y


class Softmax(Layer):
    """torch.nn.Softmax: y = exp(x - max x) / sum(exp(x - max x)) along one axis, which cannot overflow."""

    @checked
    def __init__(self, dim: int = -1) -> None:
        self.dim = integer("dim", dim, -64, 63)  # NumPy's arrays have up to 64 axes

    @property
    def per_step(self) -> bool:
        return self.dim == -1

    def __call__(self, x: ArrayLike) -> Array:
        """x of any shape to y of the same, each slice along `dim` on its own.

        A slice with NaN or +inf in it, or of nothing but -inf, becomes NaN. float64 stays float64, anything
        else becomes float32. Raises ShapeError, DtypeError.
        """
        x = arrays.as_array(x, "x")
        x = arrays.as_floats(x, arrays.working_dtype(x), "x")
        if not -x.ndim <= self.dim < x.ndim:
            raise ShapeError(f"x has shape {x.shape}, but this Softmax works along axis dim={self.dim}")
        # a slice contiguous in memory is summed in the same order whatever else there is
        rows = np.ascontiguousarray(np.moveaxis(x, self.dim, -1))
        with np.errstate(invalid="ignore"):
            shifted = rows - rows.max(axis=-1, keepdims=True, initial=-np.inf)
        powers = np.empty_like(rows)
        _core.activate(activations.call("exponential"), shifted.reshape(-1), powers.reshape(-1))
        powers /= powers.sum(axis=-1, keepdims=True)
        return np.moveaxis(powers, -1, self.dim)

    def forward(
        self, x: ArrayLike, state: None = None, *, lengths: Any = None, rng: Any = None
    ) -> tuple[Array, None, Array]:
        """As a call; the cache is a copy of y."""
        y = self(x)
        return y, None, y.copy()

    def backward(self, dy: ArrayLike, dstate: None, cache: Array) -> tuple[Array, None, dict[str, Array]]:
        """dx = y (dy - sum(dy y)), the sum along `dim`. Raises ShapeError, DtypeError."""
        self._check_cache(isinstance(cache, np.ndarray))
        dy = arrays.as_gradient(dy, cache.shape, cache.dtype)
        return cache * (dy - (dy * cache).sum(axis=self.dim, keepdims=True)), None, {}
