"""Keras models as a Sequential: the same outputs, and clear errors for models that are not chains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onward
from onward import errors
from onward.formats.keras import runtime
from onward.formats.keras.runtime.as_sequential import PARAMETERS, sequential

SWISH, LINEAR = runtime.Activation("silu"), runtime.Activation("linear")


def rnn(layer: Any, **options: Any) -> runtime.RNN:
    return runtime.RNN([layer], **options)


def both(**options: Any) -> runtime.Bidirectional:
    """A Bidirectional layer; `options` apply to the backward direction."""
    second = {"return_sequences": True, "go_backwards": True} | options
    cells = [onward.GRU(4, 3, batch_first=True, rng=seed) for seed in (1, 2)]
    return runtime.Bidirectional(rnn(cells[0], return_sequences=True), rnn(cells[1], **second))


def dense(I: int, O: int, activation: Any = LINEAR) -> runtime.Dense:  # noqa: E741 - axis letters
    return runtime.Dense(onward.Linear(I, O, rng=3), activation)


def model_of(*layers: Any, inputs: Any = (("x", "float32"),), outputs: Any = None) -> runtime.Model:
    nodes = [{"layer": f"layer{n}", "inputs": [[n, 0]]} for n in range(len(layers))]
    named = {f"layer{n}": layer for n, layer in enumerate(layers)}
    return runtime.Model(named, nodes, dict(inputs), outputs or [[len(layers), 0]])


CHAIN = (
    dense(3, 4, SWISH),
    runtime.Identity(),
    both(),
    runtime.TimeDistributed(dense(6, 5, runtime.Activation("leaky_relu"))),
    runtime.LayerNormalization(onward.LayerNorm(5)),
    model_of(runtime.Activation("elu", {"alpha": 0.5}), runtime.Activation("relu")),
    rnn(onward.LSTM(5, 4, batch_first=True, rng=4), return_state=True),
    dense(4, 2, runtime.Activation("softmax", {"axis": -1})),
    runtime.Softmax(),
)


def test_a_chain_gives_the_bits_of_the_model_and_of_its_export(tmp_path: Path) -> None:
    model = model_of(*CHAIN)
    x = np.random.default_rng(0).normal(0, 1, (2, 6, 3)).astype(np.float32)
    expected = model(x)
    np.testing.assert_array_equal(sequential(model)(x), expected)
    onward.export_onnx(model, tmp_path / "m.onnx")
    graph: Any = onward.load(tmp_path / "m.onnx")
    np.testing.assert_array_equal(graph.layers()(x), expected)


@pytest.mark.parametrize("name", PARAMETERS)
def test_activations_give_the_bits_of_their_counterparts(name: str) -> None:
    model = model_of(runtime.Activation(name))
    x = np.linspace(-9, 9, 1001, dtype=np.float32)[None]
    np.testing.assert_array_equal(sequential(model)(x), model(x))


def test_an_embedding_without_a_mask_is_part_of_a_chain() -> None:
    table = onward.Embedding(9, 4, rng=0)
    model = model_of(
        runtime.Embedding(table), rnn(onward.RNN(4, 3, batch_first=True, rng=1)), inputs=[("x", "int32")]
    )
    x = np.random.default_rng(0).integers(0, 9, (2, 6))
    np.testing.assert_array_equal(sequential(model)(x), model(x))
    with pytest.raises(errors.ArgumentError, match=r"layer0, Embedding.* has no equivalent among the layers"):
        sequential(model_of(runtime.Embedding(table, mask_zero=True)))


@pytest.mark.parametrize(
    "layer",
    [
        runtime.Masking(),
        runtime.Flatten(),
        runtime.Activation("glu"),
        runtime.Activation("relu", {"max_value": 2.0}),
        runtime.Softmax(1),
        dense(3, 3, runtime.Activation("celu")),
        rnn(onward.GRU(3, 4, batch_first=True), go_backwards=True),
        both(return_sequences=False),
        both(go_backwards=False),
    ],
    ids=repr,
)
def test_layers_that_cannot_be_converted_are_named(layer: Any, tmp_path: Path) -> None:
    with pytest.raises(errors.ArgumentError, match="layer0, "):
        onward.export_onnx(model_of(layer), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_branching_model_is_refused() -> None:
    one = dense(3, 3)
    for model in (
        model_of(one, outputs=[[0, 0]]),
        model_of(one, outputs=[[1, 0], [1, 0]]),
        model_of(one, inputs=[("a", "float32"), ("b", "float32")]),
    ):
        with pytest.raises(errors.ArgumentError, match="does not accept the output of the layer before it"):
            sequential(model)
