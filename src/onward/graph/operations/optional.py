"""Operations on optional values: an array, a sequence of arrays, or nothing, which is None."""

from typing import Any

import numpy as np

from ...errors import ArgumentError
from .registry import EVERY_INPUT, operation


@operation("Optional", shape_inputs=EVERY_INPUT, is_pure=False)
def optional(x: Any = None) -> Any:
    """The input, or nothing if it is omitted."""
    return (x,)


@operation("OptionalGetElement", shape_inputs=EVERY_INPUT, is_pure=False)
def optional_get_element(x: Any) -> Any:
    """The array or the sequence of an optional value that has one."""
    if x is None:
        raise ArgumentError("the optional value is empty")
    return (x,)


@operation("OptionalHasElement", shape_inputs=EVERY_INPUT, is_pure=False)
def optional_has_element(x: Any = None) -> Any:
    """Whether an optional value has an element; an array or a sequence is one."""
    return np.array(x is not None)
