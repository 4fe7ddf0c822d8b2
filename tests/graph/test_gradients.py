"""Each rule of differentiation against a central difference, on a graph of one node."""

from typing import Any

import numpy as np
import pytest

from onward.errors import ArgumentError
from onward.graph import Graph
from onward.graph.gradients import GRADIENTS, Run

INDICES = np.array([1]), np.array([3]), np.array([-1])
# the further inputs, as shapes of floats or arrays, and the attributes, of an operation on an array (2, 3, 4)
CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max"), (((1, 3, 1),), {})),
    **dict.fromkeys(("Neg", "Sigmoid", "Tanh", "Exp", "Sqrt", "Sin", "Cos", "Softplus"), ((), {})),
    "MatMul": (((4, 5), (5,)), {}),
    "ReduceSum": ((np.array([1]),), {"keepdims": 0}),
    "LayerNormalization": (((4,), (4,)), {}),
    "Slice": (INDICES, {}),
    "Concat": (((2, 3, 2),), {"axis": -1}),
    "Reshape": ((np.array([6, 4]),), {}),
    "Unsqueeze": ((np.array([1]),), {}),
    "Squeeze": ((np.array([0]),), {}),
    "Transpose": ((), {"perm": [2, 0, 1]}),
    "Where": (((2, 3, 1),), {}),
}


@pytest.mark.parametrize("operation", GRADIENTS)
def test_a_rule_equals_a_central_difference(operation: str) -> None:
    others, attributes = CASES[operation]
    rng, graph = np.random.default_rng(0), Graph()
    shape = (1, 3, 4) if operation == "Squeeze" else (2, 3, 4)
    arrays = [rng.uniform(0.5, 2, shape)]
    arrays += [x if isinstance(x, np.ndarray) else rng.uniform(0.5, 2, x) for x in others]
    if operation == "Where":
        arrays.insert(0, rng.random((3, 4)) < 0.5)
    names = [graph.add_input(f"x{n}", x.dtype) for n, x in enumerate(arrays)]
    graph.outputs = (graph.add(operation, *names, **attributes),)
    run = Run(graph, arrays)
    dy = rng.standard_normal(run.outputs[0].shape)
    found = run.back([dy])
    floats = {name: x for name, x in zip(names, arrays, strict=True) if x.dtype.kind == "f"}
    assert found.keys() & set(names) == floats.keys()
    for name, x in floats.items():
        way, sides = rng.standard_normal(x.shape), []
        for size in (1e-6, -2e-6):
            x += size * way
            sides.append((Run(graph, arrays).outputs[0] * dy).sum())
        x += 1e-6 * way
        assert (found[name] * way).sum() == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-6, abs=1e-8)


def test_an_operation_without_a_rule_is_named() -> None:
    graph = Graph()
    graph.outputs = (graph.add("Erf", graph.add_input("x", np.float64), name="curve"),)
    with pytest.raises(ArgumentError, match=r"curve.* has no gradient"):
        Run(graph, [np.ones(3)]).back([np.ones(3)])
