"""Plans of If, Loop and Scan compute what their nodes mean, and bodies are planned once."""

from typing import Any

import numpy as np
import pytest
from support import control_flow
from support.evaluate import evaluate
from support.onnx_nodes import open_model
from support.running import runs_in_core, weights_of

from onward.errors import LimitError
from onward.graph import Graph, Input, Model
from onward.graph.graph import close
from onward.graph.plan.planner import MAX_PROGRAMS


def assert_same_bits(model: Any, feeds: list[control_flow.Feeds]) -> None:
    opened = open_model(model)
    for feed in (*feeds, *feeds):
        expected = evaluate(opened.graph, *feed.values())
        for y, exact in zip(opened(**feed), expected, strict=True):
            assert y.dtype == exact.dtype and y.shape == exact.shape
            np.testing.assert_array_equal(y, exact)


@pytest.mark.parametrize("name", control_flow.CASES)
def test_a_plan_has_the_bits_of_its_nodes(name: str) -> None:
    assert_same_bits(*control_flow.CASES[name]())


@pytest.mark.parametrize("options", control_flow.SCANS)
def test_a_scan_has_the_bits_of_its_nodes(options: tuple[int, ...]) -> None:
    assert_same_bits(*control_flow.scan(*options))


def test_a_loop_over_all_its_iterations_is_one_step_of_the_core() -> None:
    model, feeds = control_flow.loop_for()
    opened = open_model(model)
    opened(**feeds[-1])
    assert runs_in_core(opened, *feeds[-1].values())


def test_the_bodies_of_a_loop_are_planned_once() -> None:
    model, feeds = control_flow.loop_while()
    opened = open_model(model)
    opened(**feeds[-1])
    (body,) = weights_of(opened).planners.values()
    assert len(body.programs) == 1


def test_an_if_in_a_loop_is_planned_once_although_it_reads_the_number_of_the_iteration() -> None:
    model, feeds = control_flow.loop_with_inner_loop_and_if()
    opened = open_model(model)
    opened(**feeds[-1])
    planners = weights_of(opened).planners.values()
    assert len(planners) == 2  # the loops; the branches are steps of the inner one
    assert all(len(planner.programs) == 1 for planner in planners)


def test_a_loop_whose_values_grow_keeps_a_bounded_number_of_plans() -> None:
    model, feeds = control_flow.loop_that_grows()
    opened = open_model(model)
    opened(**feeds[-1])
    (body,) = weights_of(opened).planners.values()
    assert len(body.programs) <= MAX_PROGRAMS


@pytest.mark.parametrize("depth", [120, 400])  # of a call, and of opening the model
def test_branches_nested_too_deeply_for_pythons_stack_are_an_error_of_a_node(depth: int) -> None:
    """They raised RecursionError."""

    def branch(level: int) -> Graph:
        graph = Graph()
        x, s = (graph.add_input(name, np.float32) for name in "xs")
        add_choice(graph, x, s, level)
        return graph

    def add_choice(graph: Graph, x: str, s: str, level: int) -> None:
        if level == depth:
            graph.outputs = (graph.add("Neg", x),)
        else:
            condition = graph.add("Greater", s, graph.add_constant(np.float32(1e9 - level)))
            branches = {"then_branch": branch(depth), "else_branch": branch(level + 1)}
            graph.outputs = (graph.add("If", condition, x, s, **branches),)
        graph.declared_outputs = (Input(graph.outputs[0], np.dtype(np.float32)),)

    graph = Graph()
    x = graph.add_input("x", np.float32, ("n",))
    add_choice(graph, x, graph.add("ReduceSum", x, keepdims=0), 0)
    with pytest.raises(LimitError, match=r"node \w+ \((If|Greater|Neg)\): Python's stack is full"):
        Model(graph)(np.ones(3, np.float32))


def test_both_branches_take_what_either_of_them_uses_under_names_of_its_own() -> None:
    graph = Graph()
    condition, x, y = graph.add_input("c", bool, ()), graph.add_input("x"), graph.add_input("y")
    branches = [graph.body(), graph.body()]
    for branch, operands in zip(
        branches, ((x, x), (branches[1].add_constant(np.array(2, np.float32)), y)), strict=True
    ):
        branch.outputs = (branch.add("Sub", *operands, output="z"),)
    options = dict(zip(("then_branch", "else_branch"), branches, strict=True))
    graph.outputs = graph.add_all("If", [condition, *close(*branches)], ["z"], **options)
    assert [[each.name for each in branch.inputs] for branch in branches] == [["x", "y"], ["x", "y"]]
    assert len({*graph.outputs, *branches[0].outputs, *branches[1].outputs}) == 3
    feed = np.float32([1, 5]), np.float32([3, 4])
    for chosen, expected in ((True, [0, 0]), (False, [-1, -2])):
        (found,) = evaluate(graph, np.array(chosen), *feed)
        np.testing.assert_array_equal(found, np.float32(expected))


def test_the_inputs_of_two_bodies_have_different_names() -> None:
    graph = Graph()
    first, second = graph.body(), graph.body()
    names = [body.add_input("i", np.int64, ()) for body in (first, second)]
    assert names == [body.inputs[0].name for body in (first, second)] and len(set(names)) == 2
