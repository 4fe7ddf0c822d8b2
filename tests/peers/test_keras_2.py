"""Keras 2 (tf_keras): what Keras 3 removed or computes differently."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow
import tf_keras
from support.random_keras import RandomModel
from tf_keras import layers as L

import onward

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]
RNG = np.random.default_rng(0)
B, T, F = 3, 7, 5
RECURRENT: dict[str, Any] = {
    "simple": lambda **k: L.SimpleRNN(4, **k),
    "lstm": lambda **k: L.LSTM(4, **k),
    "gru": lambda **k: L.GRU(4, reset_after=False, recurrent_activation="hard_sigmoid", **k),
    "stacked": lambda **k: L.RNN([L.LSTMCell(3), L.GRUCell(4), L.SimpleRNNCell(2)], **k),
}


def with_random_weights(model: Any) -> Any:
    """The model with random weights, so that a permuted weight changes the outputs."""
    model.set_weights([RNG.uniform(-0.6, 0.6, weight.shape) for weight in model.get_weights()])
    return model


def opened(model: Any, folder: Path, ending: str) -> Any:
    model.save(folder / f"model.{ending}")
    return onward.load(folder / f"model.{ending}")


def in_both_formats(model: Any, folder: Path) -> Iterator[Any]:
    """The model as Onward opens it from an HDF5 file and from a .keras file: building it takes longest."""
    return (opened(model, folder, ending) for ending in ("h5", "keras"))


@pytest.mark.parametrize(
    "options",
    [
        {"time_major": True, "return_sequences": True},
        {"time_major": True, "go_backwards": True},
        {"unroll": True, "return_sequences": True},
        {"go_backwards": True, "return_sequences": True},
        {"return_sequences": True, "return_state": True},
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_apply_every_option(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    shape = (T, B, F) if "time_major" in options else (B, T, F)
    inputs = tf_keras.Input(batch_shape=shape)
    model = with_random_weights(tf_keras.Model(inputs, RECURRENT[name](**options)(inputs)))
    x = RNG.normal(size=shape).astype(np.float32)
    expected = tensorflow.nest.flatten(model(x))
    for each in in_both_formats(model, tmp_path):
        for mine, theirs in zip(tensorflow.nest.flatten(each(x)), expected, strict=True):
            np.testing.assert_allclose(mine, theirs.numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_zero_output_for_mask_gives_zeros_at_masked_steps(name: str, sequences: bool, tmp_path: Path) -> None:
    layer = RECURRENT[name](return_sequences=sequences, zero_output_for_mask=True)
    model = with_random_weights(tf_keras.Sequential([tf_keras.Input((T, F)), L.Masking(), layer]))
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    x[0, :2], x[1, 3], x[2, -2:] = 0, 0, 0
    np.testing.assert_allclose(opened(model, tmp_path, "h5")(x), model(x).numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("merge", ["concat", "sum", "ave", "mul", None])
def test_bidirectional_layers_merge_and_mask_as_keras_does(merge: str | None, tmp_path: Path) -> None:
    inputs = tf_keras.Input((T, F))
    outputs = L.Bidirectional(RECURRENT["gru"](return_sequences=True), merge_mode=merge)(inputs)
    model = with_random_weights(tf_keras.Model(inputs, outputs))
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    got, expected = opened(model, tmp_path, "h5")(x), model(x)
    pairs = zip(got, expected, strict=True) if merge is None else [(got, expected)]
    for mine, theirs in pairs:
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["simple", "lstm", "gru"])
def test_a_stream_continues_as_stateful_layers_do(name: str, tmp_path: Path) -> None:
    layer = RECURRENT[name](stateful=True, return_sequences=True)
    model = with_random_weights(tf_keras.Sequential([tf_keras.Input(batch_shape=(B, 2, F)), layer]))
    stream = opened(model, tmp_path, "h5").stream(batch=B)
    for _ in range(3):
        x = RNG.normal(size=(B, 2, F)).astype(np.float32)
        np.testing.assert_allclose(stream(x), model(x).numpy(), rtol=2e-5, atol=2e-6)


def test_custom_objects_are_named_after_classes(tmp_path: Path) -> None:
    inputs = tf_keras.Input((T, F))
    model = with_random_weights(tf_keras.Model(inputs, L.Lambda(lambda x: x * 2)(L.Dense(2)(inputs))))
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    model.save(tmp_path / "model.h5")
    with pytest.raises(onward.errors.FileError, match="is a Lambda"):
        onward.load(tmp_path / "model.h5")
    mine: Any = onward.load(tmp_path / "model.h5", custom_objects={"Lambda": lambda x: x * 2})
    np.testing.assert_allclose(mine(x), model(x).numpy(), rtol=2e-5, atol=2e-6)


MASKED: dict[str, Any] = {
    **{name: lambda name=name, **k: L.Bidirectional(RECURRENT[name](**k)) for name in RECURRENT},
    **{
        merge: lambda merge=merge, **k: L.Bidirectional(L.LSTM(3, **k), merge_mode=merge)
        for merge in ("sum", "ave", "mul")
    },
    "cell": lambda **k: L.Bidirectional(L.RNN(L.GRUCell(3), **k)),
    "backward": lambda **k: L.Bidirectional(
        L.LSTM(3, **k), backward_layer=L.LSTM(3, activation="relu", go_backwards=True, **k)
    ),
    "zeros": lambda **k: L.Bidirectional(L.LSTM(3, zero_output_for_mask=True, **k)),
}


@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("name", MASKED)
def test_masked_steps_are_zero_in_both_directions(name: str, sequences: bool, tmp_path: Path) -> None:
    layer = MASKED[name](return_sequences=sequences)
    end = [L.GlobalMaxPooling1D()] if sequences else []  # sees the steps that a mask would hide
    model = with_random_weights(tf_keras.Sequential([tf_keras.Input((T, F)), L.Masking(), layer, *end]))
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    x[0, :2], x[1, 3], x[2, -2:] = 0, 0, 0
    expected = model(x).numpy()
    for each in in_both_formats(model, tmp_path):
        np.testing.assert_allclose(each(x), expected, rtol=2e-5, atol=2e-6)


INSIDE: dict[str, list[Any]] = {
    "embedding": [
        L.TimeDistributed(L.Embedding(6, 3, mask_zero=True)),
        L.TimeDistributed(L.Bidirectional(L.LSTM(4))),
    ],
    "masking": [
        L.TimeDistributed(L.Embedding(6, 3)),
        L.TimeDistributed(L.Masking(0.0)),
        L.TimeDistributed(L.GRU(4, return_sequences=True)),
        L.TimeDistributed(L.Dense(3)),
        L.TimeDistributed(L.GRU(4)),
    ],
    "above": [L.Embedding(6, 3, mask_zero=True), L.TimeDistributed(L.GRU(4)), L.TimeDistributed(L.Dense(2))],
    "model": [
        L.TimeDistributed(
            tf_keras.Sequential(
                [tf_keras.Input((4,)), L.Embedding(6, 3, mask_zero=True), L.LSTM(4, return_sequences=True)]
            )
        ),
        L.TimeDistributed(L.GlobalAveragePooling1D()),
    ],
}


@pytest.mark.parametrize("name", INSIDE)
def test_masks_inside_time_distributed_layers_become_masks_of_steps(name: str, tmp_path: Path) -> None:
    inputs = tf_keras.Input((3, 4), dtype="int32")
    outputs = inputs
    for layer in INSIDE[name]:
        outputs = layer.__class__.from_config(layer.get_config())(outputs)
    model = with_random_weights(tf_keras.Model(inputs, L.LSTM(2)(outputs)))
    table = next(weight for weight in model.weights if "embeddings" in weight.name)
    table.assign(np.where(np.arange(6)[:, None] == 0, 0, table))  # also a masked step for Masking
    ids = RNG.integers(0, 6, (B, 3, 4))
    ids[0, :, 2:], ids[1, 1], ids[2, 0, 0] = 0, 0, 0
    expected = model(ids).numpy()
    for each in in_both_formats(model, tmp_path):
        np.testing.assert_allclose(each(ids), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("axis", [[2, 1], [1, 2], [-1, -2], [1], -1], ids=str)
def test_scales_over_several_axes_follow_the_input(axis: Any, tmp_path: Path) -> None:
    model = with_random_weights(
        tf_keras.Sequential([tf_keras.Input((T, F)), L.LayerNormalization(axis=axis)])
    )
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    np.testing.assert_allclose(opened(model, tmp_path, "h5")(x), model(x).numpy(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("mask", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("name", RECURRENT)
def test_initial_states_can_be_passed_with_the_input(name: str, mask: bool, tmp_path: Path) -> None:
    inputs = tf_keras.Input((T, F))
    masked = L.Masking()(inputs) if mask else inputs
    _, *states = RECURRENT[name](return_state=True)(masked)
    outputs = RECURRENT[name](return_sequences=True)(masked, initial_state=states)
    model = with_random_weights(tf_keras.Model(inputs, L.GlobalMaxPooling1D()(outputs)))
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    x[0, :2], x[1, 3], x[2, -2:] = 0, 0, 0
    expected = model(x).numpy()
    for each in in_both_formats(model, tmp_path):
        np.testing.assert_allclose(each(x), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("ending", ["h5", "keras"])
@pytest.mark.parametrize("listed", [False, True], ids=["dict", "list"])
def test_inputs_can_be_passed_by_name(listed: bool, ending: str, tmp_path: Path) -> None:
    a, b = tf_keras.Input((T, F), name="in_a"), tf_keras.Input((T, F), name="in_b")
    named = {"q": L.Activation("tanh")(a), "p": L.Subtract()([a, b]), "o": [a, L.Activation("relu")(b)]}
    inner = tf_keras.Model([b, a] if listed else {"b": b, "a": a}, named, name="inner")
    x, y = tf_keras.Input((T, F), name="x"), tf_keras.Input((T, F), name="y")
    z = inner([L.Masking()(y), x] if listed else {"b": L.Masking()(y), "a": x})
    outputs = {"u": L.Subtract()([z["p"], z["q"]]), "t": L.LSTM(2)(z["o"][1]), "v": z["o"][0]}
    model = with_random_weights(tf_keras.Model({"y": y, "x": x}, outputs))
    given = {name: RNG.normal(size=(B, T, F)).astype(np.float32) for name in "xy"}
    given["y"][0, :2] = 0
    mine, expected = opened(model, tmp_path, ending), model(given)
    for got in (mine(given), mine([given["x"], given["y"]])):
        assert got.keys() == expected.keys()
        for key, wanted in expected.items():
            np.testing.assert_allclose(got[key], wanted.numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("layer", [L.Dropout, L.BatchNormalization, L.LSTM])
def test_layers_in_training_mode_are_refused(layer: Any, tmp_path: Path) -> None:
    inputs = tf_keras.Input((T, F))
    options = {L.Dropout: {"rate": 0.5}, L.LSTM: {"units": 3, "dropout": 0.5}}.get(layer, {})
    model = tf_keras.Model(inputs, layer(name="acting", **options)(inputs, training=True))
    with pytest.raises(onward.errors.FileError, match=r"layer acting \(\w+\) is called with training=True"):
        opened(model, tmp_path, "h5")


def test_names_inside_layers_are_separate(tmp_path: Path) -> None:
    layers = [L.TimeDistributed(L.Dense(F, name="same")), L.Dense(F, name="same"), L.Dense(F, name="kernel")]
    inner = tf_keras.Sequential([tf_keras.Input((T, F)), *layers])
    model = with_random_weights(tf_keras.Sequential([tf_keras.Input((T, F)), inner, L.LSTM(2)]))
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    np.testing.assert_allclose(opened(model, tmp_path, "h5")(x), model(x).numpy(), rtol=2e-5, atol=2e-6)


def tf_squared(x: Any) -> Any:
    return x @ tensorflow.transpose(x, (0, 2, 1))


OPERATIONS: dict[str, Any] = {
    "last": lambda x: x[:, -1],
    "slices": lambda x: [x[:, 1:-1], x[:, ::2, :3], x[:, 0:1], x[:, :, None], x[:, 0, 1], x[1:], x[0]],
    "arithmetic": lambda x: [2 / (x * x + 1), 1 - x, x - 1, -x, x**2, abs(x), x / 2, x * 0.5 + 1, x + x],
    "arrays": lambda x: x + np.arange(F, dtype="f4"),
    "reduced": lambda x: [tensorflow.reduce_mean(x, 1), tensorflow.reduce_max(x, [1, 2], keepdims=True)],
    "functions": lambda x: [tensorflow.nn.relu(x), tensorflow.tanh(x), tensorflow.nn.softmax(x, axis=1)],
    "shapes": lambda x: [tensorflow.reshape(x, (-1, T * F)), tensorflow.transpose(x, [0, 2, 1])],
    "axes": lambda x: [tensorflow.expand_dims(x, 1), tensorflow.squeeze(x[:, :1], 1)],
    "several": lambda x: [tensorflow.concat([x, 2 * x], -1), tensorflow.stack([x, -x], axis=1)],
    "product": tf_squared,
    "chosen": lambda x: [tensorflow.where(x > 0, x, 0.1 * x), tensorflow.clip_by_value(x, -0.5, 0.5)],
    "defaults": lambda x: [tensorflow.cumsum(x), tensorflow.argmax(x), tensorflow.gather(x, [2, 0], axis=1)],
    "moved": lambda x: [tensorflow.reverse(x, [1]), tensorflow.tile(x, [1, 2, 1]), tensorflow.round(x)],
    "parts": lambda x: [*tensorflow.split(x, 5, axis=-1), *tensorflow.split(x, [3, 4], axis=1)],
    "padded": lambda x: tensorflow.pad(x, [[0, 0], [1, 2], [0, 0]]),
    "sizes": lambda x: tensorflow.reshape(x, [tensorflow.shape(x)[0], -1]),
    "units": lambda x: [tensorflow.math.l2_normalize(x, axis=-1), tensorflow.norm(x, axis=1)],
    "named": lambda x: [tensorflow.nn.gelu(x), tensorflow.nn.leaky_relu(x), tensorflow.math.log1p(x * x)],
    "attention": lambda x: tensorflow.reduce_sum(tensorflow.nn.softmax(tensorflow.tanh(x), 1) * x, axis=1),
}


@pytest.mark.parametrize("ending", ["h5", "keras"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_tensorflow_functions_give_the_outputs_of_keras(name: str, ending: str, tmp_path: Path) -> None:
    inputs = tf_keras.Input((T, F))
    model = tf_keras.Model(inputs, OPERATIONS[name](L.Dense(F)(inputs)))
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    got = opened(model, tmp_path, ending)(x)
    for mine, theirs in zip(
        got if isinstance(got, list) else [got], tensorflow.nest.flatten(model(x)), strict=True
    ):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=2e-5, atol=2e-6)


def test_masks_can_be_computed_in_the_graph(tmp_path: Path) -> None:
    inputs = tf_keras.Input((T, F))
    outputs = L.LSTM(3, return_sequences=True)(inputs, mask=L.Masking().compute_mask(inputs))
    model = with_random_weights(tf_keras.Model(inputs, L.GlobalMaxPooling1D()(outputs)))
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    x[0, :2], x[1, 3], x[2, -2:] = 0, 0, 0
    np.testing.assert_allclose(opened(model, tmp_path, "h5")(x), model(x).numpy(), rtol=2e-5, atol=2e-6)


def test_negative_indices_count_from_the_end(tmp_path: Path) -> None:
    inputs = tf_keras.Input((T, F))
    model = tf_keras.Model(inputs, [inputs[..., -1], inputs[..., 0, 1]])
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    for y, wanted in zip(opened(model, tmp_path, "h5")(x), (x[..., -1], x[..., 0, 1]), strict=True):
        np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("name", ["last", "scaled"])
def test_masks_pass_tensorflow_functions_as_in_keras(name: str, tmp_path: Path) -> None:
    inputs = tf_keras.Input((T, F))
    masked = L.Masking()(inputs)
    outputs = 2 * masked if name == "scaled" else masked[:, 1:]
    model = with_random_weights(tf_keras.Model(inputs, L.LSTM(2)(outputs)))
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    x[0, :2], x[1, 3], x[2, -2:] = 0, 0, 0
    np.testing.assert_allclose(opened(model, tmp_path, "h5")(x), model(x).numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("function", [tensorflow.linalg.diag_part, lambda x: tensorflow.matmul(x, x, True)])
def test_unknown_tensorflow_functions_are_refused(function: Any, tmp_path: Path) -> None:
    inputs = tf_keras.Input((T, F))
    with pytest.raises(onward.errors.FileError, match=r"TFOpLambda.* Onward does not"):
        opened(tf_keras.Model(inputs, function(inputs)), tmp_path, "h5")


SIMPLE: dict[str, Any] = {
    "group_normalization": lambda: L.GroupNormalization(groups=5),
    "unit_normalization": lambda: L.UnitNormalization(),
    "rescaling": lambda: L.Rescaling(0.5, offset=0.1),
    "prelu": lambda: L.PReLU(shared_axes=[1]),
    "prelu_activation": lambda: L.Dense(4, activation=L.PReLU()),
    "zero_padding": lambda: L.ZeroPadding1D((1, 2)),
    "cropping": lambda: L.Cropping1D((1, 2)),
    "up_sampling": lambda: L.UpSampling1D(3),
    "separable_conv1d": lambda: L.SeparableConv1D(4, 3, depth_multiplier=2, activation="tanh"),
    "separable_conv1d_causal": lambda: L.SeparableConv1D(4, 2, padding="causal", use_bias=False),
    "depthwise_conv1d": lambda: L.DepthwiseConv1D(3, depth_multiplier=2, padding="same"),
    "conv1d_transpose": lambda: L.Conv1DTranspose(4, 3, strides=2, padding="same"),
    "normalization": lambda: adapted(L.Normalization()),
}


def adapted(layer: Any) -> Any:
    layer.adapt(RNG.normal(3, 2, size=(9, T, F)).astype(np.float32))
    return layer


@pytest.mark.parametrize("ending", ["h5", "keras"])
@pytest.mark.parametrize("name", SIMPLE)
def test_simple_layers_give_the_outputs_of_keras(name: str, ending: str, tmp_path: Path) -> None:
    model = tf_keras.Sequential([tf_keras.Input((T, F)), SIMPLE[name](), L.LSTM(2)])
    model = model if name == "normalization" else with_random_weights(model)
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    np.testing.assert_allclose(opened(model, tmp_path, ending)(x), model(x).numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_layers_of_models_inside_nested_models_have_their_weights(ending: str, tmp_path: Path) -> None:
    inner = tf_keras.Sequential([tf_keras.Input((T, 3)), L.Dense(2), L.LSTM(3, return_sequences=True)])
    outer = tf_keras.Sequential([tf_keras.Input((T, F)), L.Dense(3), inner, L.Dense(4)])
    model = with_random_weights(tf_keras.Sequential([tf_keras.Input((T, F)), outer, L.LSTM(2)]))
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    np.testing.assert_allclose(opened(model, tmp_path, ending)(x), model(x).numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("layer", [L.ConvLSTM1D, L.ConvLSTM2D], ids=lambda each: each.__name__)
def test_convolutional_lstms_give_the_outputs_of_keras(layer: Any, tmp_path: Path) -> None:
    shape = (T, 6, 2) if layer is L.ConvLSTM1D else (T, 6, 5, 2)
    layers = [layer(3, 3, padding="same", return_sequences=True), layer(2, 2, go_backwards=True)]
    model = with_random_weights(tf_keras.Sequential([tf_keras.Input(shape), *layers]))
    x = RNG.normal(size=(B, *shape)).astype(np.float32)
    np.testing.assert_allclose(opened(model, tmp_path, "h5")(x), model(x).numpy(), rtol=2e-5, atol=2e-6)


OPTIMIZERS = ["adam", "sgd", "rmsprop", "adagrad", tf_keras.optimizers.legacy.Adam]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("functional", [False, True], ids=["sequential", "functional"])
def test_optimizer_state_is_ignored(functional: bool, optimizer: Any, tmp_path: Path) -> None:
    inner = compiled(tf_keras.Sequential([tf_keras.Input((T, F)), L.Dense(F)], name="inner"), optimizer)
    layers = [inner, L.LSTM(4, dropout=0.1), L.Dense(1, activation="sigmoid")]
    inputs = tf_keras.Input((T, F))
    outputs = inputs
    for layer in layers if functional else []:
        outputs = layer(outputs)
    model = tf_keras.Model(inputs, outputs) if functional else tf_keras.Sequential([inputs, *layers])
    compiled(model, optimizer, ["accuracy", tf_keras.metrics.AUC()])
    x = RNG.normal(size=(B, T, F)).astype(np.float32)
    for ending in ("keras", "h5"):
        np.testing.assert_allclose(opened(model, tmp_path, ending)(x), model(x).numpy(), rtol=2e-5, atol=2e-6)
    model.save_weights(tmp_path / "model.weights.h5")
    net = onward.Sequential(
        onward.Linear(F, F),
        onward.LSTM(F, 4, batch_first=True),
        onward.Last(batch_first=True),
        onward.Linear(4, 1),
        onward.Activation("sigmoid"),
    )
    net.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(net(x), model(x).numpy(), rtol=2e-5, atol=2e-6)


def compiled(model: Any, optimizer: Any, metrics: Any = ("mae",)) -> Any:
    """The model after a step of training."""
    optimizer = optimizer if isinstance(optimizer, str) else optimizer()
    model.compile(optimizer, "mse", metrics=list(metrics))
    model.fit(RNG.normal(size=(B, T, F)), np.round(RNG.random((B, *model.output_shape[1:]))), verbose=0)
    return model


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", range(200))
def test_a_random_model_gives_the_outputs_of_keras(seed: int, tmp_path: Path) -> None:
    source = RandomModel(tf_keras, np.random.default_rng(seed))
    model = source.build()
    for weight in model.weights:
        values = RNG.uniform(-0.6, 0.6, weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.name else values)
    inputs = source.inputs(model)
    mine: Any = opened(model, tmp_path, ("keras", "h5")[seed % 2])
    expected = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    outputs, alone = mine(*inputs), mine(*(x[2:3] for x in inputs))
    for y, row, wanted in zip(outputs, alone, expected, strict=True):
        np.testing.assert_allclose(y, wanted.numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(y[2], row[0])
