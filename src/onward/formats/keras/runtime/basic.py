"""Keras' layers that act on each place alone or only move things: Dense, Embedding, Masking, Reshape, ..."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .... import layers
from ....core.arrays import Shape
from ....errors import ArgumentError, ShapeError
from ....layers.base import RunRecurrent
from .layer import AnyArray, KerasLayer, Masked, as_floats


class Dense(KerasLayer):
    """keras.layers.Dense: y = activation(x W^T + b)."""

    @property
    def causal(self) -> bool:
        return self.activation.causal

    def __init__(self, linear: layers.Linear, activation: KerasLayer) -> None:
        self.linear = linear
        self.activation = activation
        self.dtype = linear.dtype

    @property
    def step_shape(self) -> Shape:
        return self.linear.step_shape

    def compute(self, x: AnyArray) -> AnyArray:
        return self.activation.compute(self.linear(x))


class Embedding(KerasLayer):
    """keras.layers.Embedding: the row of a table for each number; with mask_zero, a mask where x is 0."""

    def __init__(self, table: layers.Embedding, mask_zero: bool = False) -> None:
        self.table = table
        self.mask_zero = mask_zero
        self.dtype = table.dtype

    @property
    def causal(self) -> bool:
        return not self.mask_zero  # as Masking

    @property
    def step_shape(self) -> Shape:
        return self.table.step_shape

    def run(self, inputs: Sequence[Masked], run_recurrent: RunRecurrent, **options: Any) -> list[Masked]:
        x, _ = self.only(inputs, options)
        if x.dtype.kind == "f":  # Keras' inputs are floats unless told otherwise
            x = np.nan_to_num(x, nan=-1.0).astype(np.int64)
        return [Masked(self.table(x), x != 0 if self.mask_zero else None)]


class Masking(KerasLayer):
    """keras.layers.Masking: masks the steps whose features all equal a value, and makes them zeros."""

    causal = False  # what a masked step gives is the output of the one before, which no state holds

    def __init__(self, mask_value: float = 0.0) -> None:
        self.mask_value = mask_value

    def run(self, inputs: Sequence[Masked], run_recurrent: RunRecurrent, **options: Any) -> list[Masked]:
        x, _ = self.only(inputs, options)
        counts = (x != self.mask_value).any(axis=-1)
        return [Masked(np.where(counts[..., None], x, 0).astype(x.dtype, copy=False), counts)]


class Identity(KerasLayer):
    """Whatever acts in training only: Dropout and its kin, noise, regularization."""

    causal = True

    def compute(self, x: AnyArray) -> AnyArray:
        return x


class Rescaling(KerasLayer):
    """keras.layers.Rescaling: y = scale x + offset, of numbers or one for each feature."""

    causal = True

    def __init__(self, scale: float | Sequence[float], offset: float | Sequence[float] = 0.0) -> None:
        self.scale = scale
        self.offset = offset

    def compute(self, x: AnyArray) -> AnyArray:
        x = as_floats(x)
        scale, offset = (np.asarray(each, x.dtype) for each in (self.scale, self.offset))
        return x * scale + offset


class Flatten(KerasLayer):
    """keras.layers.Flatten: x (B, ...) to (B, N), channels last."""

    keeps_mask = False

    def __init__(self, channels_first: bool = False) -> None:
        self.channels_first = channels_first

    def compute(self, x: AnyArray) -> AnyArray:
        if self.channels_first and x.ndim > 2:
            x = np.moveaxis(x, 1, -1)
        return x.reshape(len(x), math.prod(x.shape[1:]))


class Reshape(KerasLayer):
    """keras.layers.Reshape: x (B, ...) to (B, *target_shape), where one axis may be -1."""

    keeps_mask = False

    def __init__(self, target_shape: Sequence[int]) -> None:
        self.target_shape = target_shape

    def compute(self, x: AnyArray) -> AnyArray:
        try:
            return np.reshape(x, (len(x), *self.target_shape))
        except ValueError as error:
            raise ShapeError(f"x has shape {x.shape}: no Reshape to {self.target_shape}") from error


class Permute(KerasLayer):
    """keras.layers.Permute: the axes after the batch in another order, counted from 1."""

    keeps_mask = False

    def __init__(self, dims: Sequence[int]) -> None:
        if sorted(dims) != list(range(1, len(dims) + 1)):
            raise ArgumentError(f"dims={dims}, but must be the numbers from 1 to {len(dims)} in some order")
        self.dims = dims

    def compute(self, x: AnyArray) -> AnyArray:
        if x.ndim != 1 + len(self.dims):
            raise ShapeError(
                f"x has shape {x.shape}, but Permute takes {len(self.dims)} axes after the batch"
            )
        return x.transpose(0, *self.dims)


class RepeatVector(KerasLayer):
    """keras.layers.RepeatVector: x (B, F) to (B, n, F)."""

    keeps_mask = False

    def __init__(self, n: int) -> None:
        self.n = n

    def compute(self, x: AnyArray) -> AnyArray:
        if x.ndim != 2:
            raise ShapeError(f"x has shape {x.shape}, but RepeatVector takes (B, F)")
        return np.repeat(x[:, None], self.n, axis=1)


class Custom(KerasLayer):
    """A layer that Onward does not know, as the function that the user gave: y = function(x, *weights).

    Several inputs are a list. The mask ends here, but for activations (keeps_mask). It can be pickled if the
    function can, but not saved.
    """

    arguments = None

    def __init__(
        self,
        kind: str,
        function: Callable[..., Any],
        weights: Sequence[AnyArray] = (),
        keeps_mask: bool = False,
    ) -> None:
        self.kind = kind
        self.function = function
        self.weights = weights
        self.keeps_mask = keeps_mask

    def compute(self, x: AnyArray) -> AnyArray:
        return np.asarray(self.function(x, *self.weights))

    def run(self, inputs: Sequence[Masked], run_recurrent: RunRecurrent, **options: Any) -> list[Masked]:
        x = [each.array for each in inputs]
        y = self.function(x[0] if len(x) == 1 else x, *self.weights, **options)
        mask = inputs[0].mask if self.keeps_mask else None
        return [Masked(np.asarray(each), mask) for each in (y if isinstance(y, list | tuple) else [y])]

    def config(self) -> dict[str, Any]:
        raise ArgumentError(f"{self.kind} is a custom function, which Onward cannot save")

    def __repr__(self) -> str:
        return f"Custom({self.kind!r}, {self.function!r})"
