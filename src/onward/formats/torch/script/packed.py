"""Packed sequences: the padded steps and the length of each row, which recurrent layers take as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ....errors import ArgumentError
from ..aten.recurrent import KINDS, new_layer, run_layer
from ..aten.registry import INT64, Symbol, Tensor
from .recorder import Recorder


class Steps(Tensor):
    """The padded steps (T, B, I) of a packed sequence, which PyTorch stores with two axes."""

    @classmethod
    def of(cls, tensor: Tensor) -> Steps:
        """Return a tensor as steps."""
        return cls(tensor.name, tensor.dtype, tensor.shape)


@dataclass(eq=False)
class BatchSizes:
    """What PyTorch calls the batch sizes of a packed sequence: here the lengths of its rows."""

    lengths: str
    longest: str
    rows: int | Symbol


def pack(r: Recorder, x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, BatchSizes]:
    """Return the steps of x (T, B, I), still padded, and the lengths."""
    if lengths.dtype.kind != "i":
        raise ArgumentError(f"the lengths of packed sequences have dtype {lengths.dtype}; expected integers")
    steps = r.add("Transpose", x, perm=[1, 0, *range(2, x.rank)]) if batch_first else r.read(x).name
    data, counts = Steps.of(r.tensor(steps)), r.cast(r.read(lengths), INT64)
    longest = r.add("ReduceMax", counts, r.constant([0]), keepdims=1)
    return data, BatchSizes(counts, longest, r.size(data, 1))


def _pad(
    r: Recorder, data: Tensor, sizes: BatchSizes, batch_first: bool, value: float, total: Any = None
) -> tuple[Tensor, Tensor]:
    """Return the steps, up to the longest row or `total` steps, and the lengths."""
    if value != 0:
        raise ArgumentError(f"the padding value {value} is not supported; expected 0")
    y = r.read(data).name
    if not isinstance(total, int):
        y = r.add("Slice", y, r.constant([0]), sizes.longest, r.constant([0]))
    elif total != data.shape[0]:
        raise ArgumentError(
            f"total_length is {total}, but must be the number of padded steps {data.shape[0]}"
        )
    if batch_first:
        y = r.add("Transpose", y, perm=[1, 0, *range(2, data.rank)])
    return r.tensor(y), r.tensor(sizes.lengths)


def apply(r: Recorder, name: str, /, *arguments: Any, **keywords: Any) -> Any:
    """Apply an operator to the sizes of a packed sequence."""
    if name in KINDS:  # run a layer, and return the packed outputs and the final states
        data, sizes, states, weights, has_biases, num_layers, _, _, bidirectional = arguments
        kind, options = KINDS[name]
        layer = new_layer(
            r, kind, list(map(r.read, weights)), has_biases, num_layers, bidirectional, **options
        )
        given = states if isinstance(states, list | tuple) else [states]
        x, *hidden = map(r.read, (data, *given))
        y, *final = map(r.tensor, run_layer(r, layer, x, hidden, False, sizes.lengths))
        return Steps.of(y), *final
    if name == "_pad_packed_sequence":
        return _pad(r, *arguments, **keywords)
    sizes = arguments[0]
    if name == "select" and arguments[1:] == (0, 0):
        return r.tensor(r.cast(sizes.rows, INT64))
    if name == "size":
        longest = Symbol(r.add("Reshape", sizes.longest, r.constant([], np.int64)))
        return longest if len(arguments) > 1 else [longest]
    if name in ("to", "cpu", "detach", "contiguous"):
        return sizes
    raise ArgumentError(f"the operator {name} does not take the sizes of a packed sequence")
