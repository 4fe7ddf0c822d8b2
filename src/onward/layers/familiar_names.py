"""What users of PyTorch and Keras type on any model: it works, or the error names Onward's equivalent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from ..core.equivalents import ATTRIBUTES
from ..errors import LayerAttributeError

if TYPE_CHECKING:
    from .summary import Row


class FamiliarNames:
    """The base of layers and of what `onward.load` returns for files of other formats.

    `_conversion` is the call that makes a layer of the latter, for attributes that only a layer has.
    """

    _conversion: ClassVar[str] = ""

    if not TYPE_CHECKING:  # type checkers should still report unknown attributes

        def __getattr__(self, name: str) -> None:
            from .base import Layer

            hint = ""
            if name in ATTRIBUTES:
                hint = f": {ATTRIBUTES[name]}"
            elif self._conversion and not name.startswith("_") and hasattr(Layer, name):
                hint = f": use {self._conversion}.{name}"
            message = f"{type(self).__name__} has no attribute {name!r}{hint}"
            raise LayerAttributeError(message, name=name, obj=self)

    def _summary_rows(self) -> Sequence[Row]:
        raise NotImplementedError

    def eval(self) -> Self:
        """The model itself, which always runs inference, as PyTorch does after eval()."""
        return self

    def cpu(self) -> Self:
        """The model itself, which always runs on the CPU."""
        return self

    def summary(self) -> None:
        """Print the kind, output shape and number of parameters of each layer, as `onward info` does."""
        from .summary import table

        print(table(self._summary_rows()))
