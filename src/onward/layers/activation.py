"""The layers without weights that keep the shape of x: elementwise functions, softmax and dropout."""

from __future__ import annotations  # importing np.random is slow

from typing import TYPE_CHECKING, Any, Never

import numpy as np
from numpy.typing import ArrayLike

from ..core import activations, arrays
from ..core.arrays import Array, FloatDtype, Shape
from ..core.checks import Rng, generator, integer, probability
from ..core.functions import activate, softmax
from ..errors import ArgumentError, ShapeError
from .base import Layer

if TYPE_CHECKING:
    from .graphs import GraphBuilder


class Activation(Layer):
    """An elementwise function by name: y = f(x).

    affine(alpha, beta), elu(alpha), exponential, gelu, hard_sigmoid(alpha, beta), hard_sigmoid_keras2,
    hard_swish, leaky_relu(alpha), linear, mish, relu, relu6, scaled_tanh(alpha, beta), selu, sigmoid, silu
    (or swish), softplus, softsign, tanh, thresholded_relu(alpha), as ONNX and Keras define them; hard_sigmoid
    is that of Keras 3 and PyTorch.

    Raises ArgumentError for an unknown name and for missing or unexpected parameters.

    >>> Activation("leaky_relu", 0.1)([-1.0, 2.0])
    array([-0.1,  2. ])
    """

    causal = True

    def __init__(self, name: str, alpha: float | None = None, beta: float | None = None) -> None:
        if beta is not None and alpha is None:
            known = activations.FUNCTIONS.get(name) if isinstance(name, str) else None
            if known is None or known.takes < 2 or known.alpha is None:
                raise ArgumentError(f"beta={beta!r} needs a function with a default alpha; got name={name!r}")
            alpha = known.alpha
        given = [parameter for parameter in (alpha, beta) if parameter is not None]
        self.spec = activations.spec("name", (name, *given) if given else name)
        # plain floats, which JSON can hold
        self.name, self.alpha, self.beta, *_ = (*activations.parts(self.spec), None, None)

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """Map x of any shape to a new array y of the same shape.

        NaN gives NaN, and infinities give the limit, except that hard_swish of -inf is NaN, as in PyTorch.
        float64 stays float64; other dtypes become float32. Raises DtypeError.
        """
        x = self._floats(x, unknown)
        # in the core, 1 x + 0 turns -0 into 0
        return x.copy() if self.spec == "linear" else activate(activations.call(self.spec), x)

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        from ..graph.activation_names import OPERATORS, by_function  # slow to import

        name, *numbers = activations.call(self.spec)
        if self.spec == "linear":
            return x
        if (name, *numbers) == activations.call("selu"):  # the operator's own numbers are float32
            exact = {"alpha": numbers[0], "gamma": numbers[1]} if b.dtype == np.float64 else {}
            return b.add("Selu", x, **exact)
        if name == "relu6":
            return b.add("Clip", x, b.constant(0.0), b.constant(6.0))
        operation = by_function(OPERATORS)[name]
        return b.add(operation, x, **dict(zip(OPERATORS[operation].parameters, numbers, strict=False)))


class Softmax(Layer):
    """The softmax along one axis, as torch.nn.Softmax: y = exp(x - max x) / sum(exp(x - max x)).

    Raises ArgumentError if dim is not an integer from -64 to 63.

    >>> Softmax()([[0.0, 0.0, 0.0, 0.0]])
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = integer("dim", dim, -64, 63)  # NumPy arrays have up to 64 axes
        self.causal = self.dim == -1
        self.takes_vectors = -2 <= self.dim < 2

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """Map x of any shape to y of the same shape, each slice along `dim` independently.

        A slice that contains NaN or +inf, or only -inf, gives NaN. float64 stays float64; other dtypes become
        float32. Raises ShapeError, DtypeError.
        """
        x = self._floats(x, unknown)
        if not -x.ndim <= self.dim < x.ndim:
            raise ShapeError(f"x has shape {x.shape} and no axis dim={self.dim}")
        return softmax(x, self.dim)

    def _forward(self, x: ArrayLike, lengths: Any, rng: Rng) -> tuple[Array, Array]:
        y = self(x)
        return y, y.copy()

    def _backward(self, dy: ArrayLike, cache: Any) -> tuple[Array, dict[str, Array]]:
        """dx = y (dy - sum(dy y)), the sum along `dim`."""
        self._check_cache(isinstance(cache, np.ndarray))
        dy = arrays.as_gradient(dy, cache.shape, cache.dtype)
        return cache * (dy - (dy * cache).sum(axis=self.dim, keepdims=True)), {}

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        return b.add("Softmax", x, axis=self.dim)


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

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability("p", p)

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """A copy of x, of any shape. float64 stays float64; other dtypes become float32."""
        return self._floats(x, unknown).copy()

    def _forward(self, x: ArrayLike, lengths: Any, rng: Rng) -> tuple[Array, Array]:
        y = self(x)
        mask = np.ones_like(y)
        if rng is not None and self.p:
            mask = dropout_mask(generator(rng), self.p, y.shape, y.dtype)
        return y * mask, mask

    def _backward(self, dy: ArrayLike, cache: Any) -> tuple[Array, dict[str, Array]]:
        """dx = dy times the factors of x."""
        self._check_cache(isinstance(cache, np.ndarray))
        return arrays.as_gradient(dy, cache.shape, cache.dtype) * cache, {}

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        return x
