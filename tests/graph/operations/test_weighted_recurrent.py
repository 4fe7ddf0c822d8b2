"""Recurrent nodes whose weights are inputs: the bits of constant weights, and gradients."""

from typing import Any

import numpy as np
import pytest
from support.gradients import check, declared

from onward.core.cell import KINDS
from onward.errors import ArgumentError
from onward.graph import Graph
from onward.graph.gradients import with_gradients
from onward.graph.plan.planner import Planner

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("LSTM", {"direction": "reverse"}),
    ("GRU", {"linear_before_reset": 1, "direction": "bidirectional"}),
    ("GRU", {"layout": 1}),
    ("RNN", {"direction": "bidirectional"}),
    ("RNN", {"activations": ["Relu"]}),
]


def inputs_of(kind: str, sizes: tuple[int, int, int], options: dict[str, Any], seed: int) -> list[Any]:
    """X, W, R, B, lengths and initial states."""
    rng, (T, B, H) = np.random.default_rng(seed), sizes
    D, G = 1 + (options.get("direction") == "bidirectional"), len(KINDS[kind].gates)
    shapes = (T, B, 3), (D, G * H, 3), (D, G * H, H), (D, 2 * G * H)
    arrays: list[Any] = [rng.standard_normal(shape) for shape in shapes]
    arrays += [rng.standard_normal((D, B, H)) for _ in KINDS[kind].state_names]
    if options.get("layout"):
        arrays[0], arrays[4] = (a.swapaxes(0, 1).copy() for a in (arrays[0], arrays[4]))
    arrays.insert(4, rng.integers(0, T + 1, B).astype(np.int32))
    return arrays


def graph_of(kind: str, arrays: list[Any], options: dict[str, Any], constants: bool, lengths: bool) -> Graph:
    graph = Graph()
    if constants:
        x, *states = declared(graph, [arrays[0], *arrays[5:]])
        weights = [graph.add_constant(a) for a in arrays[1:4]]
        steps = graph.add_constant(arrays[4])
    else:
        x, *weights, steps = declared(graph, arrays[:5])
        states = [graph.add_input(f"s{n}", a.dtype, a.shape) for n, a in enumerate(arrays[5:])]
    inputs = [x, *weights, steps if lengths else "", *states]
    graph.outputs = graph.add_all(kind, inputs, 1 + len(states), **options)
    return graph


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
@pytest.mark.parametrize("sizes", [(1, 1, 7), (50, 5, 1), (6, 17, 33)])
def test_weights_that_are_inputs_give_the_bits_of_constants(
    kind: str, options: dict[str, Any], sizes: tuple[int, int, int]
) -> None:
    arrays = [
        a.astype(np.float32) if a.dtype == np.float64 else a for a in inputs_of(kind, sizes, options, 0)
    ]
    found = Planner(graph_of(kind, arrays, options, False, True))(*arrays)
    expected = Planner(graph_of(kind, arrays, options, True, True))(arrays[0], *arrays[5:])
    for mine, right in zip(found, expected, strict=True):
        assert np.array_equal(mine, right)


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("sizes", [(0, 2, 3), (1, 1, 7), (7, 5, 1), (4, 3, 5)])
def test_gradients_equal_central_differences(
    kind: str, options: dict[str, Any], lengths: bool, sizes: tuple[int, int, int]
) -> None:
    arrays = inputs_of(kind, sizes, options, 1)
    check(graph_of(kind, arrays, options, False, lengths), arrays, np.random.default_rng(2))


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
def test_gradients_with_constant_weights_equal_central_differences(
    kind: str, options: dict[str, Any]
) -> None:
    """Also if only one output has a gradient."""
    arrays = inputs_of(kind, (4, 3, 5), options, 1)
    graph = graph_of(kind, arrays, options, True, False)
    for output in graph.outputs:
        graph.outputs = (output,)
        run, back = Planner(graph), Planner(with_gradients(graph))
        given = [arrays[0], *arrays[5:]]
        (y,) = run(*given)
        dy, rng = np.random.default_rng(0).standard_normal(y.shape), np.random.default_rng(1)
        for gradient, x in zip(back(*given, dy), given, strict=True):
            way, sides = rng.standard_normal(x.shape), []
            for size in (1e-6, -2e-6):
                x += size * way
                sides.append((run(*given)[0] * dy).sum())
            x += 1e-6 * way
            assert (gradient * way).sum() == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-7)


def test_a_cell_without_gradients_is_named() -> None:
    arrays = inputs_of("LSTM", (4, 3, 5), {}, 1)
    graph = graph_of("LSTM", arrays, {"clip": 0.5}, False, False)
    outputs = Planner(graph)(*arrays)
    with pytest.raises(ArgumentError, match=r"LSTM.* has no gradients"):
        Planner(with_gradients(graph))(*arrays, *outputs)
