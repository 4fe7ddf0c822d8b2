"""textgenrnn: Keras 2.1 weights in cuDNN's layout, loaded into layers that the test connects."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import onward


@pytest.fixture
def layers(case: Any) -> onward.Sequential:
    """All layers in the file's order. The file does not record how they are connected."""
    net = onward.Sequential(
        onward.Embedding(465, 100),
        onward.LSTM(100, 128, batch_first=True),
        onward.LSTM(128, 128, batch_first=True),
        onward.Linear(356, 1, bias=False),
        onward.Linear(356, 465),
    )
    net.load_weights(case.folder / "textgenrnn_weights.hdf5")
    return net


def attended(layers: Any, ids: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """The outputs of the layers for texts (B, T), and their average over time, weighted by the attention."""
    embedding, first, second, attention, _ = layers
    x = embedding(ids)
    y1, _ = first(x)
    y2, _ = second(y1)
    heard = np.concatenate([x, y1, y2], axis=-1)
    scores = np.exp(attention(heard) - attention(heard).max(axis=1, keepdims=True))
    return x, y1, y2, (heard * scores / (scores.sum(axis=1, keepdims=True) + 1e-7)).sum(axis=1)


def test_arrays_are_those_of_the_original(case: Any, layers: Any) -> None:
    found = attended(layers, case.inputs["ids"])
    for mine, name in zip(found, ("embedding", "rnn_1", "rnn_2", "attention"), strict=True):
        np.testing.assert_allclose(mine, case.expected[name], atol=2e-5)
    np.testing.assert_allclose(onward.Softmax()(layers[4](found[-1])), case.expected["probs"], atol=2e-5)


def test_it_generates_the_text_of_the_original(case: Any, layers: Any) -> None:
    numbers = json.loads((case.folder / "textgenrnn_vocab.json").read_text())
    letters = {number: letter for letter, number in numbers.items()}
    for prefix, expected in zip(case.inputs["prefixes"], case.expected["greedy_texts"], strict=True):
        text = [numbers["<s>"], *(numbers[letter] for letter in str(prefix))]
        while len(text) < 60:
            window = ([0] * 40 + text)[-40:]
            text.append(int(layers[4](attended(layers, np.array([window]))[-1]).argmax()))
        assert "".join(letters[number] for number in text) == expected
