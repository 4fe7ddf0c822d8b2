"""Many sequences in batches: the output of each has the bits of a call on its own."""

from typing import Any

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError
from onward.graph import Model
from onward.graph.graph import Graph, Input
from onward.tables import inference

NETS = {
    "last": lambda: onward.Sequential(onward.LSTM(3, 7, rng=0), onward.Last(), onward.Linear(7, 2, rng=1)),
    "each_step": lambda: onward.Sequential(onward.GRU(3, 33, 2, bidirectional=True, rng=0), onward.Softmax()),
    "batch_first": lambda: onward.Sequential(onward.RNN(3, 7, batch_first=True, rng=0)),
    "embedding": lambda: onward.Sequential(onward.Embedding(9, 4, rng=0), onward.LSTM(4, 5, rng=1)),
    "layer": lambda: onward.LSTM(3, 7, rng=0),
    "whole_model": lambda: whole_model(),
}


def whole_model() -> Model:
    """A model that sees the steps in reverse, so that padding would change its outputs."""
    graph = Graph()
    x = graph.add("Transpose", graph.add_input("x", np.float32, ("batch", "time", 3)), perm=[1, 0, 2])
    y, *_ = graph.add_all("Recurrent", (x,), 2, cell=onward.GRU(3, 7, rng=0).cell, reverse=True)
    graph.outputs = (graph.add("Transpose", y, perm=[1, 0, 2]),)
    graph.declared_outputs = (Input("y", np.dtype(np.float32)),)
    return Model(graph)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_outputs_have_the_bits_of_single_calls(name: str, workers: int) -> None:
    net, rng = NETS[name](), np.random.default_rng(0)
    lengths = rng.integers(1, 20, 150)
    sequences: list[Any] = [rng.standard_normal((T, 3)).astype(np.float32) for T in lengths]
    if name == "embedding":
        sequences = [rng.integers(0, 9, T) for T in lengths]
    for x, y in zip(sequences, inference.outputs(net, sequences, workers), strict=True):
        if name == "whole_model":
            expected = net(x[None])[0]
        else:
            expected = net(x)[0] if name == "layer" else net(x)
        np.testing.assert_array_equal(y, expected)


def test_an_array_of_sequences_of_one_length_gives_the_same_bits() -> None:
    net = NETS["last"]()
    x = np.random.default_rng(1).standard_normal((150, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(inference.outputs(net, x), [net(row) for row in x])


def test_an_error_in_a_worker_ends_the_iteration() -> None:
    net = onward.Sequential(onward.Embedding(9, 4, rng=0), onward.LSTM(4, 5, rng=1))
    with pytest.raises(ArgumentError, match="expected 0 to 8"):
        inference.outputs(net, [np.array([1, 2]), np.array([3, 99])] * 200, workers=2)


@pytest.mark.parametrize("bad", [0, 70, 299])
def test_an_error_of_the_model_names_the_sequence_of_the_file(bad: int) -> None:
    """Not its place in a batch, where sequences of equal length are together."""
    net = onward.Sequential(onward.Embedding(9, 4, rng=0), onward.LSTM(4, 5, rng=1))
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 9, T) for T in rng.integers(3, 8, 300)]
    sequences[bad][2] = sequences[299][1] = 77
    with pytest.raises(ArgumentError, match=rf"^sequence p{bad}: x\[.*\] is 77"):
        inference.outputs_of_steps(net, sequences, name=lambda row: f"p{row}")
    with pytest.raises(ArgumentError, match=r"^x\[.*\] is 77"):
        inference.outputs_of_steps(net, sequences)


def test_the_output_of_a_sequence_without_a_step_is_nan() -> None:
    """It would be the bias of the last layer, whatever the data."""
    layers = onward.LSTM(3, 4, rng=0), onward.Last(), onward.Linear(4, 2, rng=0)
    items = [np.ones((n, 3), np.float32) for n in (2, 0, 1, 0)]
    for batch_first in (False, True):
        lstm = onward.LSTM(3, 4, batch_first=batch_first, rng=0)
        model = onward.Sequential(lstm, onward.Last(batch_first), layers[2])
        found = inference.outputs(model, items)
        assert inference.rows_with_nan(found) == [1, 3]
        assert {y.dtype for y in found} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(found[2], inference.outputs(model, items[2:3])[0])
        assert [len(y) for y in inference.outputs(lstm, items)] == [2, 0, 1, 0]  # one output per step
