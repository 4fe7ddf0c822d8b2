"""Gradients of recurrent layers: backpropagation through time, from the record of a forward pass."""

from __future__ import annotations  # np.random is slow to import

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays
from ..core.arrays import Array
from ..core.checks import Rng
from ..errors import ArgumentError
from .recording import Record, recorded
from .recurrent import Given, Recurrent, State


class Cache(NamedTuple):
    """What backward needs of a forward pass."""

    given: Given
    records: list[Record]


class Differentiable(Recurrent[State]):
    """A recurrent layer with its forward and backward pass."""

    def forward(
        self,
        x: ArrayLike,
        state: State | None = None,
        *,
        lengths: ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[Array, State, Cache]:
        """As a call, and a cache for backward; with `rng`, dropout acts between the layers.

        Floats that a cache holds of each step, row and unit of a layer and direction, besides x: 1 of an RNN
        (h; 2 in two directions), 6 of an LSTM (gates, c, h), 5 of a GRU (gates, R_n h + b_n, h), 4 of one
        that resets before the product; one more below a dropout. PyTorch 2.13 keeps 1, 16 and 6. Raises what
        a call raises, and ArgumentError for a layer with options that have no gradients here.
        """
        if self.precision or not self._is_plain():
            raise ArgumentError(
                f"{self!r} has no gradients: there are none for peephole, coupled, clip, other activations "
                "or compressed weights"
            )
        y, state, given, records = recorded(self, x, state, lengths, rng=rng)
        if self.G == 1 and not self.bidirectional:  # the gate of an RNN is its h
            records = [record._replace(y=record.gates[0, :, :, 0]) for record in records]
        return y, state, Cache(given, records)

    def backward(
        self, dy: ArrayLike, dstate: State | None, cache: Cache
    ) -> tuple[Array, State, dict[str, Array]]:
        """dx laid out as x, the gradient by the initial state, and those by the weights, by name.

        dy is laid out as y, dstate as the final state (None: zeros); what lies past a row's length counts for
        nothing. The same bits for any number of threads. Raises ShapeError, DtypeError, ArgumentError.
        """
        self._check_cache(self._fits(cache))
        given, records = cache
        T, B, DP = records[-1].y.shape
        batch_major = given.batched and self.batch_first
        shape = (B, T, DP) if batch_major else (T, B, DP) if given.batched else (T, DP)
        dx = arrays.as_gradient(dy, shape, self.dtype)
        dx = arrays.with_contiguous_rows(dx.swapaxes(0, 1) if batch_major else dx.reshape(T, B, DP))
        D, H, LD = 1 + self.bidirectional, self.hidden_size, self.num_layers * (1 + self.bidirectional)
        dh, dc = self._split(dstate)
        dh_n = self._initial("dh", dh, (LD, B, DP // D), given.batched)
        dc_n = self._initial("dc", dc, (LD, B, H), given.batched)
        dh0 = np.empty((LD, B, DP // D), self.dtype)
        dc0 = np.empty((LD, B, H), self.dtype) if self.has_c else None
        gradients = {name: np.zeros_like(weight) for name, weight in self._weights.items()}
        by_weights = self._by_weights(gradients)
        zeros = np.zeros if given.lengths is not None else np.empty  # what lies past a length, nobody fills
        for number in reversed(range(self.num_layers)):
            own, record = slice(number * D, (number + 1) * D), records[number]
            dy = dx if record.mask is None else dx * record.mask
            dx = zeros(record.x.shape, self.dtype)
            h0, c0, dh_end, dc_end, dc_start = (
                part if part is None else part[own] for part in (given.h0, given.c0, dh_n, dc_n, dc0)
            )
            self._backward_kernels[number].run(
                dy, record.x, record.y, h0, c0, dh_end, dc_end, given.lengths, record.gates, dx,
                dh0[own], dc_start, by_weights[own],
            )  # fmt: skip
        dx, dstate = self._answer(given, dx, dh0, dc0)
        return dx, dstate, gradients

    def _fits(self, cache: Any) -> bool:
        """Whether a cache is of a layer of these sizes."""
        if not isinstance(cache, Cache) or len(cache.records) != self.num_layers:
            return False
        first, last = cache.records[0], cache.records[-1]
        D, P = 1 + self.bidirectional, self.proj_size or self.hidden_size
        sizes = (first.x.shape[-1], last.y.shape[-1], first.gates.shape[0], *first.gates.shape[3:])
        own = (self.input_size, D * P, D, self._layer_kernels[0].recorded, self.hidden_size)
        return sizes == own and first.x.dtype == self.dtype

    def _by_weights(self, gradients: dict[str, Array]) -> list[Any]:
        """The gradients by each direction's weights as the core takes them."""
        get = gradients.get
        return [
            (
                gradients["weight_ih" + s],
                gradients["weight_hh" + s],
                get("bias_ih" + s),
                get("bias_hh" + s),
                get("weight_hr" + s),
            )
            for s in self._suffixes()
        ]
