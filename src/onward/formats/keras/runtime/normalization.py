"""Keras' normalization over any axes, by Onward's own layers."""

from collections.abc import Sequence

import numpy as np

from ....errors import ShapeError
from ....layers.norm import BatchNorm1d, GroupNorm, LayerNorm
from .layer import AnyArray, KerasLayer, as_floats


class BatchNormalization(KerasLayer):
    """keras.layers.BatchNormalization at inference: each place along `axis` has its mean and variance."""

    causal = True

    def __init__(self, norm: BatchNorm1d, axis: int = -1) -> None:
        self.norm = norm
        self.axis = axis
        self.dtype = norm.dtype

    def compute(self, x: AnyArray) -> AnyArray:
        if not -x.ndim <= self.axis < x.ndim or x.shape[self.axis] != self.norm.num_features:
            raise ShapeError(f"x has shape {x.shape}, but axis {self.axis} must be {self.norm.num_features}")
        last = np.moveaxis(x, self.axis, -1)
        y = self.norm(last.reshape(-1, self.norm.num_features)).reshape(last.shape)
        return np.moveaxis(y, -1, self.axis)


class LayerNormalization(KerasLayer):
    """keras.layers.LayerNormalization: mean and variance of each row of the batch over `axes`."""

    causal = True

    def __init__(self, norm: LayerNorm, axes: Sequence[int] = (-1,)) -> None:
        self.norm = norm
        self.axes = axes
        self.dtype = norm.dtype

    def compute(self, x: AnyArray) -> AnyArray:
        last = range(-len(self.axes), 0)
        return np.moveaxis(self.norm(np.moveaxis(x, self.axes, last)), last, self.axes)


class GroupNormalization(KerasLayer):
    """keras.layers.GroupNormalization: mean and variance of each row over all but groups along `axis`."""

    def __init__(self, norm: GroupNorm, axis: int = -1) -> None:
        self.norm = norm
        self.axis = axis
        self.dtype = norm.dtype

    def compute(self, x: AnyArray) -> AnyArray:
        return np.moveaxis(self.norm(np.moveaxis(x, self.axis, 1)), 1, self.axis)


class UnitNormalization(KerasLayer):
    """keras.layers.UnitNormalization: x by its length over `axes`, which is at least 1e-6."""

    def __init__(self, axes: Sequence[int] = (-1,)) -> None:
        self.axes = axes

    @property
    def causal(self) -> bool:
        return list(self.axes) == [-1]

    def compute(self, x: AnyArray) -> AnyArray:
        last = range(-len(self.axes), 0)
        moved = np.ascontiguousarray(np.moveaxis(as_floats(x), self.axes, last))
        rows = moved.reshape(*moved.shape[: moved.ndim - len(self.axes)], -1)
        unit = rows / np.sqrt(np.maximum((rows * rows).sum(axis=-1, keepdims=True), 1e-12))
        return np.moveaxis(unit.reshape(moved.shape), last, self.axes)
