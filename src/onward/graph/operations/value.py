"""What the compiler knows about a value of a graph."""

from typing import Any, NamedTuple

import numpy as np

from ..plan.view import View
from ..sized import as_numbers, has_sizes


class Value(NamedTuple):
    """A value of a graph during planning.

    `array` is the value if it is the same in every call with this signature, otherwise None. `view` locates
    its elements in a space of the plan, or is None if no space holds them. `used_once` tells whether it has
    exactly one reader. `name` is unique among the values of a plan.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    array: Any = None
    view: View | None = None
    used_once: bool = False
    name: str = ""

    def with_array(self, array: Any) -> "Value":
        """Return the value with the elements that it has in every call."""
        return self._replace(array=array)

    def with_view(self, view: View) -> "Value":
        """Return the value whose elements are in a space of the plan."""
        return self._replace(array=None, view=view)

    def in_numbers(self) -> "Value":
        """Return the value whose sizes, if it has any, are fixed to those of the first call."""
        return self.with_array(as_numbers(self.array)) if has_sizes(self.array) else self

    def read_again(self) -> "Value":
        """Return the value with more than one reader."""
        return self._replace(used_once=False)

    @property
    def known(self) -> bool:
        return self.array is not None
