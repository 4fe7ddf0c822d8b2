"""Keras' layers that make one array of several, Add, Concatenate, Dot and others, and one mask of theirs."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from ....errors import ArgumentError, ShapeError
from ....layers.base import RunRecurrent
from .layer import AnyArray, KerasLayer, Mask, Masked
from .products import product

OPERATIONS: dict[str, Callable[[AnyArray, AnyArray], AnyArray]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "average": np.add,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


class Merge(KerasLayer):
    """keras.layers.Add, Subtract, Multiply, Average, Maximum and Minimum: the inputs, place by place.

    Where all inputs have a mask, Keras 3 keeps the steps that count in any of them, and in products, maxima
    and minima leaves the masked ones out; Keras 2 keeps those that count in every input that has a mask
    (`every=True`).
    """

    causal = True

    def __init__(self, operation: str, every: bool = False) -> None:
        if operation not in OPERATIONS:
            raise ArgumentError(f"operation={operation!r}, but must be one of {', '.join(OPERATIONS)}")
        self.operation = operation
        self.every = every

    def run(self, inputs: Sequence[Masked], run_recurrent: RunRecurrent, **options: Any) -> list[Masked]:
        arrays = _of_one_rank([x.array for x in inputs])
        masks = [x.mask for x in inputs]
        given = [mask for mask in masks if mask is not None]
        if self.every:
            return [Masked(self._merged(arrays), reduce(np.logical_and, given) if given else None)]
        if given and self.operation == "multiply":
            return [_product(arrays, masks)]
        if given and self.operation in ("maximum", "minimum"):
            return [self._extreme(arrays, masks)]
        return [
            Masked(self._merged(arrays), reduce(np.logical_or, given) if len(given) == len(masks) else None)
        ]

    def _merged(self, arrays: Sequence[AnyArray]) -> AnyArray:
        try:
            y = reduce(OPERATIONS[self.operation], arrays)
        except ValueError as error:
            shapes = ", ".join(str(x.shape) for x in arrays)
            raise ShapeError(f"{self.operation} cannot take arrays of shapes {shapes}") from error
        return y / len(arrays) if self.operation == "average" else y

    def _extreme(self, arrays: Sequence[AnyArray], masks: Sequence[Mask | None]) -> Masked:
        """As Keras 3: where only one of two steps counts, that one is taken."""
        y, counts = arrays[0], masks[0]
        for x, mask in zip(arrays[1:], masks[1:], strict=True):
            given = x if mask is None else np.where(mask[..., None], x, y)
            kept = y if counts is None else np.where(counts[..., None], y, given)
            y = OPERATIONS[self.operation](kept, given)
            counts = None if counts is None or mask is None else counts | mask
        return Masked(y, counts)


def _product(arrays: Sequence[AnyArray], masks: Sequence[Mask | None]) -> Masked:
    """As Keras 3: a step that does not count is a factor 1; where none counts, the product is 0."""
    factors = [
        x if mask is None else np.where(mask[..., None], x, np.ones((), x.dtype))
        for x, mask in zip(arrays, masks, strict=True)
    ]
    y = reduce(np.multiply, factors)
    given = [mask for mask in masks if mask is not None]
    if len(given) < len(masks):
        return Masked(y)
    counts = reduce(np.logical_or, given)
    return Masked(np.where(counts[..., None], y, np.zeros((), y.dtype)), counts)


def _of_one_rank(arrays: Sequence[AnyArray]) -> list[AnyArray]:
    """An array of fewer axes gets axes of size 1 after the batch, as in Keras."""
    rank = max(x.ndim for x in arrays)
    return [x.reshape(x.shape[:1] + (1,) * (rank - x.ndim) + x.shape[1:]) for x in arrays]


class Concatenate(KerasLayer):
    """keras.layers.Concatenate along an axis; its mask as Merge's, `every` for Keras 2."""

    @property
    def causal(self) -> bool:
        return self.axis == -1

    def __init__(self, axis: int = -1, every: bool = False) -> None:
        self.axis = axis
        self.every = every

    def run(self, inputs: Sequence[Masked], run_recurrent: RunRecurrent, **options: Any) -> list[Masked]:
        try:
            y = np.concatenate([x.array for x in inputs], axis=self.axis)
        except ValueError as error:
            shapes = ", ".join(str(x.array.shape) for x in inputs)
            raise ShapeError(f"Concatenate(axis={self.axis}) cannot take shapes {shapes}") from error
        if all(x.mask is None for x in inputs):
            return [Masked(y)]
        masks = np.concatenate([_over_features(x) for x in inputs], axis=self.axis)
        counts: Mask = (np.logical_and if self.every else np.logical_or).reduce(masks, axis=-1)
        return [Masked(y, counts)]


def _over_features(x: Masked) -> Mask:
    """The mask for every number of the array: of ones where there is none."""
    if x.mask is None:
        return np.ones(x.array.shape, np.bool_)
    mask = x.mask[..., None] if x.mask.ndim < x.array.ndim else x.mask
    return np.broadcast_to(mask, x.array.shape)


class Dot(KerasLayer):
    """keras.layers.Dot: products along an axis of each of two inputs; with normalize, of unit vectors."""

    keeps_mask = False

    def __init__(self, axes: Sequence[int], normalize: bool = False) -> None:
        self.axes = axes
        self.normalize = normalize

    def run(self, inputs: Sequence[Masked], run_recurrent: RunRecurrent, **options: Any) -> list[Masked]:
        a, b = (np.moveaxis(x.array, axis, -1) for x, axis in zip(inputs, self.axes, strict=True))
        if self.normalize:
            a, b = (_unit(x) for x in (a, b))
        flat = [x.reshape(len(x), -1, x.shape[-1]) for x in (a, b)]
        y = np.stack([product(*rows) for rows in zip(*flat, strict=True)])
        shape = (*a.shape[:-1], *b.shape[1:-1])
        return [Masked(y.reshape(shape if len(shape) > 1 else (*shape, 1)))]


def _unit(x: AnyArray) -> AnyArray:
    x = np.ascontiguousarray(x)
    unit: AnyArray = x / np.sqrt(np.maximum((x * x).sum(axis=-1, keepdims=True), 1e-12))
    return unit
