"""Recurrent layers over masked sequences: a naive loop, blocks of a stream, and a known mask."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.lowering import run_lowered

import onward
from onward.errors import ArgumentError
from onward.graph import Graph, Input, Model
from onward.graph.operations.masked_recurrent import masked_recurrent
from onward.graph.operations.recurrent import recurrent

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
    y, h, *_ = graph.add_all("MaskedRecurrent", (x, mask), 1 + len(layer.state_names), cell=layer.cell)
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
    y = graph.add_all(
        "MaskedRecurrent", (graph.add_input("x", np.float32, (9, 5, 3)), mask), 3, cell=layer.cell
    )
    graph.outputs, graph.declared_outputs = y[:1], (Input("y", np.dtype(np.float32)),)
    np.testing.assert_array_equal(Model(graph)(x), layer(x)[0])


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "states"])
@pytest.mark.parametrize("name", LAYERS)
def test_blocks_of_a_stream_give_the_bits_of_a_call(name: str, given: bool) -> None:
    layer, rng = LAYERS[name](), np.random.default_rng(6)
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", "batch", 3))
    first = graph.add("Gather", x, graph.add_constant(np.array(0)), axis=2)
    mask = graph.add("Greater", first, graph.add_constant(np.array(0, np.float32)))
    shapes = [(1, 1, layer.hidden_size), *layer.state_shapes(1)] if given else []
    start = [graph.add_constant(rng.normal(size=shape).astype(np.float32)) for shape in shapes]
    inputs = (x, mask, *start)
    y = graph.add_all("MaskedRecurrent", inputs, 1 + len(layer.state_names), cell=layer.cell)[0]
    graph.outputs, graph.declared_outputs = (y,), (Input("y", np.dtype(np.float32)),)
    model, (x_value, _), rows = Model(graph), case(9, 5), 1 if given else 5
    x_value = x_value[:, np.argsort(x_value[0, :, 0])][:, :rows]  # the first step of the first row is masked
    stream = model.stream(batch=rows)
    blocks = [stream(x_value[start:stop]) for start, stop in ((0, 1), (1, 6), (6, 9))]
    np.testing.assert_array_equal(np.concatenate(blocks), model(x_value))


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "states"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_core_gives_the_bits_of_the_layer_where_the_mask_counts(
    name: str, bidirectional: bool, given: bool, precision: str
) -> None:
    layer, (x, mask) = LAYERS[name](bidirectional=bidirectional, dtype=precision), case(9, 5)
    rng = np.random.default_rng(4)
    shapes = layer.state_shapes(5)
    last = None if bidirectional or not given else rng.normal(size=(1, 5, layer.hidden_size))
    arrays = [last, *(rng.normal(size=shape) for shape in shapes)] if given else []
    inputs = [x.astype(precision), mask, *(None if a is None else a.astype(precision) for a in arrays)]
    computed = run_lowered("MaskedRecurrent", inputs, {"cell": layer.cell})
    expected = masked_recurrent.compute(inputs, {"cell": layer.cell})
    for y, wanted in zip(computed or [], expected, strict=True):
        np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("name", LAYERS)
def test_lengths_in_the_core_leave_the_bits_of_each_row(
    name: str, bidirectional: bool, dtype: Any, precision: str
) -> None:
    layer, (x, _) = LAYERS[name](bidirectional=bidirectional, dtype=precision), case(9, 5)
    inputs = [x.astype(precision), np.array([3, 9, 0, 1, 8], dtype)]
    computed = run_lowered("Recurrent", inputs, {"cell": layer.cell})
    for y, wanted in zip(computed or [], recurrent.compute(inputs, {"cell": layer.cell}), strict=True):
        np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("length", [-1, 10])
def test_lengths_that_exceed_the_steps_raise_an_error_that_names_the_node(length: int) -> None:
    layer, graph = LAYERS["lstm"](), Graph()
    inputs = graph.add_input("x", np.float32, (9, 5, 3)), graph.add_input("n", np.int64, (5,))
    y, *_ = graph.add_all("Recurrent", inputs, 3, name="encoder", cell=layer.cell)
    graph.outputs, graph.declared_outputs = (y,), (Input("y", np.dtype(np.float32)),)
    with pytest.raises(ArgumentError, match=rf"encoder.*lengths\[4\] is {length}, expected 0 to 9"):
        Model(graph)(case(9, 5)[0], np.array([3, 9, 0, 1, length]))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_layer_of_which_only_the_state_is_used_is_exported(bidirectional: bool, tmp_path: Path) -> None:
    model = model_of(LAYERS["lstm"](bidirectional=bidirectional))
    graph = model.graph
    graph.outputs, graph.declared_outputs = graph.outputs[1:], graph.declared_outputs[1:]
    Model(graph.without_unused()).export_onnx(tmp_path / "m.onnx")
    x, mask = case(6, 4)
    np.testing.assert_array_equal(onward.load(tmp_path / "m.onnx")(x, mask), Model(graph)(x, mask))
