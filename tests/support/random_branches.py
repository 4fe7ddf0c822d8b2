"""Random graphs of branches inside each other, and what plain Python makes of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.graph import Graph

Array = NDArray[Any]
Compute = Callable[[dict[str, Array]], dict[str, Array]]

UNARY: dict[str, Callable[..., Array]] = {"Neg": np.negative, "Tanh": np.tanh, "Abs": np.abs}
BINARY: dict[str, Callable[..., Array]] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}
MOST_DEEP = 3


class RandomBranches:
    """A graph with random Ifs, whose conditions depend on the values of its inputs.

    A branch reads values from around it, and returns values that it computes, reads or contains.
    """

    def __init__(self, seed: int) -> None:
        self._rng = rng = np.random.default_rng(seed)
        self.columns, self.graph = int(rng.choice([1, 7, 33])), Graph()
        names = [self.graph.add_input(f"x{n}", np.float32, ("N", self.columns)) for n in range(2)]
        self._compute, outputs = self._block(self.graph, names, 0)
        self.graph.outputs = tuple(outputs)

    def inputs(self, rows: int) -> list[Array]:
        shape = rows, self.columns
        return [self._rng.standard_normal(shape).astype(np.float32) for _ in range(2)]

    def answer(self, inputs: list[Array]) -> list[Array]:
        values = self._compute({f"x{n}": x for n, x in enumerate(inputs)})
        return [values[name] for name in self.graph.outputs]

    def _block(self, graph: Graph, names: list[str], depth: int) -> tuple[Compute, list[str]]:
        """Add random nodes; return a function that adds their values to others, and two results."""
        rng, parts, known = self._rng, list[Compute](), list(names)
        for _ in range(rng.integers(1, 4)):
            kind, (x, other) = rng.integers(4), rng.choice(known, 2)
            if kind == 0 and depth < MOST_DEEP:
                part, results = self._branches(graph, list(known), depth)
            elif kind == 1:
                part, results = self._node(graph, str(rng.choice([*BINARY])), BINARY, str(x), str(other))
            elif kind == 2:
                array = rng.standard_normal((1, self.columns)).astype(np.float32)
                name = graph.add_constant(array)
                part, results = self._node(graph, "Add", BINARY, str(x), name, array=array)
            else:
                part, results = self._node(graph, str(rng.choice([*UNARY])), UNARY, str(x))
            parts.append(part)
            known += results
        if depth == 0:
            part, results = self._branches(graph, list(known), depth)
            parts.append(part)
            known += results

        def compute(values: dict[str, Array]) -> dict[str, Array]:
            for part in parts:
                values = values | part(values)
            return values

        return compute, [known[-1], str(rng.choice(known))]

    def _node(
        self, graph: Graph, operation: str, table: Any, *inputs: str, array: Array | None = None
    ) -> tuple[Compute, list[str]]:
        y, constant = graph.add(operation, *inputs), {} if array is None else {inputs[-1]: array}
        return lambda values: {y: table[operation](*((constant | values)[x] for x in inputs))}, [y]

    def _branches(self, graph: Graph, known: list[str], depth: int) -> tuple[Compute, list[str]]:
        """Add an If on whether the mean of a value exceeds a number."""
        x, limit = str(self._rng.choice(known)), np.float32(self._rng.normal(0, 0.1))
        mean = graph.add("ReduceMean", x, keepdims=int(self._rng.integers(2)))
        condition = graph.add("Greater", mean, graph.add_constant(limit.reshape(())))
        blocks, branches = [], list[Graph]()
        for _ in range(2):
            branch = Graph()
            for name in known:
                branch.add_input(name)
            compute, outputs = self._block(branch, known, depth + 1)
            branch.outputs = tuple(outputs)
            blocks.append((compute, outputs))
            branches.append(branch)
        chosen = dict(zip(("then_branch", "else_branch"), branches, strict=True))
        results = graph.add_all("If", (condition, *known), 2, **chosen)

        def compute_chosen(values: dict[str, Array]) -> dict[str, Array]:
            inner, outputs = blocks[0 if values[x].mean() > limit else 1]
            found = inner({name: values[name] for name in known})
            return {y: found[name] for y, name in zip(results, outputs, strict=True)}

        return compute_chosen, list(results)
