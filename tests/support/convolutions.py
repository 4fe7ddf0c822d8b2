"""Convolutions between layouts, and the arrays of their cases."""

from typing import Any

import numpy as np

from onward.graph.graph import Graph
from onward.graph.node import Node

SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 1e-40, -1e-40]


def floats(rng: Any, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def replace_some(rng: Any, a: Any, numbers: Any) -> None:
    """Replace random elements of an array by some numbers."""
    a.flat[rng.integers(a.size, size=1 + a.size // 20)] = rng.choice(numbers, 1 + a.size // 20)


def moved(array: Any, source: int, target: int) -> Any:
    return np.ascontiguousarray(np.moveaxis(array, source, target))


def between_layouts(
    operation: str, inputs: list[Any], attributes: dict[str, Any], last: tuple[bool, bool], after: str
) -> Graph:
    """The operation, and one after it, with the channels of its input and its output in front or last."""
    graph, axes, name = Graph(outputs=("y",)), list(range(inputs[0].ndim)), "x"
    graph.add_input("x", np.dtype(np.float32))
    for i, array in enumerate(inputs[1:]):
        graph.add_constant(array, f"c{i}")
    if last[0]:
        graph.nodes.append(Node("Transpose", ("x",), ("t",), {"perm": [0, axes[-1], *axes[1:-1]]}, "t"))
        name = "t"
    names = (name, *(f"c{i}" for i in range(len(inputs) - 1)))
    graph.nodes.append(Node(operation, names, ("z",), attributes, "convolution"))
    graph.nodes.append(Node(after, ("z",), ("a",), {}, "after"))
    perm = [0, *axes[2:], 1] if last[1] else axes
    graph.nodes.append(Node("Transpose", ("a",), ("y",), {"perm": perm}, "last"))
    return graph
