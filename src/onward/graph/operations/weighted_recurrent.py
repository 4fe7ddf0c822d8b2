"""Recurrent cells whose weights are inputs, as in training, and their gradients.

Both run in NumPy with the kernels of the core, which pack the weights anew in each call.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core import arrays
from ...core.cell import Cell
from ...errors import ArgumentError
from ..node import AnyArray, Operand, Signature
from .recurrent import recurrent
from .registry import operation


def _filled(cell: Cell, weights: Sequence[AnyArray]) -> Cell:
    """Return a cell with weights in the order of its shapes."""
    return cell.filled(dict(zip((name for name, _ in cell.float_shapes()), weights, strict=True)))


def _signature(
    x: Operand, lengths: Operand | None, *others: Operand | None, cell: Cell, reverse: bool = False
) -> Sequence[Signature]:
    states = others[: len(cell.state_names)]
    return recurrent.signatures([Signature.of(x), lengths, *states], {"cell": cell}) or ()


@operation("WeightedRecurrent", signature=_signature)
def weighted_recurrent(
    x: AnyArray, lengths: AnyArray | None, *others: Any, cell: Cell, reverse: bool = False
) -> tuple[AnyArray, ...]:
    """Run a cell as `Recurrent` does; the inputs end with its states and its weights."""
    count = len(cell.state_names)
    filled = _filled(cell, others[count:])
    found: tuple[AnyArray, ...] = recurrent.function(
        x, lengths, *others[:count], cell=filled, reverse=reverse
    )
    return found


def _gradient_signature(*inputs: Operand | None, cell: Cell, reverse: bool = False) -> Sequence[Signature]:
    if not cell.is_plain() or cell.precision:
        raise ArgumentError(
            f"{cell!r} has no gradients: peephole, coupled, clip, other activations and quantized weights "
            "are supported at inference only"
        )
    x = inputs[1 + len(cell.state_names)]
    assert x is not None
    shapes = (x.shape, *cell.state_shapes(x.shape[1]), *(shape for _, shape in cell.float_shapes()))
    return [Signature(shape, x.dtype) for shape in shapes]


@operation("RecurrentGradient", signature=_gradient_signature)
def recurrent_gradient(*inputs: Any, cell: Cell, reverse: bool = False) -> tuple[AnyArray, ...]:
    """The gradients with respect to x, the initial states and the weights of `WeightedRecurrent`.

    The inputs are the gradients with respect to y and the final states, and the inputs of that operation.
    """
    count = 1 + len(cell.state_names)
    (dy, *dstates), (x, lengths, *others) = inputs[:count], inputs[count:]
    filled, states = _filled(cell, others[count - 1 :]), (*others[: count - 1], None)[:2]
    T, B, _ = x.shape
    if dy is None:
        dy = np.zeros((T, B, cell.sizes.DP), x.dtype)
    if reverse:
        x, dy = (arrays.reversed_steps(each, lengths) for each in (x, dy))
    arguments = filled.arguments(x, *states, lengths=lengths)
    *_, records = filled.record(arguments)
    dh, dc = (None if each is None else arrays.contiguous(each) for each in (*dstates, None)[:2])
    dx, *initial, gradients = filled.backward(arrays.with_contiguous_rows(dy), dh, dc, arguments, records)
    dx = arrays.reversed_steps(dx, lengths) if reverse else dx
    return dx, *(each for each in initial if each is not None), *gradients.values()
