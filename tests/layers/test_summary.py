"""Summaries of models: output shapes match those of a call, and counts those of the weights."""

import numpy as np
import pytest

import onward
from onward.core.summary import shape_text
from onward.layers import summary
from onward.layers.base import Layer

SIZES = {"T": 13, "B": 5, "L": 13, "H": 11, "W": 17}

CHAINS = {
    "rnn": [onward.RNN(3, 7, num_layers=2, bidirectional=True, rng=0), onward.Linear(14, 2)],
    "batch_first": [onward.GRU(3, 33, batch_first=True), onward.LayerNorm(33), onward.Last(batch_first=True)],
    "projected": [onward.LSTM(3, 7, proj_size=2), onward.Dropout(0.5), onward.Softmax()],
    "tokens": [onward.Embedding(9, 4), onward.LSTM(4, 1), onward.Last(), onward.Linear(1, 3)],
    "conv1d": [onward.Conv1d(3, 4, 3, padding=1), onward.Activation("relu"), onward.BatchNorm1d(4)],
    "conv2d": [onward.Conv2d(2, 5, 3, padding="same"), onward.GroupNorm(5, 5)],
}


def actual(layer: Layer, x: np.ndarray) -> np.ndarray:
    y = layer(x)
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("name", CHAINS)
def test_shapes_are_those_of_a_call(name: str) -> None:
    layers = {str(i): layer for i, layer in enumerate(CHAINS[name])}
    shape = summary.input_shape(layers["0"], name == "batch_first")
    assert shape is not None
    x = np.ones([SIZES.get(str(size), size) for size in shape], np.int64 if name == "tokens" else np.float32)
    for row, layer in zip(summary.connected_rows(layers), layers.values(), strict=True):
        x = actual(layer, x)
        assert row.output_shape is not None
        assert tuple(SIZES.get(str(size), size) for size in row.output_shape) == x.shape
        assert row.parameters == sum(weight.size for weight in layer.state_dict().values())
        assert row.bytes == sum(weight.nbytes for weight in layer.state_dict().values())


def test_kind_names_what_the_shape_does_not_show() -> None:
    lstm = onward.LSTM(3, 8, num_layers=2, bidirectional=True, proj_size=2)
    assert summary.kind(lstm) == "LSTM (2 layers, bidirectional, projected to 2)"
    assert summary.kind(onward.GRU(3, 8).quantize("int8")) == "GRU (int8)"
    assert summary.kind(onward.Activation("elu", 1.0)) == "Activation (elu)"
    assert summary.kind(onward.Linear(3, 8)) == "Linear"


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_quantizing_changes_the_bytes_but_not_the_number_of_parameters(precision: str) -> None:
    lstm = onward.LSTM(3, 33, bidirectional=True)
    (before,), (after,) = (summary.rows({"": layer}) for layer in (lstm, lstm.quantize(precision)))
    assert after.parameters == before.parameters and after.bytes < before.bytes


def test_a_shape_that_depends_on_an_unknown_input_is_left_empty() -> None:
    (row,) = summary.connected_rows({"0": onward.Dropout()})
    assert (row.output_shape, row.parameters) == (None, 0)
    assert shape_text(row.output_shape) == ""


def test_a_leading_layer_of_any_shape_takes_the_shape_of_the_next() -> None:
    first, second = summary.connected_rows({"0": onward.Dropout(), "1": onward.LSTM(3, 2)})
    assert (first.output_shape, second.output_shape) == (("T", "B", 3), ("T", "B", 2))


def test_layers_that_are_not_connected_each_have_a_shape_of_their_own() -> None:
    rows = summary.rows({"encoder.lstm": onward.LSTM(3, 4), "head": onward.Linear(9, 2)})
    assert [(row.name, shape_text(row.output_shape)) for row in rows] == [
        ("encoder.lstm", "(T, B, 4)"),
        ("head", "(T, B, 2)"),
    ]


def test_printing_a_model_shows_a_line_for_each_layer() -> None:
    net = onward.Sequential(onward.LSTM(12, 64, rng=0), onward.Last(), onward.Linear(64, 9, rng=1))
    header, *lines, total = str(net).splitlines()
    assert header.split() == ["layer", "kind", "output", "shape", "parameters"]
    assert [line.split()[:2] for line in lines] == [["0", "LSTM"], ["1", "Last"], ["2", "Linear"]]
    assert total.startswith("total")
    assert repr(net).startswith("Sequential(\n  (0): LSTM(12, 64)")
