"""A recurrent layer's call that keeps what happened: each layer's input, every gate and every state."""

from __future__ import annotations  # np.random is slow to import

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..core.arrays import Array
from ..core.checks import Rng, generator
from .linear import dropout_mask
from .recurrent import Given, Recurrent


class Record(NamedTuple):
    """One layer's steps, as the core lays them out; past a row's length all but x is 0.

    x (T, B, I) and y (T, B, D*P): what went in and came out. Of each direction: gates (D, T, B, n, H), in the
    order of the layer's, then c of an LSTM, or R_n h + b_n of a GRU that resets after the product; sums
    (D, T, B, G, H), which the gates are functions of, or None. mask (T, B, D*P): what dropout multiplied y by
    on its way to the next layer, or None.
    """

    x: Array
    y: Array
    gates: Array
    sums: Array | None
    mask: Array | None = None


def recorded(
    layer: Recurrent[Any],
    x: ArrayLike,
    state: Any,
    lengths: ArrayLike | None,
    *,
    sums: bool = False,
    rng: Rng = None,
) -> tuple[Array, Any, Given, list[Record]]:
    """y and the final state, bitwise those of a call, and a record of each of the layers.

    With `rng`, dropout acts between the layers.
    """
    given = layer._given(x, state, lengths)
    drawing = None if rng is None else generator(rng)
    D, H, P = 1 + layer.bidirectional, layer.hidden_size, layer.proj_size or layer.hidden_size
    T, B, _ = given.x.shape
    zeros = np.zeros if given.lengths is not None else np.empty  # what lies past a length, nobody fills
    h = np.empty((layer.num_layers * D, B, P), layer.dtype)
    c = np.empty((layer.num_layers * D, B, H), layer.dtype) if layer.has_c else None
    records = []
    y = given.x
    for number, kernel in enumerate(layer._layer_kernels):
        own = slice(number * D, (number + 1) * D)
        h0, c0, c_n = (part if part is None else part[own] for part in (given.h0, given.c0, c))
        record = Record(
            x=y,
            y=np.empty((T, B, D * P), layer.dtype),
            gates=zeros((D, T, B, kernel.recorded, H), layer.dtype),
            sums=zeros((D, T, B, layer.G, H), layer.dtype) if sums else None,
        )
        kernel.record(y, h0, c0, given.lengths, record.y, h[own], c_n, record.gates, record.sums)
        y = record.y
        if drawing is not None and layer.dropout and number < layer.num_layers - 1:
            mask = dropout_mask(drawing, layer.dropout, y.shape, layer.dtype)
            record, y = record._replace(mask=mask), y * mask
        records.append(record)
    y, state = layer._answer(given, y.copy(), h, c)
    return y, state, given, records
