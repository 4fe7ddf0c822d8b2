"""Keras 3 recurrent layers, in models with random weights: loaded files give the outputs of Keras."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L
from support.keras_models import RNG, F, T, agree, graph, masked, random_inputs, through, with_random_weights

import onward

# keras 3.15 uses what NumPy 2.4 deprecates
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:keras"),
    pytest.mark.filterwarnings(
        "ignore:.*was passed an input with a mask:UserWarning"
    ),  # the tests check that the mask is dropped
    pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning"),
]


RECURRENT = {
    "simple": lambda **k: L.SimpleRNN(4, **k),
    "relu": lambda **k: L.SimpleRNN(4, activation="relu", **k),
    "lstm": lambda **k: L.LSTM(4, **k),
    "gru": lambda **k: L.GRU(4, **k),
    "gru_before": lambda **k: L.GRU(4, reset_after=False, **k),
    "one_unit": lambda **k: L.LSTM(1, **k),
    "no_bias": lambda **k: L.GRU(4, use_bias=False, **k),
    "stacked": lambda **k: L.RNN([L.LSTMCell(3), L.GRUCell(4), L.SimpleRNNCell(2)], **k),
    "cell": lambda **k: L.RNN(L.GRUCell(4, reset_after=False), **k),
}


@pytest.mark.parametrize("mask", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("backwards", [False, True], ids=["", "backwards"])
@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_give_the_outputs_of_keras(
    name: str, sequences: bool, backwards: bool, mask: bool, tmp_path: Path
) -> None:
    layer = RECURRENT[name](return_sequences=sequences, go_backwards=backwards)
    agree((masked if mask else through)(layer), tmp_path)


UNUSUAL: dict[str, Any] = {
    "softmax": "softmax",
    "sparsemax": "sparsemax",
    "hard_tanh": "hard_tanh",
    "layer": L.ReLU(0.8, negative_slope=0.1, threshold=0.2),
}


@pytest.mark.parametrize("mask", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("backwards", [False, True], ids=["", "backwards"])
@pytest.mark.parametrize("function", UNUSUAL)
@pytest.mark.parametrize("name", ["simple", "lstm", "gru", "gru_before", "no_bias"])
def test_cells_apply_any_activation(
    name: str, function: str, backwards: bool, mask: bool, tmp_path: Path
) -> None:
    own = {} if name == "simple" else {"recurrent_activation": "sparse_sigmoid"}
    kind = {"simple": L.SimpleRNN, "lstm": L.LSTM}.get(name, L.GRU)
    if kind is L.GRU:
        own |= {"reset_after": name == "gru", "use_bias": name != "no_bias"}
    layer = kind(4, activation=UNUSUAL[function], go_backwards=backwards, return_state=True, **own)
    agree(graph(lambda x: layer(L.Masking()(x) if mask else x)), tmp_path)


def test_directions_with_any_activation_are_merged(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        layer = L.GRU(3, activation="softmax", return_sequences=True, return_state=True)
        y, *states = L.Bidirectional(layer)(L.Masking()(x))
        return [L.Bidirectional(L.ConvLSTM1D(2, 2))(L.Reshape((T, 3, 2))(y)), *states]

    agree(graph(build), tmp_path)


def test_layers_convert_floats_to_their_dtype(tmp_path: Path) -> None:
    x = keras.Input((T, F), dtype="float64")
    cells = [L.LSTMCell(3), L.GRUCell(2, dtype="float64")]
    layers = [L.Reshape((F, T)), L.Dropout(0.1), L.ZeroPadding1D(1), L.RNN(cells, return_state=True)]
    layers += [L.Bidirectional(L.LSTM(2, dtype="float64")), L.LSTM(2, dtype="float64")]
    model = with_random_weights(keras.Model(x, [layer(x) for layer in layers]))
    model.save(tmp_path / "m.keras")
    given = RNG.normal(size=(3, T, F))
    outputs = keras.tree.flatten(onward.load(tmp_path / "m.keras")(given))
    expected = keras.tree.flatten(model(given))
    for y, wanted in zip(outputs, expected, strict=True):
        assert y.dtype == wanted.detach().numpy().dtype
        np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("name", ["lstm", "gru", "stacked"])
def test_zero_output_for_mask_gives_zeros_at_masked_steps(name: str, sequences: bool, tmp_path: Path) -> None:
    agree(masked(RECURRENT[name](return_sequences=sequences, zero_output_for_mask=True)), tmp_path)


@pytest.mark.parametrize("name", ["simple", "lstm", "gru"])
def test_unrolled_layers_give_the_outputs_of_keras(name: str, tmp_path: Path) -> None:
    agree(masked(RECURRENT[name](unroll=True, return_sequences=True)), tmp_path)


@pytest.mark.parametrize("name", ["simple", "lstm", "gru"])
def test_a_stream_continues_as_stateful_layers_do(name: str, tmp_path: Path) -> None:
    layer = RECURRENT[name](stateful=True, return_sequences=True)
    model = with_random_weights(keras.Sequential([keras.Input(batch_shape=(3, 2, F)), layer]))
    model.save(tmp_path / "m.keras")
    stream = onward.load(tmp_path / "m.keras").stream(batch=3)
    for _ in range(3):
        x = RNG.normal(size=(3, 2, F)).astype(np.float32)
        np.testing.assert_allclose(stream(x), model(x).detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["lstm", "gru", "simple"])
def test_initial_states_can_come_from_other_layers(name: str, tmp_path: Path) -> None:
    x, start = keras.Input((T, F)), keras.Input((3, F))
    _, *states = RECURRENT[name](return_state=True)(start)
    agree(keras.Model([x, start], RECURRENT[name](return_sequences=True)(x, initial_state=states)), tmp_path)


@pytest.mark.parametrize("mask", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("merge", ["concat", "sum", "ave", "mul", None])
@pytest.mark.parametrize("name", ["lstm", "gru_before"])
def test_bidirectional_layers_give_the_outputs_of_keras(
    name: str, merge: str | None, sequences: bool, mask: bool, tmp_path: Path
) -> None:
    def build(x: Any) -> Any:
        layer = L.Bidirectional(RECURRENT[name](return_sequences=sequences), merge_mode=merge)
        return layer(L.Masking()(x) if mask else x)

    agree(graph(build), tmp_path)


def test_bidirectional_layers_can_differ_in_kind_and_receive_states(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        forward = L.GRU(3, return_sequences=True, return_state=True)
        backward = L.GRU(3, return_sequences=True, return_state=True, go_backwards=True, reset_after=False)
        y, h, h_reverse = L.Bidirectional(forward, backward_layer=backward)(L.Masking()(x))
        again = L.Bidirectional(L.GRU(3))(y, initial_state=[h, h_reverse])
        return [y, h, h_reverse, again]

    agree(graph(build), tmp_path)


@pytest.mark.parametrize("both", [False, True], ids=["", "bidirectional"])
@pytest.mark.parametrize("place", ["position", "name", "and_mask", "mask_alone"])
@pytest.mark.parametrize("name", RECURRENT)
def test_initial_states_can_be_passed_with_a_masked_input(
    name: str, place: str, both: bool, tmp_path: Path
) -> None:
    """Keras applies the mask of the call's only array; later layers may receive it in any case."""
    layer = RECURRENT[name](return_sequences=True)
    x, counts = keras.Input((T, F)), keras.Input((T,), dtype="bool", name="ids")
    _, *own = RECURRENT[name](return_state=True)(x)
    given = keras.tree.map_structure(lambda state: keras.Input(state.shape[1:]), own * (1 + both))
    states = keras.tree.flatten(given)
    given = given[0] if len(given) == 1 else given
    layer, masked = L.Bidirectional(layer) if both else layer, L.Masking()(x)
    if place == "position":
        y = layer(masked, given)
    elif place == "name":
        y = layer(masked, initial_state=given)
    elif place == "and_mask":
        y = layer(masked, given, counts)
    else:
        y, states = layer(masked, None, counts), []
    given_mask = [counts] if "mask" in place else []
    agree(keras.Model([x, *states, *given_mask], L.GRU(2)(y)), tmp_path)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, m, n: L.Softmax()(x, n),
        lambda x, m, n: L.Softmax()(x, mask=n),
        lambda x, m, n: L.LSTM(2)(L.Softmax(axis=1)(x, L.Reshape((T, 1))(m))),
        lambda x, m, n: L.GlobalAveragePooling1D()(x, m),
        lambda x, m, n: L.GlobalAveragePooling1D()(x, mask=m),
        lambda x, m, n: L.Attention()([x, x], [None, m]),
        lambda x, m, n: L.Attention()([x, x], mask=[None, m]),
        lambda x, m, n: L.GRU(2)(L.Attention()([x, x, x], mask=[m, None])),
        lambda x, m, n: L.GRU(2)(L.TimeDistributed(L.Dense(2))(x, mask=m)),
        lambda x, m, n: L.GRU(2)(L.BatchNormalization()(x, mask=m)),
    ],
)
def test_masks_can_be_passed_in_a_call(call: Any, tmp_path: Path) -> None:
    x = keras.Input((T, F))
    m, n = keras.Input((T,), dtype="bool", name="ids"), keras.Input((T, F), dtype="bool", name="ids_n")
    agree(keras.Model([x, m, n], call(x, m, n)), tmp_path)


