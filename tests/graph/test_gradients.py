"""The gradients of graphs against central differences: of each rule, and of loops."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from onward.errors import ArgumentError
from onward.graph import Graph
from onward.graph.declared import Input
from onward.graph.gradients import with_gradients
from onward.graph.operations.gradient import RULES
from onward.graph.plan.planner import Planner

# for an array (2, 3, 4): the shapes of further float inputs, the constants after these, and the attributes
CASES: dict[str, list[tuple[Any, ...]]] = {
    **{name: [([(1, 3, 1)], [], {}), ([(4,)], [], {})] for name in ("Add", "Sub", "Mul", "Div", "Max")},
    **{name: [([], [], {})] for name in "Neg Sigmoid Tanh Exp Sqrt Sin Cos Softplus".split()},
    "MatMul": [([(4, 5), (5,)], [], {}), ([(2, 4, 5)], [], {}), ([(1, 4, 3)], [], {})],
    "ReduceSum": [([], [[1]], {"keepdims": 0}), ([], [[0, 2]], {"keepdims": 1}), ([], [], {"keepdims": 0})],
    "LayerNormalization": [([(4,), (4,)], [], {}), ([(4,)], [], {"epsilon": 0.3})],
    "Split": [([], [[1, 3]], {"axis": -1}), ([], [[1, 1, 1]], {"axis": 1})],
    "Concat": [([(2, 3, 2), (2, 3, 1)], [], {"axis": -1})],
    "Reshape": [([], [[6, 4]], {}), ([], [[0, -1]], {})],
    "Unsqueeze": [([], [[1]], {})],
    "Squeeze": [([], [[0]], {})],
    "Transpose": [([], [], {"perm": [2, 0, 1]})],
    "Where": [([(2, 3, 1)], [], {}), ([(4,)], [], {})],
}


def declared(graph: Graph, arrays: Sequence[Any], sizes: Mapping[int, str] | None = None) -> list[str]:
    """Declare an input for each array; `sizes` are the names of open sizes."""
    axes = [tuple((sizes or {}).get(size, size) for size in x.shape) for x in arrays]
    return [graph.add_input(f"x{n}", x.dtype, axes[n]) for n, x in enumerate(arrays)]


def check(graph: Graph, arrays: Sequence[Any], rng: np.random.Generator) -> None:
    """Compare the gradients in float64 with central differences, and those in float32 with them."""
    run, back = Planner(graph), Planner(with_gradients(graph, []))
    outputs = [rng.standard_normal(y.shape) for y in run(*arrays)]
    found = iter(back(*arrays, *outputs))
    for x in arrays:
        if x.dtype.kind != "f":
            continue
        gradient, way, sides = next(found), rng.standard_normal(x.shape), []
        for size in (1e-6, -2e-6):
            x += size * way
            sides.append(sum((y * dy).sum() for y, dy in zip(run(*arrays), outputs, strict=True)))
        x += 1e-6 * way
        assert gradient.shape == x.shape
        assert (gradient * way).sum() == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-7)
    narrow = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in (*arrays, *outputs)]
    single = Graph([x.of_dtype(np.dtype(np.float32)) if x.dtype == np.float64 else x for x in graph.inputs])
    single = graph.replaced(inputs=single.inputs)
    results = Planner(with_gradients(single, []))(*narrow)
    for y, expected in zip(results, back(*arrays, *outputs), strict=True):
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("operation", "case"), [(name, n) for name in RULES for n in range(len(CASES[name]))]
)
def test_a_rule_equals_a_central_difference(operation: str, case: int) -> None:
    others, constants, attributes = CASES[operation][case]
    rng, graph = np.random.default_rng(case), Graph()
    shape = (1, 3, 4) if operation == "Squeeze" else (2, 3, 4)
    arrays: list[Any] = [rng.uniform(0.5, 2, each) for each in (shape, *others)]
    if operation == "Where":
        arrays.insert(0, rng.random((3, 4)) < 0.5)
    names = declared(graph, arrays)
    names += [graph.add_constant(np.array(each)) for each in constants]
    count = len(constants[0]) if operation == "Split" else 1
    graph.outputs = graph.add_all(operation, names, count, **attributes)
    check(graph, arrays, rng)


def test_an_output_that_nothing_reads_has_a_gradient_of_zeros() -> None:
    rng, graph = np.random.default_rng(1), Graph()
    (x, unused) = declared(graph, arrays := [rng.standard_normal((2, 3)), rng.standard_normal((4, 2))])
    first, _, last = graph.add_all("Split", [x, graph.add_constant(np.array([1, 1, 1]))], 3, axis=1)
    graph.add("Erf", unused)  # without a rule, but no output depends on it
    graph.outputs = (graph.add("Mul", last, first),)
    check(graph, arrays, rng)


@pytest.mark.parametrize("steps", [1, 2, 17])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kept", [[0], [1], [2], [0, 3], [0, 1, 2, 3]])
def test_a_loop_equals_a_central_difference(steps: int, batch: int, kept: list[int]) -> None:
    """Of two states, one of which stays the same, with captured values and indices among the slices."""
    rng, graph, body = np.random.default_rng(steps), Graph(), Graph()
    h, c, x, i = (body.add_input(name) for name in "hcxi")
    R, gain = (body.add_input(name) for name in ("R", "gain"))
    is_first = body.add("Equal", i, body.add_constant(np.array(0)))
    entering = body.add("Where", is_first, x, body.add("Mul", x, gain))
    after = body.add("Tanh", body.add("Add", body.add("MatMul", h, R), entering))
    y = body.add("Mul", body.add("Mul", after, x), c)
    body.outputs = (after, c, y, body.add("Add", h, gain))
    arrays: list[Any] = [rng.standard_normal((batch, 4)) for _ in range(2)]
    arrays += [
        rng.standard_normal((steps, batch, 4)),
        np.arange(steps),
        rng.standard_normal((4, 4)),
        rng.random(4),
    ]
    names = declared(graph, arrays, {steps: "time", batch: "batch"} if steps != batch else {})
    found = graph.add_all("Scan", names, 4, body=body, num_scan_inputs=2, captured=2)
    graph.outputs = tuple(graph.add("Neg", found[place]) for place in kept)
    check(graph, arrays, rng)


def test_an_operation_without_a_rule_is_named() -> None:
    graph = Graph()
    graph.outputs = (graph.add("Erf", graph.add_input("x", np.float64, ("n",)), name="curve"),)
    with pytest.raises(ArgumentError, match=r"curve.* has no gradient"):
        with_gradients(graph, [])


def test_a_loop_that_runs_backward_is_refused() -> None:
    graph, body = Graph([Input("x", np.dtype(np.float64), ("time", 2))]), Graph([Input("h"), Input("x")])
    body.outputs = (body.add("Add", "h", "x"),)
    zeros = graph.add_constant(np.zeros(2))
    options: dict[str, Any] = {"body": body, "num_scan_inputs": 1, "scan_input_directions": [1]}
    graph.outputs = (graph.add("Scan", zeros, "x", name="loop", **options),)
    with pytest.raises(ArgumentError, match=r"loop.* has no gradient"):
        with_gradients(graph, [])
