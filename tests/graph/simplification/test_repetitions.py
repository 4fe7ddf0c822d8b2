"""Repetitions of the same nodes become loops with the same bits."""

import time
from typing import Any

import numpy as np
import pytest
from support.evaluate import evaluate
from support.randomized import random_cases
from support.unrolled_graphs import UnrolledGraph

import onward
from onward.graph import Graph
from onward.graph.plan.planner import Planner
from onward.graph.simplification import repetitions, simplify

CASES = random_cases(40)


def planned(graph: Graph, monkeypatch: pytest.MonkeyPatch, *, rolls: bool) -> Planner:
    """Return the planner of a graph, with or without loops in the place of repetitions."""
    with monkeypatch.context() as patch:
        if not rolls:
            patch.setattr(simplify, "rolled_up", lambda graph: graph)
        return Planner(simplify.simplify(graph))


def operations(graph: Graph) -> list[str]:
    return [node.operation for node in graph.nodes]


def assert_same(case: UnrolledGraph, found: list[Any], expected: list[Any]) -> None:
    for y, right in zip(found, expected, strict=True):
        assert y.dtype == right.dtype
        assert y.shape == right.shape
        if case.is_exact:
            np.testing.assert_array_equal(y, right)
        else:  # constants that are computed in NumPy
            np.testing.assert_allclose(y, right, rtol=1e-4, atol=1e-5)


def test_random_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list[bool]()
    for seed in range(CASES):
        rng = np.random.default_rng(seed)
        monkeypatch.setattr(repetitions, "MIN_COPIES", 2)
        monkeypatch.setattr(repetitions, "MIN_NODES", 8)
        case = UnrolledGraph(rng, int(rng.integers(2, 30)))
        rolled, unrolled = (planned(case.graph, monkeypatch, rolls=rolls) for rolls in (True, False))
        expected = case.run(unrolled)
        assert_same(case, case.run(rolled), expected)
        assert_same(case, case.run(planned(rolled.graph, monkeypatch, rolls=True)), expected)
        assert not [node.operation for node in rolled.in_numpy()], seed
        found.append("Loop" in operations(rolled.graph))
    assert np.mean(found) > 0.8


