"""The normalization layers of torch.nn; the rows of a batch do not affect each other."""

from __future__ import annotations  # importing np.random is slow

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Never

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import onward._core as _core

from ..core.arrays import Array, Shape
from ..core.checks import Rng, flag, integer, non_negative
from ..core.functions import standardized
from ..errors import ArgumentError, ShapeError
from .base import Layer

if TYPE_CHECKING:
    from .graphs import GraphBuilder

ONES = ("weight", "running_var")


class Normalization(Layer):
    """A layer whose weight is initialized to ones and whose bias to zeros."""

    def _start(self, eps: float, dtype: DTypeLike, rng: Rng, **shapes: Shape | None) -> None:
        self.eps = non_negative("eps", eps)
        self._draw(dtype, rng, lambda generator, shape: np.zeros(shape), **shapes)
        self.take_weights({name: np.ones_like(w) for name, w in self._weights.items() if name in ONES})

    def _add_node(self, b: GraphBuilder, x: str, operation: str, shape: Shape, **options: Any) -> str:
        weights = {"weight": np.ones(shape), "bias": np.zeros(shape)} | self.weights_by_name()
        names = ("weight", "bias", "running_mean", "running_var")
        constants = (b.constant(weights[name], name) for name in names if name in weights)
        return b.add(operation, x, *constants, epsilon=self.eps, **options)


def affine(weights: Mapping[str, Array], x: Array, shape: Shape) -> Array:
    """weight x + bias, or 1 and 0 for those that are None; each is reshaped to `shape`."""
    with np.errstate(all="ignore"), _core.Flushing():
        if "weight" in weights:
            x = x * weights["weight"].reshape(shape)
        return x + (weights["bias"].reshape(shape) if "bias" in weights else 0)


class BatchNorm(Normalization):
    """The base class of BatchNorm1d and BatchNorm2d."""

    layouts: ClassVar[dict[int, str]]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.num_features = integer("num_features", num_features, 1)
        # acts in training only
        self.momentum = None if momentum is None else non_negative("momentum", momentum)
        self.affine = flag("affine", affine)
        if not flag("track_running_stats", track_running_stats):
            raise ArgumentError(
                "track_running_stats=False is not supported: a row's output would depend on the other rows"
            )
        self.track_running_stats = True
        C: Shape = (self.num_features,)
        own = C if self.affine else None
        # num_batches_tracked is unused at inference
        self._start(
            eps, dtype, rng, weight=own, bias=own, running_mean=C, running_var=C, num_batches_tracked=()
        )

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """Map x to y of the same shape, elementwise. Raises ShapeError, DtypeError."""
        x = self._floats(x, unknown)
        if x.ndim not in self.layouts or x.shape[1] != self.num_features:
            takes = " or ".join(self.layouts.values())
            raise ShapeError(
                f"x has shape {x.shape}, but this {type(self).__name__} takes {takes} with "
                f"C={self.num_features}"
            )
        weights = self._weights  # read once: another thread may replace them
        shape = (-1, *(1,) * (x.ndim - 2))
        # (x - mean) factors + bias needs no division, and x - mean is exact where x is close to the mean
        with np.errstate(all="ignore"), _core.Flushing():
            factors = 1 / np.sqrt(weights["running_var"].astype(np.float64) + self.eps)  # rounded once
            factors = (weights.get("weight", 1) * factors).astype(self.dtype)
            x = x - weights["running_mean"].reshape(shape)
        return affine({**weights, "weight": factors}, x, shape)

    def trained_weights(self) -> Mapping[str, Array]:
        """The weights without the statistics, which stay as they are."""
        return {name: w for name, w in self._weights.items() if name in ("weight", "bias")}

    def _names_in_graphs(self) -> Iterable[str]:
        return (name for name in self._weights if name != "num_batches_tracked")

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        return self._add_node(b, x, "BatchNormalization", (self.num_features,))


class BatchNorm1d(BatchNorm):
    """torch.nn.BatchNorm1d at inference: y = weight (x - running_mean) / sqrt(running_var + eps) + bias.

    x (N, C) or (N, C, L). Weights: weight, bias, running_mean, running_var (C,), num_batches_tracked ().
    Raises ArgumentError, DtypeError, SignatureError. Source: Ioffe and Szegedy 2015.

    >>> norm = BatchNorm1d(2, eps=0)
    >>> _ = norm.load_state_dict({"running_mean": [1, 2], "running_var": [4, 9]}, strict=False)
    >>> norm([[3.0, 8.0]])
    array([[1., 2.]], dtype=float32)
    """

    layouts: ClassVar[dict[int, str]] = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(BatchNorm):
    """torch.nn.BatchNorm2d at inference: BatchNorm1d for x (N, C, H, W).

    Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> BatchNorm2d(3)(np.ones((4, 3, 8, 8))).shape
    (4, 3, 8, 8)
    """

    layouts: ClassVar[dict[int, str]] = {4: "(N, C, H, W)"}


