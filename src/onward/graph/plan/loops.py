"""Count the nodes that the loops of a graph run, if their lengths are known."""

from collections.abc import Sequence

import numpy as np

from ...errors import ArgumentError
from ..graph import Graph, bodies
from ..node import Node
from ..operations.control import keeps_condition
from ..operations.registry import Known

MAX_RUNS = 10**9  # nodes


def run_count(node: Node, inputs: Sequence[Known | None], counted: dict[int, int]) -> int:
    """Return how many nodes of its bodies a node runs, as far as the lengths of loops are known.

    `counted` keeps the numbers of graphs, by their ids. Raises ArgumentError if there are too many.
    """
    inner = sum(_nodes_run(body, counted) for body in bodies(node))
    count = 1
    if node.operation == "Loop" and keeps_condition(node.attributes["body"]):
        count = max(0, int(inputs[0])) if isinstance(inputs[0], np.ndarray) else 1
    elif node.operation == "Scan":
        captured, scans = node.attributes.get("captured", 0), node.attributes["num_scan_inputs"]
        first = inputs[len(inputs) - captured - scans]
        axis = (node.attributes.get("scan_input_axes") or [0])[0]
        count = 1 if first is None or not first.shape else first.shape[axis]
    if count * inner > MAX_RUNS:
        raise ArgumentError(f"it runs {count * inner} nodes; expected at most {MAX_RUNS}: split the model")
    return count * inner


def _nodes_run(body: Graph, counted: dict[int, int]) -> int:
    if id(body) not in counted:
        total = len(body.nodes)
        for node in body.nodes:
            if any(bodies(node)):
                total += run_count(node, [body.constants.get(name) for name in node.inputs], counted)
        counted[id(body)] = total
    return counted[id(body)]
