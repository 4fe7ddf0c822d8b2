"""What can be asked of a recurrent layer and of any model alike, by the protocol of `onward.base.Layer`."""

from typing import Any, Self

from numpy.typing import ArrayLike

from ..streaming import stream
from ..streaming.pool import Pool
from ..tracing.trace import Trace, trace
from . import quantize as precisions
from .base import Layer


class Model(Layer):
    """A recurrent layer, or layers connected."""

    def stream(self, batch: int | None = None) -> stream.Stream:
        """One sequence that goes on from call to call, or `batch` of them together: `y = stream(x)`.

        Raises ArgumentError for a model that needs steps yet to come, as a reverse direction does.
        """
        return stream.stream(self, batch)

    def pool(self, capacity: int, max_capacity: int | None = None) -> Pool:
        """Thousands of streams by their ids: `ids = pool.open(n)`, `y = pool.step(ids, x)`.

        There is memory for `capacity` of them; it doubles where more are opened, up to max_capacity. Raises
        ArgumentError as `stream`.
        """
        return Pool(self, capacity, max_capacity)

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

    def quantize(
        self, precision: str, *, check: ArrayLike | None = None, tolerance: float | None = None
    ) -> Self:
        """A copy whose recurrent layers store their matrices as "float16" or as "int8", with scales.

        It is called, saved, loaded and streamed as any model, and computes in float32: with float16, what
        float32 would give with the rounded weights; with int8, weights and what they are multiplied with are
        both quantised, each row by its largest number, and products summed exactly. Its `state_dict` holds
        what is stored: `weight_hh_l0` and, of int8, `weight_hh_l0_scale`.

        With `check`, inputs x of the model, the largest absolute difference of the outputs may not exceed
        `tolerance`. Raises PrecisionError, which says by how much they differ; DtypeError for a float64
        model; ArgumentError for weights that the precision cannot hold, or that are quantised already.
        """
        small: Self = precisions.quantize(self, precision, check, tolerance)
        return small
