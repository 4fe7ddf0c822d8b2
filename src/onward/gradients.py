"""Gradients of recurrent layers: backpropagation through time, from the record of a forward pass."""

from __future__ import annotations  # np.random is slow to import

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import arrays
from .arrays import Array
from .errors import ArgumentError
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
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, State, Cache]:
        """As a call, and a cache for backward; with `rng`, dropout acts between the layers.

        Floats that a cache holds of each step, row and unit of a layer and direction, besides x: 2 of an RNN
        (its h twice), 6 of an LSTM (gates, c, h), 5 of a GRU (gates, R_n h + b_n, h), 4 of one that resets
        before the product; one more below a dropout. Raises what a call raises, and ArgumentError for a layer
        with options that have no gradients here.
        """
        if self.precision or not self._is_plain():
            raise ArgumentError(
                f"{self!r} has no gradients: there are none for peephole, coupled, clip, other activations "
                "or compressed weights"
            )
        y, state, given, records = recorded(self, x, state, lengths, rng=rng)
        return y, state, Cache(given, records)

    def backward(
        self, dy: ArrayLike, dstate: State | None, cache: Cache
    ) -> tuple[Array, State, dict[str, Array]]:
        """dx laid out as x, the gradient by the initial state, and those by the weights, by name.

        dy is laid out as y, dstate as the final state (None: zeros); what lies past a row's length counts for
        nothing. The same bits for any number of threads. Raises ShapeError, DtypeError, ArgumentError.
        """
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
        gradients: dict[str, Array] = {}
        for number in reversed(range(self.num_layers)):
            own, record = slice(number * D, (number + 1) * D), records[number]
            if record.mask is not None:
                dx = dx * record.mask
            h0, c0, dh_end, dc_end, dc_start = (
                part if part is None else part[own] for part in (given.h0, given.c0, dh_n, dc_n, dc0)
            )
            d = np.zeros_like(record.gates)
            dh = np.zeros((D, T, B, DP // D), self.dtype) if self.proj_size else None
            self._backward_kernels[number].run(
                dx, record.y, h0, c0, dh_end, dc_end, given.lengths, record.gates, record.c, d, dh, dh0[own],
                dc_start,
            )  # fmt: skip
            dx = self._through_weights(number, given, record, d, dh, gradients)
        dx, dstate = self._answer(given, dx, dh0, dc0)
        return dx, dstate, {name: gradients[name] for name in self._weights}

    def _through_weights(
        self,
        number: int,
        given: Given,
        record: Record,
        d: Array,
        dh: Array | None,
        gradients: dict[str, Array],
    ) -> Array:
        """Puts the gradients by one layer's weights in, and returns that by its x.

        d (D, T, B, n, H) is by what the gates are functions of, dh (D, T, B, P) by h, of a projection.
        """
        D, (T, B, features) = 1 + self.bidirectional, record.x.shape
        G, H, P = self.G, self.hidden_size, self.proj_size or self.hidden_size
        x = record.x
        if given.lengths is not None:  # what lies past a length may be NaN
            x = np.where((np.arange(T)[:, None] < given.lengths)[:, :, None], x, np.zeros((), self.dtype))
        x, dx = x.reshape(T * B, features), np.zeros((T * B, features), self.dtype)
        for direction, suffix in enumerate(list(self._suffixes())[number * D : (number + 1) * D]):
            h0 = None if given.h0 is None else given.h0[number * D + direction]
            before = _before(record.y, h0, given.lengths, D, direction).reshape(T * B, P)
            by_R = d[direction, :, :, :G].reshape(T * B, G * H)
            # a GRU that resets after has a fourth number, which goes through W in the place of the third
            by_W = by_R if d.shape[3] == G else d[direction][:, :, [0, 1, 3]].reshape(T * B, G * H)
            gradients["weight_ih" + suffix] = by_W.T @ x
            gradients["weight_hh" + suffix] = by_R.T @ before
            if self._cell() == "gru_reset_before":  # its candidate sees r h
                reset = record.gates[direction, :, :, 0].reshape(T * B, H) * before
                gradients["weight_hh" + suffix][2 * H :] = by_R[:, 2 * H :].T @ reset
            if self.bias:
                gradients["bias_ih" + suffix] = by_W.sum(axis=0)
                gradients["bias_hh" + suffix] = by_R.sum(axis=0)
            if dh is not None and record.c is not None:
                shown = record.gates[direction, :, :, 3] * np.tanh(record.c[direction])
                gradients["weight_hr" + suffix] = dh[direction].reshape(T * B, P).T @ shown.reshape(T * B, H)
            dx += by_W @ self._weights["weight_ih" + suffix]
        return dx.reshape(T, B, features)


def _before(y: Array, h0: Array | None, lengths: NDArray[np.int64] | None, D: int, direction: int) -> Array:
    """h before each step of one direction, (T, B, P), of y (T, B, D*P)."""
    T, B, DP = y.shape
    h = y[:, :, direction * (DP // D) : (direction + 1) * (DP // D)]
    before = np.zeros_like(h)
    ends = np.full(B, T) if lengths is None else lengths
    rows = np.flatnonzero(ends)
    if direction:
        before[:-1] = h[1:]
        first = ends[rows] - 1
    else:
        before[1:] = h[:-1]
        first = np.zeros_like(rows)
    before[first, rows] = 0 if h0 is None else h0[rows]
    return before
