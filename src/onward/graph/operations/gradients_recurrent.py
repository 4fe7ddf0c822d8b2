"""The gradients of recurrent cells, which the kernels of the core compute."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...core.cell import Cell
from .gradients_elementwise import Rule


def _of_weighted(
    dys: Sequence[Any],
    ys: Sequence[Any],
    x: Any,
    lengths: Any,
    *others: Any,
    cell: Cell,
    reverse: bool = False,
) -> Iterator[Any]:
    count = len(cell.state_names)
    states, weights = (*others[:count], *[None] * count)[:count], others[count:]
    first, *rest = [*dys, *[None] * (1 + count)][: 1 + count]
    inputs = (*rest, x, lengths, *states, *weights)
    options = {"cell": cell, "reverse": reverse}
    names = [None if each is None else each.name for each in (first, *inputs)]
    dx, *found = x.t.add_all("RecurrentGradient", names, 1 + count + len(weights), **options)
    yield x.t.part(dx)
    yield None
    yield from map(x.t.part, found)


def _of_recurrent(
    dys: Sequence[Any], ys: Sequence[Any], x: Any, lengths: Any = None, *states: Any, cell: Cell,
    reverse: bool = False,
) -> Iterator[Any]:  # fmt: skip
    count = len(cell.state_names)
    weights = [x.t.constant_of(cell.weights[name], cell.dtype) for name, _ in cell.float_shapes()]
    padded = (*states, *[None] * count)[:count]
    yield from _of_weighted(dys, ys, x, lengths, *padded, *weights, cell=cell, reverse=reverse)


OF_SEVERAL: Mapping[str, Rule] = {"Recurrent": _of_recurrent, "WeightedRecurrent": _of_weighted}