@pytest.mark.parametrize("precision", [None, "float16", "int8"])
def test_streams_and_pools_give_the_outputs_of_a_call(precision: str | None, tmp_path: Path) -> None:
    through(L.LSTM(4, return_sequences=True), L.GRU(3, return_sequences=True), L.Dense(2)).save(
        tmp_path / "m.keras"
    )
    opened = onward.load(tmp_path / "m.keras")
    if precision is not None:
        opened = opened.quantize(precision)
    x = RNG.normal(size=(3, 7, F)).astype(np.float32)
    stream, pool = opened.stream(batch=3), opened.pool(2)
    ids = pool.open(3)
    np.testing.assert_array_equal(np.stack([stream(x[:, t]) for t in range(7)], axis=1), opened(x))
    np.testing.assert_array_equal(np.stack([pool.step(ids, x[:, t]) for t in range(7)], axis=1), opened(x))


@pytest.mark.parametrize("layer", [L.Bidirectional(L.GRU(3)), L.LSTM(3, go_backwards=True)])
def test_layers_that_need_several_steps_do_not_stream(layer: Any, tmp_path: Path) -> None:
    through(L.LSTM(4, return_sequences=True), layer).save(tmp_path / "m.keras")
    with pytest.raises(onward.errors.ArgumentError, match="cannot stream"):
        onward.load(tmp_path / "m.keras").stream()


