"""Loops and branches in the core, against plain Python, and against nodes that run in NumPy."""

import numpy as np
import pytest
from support.evaluate import evaluate
from support.programs import described_steps
from support.random_branches import RandomBranches
from support.random_loops import RandomLoop
from support.randomized import random_cases
from support.running import runs_in_core

from onward.graph import Graph, Model
from onward.graph.operations import OPERATIONS
from onward.graph.plan.builder import MOST_LOOPS

PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_a_random_loop_equals_a_plain_loop(part: int) -> None:
    in_core = total = 0
    for seed in range(part, random_cases(120), PARTS):
        loop = RandomLoop(seed)
        model = Model(loop.graph)
        for y, expected in zip(loop.results(model), loop.answer(), strict=True):
            assert y.shape == expected.shape, seed
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4, err_msg=f"seed {seed}")
        if loop.count > 1 and not loop.ends_early:
            total += 1
            in_core += runs_in_core(model, *loop.inputs)
    assert in_core == total > 0


def test_a_loop_in_the_core_has_the_bits_of_its_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(random_cases(30)):
        loop = RandomLoop(seed)
        found = loop.results(Model(loop.graph))
        with monkeypatch.context() as patch:
            patch.setattr(OPERATIONS["Loop"], "lower", None)
            expected = loop.results(Model(loop.graph))
        for y, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(y, other, err_msg=f"seed {seed}")


def test_random_branches_equal_those_of_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(random_cases(30)):
        branches = RandomBranches(seed)
        model, in_numpy = Model(branches.graph), Model(branches.graph)
        for rows in (5, 5, 1, 17, 5):
            inputs = branches.inputs(rows)
            with monkeypatch.context() as patch:
                patch.setattr(OPERATIONS["If"], "lower", None)
                expected = in_numpy(*inputs)
            for y, same, close in zip(model(*inputs), expected, branches.answer(inputs), strict=True):
                np.testing.assert_array_equal(y, same, err_msg=f"seed {seed}")
                np.testing.assert_allclose(y, close, rtol=1e-4, atol=1e-5, err_msg=f"seed {seed}")
            assert runs_in_core(model, *inputs) and not runs_in_core(in_numpy, *inputs)


def test_a_branch_that_the_condition_does_not_choose_raises_no_error() -> None:
    graph, taken, refused = Graph(), Graph(), Graph()
    x, index = graph.add_input("x", np.float32, ("N", 3)), graph.add_input("index", np.int64, ())
    for branch in (taken, refused):
        branch.add_input(x)
        branch.add_input(index)
    taken.outputs = (taken.add("Neg", x),)
    refused.outputs = (refused.add("Add", x, refused.add("Gather", x, index)),)
    chosen = graph.add("Greater", index, graph.add_constant(np.array(4)))
    graph.outputs = (graph.add("If", chosen, x, index, then_branch=taken, else_branch=refused),)
    model, rows = Model(graph), np.arange(15, dtype=np.float32).reshape(5, 3)
    np.testing.assert_array_equal(model(rows, np.array(9)), -rows)
    np.testing.assert_array_equal(model(rows, np.array(2)), rows + rows[2])
    assert runs_in_core(model, rows, np.array(9))


def test_branches_inside_more_branches_than_the_core_allows_run_in_numpy() -> None:
    graph = Graph()
    graph.outputs = (graph.add("Neg", graph.add_input("x", np.float32, ("N", 3))),)
    for _ in range(2 * MOST_LOOPS):
        around, other = Graph(), Graph()
        other.outputs = (other.add("Tanh", other.add_input("x")),)
        x = around.add_input("x", np.float32, ("N", 3))
        mean = around.add("ReduceMean", x, keepdims=0)
        chosen = around.add("Greater", mean, around.add_constant(np.array(0.1, np.float32)))
        around.outputs = (around.add("If", chosen, x, then_branch=graph, else_branch=other),)
        graph = around
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(Model(graph)(x), -x)


def test_branches_of_many_nodes_are_planned_when_they_run() -> None:
    """Each level of branches inside each other would infer and compile all that are in it."""

    def branches(depth: int) -> Graph:
        graph = Graph()
        x = graph.add_input("x", np.float32, ("N", 3))
        if depth == 0:
            graph.outputs = (graph.add("Neg", x),)
            return graph
        mean = graph.add("ReduceMean", x, keepdims=0)
        chosen = graph.add("Greater", mean, graph.add_constant(np.array(0.1, np.float32)))
        sides = {f"{side}_branch": branches(depth - 1) for side in ("then", "else")}
        graph.outputs = (graph.add("If", chosen, x, **sides),)
        return graph

    x = np.ones((2, 3), np.float32)
    for depth, is_small in ((5, True), (10, False)):
        model = Model(branches(depth))
        np.testing.assert_array_equal(model(x), -x)
        assert runs_in_core(model, x) == is_small


def test_products_of_slices_and_of_values_around_a_loop_run_once() -> None:
    rng, graph, body = np.random.default_rng(0), Graph(), Graph()
    h, x, v = (body.add_input(name, np.float32) for name in "hxv")
    W, R = (body.add_constant(rng.standard_normal((5, 5)).astype(np.float32)) for _ in range(2))
    b = body.add_constant(rng.standard_normal(5).astype(np.float32))
    entering = body.add("Add", body.add("MatMul", x, W), b)
    around = body.add("Exp", body.add("MatMul", v, R))
    total = body.add("Add", body.add("Add", entering, body.add("MatMul", h, R)), around)
    body.outputs = (body.add("Sigmoid", total), total)
    names = [graph.add_input(name, np.float32) for name in "hxv"]
    graph.outputs = graph.add_all("Scan", names, 2, body=body, num_scan_inputs=1, captured=1)
    model = Model(graph)
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 5), (40, 3, 5), (3, 5))]
    for y, expected in zip(model(*inputs), evaluate(graph, *inputs), strict=True):
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    (program,) = model.planner.programs
    steps = described_steps(program)
    loop = next(number for number, step in enumerate(steps) if step.startswith("loop"))
    before = " ".join(steps[:loop])
    assert before.count("product") == 2
    assert "exponential" in before
