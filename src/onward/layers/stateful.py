"""What layers with a state have in common: the form of a state that users pass and get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Never, TypeVar

from numpy.typing import ArrayLike, NDArray

from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import unknown_arguments
from ..errors import ArgumentError, ShapeError
from .base import Layer
from .base_model import RunRecurrent

if TYPE_CHECKING:
    from .graphs import GraphBuilder

State = TypeVar("State")  # of a layer: h, or (h, c)


class Inputs(NamedTuple):
    """The checked arguments of a call: x (T, B, I), h0 and c0 (L*D, B, ...), lengths (B,)."""

    x: Array
    h0: Array | None
    c0: Array | None
    lengths: NDArray[Any] | None
    batched: bool

    @property
    def initial(self) -> tuple[Array | None, Array | None]:
        """h and c of the initial state."""
        return self.h0, self.c0


class Cache(NamedTuple):
    """The part of a forward pass that backward needs."""

    inputs: Inputs
    records: Any  # of each layer, or None if there were no steps or rows, or backward computes them again


class Stateful(Layer, Generic[State]):
    """A layer whose call takes and returns a state: one array, h, or a pair of arrays, (h, c)."""

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    STATE_AXES: ClassVar[tuple[str, ...]]  # what errors call the axes of an array of the state
    takes_vectors = False
    batch_first: bool = False
    input_size: int
    output_size: int  # the features of y

    @property
    def cell_kind(self) -> str:
        """The name of the cell in a trace."""
        return type(self).__name__

    def state_shapes(self, batch: int) -> tuple[Shape, ...]:
        """The shapes of the arrays of a state."""
        raise NotImplementedError

    def __call__(
        self, x: ArrayLike, state: State | None = None, *, lengths: ArrayLike | None = None, **unknown: Never
    ) -> tuple[Array, State]:
        """Run a sequence from its first step to its last.

        x is (T, B, I), (B, T, I) with batch_first, or (T, I) unbatched. state has the form of the returned
        state, or is None for zeros; each of its arrays is (L*D, B, units), or (L*D, units) unbatched. lengths
        (B,), or one integer unbatched, gives the number of valid steps in each row. All arrays are converted
        to the layer's dtype.

        Returns y, laid out as x, and the final state, both as new arrays. Past a row's length, y is 0; the
        final state is that of the last valid step, and a reverse direction starts there; a row of length 0
        keeps its initial state.

        Raises ShapeError, DtypeError, SignatureError for unknown arguments, and ArgumentError for a length
        out of range or a state of the wrong kind.
        """
        if unknown:
            raise unknown_arguments(self, unknown, "x, state=None, *, lengths=None")
        inputs = self.inputs(x, state, lengths)
        return self.outputs(inputs, *self._run(inputs))

    def _run(self, inputs: Inputs) -> Sequence[Any]:
        """Return y (T, B, F), and h and c of the final state, or h alone."""
        raise NotImplementedError

    def traced(
        self, x: ArrayLike, state: Any, lengths: ArrayLike | None, preactivations: bool
    ) -> tuple[Array, Any, Inputs, Mapping[str, dict[str, Array]]]:
        """y and the final state, the checked arguments, and the gates and states (T, B, ...).

        The latter are by name, for each layer and direction by the ending of its name, such as l0_reverse.
        """
        raise NotImplementedError

    def inputs(self, x: ArrayLike, state: Any, lengths: ArrayLike | None) -> Inputs:
        """The arguments of a call, checked and with time first."""
        x = self.as_sequence(x)
        batched = x.ndim == 3
        steps = self._time_first(x)
        T, B, _ = steps.shape
        h0, c0 = self._states(("h0", "c0"), state, B, batched)
        if lengths is not None:
            lengths = arrays.as_lengths(lengths, (B,) if batched else (), T)
        return Inputs(steps, h0, c0, lengths, batched)

    def _time_first(self, array: Array) -> Array:
        """An array laid out as x as (T, B, ...), whose rows are contiguous, as the core requires."""
        if array.ndim == 2:
            return arrays.with_contiguous_rows(array[:, None])
        return arrays.with_contiguous_rows(array.swapaxes(0, 1) if self.batch_first else array)

    def _states(self, names: Sequence[str], state: Any, batch: int, batched: bool) -> Sequence[Array | None]:
        """h and c (L*D, B, ...) of a state that a user passes; None for zeros, or if there is no c."""
        if state is None:
            return None, None
        h, c = self.split_state(state)
        shapes = self.state_shapes(batch)
        h = self.initial_state(names[0], h, shapes[0], batched)
        return h, None if c is None else self.initial_state(names[1], c, shapes[1], batched)

    def outputs(self, inputs: Inputs, y: Array, h: Array, c: Array | None = None) -> tuple[Array, Any]:
        """The results of a call, from y (T, B, F), h and c (L*D, B, ...)."""
        if not inputs.batched:
            return y[:, 0], self.join_state(h[:, 0], None if c is None else c[:, 0])
        return y.swapaxes(0, 1) if self.batch_first else y, self.join_state(h, c)

    def _output_gradients(self, dy: ArrayLike, dstate: Any, inputs: Inputs) -> tuple[Any, Any, Any]:
        """dy (T, B, F), dh and dc (L*D, B, ...) from what `backward` takes; None for zeros."""
        T, B, _ = inputs.x.shape
        batch_first = self.batch_first and inputs.batched
        shape = (B, T) if batch_first else (T, B) if inputs.batched else (T,)
        dy = arrays.as_gradient(dy, (*shape, self.output_size), self.dtype)
        dh, dc = self._states(("dh", "dc"), dstate, B, inputs.batched)
        return self._time_first(dy), dh, dc

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

    def join_state(self, h: Array, c: Array | None = None) -> Any:
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
        array = arrays.contiguous(array)
        return array if batched else array.reshape(shape)

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
