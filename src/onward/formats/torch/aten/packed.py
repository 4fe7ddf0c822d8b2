"""Packed sequences: the padded steps and the length of each row, which recurrent layers take as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ....errors import ArgumentError
from .recurrent import CELLS, new_cell, run_cell
from .registry import INT64, Symbol, Tensor, aten
from .translator import Translator

PACKED = {"_pad_packed_sequence", *CELLS}  # the operators that take the sizes of packed sequences


class Steps(Tensor):
    """The padded steps (T, B, I) of a packed sequence, which PyTorch stores with two axes."""


@dataclass(eq=False)
class BatchSizes(Tensor):
    """What PyTorch calls the batch sizes of a packed sequence: here the lengths of its rows."""

    longest: int | Symbol = 0
    rows: int | Symbol = 0


def _steps_first(x: Tensor) -> list[int]:
    return [1, 0, *range(2, x.rank)]


@aten("_pack_padded_sequence")
def _pack(t: Translator, input: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """Return the steps (T, B, I), still padded, and the lengths."""
    if lengths.dtype.kind != "i":
        raise ArgumentError(f"the lengths of packed sequences have dtype {lengths.dtype}; expected integers")
    steps = t.add("Transpose", input, perm=_steps_first(input)) if batch_first else input.name
    counts, rows = t.cast(lengths, INT64), t.size(input, 0 if batch_first else 1)
    longest = Symbol(t.add("ReduceMax", counts, [0], keepdims=0))
    shape = (*input.shape[1::-1], *input.shape[2:]) if batch_first else input.shape
    return Steps(steps, input.dtype, shape), BatchSizes(counts, INT64, (None,), longest=longest, rows=rows)


@aten("_pad_packed_sequence")
def _pad(
    t: Translator, data: Tensor, batch_sizes: BatchSizes, batch_first: bool, padding_value: float,
    total_length: int | Symbol,
) -> tuple[str, str]:  # fmt: skip
    """Return the first `total_length` steps, and the lengths."""
    y, padded, message = data.name, t.size(data, 0), "total_length is not in the range of"
    is_whole = t.known(t.add("Equal", total_length, padded))
    if total_length != batch_sizes.longest and not is_whole:
        t.require("LessOrEqual", batch_sizes.longest, total_length, f"{message} the lengths")
        t.require("LessOrEqual", total_length, padded, f"{message} the padded steps")
    if not is_whole:
        y = t.add("Slice", y, [0], [total_length], [0])
    if padding_value != 0:
        steps = t.add("Range", 0, t.add("Squeeze", t.add("Shape", y, end=1), [0]), 1)
        counts = t.add("Less", t.add("Unsqueeze", steps, [1]), batch_sizes)
        y = t.add("Where", t.add("Unsqueeze", counts, [2]), y, t.cast(padding_value, data.dtype))
    return t.add("Transpose", y, perm=_steps_first(data)) if batch_first else y, batch_sizes.name


def _define(name: str, kind: str, **options: Any) -> None:
    @aten(f"{name}.data")
    def function(
        t: Translator, data: Tensor, batch_sizes: Tensor, hx: Any, params: Sequence[Tensor],
        has_biases: bool, num_layers: int, dropout: float, train: bool, bidirectional: bool,
    ) -> tuple[Any, ...]:  # fmt: skip
        if not isinstance(batch_sizes, BatchSizes):
            raise ArgumentError("the code changes the sizes of a packed sequence")
        cell = new_cell(t, kind, params, has_biases, num_layers, bidirectional, **options)
        states = [hx] if isinstance(hx, Tensor) else hx
        y, *final = run_cell(t, cell, data, states, False, batch_sizes.name)
        return Steps(y, data.dtype, (*data.shape[:2], cell.sizes.DP)), *final


for each, (cell_kind, cell_options) in CELLS.items():
    _define(each, cell_kind, **cell_options)