def cells(cell: str, steps: int, axis: int) -> Graph:
    """Return a graph of x (T, B, I) or (B, T, I) that calls a layer's cell step by step from zeros."""
    graph, rng = Graph(), np.random.default_rng(3)
    layer = getattr(onward, cell)(4, 5, rng=rng)
    x = graph.add_input("x", np.float32, (steps, 2, 4) if axis == 0 else (2, steps, 4))
    shape = graph.add_constant(np.array([2, 5]))
    states = [
        graph.add("ConstantOfShape", shape, value=np.zeros(1, np.float32)) for _ in range(cell.count("S") + 1)
    ]
    parts = []
    for t in range(steps):
        step = graph.add("Gather", x, graph.add_constant(np.array(t)), axis=axis)
        states = list(graph.add_all("Step", [step, *states], len(states), cell=layer.cell))
        parts.append(graph.add("Unsqueeze", states[0], graph.add_constant(np.array([axis]))))
    graph.outputs = (graph.add("Concat", *parts, axis=axis), states[-1])
    return graph


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_cells_become_one_layer(cell: str, axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = cells(cell, 30, axis)
    rolled, unrolled = (planned(graph, monkeypatch, rolls=rolls) for rolls in (True, False))
    assert "Recurrent" in operations(rolled.graph)
    assert {"Loop", "Step"}.isdisjoint(operations(rolled.graph))
    x = np.random.default_rng(4).standard_normal(graph.inputs[0].axes).astype(np.float32)
    for y, right in zip(rolled(x), unrolled(x), strict=True):
        np.testing.assert_array_equal(y, right)


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_written_cells_with_as_many_inputs_as_units_become_one_layer(cell: str) -> None:
    """The products do not tell x from h, and each use of a state of zeros has a constant of its own."""
    graph, H, gates = Graph(), 5, {"LSTM": 4, "GRU": 3}[cell]
    layer = getattr(onward, cell)(H, H, rng=3)
    x = graph.add_input("x", np.float32, (12, 2, H))
    axis, one = graph.add_constant(np.array([0])), graph.add_constant(np.float32(1))
    W, R, b_W, b_R = (graph.add_constant(array) for array in layer.state_dict().values())
    states, parts = [["", ""], ["", ""]], []

    def add(operation: str, *inputs: str, **attributes: Any) -> str:
        return graph.add(operation, *inputs, **attributes)

    def product(rows: str, W: str, b: str) -> tuple[str, ...]:
        sizes = graph.add_constant(np.array([H] * gates))
        y = add("Gemm", rows, W, b, transB=1)
        return graph.add_all("Split", [y, sizes], gates, axis=1)

    for t in range(12):
        uses = [name or graph.add_constant(np.zeros((2, H), np.float32)) for each in states for name in each]
        step, h = add("Gather", x, graph.add_constant(np.array(t)), axis=0), uses[0]
        pairs = list(zip(product(h, R, b_R), product(step, W, b_W), strict=True))
        if cell == "LSTM":
            i, f, g, o = (add("Add", *pair) for pair in pairs)
            kept, new = add("Mul", add("Sigmoid", f), uses[2]), add("Mul", add("Sigmoid", i), add("Tanh", g))
            c = add("Add", kept, new)
            h = add("Mul", add("Sigmoid", o), add("Tanh", c))
            states[1] = [c, c]
        else:
            r, z = (add("Sigmoid", add("Add", *pair)) for pair in pairs[:2])
            n = add("Tanh", add("Add", pairs[2][1], add("Mul", r, pairs[2][0])))
            h = add("Add", add("Mul", z, uses[1]), add("Mul", add("Sub", one, z), n))
        states[0] = [h, h]
        parts.append(add("Unsqueeze", h, axis))
    graph.outputs = (add("Concat", *parts, axis=0),)
    planner = Planner(simplify.simplify(graph))
    assert operations(planner.graph) == ["Recurrent"]
    sequence = np.random.default_rng(4).standard_normal((12, 2, H)).astype(np.float32)
    np.testing.assert_allclose(planner(sequence)[0], layer(sequence)[0], rtol=1e-4, atol=1e-6)


def sums(*shape: int) -> Graph:
    """Return the graph of the sums of 40 steps, which start from a constant of some shape."""
    graph = Graph()
    x = graph.add_input("x", np.float32, (40, 2, 3))
    state = graph.add_constant(np.full(shape, 0.5, np.float32))
    for t in range(40):
        step = graph.add("Gather", x, graph.add_constant(np.array(t)), axis=0)
        state = graph.add("Add", graph.add("Tanh", state), graph.add("Exp", step))
    graph.outputs = (state,)
    return graph


@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 3)])
def test_a_state_that_grows_in_the_first_iteration_runs_in_the_core(shape: tuple[int, ...]) -> None:
    graph = sums(*shape)
    planner = Planner(simplify.simplify(graph))
    x = np.random.default_rng(5).standard_normal((40, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(planner(x)[0], evaluate(graph, x)[0], rtol=1e-5)
    assert not list(planner.in_numpy())


def test_loops_are_unrolled_in_onnx_files(tmp_path: Any) -> None:
    graph = sums(2, 3)
    model = onward.graph.Model(simplify.simplify(graph))
    assert operations(model.graph) == ["Loop"]
    model.export_onnx(tmp_path / "sums.onnx")
    loaded = onward.load(tmp_path / "sums.onnx")
    assert "Loop" not in operations(loaded.graph)
    x = np.random.default_rng(6).standard_normal((40, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))


def test_writes_to_an_open_axis_do_not_keep_other_repetitions_unrolled() -> None:
    graph = sums(2, 3)
    array, values = graph.add_input("array", np.float32, ("n", 3)), graph.add_input("y", np.float32, (1, 3))
    index = graph.add_constant(np.zeros((1, 3), np.int64))
    graph.outputs = (*graph.outputs, graph.add("ScatterElements", array, index, values, axis=0))
    assert operations(simplify.simplify(graph)) == ["Loop", "ScatterElements"]


@pytest.mark.parametrize("copies", [2, 6])
def test_layers_that_become_a_loop_tell_no_time_axis(copies: int) -> None:
    graph = Graph()
    value = graph.add_input("x", np.float32, ("batch", "time", 4))
    for _ in range(copies):
        for operation in ["Tanh", "Neg", "Sigmoid", "Abs"] * 3:
            value = graph.add(operation, value)
    graph.outputs = (value,)
    model = onward.graph.Model(graph)
    with pytest.raises(onward.errors.ArgumentError, match="pass time_axis="):
        model.stream()
    x = np.random.default_rng(12).standard_normal((1, 5, 4)).astype(np.float32)
    stream = model.stream(time_axis=1)
    parts = [stream(x[:, t : t + 1]) for t in range(5)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), model(x))


def test_layers_with_weights_of_their_own_stay() -> None:
    graph, rng = Graph(), np.random.default_rng(7)
    value = graph.add_input("x", np.float32, (2, 8))
    for _ in range(40):
        W = graph.add_constant(rng.standard_normal((8, 8)).astype(np.float32))
        value = graph.add("Relu", graph.add("MatMul", value, W))
    graph.outputs = (value,)
    assert repetitions.rolled_up(graph) is graph


def test_what_is_constant_stays_so() -> None:
    graph = Graph()
    x, value = graph.add_input("x", np.float32, (3,)), graph.add_constant(np.ones(3, np.float32))
    for _ in range(40):
        value = graph.add("Tanh", graph.add("Neg", value))
    graph.outputs = (graph.add("Add", x, value),)
    assert operations(simplify.simplify(graph)) == ["Add"]


def test_a_state_that_is_constant_stays_so() -> None:
    graph = Graph()
    x, state = graph.add_input("x", np.float32, (3,)), graph.add_constant(np.ones(3, np.float32))
    value = x
    for _ in range(40):
        state = graph.add("Tanh", state)
        value = graph.add("Add", value, graph.add("Mul", value, state))
    graph.outputs = (value,)
    assert {*operations(simplify.simplify(graph))} == {"Add", "Mul"}  # which run faster than the loop


def test_a_state_that_is_the_same_in_all_copies_stays_so() -> None:
    graph = Graph()
    x, state = graph.add_input("x", np.float32, (3,)), graph.add_input("h", np.float32, (3,))
    for _ in range(40):
        value, state = graph.add("Tanh", graph.add("Neg", state)), graph.add("Exp", x)
    graph.outputs = (value,)
    assert {*operations(simplify.simplify(graph))} == {"Exp", "Neg", "Tanh"}
    assert len(simplify.simplify(graph).nodes) == 3


def test_recognizing_costs_little_for_graphs_without_repetitions() -> None:
    graph, rng = Graph(), np.random.default_rng(8)
    values = [graph.add_input("x", np.float32, (2, 8))]
    for operation in rng.choice(["Tanh", "Relu", "Neg", "Abs", "Exp", "Sigmoid"], 3000):
        values.append(graph.add(str(operation), values[-1]))
    graph.outputs = (values[-1],)
    start = time.process_time()
    assert repetitions.rolled_up(graph) is graph
    assert time.process_time() - start < 3000 * 40e-6


@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (1, 1), (2, 3)])
def test_copies_of_a_state_that_grows_keep_their_shapes(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = sums(*shape)
    tanhs = [node.outputs[0] for node in graph.nodes if node.operation == "Tanh"]
    graph.outputs = (*graph.outputs, tanhs[0], graph.add("Add", tanhs[5], tanhs[9]), tanhs[-1])
    rolled, unrolled = (planned(graph, monkeypatch, rolls=rolls) for rolls in (True, False))
    assert "Loop" in operations(rolled.graph)
    x = np.random.default_rng(9).standard_normal((40, 2, 3)).astype(np.float32)
    for y, right in zip(rolled(x), unrolled(x), strict=True):
        np.testing.assert_allclose(y, right, rtol=1e-6)
        assert y.shape == right.shape


@pytest.mark.parametrize("size", [40, "n"])
@pytest.mark.parametrize("outputs", [[0, 2, 5], [5], [4, 5]])
def test_copies_whose_shapes_differ_have_their_shapes(
    size: Any, outputs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Graph()
    values = [graph.add_input("x", np.float32, (size, 3))]
    numbers = [graph.add_constant(np.array([n])) for n in (1, 2**31 - 1, 0, 1)]
    for _ in range(6):
        value = values[-1]
        for operation in ["Tanh", "Neg", "Sigmoid", "Abs"] * 3:
            value = graph.add(operation, value)
        values.append(graph.add("Slice", value, *numbers))
    graph.outputs = (values[6], *[graph.add("Exp", values[1 + place]) for place in outputs])
    rolled, unrolled = (planned(graph, monkeypatch, rolls=rolls) for rolls in (True, False))
    x = np.random.default_rng(10).standard_normal((40, 3)).astype(np.float32)
    for y, right in zip(rolled(x), unrolled(x), strict=True):
        np.testing.assert_array_equal(y, right)


@pytest.mark.parametrize("rounds", [12, 20])
def test_repetitions_inside_of_repetitions_keep_the_states_of_both_apart(rounds: int) -> None:
    graph, rng = Graph(), np.random.default_rng(13)
    x = state = graph.add_input("x", np.float32, (2, 3))
    for _ in range(5):
        before, scale = state, graph.add_constant(rng.standard_normal(3).astype(np.float32))
        for _ in range(rounds):
            state = graph.add("Tanh", graph.add("Neg", graph.add("Sub", state, before)))
            state = graph.add("Add", graph.add("Sigmoid", state), x)
        state = graph.add("Exp", graph.add("Neg", graph.add("Mul", state, scale)))
    graph.outputs = (state,)
    planner, y = Planner(simplify.simplify(graph)), rng.standard_normal((2, 3)).astype(np.float32)
    (loop,) = planner.graph.nodes
    assert "Loop" in operations(loop.attributes["body"])
    np.testing.assert_allclose(planner(y)[0], evaluate(graph, y)[0], rtol=1e-4)


def test_a_loop_reads_what_another_loop_stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph()
    x, state = graph.add_input("x", np.float32, (5, 2, 3)), graph.add_input("h", np.float32, (2, 3))
    axis, parts = graph.add_constant(np.array([0])), []
    for t in range(5):
        state = graph.add("Add", state, graph.add("Gather", x, graph.add_constant(np.array(t)), axis=0))
        for operation in ["Tanh", "Neg", "Sigmoid", "Abs"] * 3:
            state = graph.add(operation, state)
        parts.append(graph.add("Unsqueeze", state, axis))
    stacks = [graph.add("Concat", *parts, axis=0) for _ in range(5)]
    for stack in stacks:
        state = graph.add("Add", state, stack)
        for operation in ["Exp", "Neg", "Sigmoid", "Tanh"] * 3:
            state = graph.add(operation, state)
    graph.outputs = (state,)
    rolled, unrolled = (planned(graph, monkeypatch, rolls=rolls) for rolls in (True, False))
    assert operations(rolled.graph) == ["Loop", "Loop"]
    rng = np.random.default_rng(11)
    inputs = [rng.standard_normal(each.axes).astype(np.float32) for each in graph.inputs]
    np.testing.assert_array_equal(rolled(*inputs)[0], unrolled(*inputs)[0])
