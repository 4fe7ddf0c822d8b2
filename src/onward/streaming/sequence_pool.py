"""`SequencePool`: thousands of sequences that run through one whole model, one or several steps at a time."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays
from ..errors import ArgumentError, ShapeError
from .graph_pool import GraphPool, Group, joined_outputs, separate_rows


class SequencePool(GraphPool):
    """Streams of a model over sequences: y = pool.step(ids, x), with a step or a block of each stream.

    x has a row for each id on its first axis, then the axes of the model's input without the batch axis. So
    has y; if a step of x does not always complete a step of y, y is a list with an array for each id, which
    has none, one or several steps.
    """

    def _prepare_if_possible(self) -> None:
        if self._streamed.x.batch is None:
            raise ArgumentError("the input of the model has no batch axis, in which a pool puts its streams")
        self._prepare([self._streamed.block_shape])

    def _choices(self, likely: list[list[int]]) -> list[list[int]]:
        axes = [carry.axes.batch for carry in self._streamed.carries] + [self._streamed.x.batch]
        return [[] if axis is None else [axis] for axis in axes]

    def step(self, ids: ArrayLike, x: ArrayLike) -> Any:  # type: ignore[override]  # a sequence has one input
        time, rows = self._streamed.x
        assert time is not None
        assert rows is not None
        array = arrays.as_array(x, "x")
        shape = self._streamed.step_shape
        is_step = array.ndim == len(shape) - 1
        if array.ndim not in (len(shape) - 1, len(shape)):
            raise ShapeError(
                f"x has shape {array.shape}, but must have {len(shape) - 1} or {len(shape)} axes"
            )
        block = np.expand_dims(array, 1 + time - (rows < time)) if is_step else array
        block = np.moveaxis(block, 0, rows)
        sizes = [size for axis, size in enumerate(block.shape) if axis not in (time, rows)]
        if sizes != [size for axis, size in enumerate(shape) if axis not in (time, rows)]:
            raise ShapeError(f"x has shape {array.shape}, but the model takes {shape} for one step and row")
        with self._lock:
            numbers = self._checked(ids)
            groups = self._run(numbers, [block])
        returned = [
            self._returned(groups, i, len(numbers), is_step) for i in range(len(self._streamed.outputs))
        ]
        return returned[0] if len(returned) == 1 else tuple(returned)

    def _returned(self, groups: list[Group], i: int, n: int, is_step: bool) -> Any:
        """Return an output with the rows first; a list if the streams may complete different steps."""
        axes, axis = self._streamed.outputs[i], self._output_axes[self._count + i]
        if axes.time is None or self._streamed.every_step:
            y = np.moveaxis(joined_outputs(groups, i, axis, n), axis, 0)
            return np.squeeze(y, axes.time + (axis > axes.time)) if is_step and axes.time is not None else y
        rows: list[Any] = [None] * n
        for group in groups:
            for place, row in zip(group.places, separate_rows(group.outputs[i], axis), strict=True):
                rows[place] = np.squeeze(row, axis)
        return rows
