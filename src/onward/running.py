"""What can be asked of a recurrent layer and of any model alike, by the protocol of `onward.base.Layer`."""

from .base import Layer
from .stream import Stream


class Model(Layer):
    """A recurrent layer, or layers connected."""

    def stream(self) -> Stream:
        """One sequence step by step: `y = stream(x)`. Raises ArgumentError for a bidirectional layer."""
        return Stream(self)
