"""Which constants of a graph are weights, and the gradients of cells in nodes that are composed."""

from typing import Any

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError
from onward.graph import Graph, Model
from onward.graph.declared import Input
from onward.graph.trainable import weights_of, with_weights


def constants(graph: Graph, **arrays: Any) -> list[str]:
    return [graph.add_constant(np.asarray(array, np.float32), name) for name, array in arrays.items()]


def test_weights_are_told_from_other_constants() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("n", 3))
    names = constants(
        graph, matrix=np.ones((2, 3)), gain=[1.0, 2.0], mask=[-np.inf, 0.0], low=[0.0, 0.0], scale=[0.5],
        epsilon=1e-5, exponent=[2.0], unused=[1.0, 2.0], bias=[1.0], mean=[0.0], variance=[1.0], shift=[0.0],
    )  # fmt: skip
    matrix, gain, mask, low, scale, epsilon, exponent, _, bias, mean, variance, shift = names
    y = graph.add("MatMul", x, graph.add("Transpose", matrix, perm=[1, 0]))
    y = graph.add("Mul", graph.add("Add", y, mask), gain)
    y = graph.add("Mul", graph.add("Max", y, low), scale)  # a number, as in a scaled activation
    y = graph.add("Add", graph.add("Pow", y, exponent), epsilon)
    y = graph.add("MatMul", y, graph.add("Unsqueeze", gain, graph.add_constant(np.array([1]))))
    y = graph.add("Add", y, bias)  # a number, as the bias of one output
    graph.outputs = (graph.add("BatchNormalization", y, bias, shift, mean, variance),)
    assert set(weights_of(graph)) == {"matrix", "gain", "bias", "shift"}


def test_initial_states_are_no_weights_but_what_a_loop_captures_is_one() -> None:
    graph, body = Graph(), Graph()
    h, x, R = (body.add_input(name) for name in "hxR")
    after = body.add("Tanh", body.add("Add", body.add("MatMul", h, R), x))
    body.outputs = (after, after)
    start, matrix = constants(graph, start=np.ones((2, 3)), matrix=np.ones((3, 3)))
    steps = graph.add_input("x", np.float32, ("time", 2, 3))
    graph.outputs = graph.add_all("Scan", [start, steps, matrix], 2, body=body, num_scan_inputs=1, captured=1)
    assert set(weights_of(graph)) == {"matrix"}


def test_nodes_that_share_a_cell_share_its_new_weights() -> None:
    graph, cell = Graph(), onward.GRU(3, 3, rng=0).cell
    x = graph.add_input("x", np.float32, ("time", "batch", 3))
    y = graph.add("Recurrent", graph.add("Recurrent", x, cell=cell, name="gru"), cell=cell, name="again")
    graph.outputs = (y,)
    weights = weights_of(graph)
    assert set(weights) == {f"gru.{name}" for name in cell.weights}
    changed = with_weights(graph, {name: w + 1 for name, w in weights.items()})
    first, second = (node.attributes["cell"] for node in changed.nodes)
    assert first is second
    assert all(np.array_equal(first.weights[name], cell.weights[name] + 1) for name in cell.weights)


@pytest.mark.parametrize("kind", [onward.LSTM, onward.GRU])
def test_masked_cells_train(kind: Any) -> None:
    """Compare the gradients with central differences; a masked step keeps the state."""
    rng, graph, cell = np.random.default_rng(0), Graph(), kind(3, 4, rng=0, dtype="float64").cell
    x = graph.add_input("x", np.float64, (5, 2, 3))
    mask = graph.add_constant(rng.random((5, 2)) < 0.6)
    y = graph.add("MaskedRecurrent", x, mask, "", *[""] * len(cell.state_names), cell=cell, name="layer")
    graph.outputs, graph.declared_outputs = (y,), (Input("y"),)
    model, array = Model(graph), rng.standard_normal((5, 2, 3))
    y, _, cache = model.forward(array)
    dy = rng.standard_normal(y.shape)
    dx, _, gradients = model.backward(dy, None, cache)
    weights = dict(model.trained_weights())
    ways, way = (
        {name: rng.standard_normal(w.shape) for name, w in weights.items()},
        rng.standard_normal(dx.shape),
    )
    sides = []
    for size in (1e-6, -1e-6):
        model.take_weights({name: w + size * ways[name] for name, w in weights.items()})
        sides.append((model(array + size * way) * dy).sum())
    found = (dx * way).sum() + sum((gradients[name] * ways[name]).sum() for name in weights)
    assert found == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5)


def test_a_graph_without_weights_and_a_quantized_cell_are_refused() -> None:
    graph = Graph()
    graph.outputs = (graph.add("Relu", graph.add_input("x", np.float32, ("n", 3))),)
    graph.declared_outputs = (Input("y"),)
    with pytest.raises(ArgumentError, match="no weights of float32 or float64"):
        Model(graph).forward(np.ones((2, 3)))
    graph, small = Graph(), onward.GRU(3, 4, rng=0).quantize("int8")
    y = graph.add("Recurrent", graph.add_input("x", np.float32, ("t", "b", 3)), cell=small.cell, name="gru")
    graph.outputs, graph.declared_outputs = (y,), (Input("y"),)
    with pytest.raises(ArgumentError, match=r"gru .*has no gradient: quantized weights"):
        Model(graph).forward(np.ones((2, 1, 3)))
