"""Recurrent layers over masked sequences: a naive loop, blocks of a stream, and a known mask."""

from typing import Any

import numpy as np
import pytest

import onward
from onward.graph import Graph, Input, Model

LAYERS: dict[str, Any] = {
    "rnn": lambda **k: onward.RNN(3, 7, rng=1, **k),
    "lstm": lambda **k: onward.LSTM(3, 1, rng=2, **k),
    "gru": lambda **k: onward.GRU(3, 33, rng=3, **k),
}


def model_of(layer: Any) -> Model:
    """A model from x (T, B, 3) and a mask (T, B) to the outputs and the final h."""
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", "batch", 3))
    mask = graph.add_input("mask", bool, ("time", "batch"))
    y, h, *_ = graph.add_all("MaskedRecurrent", (x, mask), 1 + len(layer.state_names), layer=layer)
    graph.outputs = y, h
    graph.declared_outputs = (Input("y", np.dtype(np.float32)), Input("h", np.dtype(np.float32)))
    return Model(graph)


def case(T: int, B: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(T + B)
    mask = rng.random((T, B)) < 0.6
    mask[:, :1] = False  # a row of masked steps
    return rng.normal(size=(T, B, 3)).astype(np.float32), mask


def naive(layer: Any, x: Any, mask: Any) -> tuple[Any, Any]:
    """One direction, step by step: a masked step keeps the state and repeats the output."""
    T, B, _ = x.shape
    stream = [onward.Sequential(layer).stream() for _ in range(B)]
    y = np.zeros((T, B, layer.hidden_size), np.float32)
    last = np.zeros((B, layer.hidden_size), np.float32)
    for t in range(T):
        for row in range(B):
            if mask[t, row]:
                last[row] = stream[row](x[t, row])
        y[t] = last
    return y, last


@pytest.mark.parametrize(("T", "B"), [(1, 1), (9, 5), (50, 17)])
@pytest.mark.parametrize("name", LAYERS)
def test_masked_steps_keep_the_state_and_repeat_the_output(name: str, T: int, B: int) -> None:
    layer, (x, mask) = LAYERS[name](), case(T, B)
    y, h = model_of(layer)(x, mask)
    expected, last = naive(layer, x, mask)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(h[0], last)


@pytest.mark.parametrize("name", LAYERS)
def test_the_reverse_direction_repeats_the_next_output(name: str) -> None:
    both, (x, mask) = LAYERS[name](bidirectional=True), case(9, 5)
    y, _ = model_of(both)(x, mask)
    weights = both.state_dict()
    for part, way in (("", slice(None)), ("_reverse", slice(None, None, -1))):
        one = LAYERS[name]()
        one.load_state_dict({key: weights[key + part] for key in one.state_dict()})
        expected, _ = naive(one, x[way], mask[way])
        half = y[..., one.hidden_size :] if part else y[..., : one.hidden_size]
        np.testing.assert_array_equal(half, expected[way])


def test_a_known_mask_without_gaps_gives_the_bits_of_the_layer() -> None:
    layer, (x, _) = LAYERS["lstm"](), case(9, 5)
    graph = Graph()
    mask = graph.add_constant(np.ones((9, 5), bool))
    y = graph.add_all("MaskedRecurrent", (graph.add_input("x", np.float32, (9, 5, 3)), mask), 3, layer=layer)
    graph.outputs, graph.declared_outputs = y[:1], (Input("y", np.dtype(np.float32)),)
    np.testing.assert_array_equal(Model(graph)(x), layer(x)[0])


@pytest.mark.parametrize("name", LAYERS)
def test_blocks_of_a_stream_give_the_bits_of_a_call(name: str) -> None:
    layer = LAYERS[name]()
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", "batch", 3))
    first = graph.add("Gather", x, graph.add_constant(np.array(0)), axis=2)
    mask = graph.add("Greater", first, graph.add_constant(np.array(0, np.float32)))
    y = graph.add_all("MaskedRecurrent", (x, mask), 1 + len(layer.state_names), layer=layer)[0]
    graph.outputs, graph.declared_outputs = (y,), (Input("y", np.dtype(np.float32)),)
    model, (x_value, _) = Model(graph), case(9, 5)
    stream = model.stream(batch=5)
    blocks = [stream(x_value[start:stop]) for start, stop in ((0, 1), (1, 6), (6, 9))]
    np.testing.assert_array_equal(np.concatenate(blocks), model(x_value))
