"""Many sequences in batches: each is answered as if it were alone."""

from typing import Any

import numpy as np
import pytest

import onward
from onward.formats.keras import runtime
from onward.tables import scoring

NETS = {
    "last": lambda: onward.Sequential(onward.LSTM(3, 7, rng=0), onward.Last(), onward.Linear(7, 2, rng=1)),
    "each_step": lambda: onward.Sequential(onward.GRU(3, 33, 2, bidirectional=True, rng=0), onward.Softmax()),
    "batch_first": lambda: onward.Sequential(onward.RNN(3, 7, batch_first=True, rng=0)),
    "embedding": lambda: onward.Sequential(onward.Embedding(9, 4, rng=0), onward.LSTM(4, 5, rng=1)),
    "layer": lambda: onward.LSTM(3, 7, rng=0),
    "keras": lambda: runtime.RNN([onward.GRU(3, 7, batch_first=True, rng=0)], return_sequences=True),
    "sees_padding": lambda: runtime.RNN(
        [onward.GRU(3, 7, batch_first=True, rng=0)], return_sequences=True, go_backwards=True
    ),
}


def graph(layer: runtime.KerasLayer) -> runtime.Model:
    call = {"layer": "layer", "inputs": [[0, 0]]}
    return runtime.Model({"layer": layer}, [call], {"x": "float32"}, [[1, 0]])


@pytest.mark.parametrize("name", NETS)
def test_each_sequence_is_answered_bitwise_as_if_alone(name: str) -> None:
    net, rng = NETS[name](), np.random.default_rng(0)
    if isinstance(net, runtime.KerasLayer):
        net = graph(net)
    lengths = rng.integers(1, 20, 150)
    sequences: list[Any] = [rng.standard_normal((T, 3)).astype(np.float32) for T in lengths]
    if name == "embedding":
        sequences = [rng.integers(0, 9, T) for T in lengths]
    answers: list[Any] = [None] * 150
    for rows, ys in scoring.outputs(net, sequences):
        for row, y in zip(rows, ys, strict=True):
            answers[row] = y
    for x, y in zip(sequences, answers, strict=True):
        if "keras" in name or name == "sees_padding":
            alone = net(x[None])[0]
        else:
            alone = net(x)[0] if name == "layer" else net(x)
        np.testing.assert_array_equal(y, alone)
