"""Whether a call runs block by block, decided without importing what that takes."""

from collections.abc import Sequence
from typing import Any

from ...core.budget import MEMORY_OF_GIVEN
from ..graph import Graph
from ..node import size_of
from ..plan.builder import Weights

MEMORY_AT_ONCE = 1 << 26  # bytes; calls that need more run block by block where that is possible


def in_blocks(graph: Graph, inputs: Sequence[Any], weights: Weights, memory: float) -> Any:
    """Return a plan that runs a graph block by block, or None if it is better to run it all at once.

    `memory` is how many bytes that needs.
    """
    if memory <= MEMORY_AT_ONCE or size_of(inputs) * MEMORY_OF_GIVEN < MEMORY_AT_ONCE:
        return None
    from .block_plan import in_blocks_of

    return in_blocks_of(graph, inputs, weights)
