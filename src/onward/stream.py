"""A sequence that goes on from call to call, its state inside."""

from typing import Any

from numpy.typing import ArrayLike

from . import _core, arrays
from .arrays import Array
from .base import Layer
from .errors import ArgumentError, ShapeError
from .recurrent import Recurrent


class Stream(_core.Stream):
    """One sequence step by step, its state inside: y_t = stream(x_t).

    x_t (I,) in the layer's dtype, or whatever converts to it; y_t (P,) is a new array, bitwise what the layer
    gives for the whole sequence. A stream serves one thread at a time. Raises ShapeError, DtypeError.
    """

    def __init__(self, layer: Layer) -> None:
        if not isinstance(layer, Recurrent):
            raise ArgumentError(f"{layer!r} cannot stream: streams are of recurrent layers")
        if not layer.per_step:
            raise ArgumentError(
                f"{layer!r} cannot stream: its reverse direction starts at the last step, yet to come"
            )
        super().__init__(layer._kernel)
        self._layer = layer

    def _converted(self, x: ArrayLike) -> Array:
        """What the core's own call did not take as it is."""
        step = arrays.as_floats(x, self._layer.dtype, "x")
        if step.shape != (self._layer.input_size,):
            takes = (
                f"a stream of this {type(self._layer).__name__} takes one step: ({self._layer.input_size},)"
            )
            raise ShapeError(f"x has shape {step.shape}, but {takes}")
        return arrays.contiguous(step)

    @property
    def state(self) -> Any:
        """A copy of the state, as the layer returns it for an unbatched x: h, or (h, c); can be set."""
        return self._layer._join(*self._state())

    @state.setter
    def state(self, state: Any) -> None:
        layer = self._layer
        H, L = layer.hidden_size, layer.num_layers
        h, c = layer._split(state)
        h = layer._initial("h", h, (L, 1, layer.proj_size or H), batched=False)
        c = layer._initial("c", c, (L, 1, H), batched=False)
        self._set_state(*(None if part is None else part[:, 0] for part in (h, c)))

    def reset(self) -> None:
        """Back to a state of zeros."""
        self._set_state(None, None)
