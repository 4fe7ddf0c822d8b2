"""Whether a call runs block by block, decided without importing what that takes."""

from collections.abc import Sequence
from typing import Any

from ...core.budget import MEMORY_OF_GIVEN
from ..graph import Graph
from ..node import size_of
from ..plan.builder import Weights

WHOLE_MEMORY = 1 << 26  # bytes; calls whose values need more run block by block where that is possible


def in_blocks(graph: Graph, inputs: Sequence[Any], weights: Weights) -> Any:
    """Return a plan that runs a graph block by block, or None if it is better to run it all at once."""
    if size_of(inputs) * MEMORY_OF_GIVEN < WHOLE_MEMORY:
        return None
    from .whole import run_if_large

    return run_if_large(graph, inputs, WHOLE_MEMORY, weights)
