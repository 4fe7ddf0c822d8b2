"""The gradients of graphs against central differences: of each rule, and of loops."""

from typing import Any

import numpy as np
import pytest
from support.gradients import check, declared

from onward.errors import ArgumentError
from onward.graph import Graph
from onward.graph.declared import Input
from onward.graph.gradients import with_gradients

UNARY = """
    Abs Acos Acosh Asin Asinh Atan Atanh Cos Cosh Elu Erf Exp Gelu HardSigmoid HardSwish LeakyRelu Log Mish
    Neg Reciprocal Relu Selu Sigmoid Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
""".split()
DOMAINS = {"Acosh": (1.1, 2), **dict.fromkeys(("Acos", "Asin", "Atanh"), (-0.9, 0.9))}
PADDED = [([], [[0, 1, 2, 1, 0, 3]], {"mode": mode}) for mode in ("reflect", "edge", "wrap")]
# for an array (2, 3, 4): the shapes of further float inputs, the constants after these, and the attributes
CASES: dict[str, list[tuple[Any, ...]]] = {
    **{
        name: [([(1, 3, 1)], [], {}), ([(4,)], [], {})] for name in "Add Sub Mul Div Max Min Pow Mean".split()
    },
    **{name: [([], [], {})] for name in UNARY},
    **{name: [([(3, 1), (1,)], [], {}), ([(4,)], [], {})] for name in ("Max", "Min", "Sum", "Mean")},
    "Affine": [([], [], {"alpha": 0.7, "beta": 0.2})],
    "ScaledTanh": [([], [], {"alpha": 1.7, "beta": 0.3})],
    "Activate": [([], [], {"function": name}) for name in ("gelu", "hard_swish", "silu", "relu6", "mish")],
    "Gelu": [([], [], {"approximate": "tanh"})],
    "Swish": [([], [], {"alpha": 1.3})],
    "Celu": [([], [], {"alpha": 0.6})],
    "PRelu": [([(3, 1)], [], {})],
    "Clip": [([()], [], {}), ([(), ()], [], {})],
    "MatMul": [
        *(([shape], [], {}) for shape in ((2, 4, 5), (1, 4, 3), (4,))),
        ([(4, 5), (5,)], [], {}),
    ],
    "Einsum": [([(4, 5, 3)], [], {"equation": "btk,koj->btjo"}), ([(5, 4)], [], {"equation": "abk,ok->bo"})],
    "ReduceSum": [([], [[1]], {"keepdims": 0}), ([], [[0, 2]], {"keepdims": 1}), ([], [], {"keepdims": 0})],
    "ReduceMean": [([], [[1]], {"keepdims": 0}), ([], [[0, -1]], {"keepdims": 1}), ([], [], {})],
    "ReduceMax": [([], [[1]], {"keepdims": 0}), ([], [[0, 2]], {"keepdims": 1})],
    "ReduceMin": [([], [[-1]], {"keepdims": 0})],
    **{name: [([], [[1]], {"keepdims": 0})] for name in ("ReduceL1", "ReduceL2", "ReduceLogSumExp")},
    "CumSum": [([], [1], {}), ([], [-1], {"exclusive": 1, "reverse": 1})],
    "Softmax": [([], [], {}), ([], [], {"axis": 1})],
    "LogSoftmax": [([], [], {}), ([], [], {"axis": 0})],
    "LayerNormalization": [([(4,), (4,)], [], {}), ([(3, 4)], [], {"epsilon": 0.3, "axis": 1})],
    "RMSNormalization": [([(4,)], [], {})],
    "InstanceNormalization": [([(3,), (3,)], [], {})],
    "GroupNormalization": [([(3,), (3,)], [], {"num_groups": 3})],
    "BatchNormalization": [([(3,), (3,)], [[0.1, 0.2, 0.3], [1.0, 2.0, 0.5]], {})],
    "MeanVarianceNormalization": [([], [], {"axes": [0, 2]})],
    "GlobalAveragePool": [([], [], {})],
    "GlobalMaxPool": [([], [], {})],
    "Split": [([], [[1, 3]], {"axis": -1}), ([], [[1, 1, 1]], {"axis": 1})],
    "Concat": [([(2, 3, 2), (2, 3, 1)], [], {"axis": -1})],
    "Reshape": [([], [[6, 4]], {}), ([], [[0, -1]], {})],
    "Flatten": [([], [], {"axis": 2})],
    "Unsqueeze": [([], [[1]], {})],
    "Squeeze": [([], [[0]], {})],
    "Transpose": [([], [], {"perm": [2, 0, 1]}), ([], [], {})],
    "Expand": [([], [[5, 1, 3, 4]], {})],
    "Tile": [([], [[2, 1, 3]], {})],
    "Identity": [([], [], {})],
    "Gather": [([], [[[2, 0], [2, 1]]], {"axis": 1}), ([], [-1], {"axis": -1}), ([], [[1, 1]], {})],
    "GatherElements": [([], [[[[0, 2, 2, 1]], [[1, 1, 0, 0]]]], {"axis": 1})],
    "GatherND": [([], [[[1, 2], [0, 0], [1, 2]]], {})],
    "Slice": [
        ([], [[0, 1], [2, -1], [1, 2]], {}),
        ([], [[-2], [-1], [1]], {}),
        ([], [[0, 3], [9, -9], [1, 2], [2, -2]], {}),
        ([], [[2], [1], [1]], {}),
    ],
    "Pad": [([], [[0, 1, 2, 1, 0, -1]], {}), ([], [[1, 0], 2.5, [2]], {}), *PADDED],
    "Trilu": [([], [], {"upper": 0})],
    "ReverseSequence": [([], [[1, 2, 2]], {})],
    "Where": [([(2, 3, 1)], [], {}), ([(4,)], [], {})],
    "LastStep": [([], [], {"axis": 0}), ([], [], {}), ([], [np.array([3, 1], np.int32)], {})],
}


@pytest.mark.parametrize(
    ("operation", "case"), [(name, n) for name, cases in CASES.items() for n in range(len(cases))]
)
def test_a_rule_equals_a_central_difference(operation: str, case: int) -> None:
    others, constants, attributes = CASES[operation][case]
    rng, graph = np.random.default_rng(case), Graph()
    shape = (1, 3, 4) if operation == "Squeeze" else (2, 3, 4)
    low, high = DOMAINS.get(operation, (0.5, 2))
    arrays: list[Any] = [np.asarray(rng.uniform(low, high, each)) for each in (shape, *others)]
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
    graph.outputs = (graph.add("ReduceProd", graph.add_input("x", np.float64, ("n",)), name="curve"),)
    with pytest.raises(ArgumentError, match=r"curve.* has no gradient"):
        with_gradients(graph)


def test_a_loop_that_runs_backward_is_refused() -> None:
    graph, body = Graph([Input("x", np.dtype(np.float64), ("time", 2))]), Graph([Input("h"), Input("x")])
    body.outputs = (body.add("Add", "h", "x"),)
    zeros = graph.add_constant(np.zeros(2))
    options: dict[str, Any] = {"body": body, "num_scan_inputs": 1, "scan_input_directions": [1]}
    graph.outputs = (graph.add("Scan", zeros, "x", name="loop", **options),)
    with pytest.raises(ArgumentError, match=r"loop.* has no gradient"):
        with_gradients(graph)
