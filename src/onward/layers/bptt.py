"""Backpropagation through time: record a recurrent layer's call, and compute gradients from the record."""

from __future__ import annotations  # importing np.random is slow

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays
from ..core.arrays import Array
from ..core.checks import Rng, generator
from ..errors import ArgumentError
from .dropout import dropout_mask

if TYPE_CHECKING:
    from .recurrent import Inputs, Recurrent


# The weights of a direction, in the order that the core expects of their gradients.
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


class LayerRecord(NamedTuple):
    """The record of one layer; past a row's length, all arrays except x are 0.

    x (T, B, I) and y (T, B, D*P) are its input and output. gates (D, T, B, n, H) holds, for each direction,
    the gates in the layer's order, then c for an LSTM, or R_n h + b_n for a GRU that resets after the
    product. sums (D, T, B, G, H) holds the arguments of the gates' activations, or is None. mask (T, B, D*P)
    is the factor that dropout applied to y before the next layer, or None.
    """

    x: Array
    y: Array
    gates: Array
    sums: Array | None
    mask: Array | None = None


class Cache(NamedTuple):
    """The part of a forward pass that backward needs."""

    inputs: Inputs
    records: list[LayerRecord]


def record_call(
    layer: Recurrent[Any],
    x: ArrayLike,
    state: Any,
    lengths: ArrayLike | None,
    *,
    sums: bool = False,
    rng: Rng = None,
) -> tuple[Array, Any, Inputs, list[LayerRecord]]:
    """y and the final state, with the same bits as a call, and a record of each layer.

    With `rng`, dropout acts between the layers.
    """
    inputs = layer.inputs(x, state, lengths)
    drawing = None if rng is None else generator(rng)
    H, _, D, _, DP = layer.sizes
    T, B, _ = inputs.x.shape
    empty = np.empty if inputs.lengths is None else np.zeros  # the core skips the steps past a row's length
    h, c = layer.empty_state(B)
    records = []
    y = inputs.x
    for number, kernel in enumerate(layer._layer_kernels):
        own = slice(number * D, (number + 1) * D)
        h0, c0, c_n = (part if part is None else part[own] for part in (inputs.h0, inputs.c0, c))
        record = LayerRecord(
            x=y,
            y=np.empty((T, B, DP), layer.dtype),
            gates=empty((D, T, B, kernel.recorded, H), layer.dtype),
            sums=empty((D, T, B, len(layer.gates), H), layer.dtype) if sums else None,
        )
        kernel.record(y, h0, c0, inputs.lengths, record.y, h[own], c_n, record.gates, record.sums)
        y = record.y
        if drawing is not None and layer.dropout and number < layer.num_layers - 1:
            mask = dropout_mask(drawing, layer.dropout, y.shape, layer.dtype)
            record, y = record._replace(mask=mask), y * mask
        records.append(record)
    y, state = layer.outputs(inputs, y.copy(), h, c)
    return y, state, inputs, records


def forward(
    layer: Recurrent[Any], x: ArrayLike, state: Any, lengths: ArrayLike | None, rng: Rng
) -> tuple[Array, Any, Cache]:
    """See `Recurrent.forward`."""
    if layer.precision or not layer.is_plain():
        raise ArgumentError(
            f"{layer!r} has no gradients: peephole, coupled, clip, other activations and quantized weights "
            "are supported at inference only"
        )
    y, state, inputs, records = record_call(layer, x, state, lengths, rng=rng)
    if len(layer.gates) == 1 and not layer.bidirectional:  # the gate of an RNN is its h: keep one of them
        records = [record._replace(y=record.gates[0, :, :, 0]) for record in records]
    return y, state, Cache(inputs, records)


def backward(
    layer: Recurrent[Any], dy: ArrayLike, dstate: Any, cache: Cache
) -> tuple[Array, Any, dict[str, Array]]:
    """See `Recurrent.backward`."""
    layer._check_cache(_fits(layer, cache))
    inputs, records = cache
    H, P, D, LD, DP = layer.sizes
    T, B, _ = inputs.x.shape
    batch_major = inputs.batched and layer.batch_first
    shape = (B, T, DP) if batch_major else (T, B, DP) if inputs.batched else (T, DP)
    dx = arrays.as_gradient(dy, shape, layer.dtype)
    dx = arrays.with_contiguous_rows(dx.swapaxes(0, 1) if batch_major else dx.reshape(T, B, DP))
    dh, dc = layer.split_state(dstate)
    dh_n = layer.initial_state("dh", dh, (LD, B, P), inputs.batched)
    dc_n = layer.initial_state("dc", dc, (LD, B, H), inputs.batched)
    dh0, dc0 = layer.empty_state(B)
    gradients = {name: np.zeros_like(weight) for name, weight in layer._weights.items()}
    of_weights: list[Any] = [tuple(gradients.get(name + s) for name in NAMES) for s in layer.suffixes()]
    empty = np.empty if inputs.lengths is None else np.zeros  # the core skips the steps past a row's length
    kernels = layer._backward_kernels
    for number in reversed(range(layer.num_layers)):
        own, record = slice(number * D, (number + 1) * D), records[number]
        dy = dx if record.mask is None else dx * record.mask
        dx = empty(record.x.shape, layer.dtype)
        h0, c0, dh_end, dc_end, dc_start = (
            part if part is None else part[own] for part in (inputs.h0, inputs.c0, dh_n, dc_n, dc0)
        )
        kernels[number].run(
            dy, record.x, record.y, h0, c0, dh_end, dc_end, inputs.lengths, record.gates, dx,
            dh0[own], dc_start, of_weights[own],
        )  # fmt: skip
    dx, dstate = layer.outputs(inputs, dx, dh0, dc0)
    return dx, dstate, gradients


def _fits(layer: Recurrent[Any], cache: Any) -> bool:
    """Whether a cache belongs to a layer of these sizes."""
    if not isinstance(cache, Cache) or len(cache.records) != layer.num_layers:
        return False
    first, last = cache.records[0], cache.records[-1]
    sizes = (first.x.shape[-1], last.y.shape[-1], first.gates.shape[0], *first.gates.shape[3:])
    H, _, D, _, DP = layer.sizes
    own = (layer.input_size, DP, D, layer._layer_kernels[0].recorded, H)
    return sizes == own and first.x.dtype == layer.dtype
