"""The arrays of a plan share memory only if they are never live at the same time."""

from itertools import pairwise

import numpy as np
import pytest
from onnx import helper
from support.onnx_nodes import model_of, open_model
from support.programs import plan_of
from support.running import bound

from onward.graph.plan.view import View


@pytest.mark.parametrize("seed", range(20))
def test_arrays_that_are_live_at_the_same_time_do_not_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    firsts = sorted(int(first) for first in rng.integers(100, size=100))
    lives = [(int(rng.integers(1, 500)), first, first + int(rng.integers(1 + seed))) for first in firsts]
    views = [View.contiguous(-1 - place, 0, (size,), "uint8") for place, (size, *_) in enumerate(lives)]
    plan = plan_of([], arrays=lives, locations=views)
    assert plan.arena_size <= sum(-(-size // 64) * 64 for size, *_ in lives)
    for step in range(200):
        live = [
            (view[1], size)
            for view, (size, first, last) in zip(plan.views, lives, strict=True)
            if first <= step <= last
        ]
        for (start, length), (following, _) in pairwise(sorted(live)):
            assert start + length <= following
        assert all(start >= 0 and start + length <= plan.arena_size for start, length in live)


def test_a_chain_needs_the_memory_of_two_values() -> None:
    names = ["x", *(f"v{i}" for i in range(50)), "y"]
    operations = np.random.default_rng(0).choice(["Exp", "Neg"], len(names) - 1).tolist()  # no loop
    pairs = zip(operations, pairwise(names), strict=True)
    nodes = [helper.make_node(operation, [a], [b]) for operation, (a, b) in pairs]
    graph = open_model(model_of(nodes, {"x": np.zeros((7, 64), np.float32)}, ["y"], {}))
    graph(np.zeros((7, 64), np.float32))
    plan = bound(graph, np.zeros((7, 64), np.float32))
    assert plan is not None and plan.plan.arena_size == 2 * 7 * 64 * 4


def test_a_value_that_is_read_again_at_the_end_keeps_its_memory() -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Abs", ["b"], ["c"]),
        helper.make_node("Neg", ["c"], ["d"]),
        helper.make_node("Transpose", ["a"], ["t"], perm=[1, 0]),
        helper.make_node("Transpose", ["t"], ["s"], perm=[1, 0]),
        helper.make_node("Add", ["d", "s"], ["y"]),
    ]
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    graph = open_model(model_of(nodes, {"x": x}, ["y"], {}))
    np.testing.assert_array_equal(graph(x)[0], -np.abs(x) - x)
