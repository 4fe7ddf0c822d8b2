"""How many nodes a node with bodies runs."""

from collections.abc import Sequence

import numpy as np

from ...core.identity import Identity
from ..graph import Graph, bodies
from ..node import Node, Operand
from ..operations.control import keeps_condition


def run_count(node: Node, inputs: Sequence[Operand | None], counted: dict[Identity, int]) -> int:
    """Return how many nodes of its bodies a node runs, as far as the lengths of loops are known.

    `counted` keeps the numbers of graphs.
    """
    inner = sum(_nodes_run(body, counted) for body in bodies(node))
    count = 1
    if node.operation == "Loop" and keeps_condition(node.attributes["body"]):
        count = max(0, int(inputs[0])) if isinstance(inputs[0], np.ndarray) else 1
    return count * inner


def _nodes_run(body: Graph, counted: dict[Identity, int]) -> int:
    key = Identity(body)
    if key not in counted:
        total = len(body.nodes)
        for node in body.nodes:
            if bodies(node):
                total += run_count(node, [body.constants.get(name) for name in node.inputs], counted)
        counted[key] = total
    return counted[key]
