"""Run blocks through a graph, and find the range of each of its values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..graph import Graph
from ..node import AnyArray, Node
from ..plan.planner import Planner


class Ranges:
    """The smallest and the largest number of each value, and its sizes where these stay the same."""

    def __init__(self) -> None:
        self._limits: dict[str, tuple[float, float]] = {}
        self._shapes: dict[str, tuple[int | None, ...]] = {}

    def add(self, name: str, array: AnyArray) -> None:
        """Include an array. NaN and infinities do not count."""
        shape = self._shapes.get(name, array.shape)
        same = [a if a == b else None for a, b in zip(shape, array.shape, strict=False)]
        self._shapes[name] = tuple(same)
        finite = array[np.isfinite(array)]
        if finite.size:
            low, high = self._limits.get(name, (np.inf, -np.inf))
            self._limits[name] = min(low, float(finite.min())), max(high, float(finite.max()))

    def limits(self, names: Iterable[str]) -> tuple[float, float]:
        """Return the range of several values, which includes 0."""
        known = [self._limits.get(name, (0.0, 0.0)) for name in names]
        return min(0.0, *(low for low, _ in known)), max(0.0, *(high for _, high in known))

    def shape(self, name: str) -> tuple[int | None, ...]:
        """Return the sizes of a value, None for those that differed."""
        return self._shapes[name]


def state_of(node: Node, place: int) -> str:
    """Return the name of the range of h (0) or c (1) of a recurrent layer at all steps."""
    return f"{next(filter(None, node.outputs))}/{'hc'[place]}"


def observed(
    graph: Graph, carried: Sequence[AnyArray], blocks: Sequence[Sequence[AnyArray]], layers: Sequence[Node]
) -> Ranges:
    """Return the ranges of the values of a graph in blocks; its first inputs and outputs are carries.

    Those of recurrent layers include all steps. Without carries, blocks are independent calls.
    """
    ranges, count = Ranges(), len(carried)
    made = [name for node in graph.nodes for name in node.outputs if name]
    names = list(dict.fromkeys([*graph.outputs, *made]))
    planner = Planner(graph.replaced(outputs=tuple(names)))
    inputs = [declared.name for declared in graph.inputs]
    for block in blocks:
        found = dict(zip(inputs, (*carried, *block), strict=True))
        found |= dict(zip(names, planner(*carried, *block), strict=True))
        floats = {name: a for name, a in found.items() if getattr(a, "dtype", None) == np.float32}
        for name, array in floats.items():
            ranges.add(name, array)
        for node in layers:
            _add_steps(ranges, node, floats)
        carried = [found[name] for name in graph.outputs[:count]]
    return ranges


def _add_steps(ranges: Ranges, node: Node, values: dict[str, AnyArray]) -> None:
    """Include the states of a recurrent layer at each step."""
    x, _, *states = (*node.inputs, "")
    cell: Any = node.attributes["cell"]
    state = [values[name] for name in states if name]
    for step in values[x]:
        _, *state = cell(step[None], *state)
        for place, each in enumerate(state):
            ranges.add(state_of(node, place), each)
