"""One program for all sizes: the bits of the program that is compiled for a call alone."""

import resource
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.sequence_graphs import RandomGraph

from onward.errors import OnwardError
from onward.graph import Graph, Model


def result(model: Model, x: Any) -> Any:
    """The output of a model, or the class of its error."""
    try:
        return model(x)
    except OnwardError as error:
        return type(error)


@pytest.mark.parametrize("seed", range(40))
def test_a_random_graph_gives_the_bits_of_a_program_for_each_shape(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = RandomGraph(seed).build(int(rng.integers(2, 9))).graph
    model = Model(graph)
    for _ in range(6):
        x = rng.standard_normal((int(rng.integers(1, 4)), int(rng.integers(1, 60)), 5)).astype(np.float32)
        np.testing.assert_array_equal(result(model, x), result(Model(graph), x))


def test_random_graphs_need_few_programs() -> None:
    fixed, programs = Counter[str](), 0
    for seed in range(40):
        model = RandomGraph(seed).build(6)
        for steps in range(20, 60):
            result(model, np.zeros((2, steps, 5), np.float32))
        programs += len(model.programs)
        for program in model.programs:
            fixed.update(g.node.split("(")[-1] for g in program.axes.guards.values() if g.condition == "= 0")
    assert programs <= 80, fixed


def test_the_sizes_that_a_call_has_decide_its_program() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", "time", 3))
    graph.outputs = (graph.add("Softmax", graph.add("Transpose", x, perm=[1, 0, 2])),)
    model = Model(graph)
    for shape in [(2, 5, 3), (7, 9, 3), (3, 4, 3), (1, 8, 3), (1, 2, 3), (6, 1, 3), (1, 1, 3), (2, 0, 3)]:
        assert model(np.zeros(shape, np.float32)).shape == (shape[1], shape[0], 3)
    (first, *_) = model.programs
    assert first.axes.names == ["batch", "time"] and not first.axes.fixed
    assert len(model.programs) == 5  # sizes of 1, and no steps, have programs of their own


def test_a_batch_as_large_as_another_axis_in_the_first_call_stays_open() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", 3, 5))
    graph.outputs = (graph.add("Add", x, graph.add_constant(np.ones((3, 1), np.float32))),)
    model = Model(graph)
    for batch in (3, 4, 2):
        np.testing.assert_array_equal(model(np.zeros((batch, 3, 5), np.float32)), np.ones((batch, 3, 5)))
    assert len(model.programs) == 1


def memory() -> int:
    """The resident memory of the process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_memory_does_not_grow_with_the_number_of_lengths() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time",))
    half = graph.add("Slice", x, *(graph.add_constant(np.array([n])) for n in (0, 1 << 40, 0, 2)))
    mean = graph.add("ReduceMean", x, graph.add_constant(np.array([0])))
    graph.outputs = (graph.add("Softmax", half, axis=0), graph.add("Add", x, mean))
    model, lengths = Model(graph), np.random.default_rng(0).permutation(10_000) + 3
    whole, before = np.ones(10_003, np.float32), 0
    for call, length in enumerate(lengths):
        before = memory() if call == 1000 else before
        model(whole[:length])
    assert len(model.programs) == 1
    assert memory() - before < 1 << 22
