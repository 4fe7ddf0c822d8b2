"""Strided, typed views of the spaces (memory blocks) of a program.

Each array of the arena is a space of its own with a negative number. Offsets, shapes and strides may be
symbolic (`Size`).
"""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate, pairwise
from operator import is_, mul
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..size import Size, are_same, is_symbolic

Offsets = NDArray[np.int64]

ARENA, CONSTANTS, FIRST_ARGUMENT = 0, 1, 2
FIRST_OF_LOOPS = 1 << 20  # until a program is built: the spaces of loops, which follow the arguments
# The core's dtypes and the sizes of their elements in bytes.
DTYPES = {"float32": 4, "float64": 8, "int32": 4, "int64": 8, "int8": 1, "uint8": 1, "bool": 1}


@cache
def name_of(dtype: np.dtype[Any]) -> str:
    """Return the name of a dtype, which NumPy composes anew each time."""
    return dtype.name


class View(NamedTuple):
    """A space, the offset of the first element, a shape, strides and a dtype.

    Offsets and strides count elements of the dtype.
    """

    space: int
    offset: Any
    shape: tuple[Any, ...]
    strides: tuple[Any, ...]
    dtype: str = "float32"

    @classmethod
    def contiguous(cls, space: int, offset: Any, shape: tuple[Any, ...], dtype: str = "float32") -> "View":
        """Return the view of a C-contiguous array."""
        strides = tuple(accumulate(shape[:0:-1], mul, initial=1))[::-1] if shape else ()
        return cls(space, offset, tuple(shape), strides, dtype)

    def with_axes(self, shape: Iterable[Any], strides: Iterable[Any], skipped: Any = 0) -> "View":
        """Return the view with other axes that starts `skipped` elements later."""
        return View(self.space, self.offset + skipped, tuple(shape), tuple(strides), self.dtype)

    def in_space(self, space: int) -> "View":
        """Return the view of the same places of another space."""
        return View(space, self.offset, self.shape, self.strides, self.dtype)

    def of_dtype(self, dtype: str) -> "View":
        """Return the view of elements of another dtype with the same size."""
        return View(self.space, self.offset, self.shape, self.strides, dtype)

    def offsets(self) -> Offsets:
        """Return the offset of each element, which fixes symbolic sizes."""
        shape, strides = tuple(map(int, self.shape)), tuple(map(int, self.strides))
        total = np.full(shape, int(self.offset), np.int64)
        for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
            steps = np.arange(size, dtype=np.int64) * stride
            total += steps.reshape(size, *[1] * (len(shape) - axis - 1))
        return total

    def extent(self) -> tuple[Any, Any]:
        """Return the lowest and the highest offset; the view must not be empty."""
        reaches = [(size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)]
        low = self.offset + sum(reach for reach in reaches if reach < 0)
        return low, low + sum(map(abs, reaches))

    def along(self, array: "View", axis: int) -> tuple[Any, Any] | None:
        """Return the lowest and the highest index of the elements along an axis of a contiguous array.

        Returns None if sizes that differ from call to call decide it.
        """
        step = array.strides[axis]
        outer = array.strides[axis - 1] if any(size != 1 for size in array.shape[:axis]) else 0
        if is_symbolic([step, outer, *(self.strides if outer else ())]):  # a quotient would fix the sizes
            return None
        inner = [i for i, stride in enumerate(self.strides) if not outer or stride % outer]
        shape, strides = (tuple(numbers[i] for i in inner) for numbers in (self.shape, self.strides))
        low, high = View(self.space, self.offset - array.offset, shape, strides).extent()
        if outer and (is_symbolic([low, high]) or low // outer != high // outer):
            return None
        return (low % outer if outer else low) // step, (high % outer if outer else high) // step

    def like(self, x: "View", y: "View") -> "View | None":
        """Return the view of the elements of y in the order in which this view has those of x.

        x and y have the same shape. Returns None if x does not have the elements of this view, or if the axes
        of this view are neither those of x nor parts of them.
        """
        if x[:2] != self[:2] or x.shape != y.shape or x.dtype != y.dtype:
            return None
        if self.shape is x.shape and self.strides is x.strides:
            return y
        axes = {axis[:2]: axis[2] for axis in zip(x.shape, x.strides, y.strides, strict=True) if axis[0] != 1}
        strides = []
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and (size, stride) not in axes and not _split(axes, size, stride):
                return None
            strides.append(axes.pop((size, stride)) if size != 1 else 1)
        return None if axes else y.with_axes(self.shape, strides[::-1])

    def is_contiguous(self) -> bool:
        """Whether the view is C-contiguous, for all sizes."""
        expected: Any = 1
        for size, stride in zip(self.shape[::-1], self.strides[::-1], strict=True):
            if stride is not expected and not _is_one(size) and not are_same(stride, expected):
                return False
            expected = expected * size
        return True

    def permuted(self, *axes: int) -> "View":
        """Return the view with its axes in another order."""
        shape, strides = tuple([self.shape[a] for a in axes]), tuple([self.strides[a] for a in axes])
        return View(self.space, self.offset, shape, strides, self.dtype)

    def reshaped(self, *shape: Any) -> "View | None":
        """Return the view with another shape, in C order, or None if that requires a copy."""
        if self.is_contiguous():
            return self.contiguous(self.space, self.offset, shape, self.dtype)
        if any(size == 0 for size in self.shape):
            return None
        mine = [axis for axis in zip(self.shape, self.strides, strict=True) if not _is_one(axis[0])]
        places = [place for place, size in enumerate(shape) if not _is_one(size)]
        strides: list[Any] = [1] * len(shape)
        while mine or places:  # the fewest axes of both that have the same number of elements
            if not mine or not places:
                return None
            old, new = [mine.pop(0)], [places.pop(0)]
            count, wanted = old[0][0], shape[new[0]]
            while count != wanted:
                is_smaller = count < wanted
                if not (mine if is_smaller else places):
                    return None
                if is_smaller:
                    old.append(mine.pop(0))
                    count = count * old[-1][0]
                else:
                    new.append(places.pop(0))
                    wanted = wanted * shape[new[-1]]
            if any(stride != inner * size for (_, stride), (size, inner) in pairwise(old)):
                return None
            stride = old[-1][1]
            for place in reversed(new):
                strides[place] = stride
                stride = stride * shape[place]
        return View(self.space, self.offset, tuple(shape), tuple(strides), self.dtype)

    def sliced(self, axis: int, start: Any, stop: Any, step: int = 1) -> "View":
        """Return a slice of one axis; `step` must be positive, and `start` and `stop` within the axis."""
        shape, strides = list(self.shape), list(self.strides)
        count = stop - start if step == 1 else -((start - stop) // step)
        shape[axis], strides[axis] = (count if count > 0 else 0), strides[axis] * step
        offset = self.offset + start * self.strides[axis]
        return View(self.space, offset, tuple(shape), tuple(strides), self.dtype)

    def within(self, low: Sequence[Any], high: Sequence[Any]) -> "View":
        """Return the part from one place to another, which lie within the view."""
        counts = [last - first for first, last in zip(low, high, strict=True)]
        shape = [count if count > 0 else 0 for count in counts]
        skipped = [first * stride for first, stride in zip(low, self.strides, strict=True) if first]
        return self.with_axes(shape, self.strides, sum(skipped))

    def broadcast(self, *shape: Any) -> "View":
        """Return the view with its axes of size 1 repeated, and with new axes in front."""
        missing = len(shape) - len(self.shape)
        if not missing and all(map(is_, self.shape, shape)):
            return self
        axes = zip(self.shape, self.strides, shape[missing:], strict=True)
        strides = [
            stride if size is other or size != 1 or _is_one(other) else 0 for size, stride, other in axes
        ]
        return View(self.space, self.offset, tuple(shape), (*[0] * missing, *strides), self.dtype)

    def reversed(self, axis: int) -> "View":
        """Return the view with one axis reversed."""
        last = self.sliced(axis, self.shape[axis] - 1, self.shape[axis])
        strides = tuple(-stride if place == axis else stride for place, stride in enumerate(self.strides))
        return last.with_axes(self.shape, strides)


def _split(axes: dict[tuple[Any, Any], Any], size: Any, stride: Any) -> bool:
    """Split an axis with this stride into one of this size and the rest. Return whether there is one.

    `axes` holds the strides of another view by the size and the stride of each axis.
    """
    for whole, step in axes:
        if type(whole) is type(size) is int and are_same(step, stride) and whole % size == 0:
            rest = whole // size, stride * size
            if rest in axes:
                return False
            other = axes[size, stride] = axes.pop((whole, step))
            axes[rest] = other * size
            return True
    return False


def _is_one(size: Any) -> bool:
    """Whether a size is 1 in every call."""
    return type(size) is not Size and bool(size == 1)
