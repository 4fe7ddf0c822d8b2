"""Run a graph on a padded batch of sequences, each row without its padding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...core.arrays import as_lengths
from ...errors import ArgumentError
from ..node import AnyArray
from ..plan.planner import Planner
from .sequences import Layout, output_axes


def run_with_lengths(
    planner: Planner, layout: Layout, x: AnyArray, lengths: ArrayLike
) -> tuple[AnyArray, ...]:
    """Return the outputs for the first lengths[b] steps of each row b of x, padded with zeros.

    Rows of equal length run in one call. Raises ArgumentError.
    """
    time, batch = layout.axes
    rows_of = [axes.batch for axes in output_axes(planner.graph, planner.graph.inputs[0], layout)]
    if time is None or batch is None or None in rows_of:
        raise ArgumentError(
            "got lengths, but the model has no rows: its outputs or its input lack a batch axis"
        )
    counts = as_lengths(lengths, (x.shape[batch],), x.shape[time])
    groups = [np.flatnonzero(counts == length) for length in np.unique(counts)]
    found = [planner(np.take(x, rows, batch).take(range(counts[rows[0]]), time)) for rows in groups]
    outputs = zip(zip(*found, strict=True), rows_of, strict=True)
    return tuple(_joined(parts, groups, axis or 0) for parts, axis in outputs)


def _joined(parts: Sequence[AnyArray], groups: Sequence[AnyArray], axis: int) -> AnyArray:
    """Return the rows of all groups in order along an axis, as long as the longest."""
    shape = list(np.max([part.shape for part in parts], axis=0))
    shape[axis] = sum(map(len, groups))
    y: AnyArray = np.zeros(shape, parts[0].dtype)
    rows_first = np.moveaxis(y, axis, 0)
    for part, rows in zip(parts, groups, strict=True):
        own = np.moveaxis(part, axis, 0)
        place: tuple[Any, ...] = (rows, *map(slice, own.shape[1:]))
        rows_first[place] = own
    return y
