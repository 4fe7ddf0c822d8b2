"""Roll up repetitions of the same nodes, as tracers write loops of Python, into loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ...errors import OnwardError
from ..graph import Graph
from ..inference import infer, open_signatures
from ..node import AnyArray, Node, needed_nodes
from ..operations.control import loop
from .unrolled import MAX_SIZE, Differs, Unrolled
from .writes import with_writes, without_writes

MIN_COPIES, MIN_NODES = 4, 48  # of a loop
WINDOW = 4  # nodes that are compared to find how far apart repetitions are
MAX_PERIODS = 8  # that are tried
PRODUCTS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
PARTS = (0, 0), (1, 0), (0, 1), (1, 1)  # copies at the start and the end that stay, since they often differ


def rolled_up(graph: Graph) -> Graph:
    """Return an equivalent graph with loops in the place of repetitions of the same nodes.

    An iteration may read what is the same in all copies, values of the copy before, steps of a sequence, and
    small constants.
    """
    if len(graph.nodes) < MIN_NODES:
        return graph
    nodes = with_writes(graph)
    repetitions = _repetitions(graph, nodes)
    if not repetitions:
        return graph
    rolling, left = _Rolling(graph, nodes), MAX_PERIODS * len(nodes)
    for start, period, copies in repetitions:
        for first, last in PARTS:
            left -= copies * period
            if left < 0 or rolling.roll_up(start + first * period, period, copies - first - last):
                break
    return rolling.graph()


def unrolled(graph: Graph) -> Graph:
    """Return an equivalent graph without the loops of `rolled_up`, of which not all can be ONNX's."""
    constants, nodes = dict(graph.constants), list[Node]()
    for node in graph.nodes:
        if node.attributes.get("is_rolled_up"):
            expansion = loop.expand and loop.expand(node, [constants.get(name) for name in node.inputs])
            assert expansion  # the number of its iterations is a constant
            constants |= expansion.constants
            nodes += expansion.nodes
        else:
            nodes.append(node)
    return graph if len(nodes) == len(graph.nodes) else graph.replaced(nodes=nodes, constants=constants)


def _repetitions(graph: Graph, nodes: Sequence[Node]) -> list[tuple[int, int, int]]:
    """Return where nodes of the same kinds repeat: start, period and copies; the longest stretch is first."""
    kinds: dict[Any, int] = {}
    found = [
        kinds.setdefault((n.operation, len(n.inputs), len(n.outputs), _weights(graph, n)), len(kinds))
        for n in nodes
    ]
    codes, large = np.array(found, np.int64), list[tuple[int, int, int]]()
    for period in _periods(codes, len(kinds)):
        same = np.concatenate([[False], codes[:-period] == codes[period:], [False]])
        for start, end in np.flatnonzero(np.diff(same)).reshape(-1, 2).tolist():
            copies = (end - start) // period + 1
            if copies >= MIN_COPIES and copies * period >= MIN_NODES:
                large.append((start, period, copies))
    return sorted(large, key=lambda each: (-each[1] * each[2], each[1]))


def _weights(graph: Graph, node: Node) -> Any:
    """Return what is equal for products with equal weights, which all copies of one have."""
    W = graph.constants.get(node.inputs[1]) if node.operation in PRODUCTS else None
    return None if W is None or W.size <= MAX_SIZE else (W.shape, W.flat[0].tobytes(), W.flat[-1].tobytes())


def _periods(codes: Any, kinds: int) -> Iterator[int]:
    """Yield the most frequent distances between equal windows."""
    windows = np.zeros(max(0, len(codes) - WINDOW + 1), np.int64)
    for place in range(WINDOW):
        windows = windows * kinds + codes[place : place + len(windows)]
    order = np.argsort(windows, kind="stable")
    periods, counts = np.unique(np.diff(order)[np.diff(windows[order]) == 0], return_counts=True)
    yield from periods[np.argsort(-counts, kind="stable")][:MAX_PERIODS].tolist()


class _Rolling:
    """The nodes of a graph, of which loops replace parts."""

    def __init__(self, graph: Graph, nodes: Sequence[Node]) -> None:
        self._graph = graph
        self._places = [[node] for node in nodes]  # what takes the place of each node
        self._makers = {name: node for node in nodes for name in node.outputs if name}
        self._rolled = np.zeros(len(nodes), np.bool_)
        self._varying = {declared.name for declared in graph.inputs}  # what is not the same in every call
        for node in nodes:
            if not self._varying.isdisjoint(node.inputs):
                self._varying.update(filter(None, node.outputs))

    def graph(self) -> Graph:
        """Return the graph with its loops."""
        if not self._rolled.any():
            return self._graph
        nodes = [node for place in self._places for node in place]
        return self._graph.replaced(nodes=without_writes(nodes)).without_unused()

    def roll_up(self, start: int, period: int, copies: int) -> bool:
        """Replace repetitions by a loop; return whether they are one."""
        end = start + period * copies
        nodes = [node for place in self._places[start:end] for node in place]
        if self._rolled[start:end].any() or len(nodes) < end - start:
            return False
        if self._varying.isdisjoint(name for node in nodes for name in node.outputs):  # they become constants
            return False
        try:
            rows = [nodes[place::period] for place in range(period)]
            loop = Unrolled(self._graph, self._makers, self._varying, rows)
            after = [[loop.reading(node) for node in place] for place in self._places[end:]]
            needed = set(self._graph.outputs)
            for place in reversed(after):
                place[:] = needed_nodes(place, needed)
            found = loop.nodes(needed)
        except Differs:
            return False
        if loop.must_keep_shapes and not self._keeps_shapes(start, [*found], loop.constants):
            return False
        self._places[end:] = after
        self._places[start:end] = [found, *([] for _ in nodes[1:])]
        for name in [name for node in nodes for name in node.outputs]:
            self._makers.pop(name, None)
        later = [node for place in after for node in place]
        self._makers |= {name: node for node in [*found, *later] for name in node.outputs if name}
        self._graph = self._graph.replaced(constants=self._graph.constants | loop.constants)
        self._rolled[start:end] = True
        return True

    def _keeps_shapes(self, start: int, found: Sequence[Node], constants: dict[str, AnyArray]) -> bool:
        """Whether no iteration changes the shapes of the states, for all inputs."""
        before = without_writes([node for place in self._places[:start] for node in place])
        outputs = [name for node in found for name in node.outputs if name]
        known = {**self._graph.constants, **constants}
        graph = self._graph.replaced(nodes=[*before, *found], constants=known, outputs=outputs)
        graph = graph.without_unused()
        with suppress(OnwardError):
            return infer(graph, open_signatures(graph.inputs)).keys() >= set(outputs)
        return False
