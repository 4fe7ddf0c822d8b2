"""Arrays of which only the layout is known: what an operation that moves elements does to them is a view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .view import View


class NotStridedError(AttributeError):
    """What an operation does with an array is not a view of it."""


class Strided:
    """An array with NumPy's names of movements, whose results are views of the same memory.

    A reshape that no strides describe is a new array that `copy` makes. What else strides do not describe
    raises NotStridedError.
    """

    __slots__ = ("_copy", "dtype", "view")

    def __init__(self, view: View, dtype: np.dtype[Any], copy: Callable[[View], View] | None = None) -> None:
        self.view, self.dtype, self._copy = view, dtype, copy

    @classmethod
    def of(cls, shape: tuple[Any, ...], dtype: np.dtype[Any]) -> Strided:
        """Return an array that lies nowhere."""
        return cls(View.contiguous(0, 0, shape), dtype)

    @property
    def shape(self) -> tuple[Any, ...]:
        """The sizes of the axes."""
        return self.view.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.view.shape)

    def with_view(self, view: View) -> Strided:
        """Return another view of the memory."""
        return Strided(view, self.dtype, self._copy)

    def moved(
        self, function: Callable[..., Any], others: Iterable[Any], attributes: Mapping[str, Any]
    ) -> list[View] | None:
        """Return the views that a function of this array and others returns, or None if it has no views."""
        try:
            found = function(self, *others, **attributes)
        except NotStridedError:
            return None
        return [each.view for each in found] if type(found) is tuple else [found.view]

    def reshape(self, *shape: Any) -> Strided:
        """Return the array in another shape without -1."""
        sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape
        view = self.view.reshaped(*sizes)
        if view is None:
            copied = View.contiguous(0, 0, self.shape) if self._copy is None else self._copy(self.view)
            view = copied.reshaped(*sizes)
        assert view is not None
        return self.with_view(view)

    def transpose(self, *axes: Any) -> Strided:
        """Return the array with its axes in another order."""
        rank = len(self.view.shape)
        order = tuple(axes[0]) if len(axes) == 1 and not isinstance(axes[0], int) else axes
        order = order or tuple(range(rank)[::-1])
        if sorted([axis + rank if axis < 0 else axis for axis in order]) != [*range(rank)]:
            raise ValueError(f"axes {tuple(order)} are no order of the {rank} axes of an array")
        return self.with_view(self.view.permuted(*order))

    def take(self, indices: Any, axis: int) -> Strided:
        """Select by an index, which removes the axis, or by indices at one distance."""
        found = indices.ravel().tolist()
        if not found or indices.ndim > 1:
            raise NotStridedError("indices with several axes")
        first, step = found[0], found[1] - found[0] if len(found) > 1 else 1
        if any(found[i] != first + i * step for i in range(2, len(found))):
            raise NotStridedError("indices at several distances")
        view, stride = self.view, self.view.strides[axis]
        shape = (*view.shape[:axis], *[len(found)] * indices.ndim, *view.shape[axis + 1 :])
        strides = (*view.strides[:axis], *[step * stride] * indices.ndim, *view.strides[axis + 1 :])
        return self.with_view(view.with_axes(shape, strides, first * stride))

    def __getitem__(self, index: Any) -> Strided:
        view, axis = self.view, 0
        for part in index if isinstance(index, tuple) else (index,):
            if not isinstance(part, slice):
                raise NotStridedError(f"an index {part!r}")
            if part.start is not None or part.stop is not None or part.step is not None:
                view = _sliced(view, axis, part.start, part.stop, part.step or 1)
            axis += 1
        return self.with_view(view)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function not in MOVEMENTS:
            raise NotStridedError(function.__name__)
        return MOVEMENTS[function](*args, **options)


def _sliced(view: View, axis: int, start: Any, stop: Any, step: int) -> View:
    """Return a slice of one axis, whose bounds lie within the axis; a step below 0 needs a start."""
    size = view.shape[axis]
    if step > 0:
        return view.sliced(axis, 0 if start is None else start, size if stop is None else stop, step)
    last = size if stop is None else size - 1 - stop
    return view.reversed(axis).sliced(axis, size - 1 - start, last, -step)


def _transpose(x: Strided, axes: Any = None) -> Strided:
    return x.transpose(*(() if axes is None else [axes]))


MOVEMENTS: dict[Any, Callable[..., Any]] = {
    np.broadcast_to: lambda x, shape: x.with_view(x.view.broadcast(*shape)),
    np.transpose: _transpose,
}
