"""The layer that selects the last valid step of each row."""

from __future__ import annotations  # importing np.random is slow

from typing import Any, Never

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import checked, flag
from ..errors import ShapeError
from .base import Layer, RunRecurrent, unknown_arguments


class Last(Layer):
    """The last valid step of each row: y_{T-1}, or y_{length-1} with lengths; zeros if there is none.

    Raises ArgumentError if batch_first is not True or False.

    >>> import numpy as np
    >>> Last()(np.array([[[1.0], [2.0]], [[3.0], [4.0]]]), lengths=[1, 2])  # (T, B, F)
    array([[1.],
           [4.]])
    """

    batch_first: bool = False
    batched_ndim = 3
    causal = unchanged_by_step = True  # in a stream, the present step is the last one

    @checked
    def __init__(self, batch_first: bool = False) -> None:
        self.batch_first = flag("batch_first", batch_first)

    def _run(self, x: Any, state: Any, lengths: Any, run_recurrent: RunRecurrent) -> tuple[Any, Any]:
        return self(x, lengths), None

    def __call__(self, y: ArrayLike, lengths: ArrayLike | None = None, **unknown: Never) -> Array:
        """Map y (T, B, F), (B, T, F) with batch_first, or (T, F) unbatched to a new array (B, F) or (F,).

        float64 stays float64; other dtypes become float32. Raises ShapeError, DtypeError, ArgumentError.
        """
        if unknown:
            raise unknown_arguments(self, unknown, "y, lengths=None")
        y = arrays.as_array(y, "y")
        y = arrays.as_floats(y, arrays.working_dtype(y), "y")
        if y.ndim not in (2, 3):
            layout = "(B, T, F)" if self.batch_first else "(T, B, F)"
            raise ShapeError(f"y has shape {y.shape}, but Last takes {layout}, or (T, F) unbatched")
        batched = y.ndim == 3
        steps = y.swapaxes(0, 1) if batched and self.batch_first else y if batched else y[:, None]
        T, B, F = steps.shape
        valid = np.full(B, T) if lengths is None else arrays.as_lengths(lengths, (B,) if batched else (), T)
        last = np.zeros((B, F), y.dtype)
        some = np.flatnonzero(valid)
        last[some] = steps[valid[some] - 1, some]
        return last if batched else last[0]

    def forward(
        self, x: ArrayLike, state: None = None, *, lengths: ArrayLike | None = None, rng: Any = None
    ) -> tuple[Array, None, tuple[Shape, NDArray[Any] | None]]:
        """Call the layer and also return a cache for backward: the shape of x, and lengths."""
        return self(x, lengths), None, (np.shape(x), None if lengths is None else np.array(lengths))

    def backward(
        self, dy: ArrayLike, dstate: None, cache: tuple[Shape, NDArray[Any] | None]
    ) -> tuple[Array, None, dict[str, Array]]:
        """dx is dy at the last valid step of each row and 0 elsewhere. Raises ShapeError, DtypeError."""
        shape, lengths = cache if isinstance(cache, tuple) and len(cache) == 2 else ((), None)
        self._check_cache(isinstance(shape, tuple) and len(shape) in (2, 3))
        batch_major = len(shape) == 3 and self.batch_first
        dy = arrays.as_array(dy, "dy")
        *batch, F = shape[:1] + shape[2:] if batch_major else shape[1:]
        dy = arrays.as_gradient(dy, (*batch, F), arrays.working_dtype(dy))
        dx = np.zeros(shape, dy.dtype)
        steps = dx.swapaxes(0, 1) if batch_major else dx if len(shape) == 3 else dx[:, None]
        T, B, _ = steps.shape
        valid = np.full(B, T) if lengths is None else arrays.as_lengths(lengths, tuple(batch), T)
        some = np.flatnonzero(valid)
        steps[valid[some] - 1, some] = dy.reshape(B, F)[some]
        return dx, None, {}
