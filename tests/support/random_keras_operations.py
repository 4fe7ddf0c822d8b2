"""Random Keras 3 models of operations between arrays of several dtypes and numbers of Python."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

T, F = 5, 4
DTYPES = ("int32", "int64", "bool", "uint8", "int8", "float32")
NUMBERS = (0.5, 2, -1, 3, 1.5, -2, 0, 7)
SLICES = (
    slice(None, None, -1), slice(1, None, 2), slice(-3, -1), slice(3, 0, -1), slice(-1, None, -2), slice(9),
)  # fmt: skip


class RandomOperations:
    """Builds one model of two inputs, floats and another dtype; each output depends on those before it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def build(self) -> Any:
        """Return a model of one to five operations that Keras accepts, with their results as its outputs."""
        dtype = self._pick(DTYPES)
        values = [keras.Input((T, F), name="x"), keras.Input((T, F), dtype=dtype, name="n")]
        inputs, count = list(values), 2 + self.rng.integers(1, 6)
        while len(values) < count:
            made = self._tried(values)
            if made is not None and 1 < len(made.shape) < 6 and all(made.shape[1:]):
                values.append(made)
        return keras.Model(inputs, values[2:])

    def inputs(self, model: Any) -> list[np.ndarray]:
        """Return small numbers, some of them equal."""
        arrays = []
        for tensor in model.inputs:
            numbers = self.rng.integers(-4, 5, (3, T, F))
            floats = self.rng.normal(size=numbers.shape)
            x = np.abs(numbers) if tensor.dtype == "uint8" else numbers
            arrays.append((floats if tensor.dtype == "float32" else x).astype(tensor.dtype))
        return arrays

    def _tried(self, values: Sequence[Any]) -> Any:
        kinds = (self._of_two, self._of_one, self._reduced, self._moved)
        x, y = self._pick(values), self._pick(values)
        try:
            return self._pick(self._pick(kinds)(x, y, self._axis(x)))()
        except (ValueError, TypeError, RuntimeError, IndexError):  # shapes or dtypes that do not go together
            return None

    def _pick(self, choices: Sequence[Any]) -> Any:
        return choices[self.rng.integers(len(choices))]

    def _axis(self, x: Any) -> int:
        rank = len(x.shape)
        return int(self._pick([*range(1, rank), *range(1 - rank, 0)]))

    def _of_two(self, x: Any, y: Any, axis: int) -> list[Callable[[], Any]]:
        number = self._pick(NUMBERS)
        return [
            lambda: x + y,
            lambda: x - y,
            lambda: x * y,
            lambda: x / ops.where(ops.equal(y, 0), 1, y),
            lambda: ops.maximum(x, y),
            lambda: ops.minimum(x, y),
            lambda: ops.equal(x, y),
            lambda: ops.not_equal(x, y),
            lambda: x < y,
            lambda: x >= y,
            lambda: ops.where(ops.greater(x, number), x, y),
            lambda: ops.logical_and(x, y),
            lambda: ops.concatenate([x, y], axis=axis),
            lambda: ops.stack([x, y], axis=self._pick([1, -1])),
            lambda: ops.matmul(x, ops.swapaxes(y, -1, -2)),
            lambda: ops.einsum("...f,...f->...", x, y),
            lambda: keras.layers.Average()([x, y]),
            lambda: keras.layers.Add()([x, y]),
        ]

    def _of_one(self, x: Any, _: Any, axis: int) -> list[Callable[[], Any]]:
        number = self._pick(NUMBERS)
        functions = [
            ops.abs, ops.sign, ops.round, ops.floor, ops.ceil, ops.square, ops.exp, ops.tanh, ops.sigmoid,
            ops.relu, ops.relu6, ops.expm1, ops.erf, ops.isnan, ops.logical_not, ops.zeros_like, ops.negative,
        ]  # fmt: skip
        return [
            *(lambda function=function: function(x) for function in functions),
            lambda: x + number,
            lambda: number - x,
            lambda: x * number,
            lambda: x / (number or 3),
            lambda: x > number,
            lambda: x**2,
            lambda: ops.maximum(x, number),
            lambda: ops.where(x > 0, x, number),
            lambda: ops.where(x > 0, number, 1),
            lambda: ops.clip(x, 1, self._pick([2, 2.5])),
            lambda: ops.sqrt(ops.abs(x)),
            lambda: ops.log1p(ops.abs(x)),
            lambda: ops.softmax(x, axis=axis),
            lambda: ops.normalize(x, axis=axis),
            lambda: ops.cast(x, self._pick(DTYPES)),
        ]

    def _reduced(self, x: Any, _: Any, axis: int) -> list[Callable[[], Any]]:
        kept = bool(self.rng.integers(2))
        several = self._pick([axis, tuple(range(1, len(x.shape)))]) if len(x.shape) > 2 else axis
        functions = [
            ops.sum, ops.mean, ops.max, ops.min, ops.prod, ops.std, ops.var, ops.any, ops.all, ops.logsumexp,
        ]  # fmt: skip
        return [
            *(lambda function=function: function(x, axis=several, keepdims=kept) for function in functions),
            lambda: ops.argmax(x, axis=axis, keepdims=kept),
            lambda: ops.argmin(x, axis=axis, keepdims=kept),
            lambda: ops.cumsum(x, axis=axis),
            lambda: ops.norm(x, axis=axis, ord=self._pick([None, 1, 2, 3, np.inf]), keepdims=kept),
        ]

    def _moved(self, x: Any, _: Any, axis: int) -> list[Callable[[], Any]]:
        def widths() -> list[list[int]]:
            return [[0, 0], *([*map(int, self.rng.integers(0, 3, 2))] for _ in x.shape[1:])]

        return [
            lambda: ops.roll(x, int(self.rng.integers(-9, 10)), axis=axis),
            lambda: ops.flip(x, axis=axis),
            lambda: ops.repeat(x, self._pick([1, 2, 3]), axis=axis),
            lambda: ops.tile(x, [*[1] * (len(x.shape) - 1), 2]),
            lambda: ops.moveaxis(x, 1, -1),
            lambda: ops.pad(x, widths(), mode=self._pick(["constant", "reflect", "edge"])),
            lambda: ops.pad(x, widths(), constant_values=self._pick([2, 3])),
            lambda: ops.split(x, self._pick([[1], [1, 2], 1, [-1], [3, 2]]), axis=axis)[0],
            lambda: x[:, self._pick([0, -1, *SLICES])],
            lambda: x[..., self._pick([0, -1, None, *SLICES])],
            lambda: ops.one_hot(ops.cast(x, "int32"), 10, axis=self._pick([-1, 1])),
            lambda: ops.take(x, self._pick([[0, 1], [0, -1], 0, -1]), axis=axis),
        ]
