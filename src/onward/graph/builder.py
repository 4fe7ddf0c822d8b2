"""A plan under construction: steps over views, and the spaces that they lie in."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .view import ARENA, CONSTANTS, View

Floats = NDArray[np.float32]

ALIGNMENT = 16  # numbers, of a cache line


@dataclass
class Weights:
    """What the plans of one graph share: matrices packed from arrays that last as long as the graph."""

    lasting: frozenset[int]  # the ids of these arrays
    packed: dict[Any, _core.Dense] = field(default_factory=dict)


class Builder:
    """Records steps and hands out memory; `build` makes the core's plan of them."""

    def __init__(self, argument_sizes: list[int], weights: Weights) -> None:
        self.steps: list[tuple[str, tuple[Any, ...]]] = []
        self.lanes = _core.Plan([0]).lanes
        self.arena_size = 0
        self._argument_sizes = argument_sizes
        self._weights = weights
        self._constants: list[Floats] = []
        self._constants_size = 0
        self._views: dict[int, tuple[Floats, View]] = {}

    def new(self, *shape: int) -> View:
        """A contiguous array in the arena."""
        view = View.contiguous(ARENA, self.arena_size, shape)
        self.arena_size += _aligned(math.prod(shape))
        return view

    def new_rows(self, rows: int, units: int) -> View:
        """Rows for a product's output, which are whole vectors apart."""
        stride = -(-units // self.lanes) * self.lanes
        return self.new(rows, stride).sliced(1, 0, units)

    def like(self, view: View) -> View:
        """A dense array of the shape of a view, its axes in the view's order in memory."""
        order = sorted(range(len(view.shape)), key=lambda axis: -abs(view.strides[axis]))
        dense = self.new(*(view.shape[axis] for axis in order))
        return dense.permuted(*np.argsort(order))

    def constant(self, array: NDArray[Any]) -> View:
        """The view of an array that never changes; the same array has one place."""
        known = self._views.get(id(array))
        if known is None:
            numbers = np.ascontiguousarray(array, np.float32)
            view = View.contiguous(CONSTANTS, self._constants_size, array.shape)
            self._constants.append(numbers)
            self._constants_size += numbers.size
            known = self._views[id(array)] = array, view  # with the array, so that its id stays its own
        return known[1]

    def packed(
        self,
        source: tuple[NDArray[Any] | None, ...],
        variant: Any,
        make: Callable[[], tuple[NDArray[Any], NDArray[Any] | None]],
    ) -> _core.Dense:
        """The packed matrix (O, K) and bias that `make` returns; plans share those of the same source."""
        key = (_core.isa(), variant, *map(id, source))
        if key in self._weights.packed:
            return self._weights.packed[key]
        W, bias = make()
        dense = _core.Dense(np.ascontiguousarray(W), None if bias is None else np.ascontiguousarray(bias))
        if all(array is None or id(array) in self._weights.lasting for array in source):
            self._weights.packed[key] = dense
        return dense

    def add(self, step: str, *arguments: Any) -> None:
        """A step of the core, by the name of its method."""
        self.steps.append((step, arguments))

    def contiguous(self, view: View) -> View:
        """The view itself if it is contiguous, else that of a copy."""
        if view.is_contiguous():
            return view
        copy = self.new(*view.shape)
        self.add("copy", view, copy)
        return copy

    def reshaped(self, view: View, *shape: int) -> View:
        """The numbers in the order of the axes with another shape, copied if it has to be."""
        return view.reshaped(*shape) or self.contiguous(view).reshaped(*shape)  # type: ignore[return-value]

    def binary(self, operation: str, a: View, b: View) -> View:
        """a operation b, broadcast."""
        shape = np.broadcast_shapes(a.shape, b.shape)
        model = a if a.shape == shape and a.space != CONSTANTS else b if b.shape == shape else None
        y = self.new(*shape) if model is None else self.like(model)
        self.add("binary", operation, a, b, y)
        return y

    def scalar(self, value: float) -> View:
        """The view of one number."""
        return self.constant(np.full((), value, np.float32))

    def map(self, step: str, function: Any, x: View) -> View:
        """A function of each number: step is "unary" or "activate"."""
        y = self.like(x)
        self.add(step, function, x, y)
        return y

    def fuse(self, function: Any, x: View) -> bool:
        """Whether the function became part of the last step: a product that nothing else sees."""
        if not self.steps or self.steps[-1][0] != "product":
            return False
        step, (*arguments, before, y) = self.steps[-1]
        whole = y.space == x.space and y.offset == x.offset and math.prod(y.shape) == math.prod(x.shape)
        if not whole or before is not None:
            return False
        self.steps[-1] = step, (*arguments, function, y)
        return True

    def rows(self, step: str, parameter: Any, x: View, axes: Sequence[int]) -> View:
        """A function of the numbers along some axes together: step is "softmax" or "standardize"."""
        rest = [axis for axis in range(len(x.shape)) if axis not in axes]
        order = [*rest, *axes]
        ordered = self.contiguous(x.permuted(*order))
        kept = ordered.shape[: len(rest)]
        y = self.new(*ordered.shape)
        flat = (*kept, math.prod(ordered.shape[len(rest) :]))
        self.add(step, parameter, ordered.reshaped(*flat), y.reshaped(*flat))
        return y.permuted(*np.argsort(order))

    def reduce(self, operation: str, x: View) -> View:
        """Along the last axis, which stays with size 1."""
        y = self.new(*x.shape[:-1], 1)
        self.add("reduce", operation, x, y)
        return y

    def build(self) -> tuple[_core.Plan, Floats]:
        """The core's plan, and its constants."""
        constants = np.concatenate([a.ravel() for a in self._constants] or [np.zeros(0, np.float32)])
        plan = _core.Plan([self.arena_size, self._constants_size, *self._argument_sizes])
        for step, arguments in self.steps:
            getattr(plan, step)(*arguments)
        return plan, constants


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