class Standardization(Normalization):
    """The base class of LayerNorm and GroupNorm: y = weight z + bias, z standardized in parts of each row."""

    def _parts(self, x: Array) -> Array:
        """x as (..., elements of a part)."""
        raise NotImplementedError

    def _weight_shape(self, x: Array) -> Shape:
        """The shape in which the weights broadcast against x."""
        raise NotImplementedError

    def _output(self, x: Array) -> Array:
        z = standardized(self._parts(x), self.eps).reshape(x.shape)
        return affine(self._weights, z, self._weight_shape(x))


class LayerNorm(Standardization):
    """torch.nn.LayerNorm: y = weight (x - mean x) / sqrt(var x + eps) + bias over the last axes.

    Weights: weight and bias of shape normalized_shape, one integer or several.
    Raises ArgumentError, DtypeError, SignatureError. Source: Ba, Kiros and Hinton 2016.

    >>> LayerNorm(3, eps=0)([[1.0, 2.0, 3.0]]).round(4)
    array([[-1.2247,  0.    ,  1.2247]], dtype=float32)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        sizes: Any = normalized_shape if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
        self.normalized_shape = tuple(integer("normalized_shape", size, 1) for size in sizes)
        if not sizes:
            raise ArgumentError("normalized_shape=(); expected at least one axis")
        self.causal = self.takes_vectors = len(sizes) == 1
        self.elementwise_affine = flag("elementwise_affine", elementwise_affine)
        self.bias = flag("bias", bias)
        own = self.normalized_shape if self.elementwise_affine else None
        self._start(eps, dtype, rng, weight=own, bias=own if self.bias else None)

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """Map x (..., *normalized_shape) to y of the same shape. Raises ShapeError, DtypeError."""
        x = self._floats(x, unknown)
        axes = len(self.normalized_shape)
        if x.shape[-axes:] != self.normalized_shape:
            raise ShapeError(
                f"x has shape {x.shape}; the last axes must be normalized_shape={self.normalized_shape}"
            )
        return self._output(x)

    def _parts(self, x: Array) -> Array:
        return x.reshape(*x.shape[: -len(self.normalized_shape)], math.prod(self.normalized_shape))

    def _weight_shape(self, x: Array) -> Shape:
        return self.normalized_shape

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        shape = self.normalized_shape
        return self._add_node(b, x, "LayerNormalization", shape, axis=-len(shape))


class GroupNorm(Standardization):
    """torch.nn.GroupNorm: y = weight (x - mean x) / sqrt(var x + eps) + bias over each group of channels.

    Weights: weight and bias (num_channels,).
    Raises ArgumentError, DtypeError, SignatureError. Source: Wu and He 2018.

    >>> GroupNorm(2, 4, eps=0)([[1.0, 3.0, 10.0, 20.0]])
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.num_groups = integer("num_groups", num_groups, 1)
        self.num_channels = integer("num_channels", num_channels, 1)
        if self.num_channels % self.num_groups:
            raise ArgumentError(f"num_groups={num_groups}, but must divide num_channels={num_channels}")
        self.affine = flag("affine", affine)
        shape = (self.num_channels,) if self.affine else None
        self._start(eps, dtype, rng, weight=shape, bias=shape)

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """Map x (N, C, ...) to y of the same shape. Raises ShapeError, DtypeError."""
        x = self._floats(x, unknown)
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            takes = f"(N, {self.num_channels}, ...)"
            raise ShapeError(f"x has shape {x.shape}, but this GroupNorm takes {takes}")
        return self._output(x)

    def _parts(self, x: Array) -> Array:
        return x.reshape(len(x), self.num_groups, math.prod(x.shape[1:]) // self.num_groups)

    def _weight_shape(self, x: Array) -> Shape:
        return (self.num_channels, *(1,) * (x.ndim - 2))

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        channels = (self.num_channels,)
        return self._add_node(b, x, "GroupNormalization", channels, num_groups=self.num_groups)
