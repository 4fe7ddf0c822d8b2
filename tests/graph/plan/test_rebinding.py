"""The sizes of a new call take the memory of an old plan."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.programs import program_of
from support.sequence_graphs import RandomGraph

from onward.graph import Graph, Model
from onward.graph.plan.view import View
from onward.graph.size import Axes

KEPT = 64  # plans of a program of few steps


def copies(most: int) -> Any:
    """A program that copies n of `most` constants to an array of the arena, whose view it tells."""
    n = Axes().add("n", 4)
    x, y = View.contiguous(1, 0, (n,)), View.contiguous(-1, 0, (n,))
    return program_of([("copy", [x, y])], (4 * most,), [(4 * n, 0, 0)], [y])


def test_a_plan_that_is_in_use_keeps_its_sizes() -> None:
    program = copies(200)
    held = program.bind([3])
    others = [program.bind([n]) for n in range(10, 10 + 2 * KEPT)]
    assert (held.views, held.arena_size) == ([(0, 0, (3,), (1,))], 64)
    assert [plan.views[0][2][0] for plan in others] == list(range(10, 10 + 2 * KEPT))


def test_the_memory_of_an_old_plan_brings_no_views_of_its_own() -> None:
    program = copies(200)
    for n in range(1, 10 + KEPT):
        assert program.bind([n]).views == [(0, 0, (n,), (1,))]


def test_sizes_that_a_step_refuses_leave_no_plan_behind() -> None:
    program = copies(20)
    for _ in range(2):
        for n in range(1, 3 * KEPT):
            plan = program.bind([n])
            assert (None if n > 20 else [(0, 0, (n,), (1,))]) == (plan and plan.views)
            del plan


@pytest.mark.parametrize("seed", range(2))
def test_lengths_that_return_give_the_same_bits_in_all_threads(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = RandomGraph(seed).build(6).graph
    lengths = rng.permutation(np.arange(20, 28 + KEPT))
    inputs = [rng.standard_normal((2, int(length), 5)).astype(np.float32) for length in lengths]
    expected = [Model(graph)(x) for x in inputs]
    model = Model(graph)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            order = rng.permutation(len(inputs))
            for place, y in zip(order, pool.map(model, [inputs[place] for place in order]), strict=True):
                np.testing.assert_array_equal(y, expected[place])


def test_nodes_in_numpy_find_their_arrays_after_other_sizes_in_all_threads() -> None:
    rng = np.random.default_rng(0)
    graph = Graph()
    x = graph.add_input("x", np.float32, ("n",))
    graph.outputs = (graph.add("Unique", graph.add("Relu", x)),)
    model = Model(graph)
    inputs = [rng.integers(-5, 6, n).astype(np.float32) for n in range(1, 10 + KEPT)]
    with ThreadPoolExecutor(4) as pool:
        for x, y in zip(inputs, pool.map(model, inputs), strict=True):
            np.testing.assert_array_equal(y, np.unique(np.maximum(x, 0)))


def resident() -> int:
    """The memory of this process in bytes."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("Linux tells the memory of a process")
    return int(pages.read_text().split()[1]) * 4096


def test_memory_does_not_grow_with_the_lengths_of_calls() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", 64))
    graph.outputs = (graph.add("Softmax", graph.add("Transpose", x, perm=[1, 0])),)
    model, array = Model(graph), np.zeros((2000, 64), np.float32)
    for length in (2000, *range(2, 40)):
        model(array[:length])
    before = resident()
    for length in np.random.default_rng(0).permutation(10_000):
        model(array[: 2 + length % (1000 if length % 50 == 0 else 100)])
    assert resident() - before < 1 << 22


def test_calls_with_nodes_in_numpy_share_one_arena() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", 64))
    y = graph.add("Softmax", graph.add("Mod", graph.add("Softmax", x), x, fmod=1))
    graph.outputs = (graph.add("ReduceMax", y, keepdims=0),)
    model, before = Model(graph), resident()
    array = np.ones((20_000, 64), np.float32)
    for length in range(len(array), len(array) - 2 * KEPT, -1):
        model(array[:length])
    (program,) = model.programs
    assert len(program.segments) > 1
    assert resident() - before < 10 * array.nbytes
