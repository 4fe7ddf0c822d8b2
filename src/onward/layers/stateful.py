"""What layers with a state have in common: the form of a state that users pass and get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from numpy.typing import ArrayLike, NDArray

from ..core import arrays
from ..core.arrays import Array, Shape
from ..errors import ArgumentError, ShapeError
from .base import Layer
from .base_model import RunRecurrent

if TYPE_CHECKING:
    from .graphs import GraphBuilder


class Inputs(NamedTuple):
    """The checked arguments of a call: x with a batch axis, h0 and c0 (L*D, B, ...), lengths (B,)."""

    x: Array
    h0: Array | None
    c0: Array | None
    lengths: NDArray[Any] | None
    batched: bool

    @property
    def initial(self) -> tuple[Array | None, Array | None]:
        """h and c of the initial state."""
        return self.h0, self.c0

    def given(self) -> tuple[Any, ...]:
        """The inputs of a graph."""
        return tuple(each for each in (self.x, self.lengths, *self.initial) if each is not None)


class Cache(NamedTuple):
    """The part of a forward pass that backward needs."""

    inputs: Inputs
    records: Any  # of each layer, or the values of all steps, or None if there were no steps or rows


class Stateful(Layer):
    """A layer whose call takes and returns a state: one array, h, or a pair of arrays, (h, c)."""

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    STATE_AXES: ClassVar[tuple[str, ...]]  # what errors call the axes of an array of the state
    takes_vectors = False
    batch_first: bool = False
    input_size: int

    def state_shapes(self, batch: int) -> tuple[Shape, ...]:
        """The shapes of the arrays of a state."""
        raise NotImplementedError

    def as_sequence(self, x: ArrayLike) -> Array:
        """One sequence or a batch of them in the layer's dtype. Raises ShapeError, DtypeError."""
        array, size = arrays.as_floats(x, self.dtype, "x"), self.input_size
        shape = array.shape
        if len(shape) in (2, 3) and shape[-1] == size:
            return array
        takes = f"this {type(self).__name__} takes"
        if len(shape) in (2, 3):
            features = f"{shape[-1]} features in its last axis (shape {shape})"
            raise ShapeError(f"x has {features}, but {takes} input_size={size}")
        layout = f"(B, T, {size})" if self.batch_first else f"(T, B, {size})"
        raise ShapeError(f"x has shape {shape}, but {takes} {layout}, or (T, {size}) unbatched")

    def split_state(self, state: Any) -> tuple[ArrayLike | None, ArrayLike | None]:
        """h and c of a state that a user passes; c is None if the cell has none. Raises ArgumentError."""
        parts = len(self.state_names)
        if parts == 1 and not isinstance(state, tuple):
            return state, None
        if parts == 2 and state is None:
            return None, None
        if parts == 2 and isinstance(state, tuple | list) and len(state) == 2:
            return state[0], state[1]
        takes = "h alone" if parts == 1 else "a pair (h, c)"
        kind = type(state).__name__
        given = f"{len(state)} arrays" if isinstance(state, tuple | list) else f"of type {kind}"
        raise ArgumentError(f"state is {given}, but the state of this {type(self).__name__} is {takes}")

    def join_state(self, h: Array, c: Array | None) -> Any:
        """The state that a call returns."""
        return h if c is None else (h, c)

    def initial_state(self, name: str, value: ArrayLike | None, shape: Shape, batched: bool) -> Array | None:
        """One array of the initial state as (L*D, B, ...). Raises ShapeError, DtypeError."""
        if value is None:
            return None
        array = arrays.as_floats(value, self.dtype, name)
        expected = shape if batched else (shape[0], *shape[2:])
        if array.shape != expected:
            axes = ", ".join(axis for axis in self.STATE_AXES if batched or axis != "batch")
            raise ShapeError(
                f"{name} has shape {array.shape}, but for this {self!r} and x it must be {expected}: ({axes})"
            )
        return arrays.contiguous(array).reshape(shape)

    def split_states(self, state: Any) -> list[Any]:
        return [state]

    def join_states(self, states: list[Any]) -> Any:
        return states[0]

    def run(self, x: Any, state: Any, lengths: Any, run_recurrent: RunRecurrent) -> tuple[Any, Any]:
        return run_recurrent("", self, x, state, lengths)

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        states = zip(self.state_names, self.state_shapes(1), strict=True)
        initial = [b.state(name, (first, "batch", *row)) for name, (first, _, *row) in states]
        x = b.add("Transpose", x, perm=[1, 0, 2]) if b.batch_first else x
        y, *final = self.add_steps(b, x, initial)
        b.outputs += final
        return b.add("Transpose", y, perm=[1, 0, 2]) if b.batch_first else y

    def add_steps(self, b: GraphBuilder, x: str, initial: Sequence[str]) -> Sequence[str]:
        """Add the layer over x (T, B, I) to a graph; return the names of y and the final state."""
        raise NotImplementedError
