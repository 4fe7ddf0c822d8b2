"""Graphs of integers with calibrated scales are close to those of real numbers, of which they are made."""

from typing import Any

import numpy as np
import pytest
from support.random_networks import Network, random_network
from support.randomized import random_cases

import onward
from onward.errors import ArgumentError
from onward.formats.c.runnable import Runnable
from onward.graph import Graph
from onward.graph.calibrated.quantizer import calibrated
from onward.model import Model

PRODUCTS = {"MatMul", "Gemm", "Conv", "Recurrent", "OverWindows"}


def error(found: Any, expected: Any) -> float:
    """The root of the mean square of the differences over that of the expected numbers."""
    y, z = (np.concatenate([np.ravel(a) for each in outputs for a in each]) for outputs in (found, expected))
    return float(np.sqrt(np.mean((y - z) ** 2) / np.mean(z**2)))


def in_integers(model: Any, blocks: list[Any], **options: Any) -> tuple[Runnable, Runnable]:
    """A model as it is and in integers."""
    original = Runnable.of(model, options.pop("stream", False), 1, 1, **options)
    return original, original.calibrated(blocks)


def test_random_networks_are_close_to_their_real_numbers() -> None:
    rng = np.random.default_rng(0)
    for _ in range(random_cases(10)):
        model, options, x = random_network(rng)
        blocks = [[each] for each in x]
        original, small = in_integers(model, blocks, **options)
        assert error(small.outputs(blocks), original.outputs(blocks)) < 0.08
        remaining = {node.operation for node in small.graph.nodes} & PRODUCTS
        assert remaining <= {"OverWindows"}  # whose nodes are products of integers


@pytest.mark.parametrize("T", [1, 3, 20])
@pytest.mark.parametrize("kind", [onward.LSTM, onward.GRU, onward.RNN])
def test_layers_of_several_steps_equal_a_stream_of_one(kind: Any, T: int) -> None:
    net = onward.Sequential(kind(3, 9, 2, rng=0), onward.Linear(9, 2, rng=1))
    x = np.random.default_rng(0).normal(0.3, 1, (60, 1, 3)).astype(np.float32)
    one = in_integers(net, [[each[None]] for each in x], stream=True)[1]
    several = Runnable.of(net, True, T, 1).calibrated([[x[i : i + T]] for i in range(0, 60, T)])
    singly, together = one.outputs([[each[None]] for each in x]), several.outputs([[x]])
    np.testing.assert_array_equal(np.concatenate([y for (y,) in singly]), together[0][0])


def test_numbers_beyond_the_data_saturate() -> None:
    net, x = onward.Linear(4, 3, rng=0), np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    graph = Graph()
    W = graph.add_constant(net.weight.T)
    graph.outputs = (graph.add("MatMul", graph.add_input("x", np.float32, (1, 4)), W),)
    small, _ = calibrated(graph, [], [[row[None]] for row in x])
    near, far = (np.asarray(Model(small)(each)) for each in (x[:1], 1000 * x[:1]))
    assert np.abs(near - x[:1] @ net.weight.T).max() < 0.05
    largest = np.abs(x @ net.weight.T).max()
    assert (np.abs(far) <= largest * 1.02).all() and (np.sign(far) == np.sign(near))[np.abs(near) > 0.3].all()


def test_streams_carry_integers_where_only_these_are_read() -> None:
    net = Network(np.random.default_rng(0), 1, 6, "time")
    net.add("Conv", net.weights(4, 6, 3))
    net.add("Transpose", perm=[2, 0, 1])
    net.add("Recurrent", cell=onward.LSTM(4, 5, rng=0).cell)
    x = np.random.default_rng(0).normal(size=(30, 1, 6, 1)).astype(np.float32)
    _, small = in_integers(net.model(), [[each] for each in x], stream=True, time_axis=2)
    assert small.streamed is not None
    dtypes = [array.dtype.name for array in small.streamed.initial]
    assert dtypes == ["int8", "int8", "int32"]


def test_layers_with_other_options_quantize_their_inputs_as_they_come() -> None:
    layer = onward.LSTM(3, 6, peephole=True, rng=0)
    net = onward.Sequential(layer, onward.Linear(6, 2, rng=1))
    x = np.random.default_rng(0).normal(size=(30, 1, 1, 3)).astype(np.float32)
    blocks = [[each] for each in x]
    original, small = in_integers(net, blocks, stream=True)
    assert error(small.outputs(blocks), original.outputs(blocks)) < 0.05
    (recurrent,) = [node for node in small.graph.nodes if node.operation == "Recurrent"]
    assert recurrent.attributes["cell"].precision == "int8"


def test_a_value_that_is_read_as_both_is_converted_once() -> None:
    net = Network(np.random.default_rng(0), 1, 6)
    first = net.add("MatMul", net.weights(6, 5))
    second = net.graph.add("Softmax", first)
    third = net.graph.add("ReduceMax", first, net.graph.add_constant(np.array([1])))
    net.add("MatMul", net.weights(5, 3))
    net.graph.outputs = (net.y, second, third)
    x = np.random.default_rng(0).normal(size=(30, 1, 6)).astype(np.float32)
    small, _ = calibrated(net.graph, [], [[row] for row in x])
    operations = [node.operation for node in small.nodes]
    assert operations.count("DequantizeLinear") == 1 and operations.count("QuantizeLinear") == 1
    for y, z in zip(Model(small)(x[0]), Model(net.graph)(x[0]), strict=True):
        np.testing.assert_allclose(y, z, atol=0.05)


def test_a_graph_without_products_is_refused() -> None:
    graph = Graph()
    graph.outputs = (graph.add("Relu", graph.add_input("x", np.float32, (3,))),)
    with pytest.raises(ArgumentError, match="no products with constant float32 matrices"):
        calibrated(graph, [], [[np.zeros(3, np.float32)]])


def test_states_in_one_array_have_scales_of_their_own() -> None:
    graph = Graph()
    states = graph.add_input("states", np.float32, (2, 1, 1, 6))
    x = graph.add_input("x", np.float32, (1, 1, 3))
    layers = onward.RNN(3, 6, rng=0), onward.RNN(6, 6, rng=1)
    layers[1].load_state_dict({name: 0.02 * np.asarray(W) for name, W in layers[1].state_dict().items()})
    after = []
    for number, layer in enumerate(layers):
        state = graph.add("Gather", states, graph.add_constant(np.array(number)), axis=0)
        x, state = graph.add_all("Recurrent", (x, "", state), 2, cell=layer.cell)
        after.append(graph.add("Unsqueeze", state, graph.add_constant(np.array([0]))))
    graph.outputs = (graph.add("Concat", *after, axis=0), x)
    small, initial = calibrated(graph, [np.zeros((2, 1, 1, 6), np.float32)], blocks := _blocks(40, 1, 1, 3))
    found, expected = [], []
    for model, state, outputs in ((small, initial[0], found), (graph, np.zeros((2, 1, 1, 6)), expected)):
        run = Model(model)
        for (block,) in blocks:
            state, y = run(np.asarray(state, model.inputs[0].dtype), block)
            outputs.append([y])
    assert error(found, expected) < 0.03


def _blocks(count: int, *axes: int) -> list[list[Any]]:
    return [[x] for x in np.random.default_rng(0).normal(size=(count, *axes)).astype(np.float32)]
