"""What can be asked of a recurrent layer and of any model alike, by the protocol of `onward.base.Layer`."""

from typing import Any

from numpy.typing import ArrayLike

from .base import Layer
from .stream import Stream
from .trace import Trace, trace


class Model(Layer):
    """A recurrent layer, or layers connected."""

    def stream(self) -> Stream:
        """One sequence step by step: `y = stream(x)`. Raises ArgumentError for a bidirectional layer."""
        return Stream(self)

    def trace(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        preactivations: bool = False,
    ) -> Trace:
        """Runs x as a call does, and keeps every gate and state of every recurrent layer, direction and step.

        x, state and lengths are what a call takes. Raises what a call raises, and ArgumentError for a model
        without recurrent layers.
        """
        return trace(self, x, state, lengths, preactivations)