@pytest.mark.parametrize("mask", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("name", RECURRENT)
def test_returned_states_are_those_of_keras(name: str, mask: bool, tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return RECURRENT[name](return_state=True)(L.Masking()(x) if mask else x)

    agree(graph(build), tmp_path)


CONV_LSTM: dict[str, dict[str, Any]] = {
    "last": {},
    "sequences": {"return_sequences": True, "padding": "same", "strides": 2},
    "backwards": {"return_sequences": True, "go_backwards": True, "use_bias": False},
    "states": {"return_state": True, "activation": "relu", "recurrent_activation": "hard_sigmoid"},
    "dilated": {"return_sequences": True, "padding": "same", "dilation_rate": 2},
    "zeros": {"return_sequences": True, "zero_output_for_mask": True},
    "channels_first": {"return_sequences": True, "return_state": True, "data_format": "channels_first"},
    "softmax": {"activation": "softmax", "recurrent_activation": "sparsemax"},
    "softmax_first": {"activation": "log_softmax", "data_format": "channels_first"},
}


@pytest.mark.parametrize("mask", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("name", CONV_LSTM)
def test_convolutional_layers_over_time_give_the_outputs_of_keras(
    name: str, mask: bool, tmp_path: Path
) -> None:
    one, two = keras.Input((4, 6, 3)), keras.Input((4, 5, 6, 3))
    counts = keras.Input((4,), dtype="bool", name="ids")
    given = {"mask": counts} if mask else {}
    outputs = [
        L.ConvLSTM1D(2, 2, **CONV_LSTM[name])(one, **given),
        L.ConvLSTM2D(3, (2, 3), **CONV_LSTM[name])(two, **given),
    ]
    agree(keras.Model([one, two, counts], outputs), tmp_path)


def test_an_unrolled_bidirectional_layer_repeats_the_bug_of_keras(tmp_path: Path) -> None:
    """Keras cannot run such a layer on PyTorch, so the numbers are those of TensorFlow."""
    model = masked(L.Bidirectional(L.LSTM(4, return_sequences=True, unroll=True)))
    path = tmp_path / "m.keras"
    with_random_weights(model).save(path)
    (x,) = random_inputs(model)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import keras, numpy as np; "
        f"y = keras.models.load_model({str(path)!r})(np.load({str(tmp_path / 'x.npy')!r})); "
        f"np.save({str(tmp_path / 'y.npy')!r}, y)"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"KERAS_BACKEND": "tensorflow"}, check=True)
    np.testing.assert_allclose(onward.load(path)(x), np.load(tmp_path / "y.npy"), rtol=2e-5, atol=2e-6)


EXPORT = """
import sys
import keras, numpy as np
from keras import layers as L

rng, path = np.random.default_rng(0), sys.argv[1]
both = L.Bidirectional(L.SimpleRNN(3, activation="relu", return_sequences=True))
layers = [L.GRU(4, return_sequences=True), both]
layers += [L.GRU(5, reset_after=False, go_backwards=True, return_sequences=True), L.SimpleRNN(2)]
model = keras.Sequential([keras.Input((int(sys.argv[2]) or None, 3)), *layers, L.Dense(2)])
model.set_weights([(rng.normal(size=W.shape) * 0.5).astype(np.float32) for W in model.get_weights()])
x = rng.normal(size=(2, 9, 3)).astype(np.float32)
np.savez(path + ".npz", x=x, y=model(x))
model.export(path, format="onnx", verbose=False)
"""


@pytest.mark.parametrize("steps", [0, 9], ids=["any", "nine"])
def test_layers_that_keras_exports_as_loops_are_traced_as_layers(steps: int, tmp_path: Path) -> None:
    """TensorFlow writes a GRU and a SimpleRNN as `while`, which the export to ONNX keeps as loops."""
    pytest.importorskip("tf2onnx")
    path = tmp_path / "loops.onnx"
    command = [sys.executable, "-c", EXPORT, str(path), str(steps)]
    subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "tensorflow"}, check=True)
    expected = np.load(f"{path}.npz")
    trace = onward.load(path).trace(expected["x"])
    np.testing.assert_allclose(trace.y, expected["y"], rtol=2e-5, atol=2e-6)
    names = [re.sub(r"(_\d+)*(?=[./])", "", name) for name in trace.layers]
    both = [f"bidirectional/{way}_simple_rnn.l0" for way in ("forward", "backward")]
    assert names == ["gru.l0", *both, "gru.l0", "simple_rnn.l0"]
