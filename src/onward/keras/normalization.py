"""Keras' BatchNormalization and LayerNormalization over any axes, by Onward's own layers."""

from collections.abc import Sequence

import numpy as np

from ..errors import ShapeError
from ..normalization import BatchNorm1d, LayerNorm
from .layer import AnyArray, KerasLayer


class BatchNormalization(KerasLayer):
    """keras.layers.BatchNormalization at inference: each place along `axis` has its mean and variance."""

    per_step = True

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

    per_step = True

    def __init__(self, norm: LayerNorm, axes: Sequence[int] = (-1,)) -> None:
        self.norm = norm
        self.axes = axes
        self.dtype = norm.dtype

    def compute(self, x: AnyArray) -> AnyArray:
        last = range(-len(self.axes), 0)
        return np.moveaxis(self.norm(np.moveaxis(x, self.axes, last)), last, self.axes)
