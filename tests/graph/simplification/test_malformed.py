"""Rules of simplification: they raise nothing for valid nodes, and leave malformed ones to the call."""

from typing import Any

import numpy as np
import pytest
from support.sequence_graphs import RandomGraph
from support.skips import counted_cases

from onward.graph import Graph
from onward.graph.node import Node
from onward.graph.simplification import simplify as simplification
from onward.graph.simplification.rewrites import REWRITES
from onward.graph.simplification.simplify import simplify

NAMES = (
    "perm",
    "axis",
    "axes",
    "group",
    "alpha",
    "transA",
    "transB",
    "to",
    "hidden_size",
    "direction",
    "layout",
)
VALUES: list[Any] = [
    None,
    -3,
    0,
    1,
    2,
    1.5,
    "x",
    [],
    [0],
    [1, 0],
    [0, 1, 2, 3],
    ["x"],
    [None],
    np.dtype("f4"),
]
CONSTANTS: list[Any] = [
    *(np.array(0), np.array([]), np.array([1, -5]), np.ones((2, 3, 4), np.float32), np.array(["x"], object)),
    *(np.zeros((1, 12, 3), np.float32), np.zeros((1, 12, 3), np.float32), np.array(1, np.uint8)),
]


def test_malformed_nodes_stay_for_the_call() -> None:
    for case in counted_cases(1000):
        with case:
            rng, graph = np.random.default_rng(case.seed), Graph()
            names = ["", graph.add_input("x", np.float32), *map(graph.add_constant, CONSTANTS)]
            for place in range(3):  # the rules look at the nodes before
                operation = str(rng.choice([*REWRITES, "DequantizeLinear"]))
                first = ("x",) if rng.random() < 0.5 else ()
                inputs = (*first, *(str(name) for name in rng.choice(names, int(rng.integers(0, 6)))))
                attributes = {
                    str(name): VALUES[int(rng.integers(len(VALUES)))]
                    for name in rng.choice(NAMES, int(rng.integers(0, 4)))
                }
                names.append(f"y{place}")
                graph.nodes.append(Node(operation, inputs, (names[-1],), attributes, "n"))
            graph.outputs = (names[-1],)
            if not any(name == "x" for node in graph.nodes for name in node.inputs):
                case.skip()  # folded
            simplify(graph)


def test_rules_raise_nothing_for_valid_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simplification, "REFUSALS", ())
    for case in counted_cases(60):
        with case:
            simplify(RandomGraph(case.seed).build(8).graph)
