"""Numbers in one of a plan's spaces, seen with a shape and strides."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.int64]

ARENA, CONSTANTS, FIRST_ARGUMENT = 0, 1, 2


class View(NamedTuple):
    """The space that the numbers are in, the offset of the first, sizes and strides; all count numbers."""

    space: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def contiguous(cls, space: int, offset: int, shape: tuple[int, ...]) -> "View":
        """A C-contiguous array."""
        strides, stride = [], 1
        for size in reversed(shape):
            strides.append(stride)
            stride *= size
        return cls(space, offset, tuple(shape), tuple(reversed(strides)))

    @classmethod
    def at(cls, space: int, offsets: Offsets) -> "View | None":
        """The view whose numbers have these offsets, or None if no strides give them."""
        first = int(offsets.flat[0])
        strides = []
        for axis, size in enumerate(offsets.shape):
            second = np.take(offsets, 1, axis).flat[0] if size > 1 else first
            strides.append(int(second) - first)
        view = cls(space, first, offsets.shape, tuple(strides))
        return view if np.array_equal(view.offsets(), offsets) else None

    def offsets(self) -> Offsets:
        """The offset of each number."""
        total = np.full(self.shape, self.offset, np.int64)
        for axis, (size, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            steps = np.arange(size, dtype=np.int64) * stride
            total += steps.reshape(size, *[1] * (len(self.shape) - axis - 1))
        return total

    def is_contiguous(self) -> bool:
        """Whether the numbers lie one after another in the order of the axes."""
        expected = self.contiguous(self.space, self.offset, self.shape).strides
        axes = zip(self.shape, self.strides, expected, strict=True)
        return all(size == 1 or stride == other for size, stride, other in axes)

    def permuted(self, *axes: int) -> "View":
        """The axes in another order."""
        shape, strides = tuple(self.shape[a] for a in axes), tuple(self.strides[a] for a in axes)
        return self._replace(shape=shape, strides=strides)

    def reshaped(self, *shape: int) -> "View | None":
        """The same numbers in the order of the axes with another shape, or None if that takes a copy."""
        if self.is_contiguous():
            return self.contiguous(self.space, self.offset, shape)
        return View.at(self.space, self.offsets().reshape(shape))

    def sliced(self, axis: int, start: int, stop: int, step: int = 1) -> "View":
        """Part of one axis; `step` is positive."""
        shape, strides = list(self.shape), list(self.strides)
        shape[axis], strides[axis] = len(range(start, stop, step)), strides[axis] * step
        return View(self.space, self.offset + start * self.strides[axis], tuple(shape), tuple(strides))

    def reversed(self, axis: int) -> "View":
        """One axis from its last number to its first."""
        strides = list(self.strides)
        strides[axis] = -strides[axis]
        offset = self.offset + (self.shape[axis] - 1) * self.strides[axis]
        return View(self.space, offset, self.shape, tuple(strides))
