"""Cumulative sums and products, in the order of the indices."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..node import AnyArray
from .arguments import as_axis
from .registry import like_first, operation


def _define(name: str, function: Callable[..., Any], first: int) -> None:
    @operation(name, signature=like_first, widens=True)
    def compute(x: AnyArray, axis: AnyArray, *, exclusive: int = 0, reverse: int = 0) -> Any:
        """Each element covers itself and those before it, or those after it if `reverse`; itself is left out
        if `exclusive`."""
        place = as_axis(int(axis.item()), x.ndim)
        x = np.flip(x, place) if reverse else x
        y = function(x, place, dtype=x.dtype)
        if exclusive:
            shifted = np.full_like(y, first)
            later, earlier = ((slice(None),) * place + (part,) for part in (slice(1, None), slice(-1)))
            shifted[later] = y[earlier]
            y = shifted
        return np.flip(y, place) if reverse else y


_define("CumSum", np.cumsum, 0)
_define("CumProd", np.cumprod, 1)
