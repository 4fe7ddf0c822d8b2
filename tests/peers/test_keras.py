"""Onward against Keras 3, live: every layer in a model of its own, with random weights, saved and opened."""

import os

os.environ["KERAS_BACKEND"] = "torch"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers as L
from keras import ops

import onward

# keras 3.15 uses what NumPy 2.4 deprecates
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:keras"),
    pytest.mark.filterwarnings(
        "ignore:.*was passed an input with a mask:UserWarning"
    ),  # that it is lost is tested
    pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning"),
]

RNG = np.random.default_rng(0)
T, F = 7, 5


def steps(*shape: int) -> keras.KerasTensor:
    return keras.Input(shape or (T, F))


def through(*layers: Any, shape: tuple[int, ...] = (T, F)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers])


def graph(build: Callable[[Any], Any], shape: tuple[int, ...] = (T, F)) -> keras.Model:
    x = keras.Input(shape)
    return keras.Model(x, build(x))


def masked(layer: Any) -> keras.Model:
    return through(L.Masking(0.0), layer)


def drawn(model: keras.Model) -> keras.Model:
    """The model with weights that tell every place from every other; variances are positive."""
    for variable in model.weights:
        values = RNG.uniform(-0.6, 0.6, variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values)
    return model


def drawn_inputs(model: keras.Model, batch: int = 5) -> list[np.ndarray]:
    """Random inputs; some steps of those that have features are zeros, at the start, amid and at the end."""
    arrays = []
    for tensor in model.inputs:
        shape = (batch, *(6 if size is None else size for size in tensor.shape[1:]))
        if tensor.name.startswith("ids"):
            arrays.append(RNG.integers(0, 4, shape).astype(tensor.dtype))
            continue
        x = RNG.normal(size=shape).astype(np.float32)
        if x.ndim == 3:
            for row, masked_steps in enumerate(([0, 1], [-1, -2], [2], [*range(x.shape[1])])):
                x[row, [step % x.shape[1] for step in masked_steps]] = 0
        arrays.append(x)
    return arrays


def agree(model: keras.Model, path: Path, **tolerance: float) -> None:
    """The model, saved in each format and opened, answers as Keras does, and again once Onward saved it."""
    inputs = drawn_inputs(drawn(model))
    expected = keras.tree.flatten(model(inputs if len(inputs) > 1 else inputs[0], training=False))
    for suffix in ("keras", "h5"):
        file = path / f"model.{suffix}"
        model.save(file)
        opened = onward.load(file)
        given = inputs if len(inputs) > 1 else inputs[0]
        got = opened(given)
        answers = got if isinstance(got, list) else [got]
        assert len(answers) == len(expected)
        for y, wanted in zip(answers, expected, strict=True):
            np.testing.assert_allclose(
                y, wanted.detach().numpy(), **({"rtol": 2e-5, "atol": 2e-6} | tolerance)
            )
        opened.save(path / "model.safetensors")
        again = onward.load(path / "model.safetensors")(given)
        for y, before in zip(again if isinstance(again, list) else [again], answers, strict=True):
            np.testing.assert_array_equal(y, before)
        for row in range(len(inputs[0])):
            alone = opened(
                [x[row : row + 1] for x in inputs] if len(inputs) > 1 else inputs[0][row : row + 1]
            )
            for y, all_rows in zip(alone if isinstance(alone, list) else [alone], answers, strict=True):
                np.testing.assert_array_equal(y[0], all_rows[row])


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
def test_recurrent_layers(name: str, sequences: bool, backwards: bool, mask: bool, tmp_path: Path) -> None:
    layer = RECURRENT[name](return_sequences=sequences, go_backwards=backwards)
    agree((masked if mask else through)(layer), tmp_path)


@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("name", ["lstm", "gru", "stacked"])
def test_masked_steps_give_zeros_where_asked(name: str, sequences: bool, tmp_path: Path) -> None:
    agree(masked(RECURRENT[name](return_sequences=sequences, zero_output_for_mask=True)), tmp_path)


@pytest.mark.parametrize("name", ["simple", "lstm", "gru"])
def test_unrolled_layers(name: str, tmp_path: Path) -> None:
    agree(masked(RECURRENT[name](unroll=True, return_sequences=True)), tmp_path)


@pytest.mark.parametrize("name", ["simple", "lstm", "gru"])
def test_what_a_stateful_layer_keeps_goes_out_and_in(name: str, tmp_path: Path) -> None:
    layer = RECURRENT[name](stateful=True, return_sequences=True)
    model = drawn(keras.Sequential([keras.Input(batch_shape=(3, 2, F)), layer]))
    model.save(tmp_path / "m.keras")
    opened: Any = onward.load(tmp_path / "m.keras")
    state = None
    for _ in range(3):
        x = RNG.normal(size=(3, 2, F)).astype(np.float32)
        y, state = opened(x, state, return_state=True)
        np.testing.assert_allclose(y, model(x).detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("mask", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("name", RECURRENT)
def test_states_returned(name: str, mask: bool, tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return RECURRENT[name](return_state=True)(L.Masking()(x) if mask else x)

    agree(graph(build), tmp_path)


@pytest.mark.parametrize("name", ["lstm", "gru", "simple"])
def test_initial_states_from_elsewhere_in_the_graph(name: str, tmp_path: Path) -> None:
    x, start = keras.Input((T, F)), keras.Input((3, F))
    _, *states = RECURRENT[name](return_state=True)(start)
    agree(keras.Model([x, start], RECURRENT[name](return_sequences=True)(x, initial_state=states)), tmp_path)


@pytest.mark.parametrize("mask", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("merge", ["concat", "sum", "ave", "mul", None])
@pytest.mark.parametrize("name", ["lstm", "gru_before"])
def test_two_directions(name: str, merge: str | None, sequences: bool, mask: bool, tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        layer = L.Bidirectional(RECURRENT[name](return_sequences=sequences), merge_mode=merge)
        return layer(L.Masking()(x) if mask else x)

    agree(graph(build), tmp_path)


def test_two_directions_of_different_layers_with_states(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        forward = L.GRU(3, return_sequences=True, return_state=True)
        backward = L.GRU(3, return_sequences=True, return_state=True, go_backwards=True, reset_after=False)
        y, h, h_reverse = L.Bidirectional(forward, backward_layer=backward)(L.Masking()(x))
        again = L.Bidirectional(L.GRU(3))(y, initial_state=[h, h_reverse])
        return [y, h, h_reverse, again]

    agree(graph(build), tmp_path)


SIMPLE = {
    "dense": L.Dense(4, activation="gelu"),
    "dense_no_bias": L.Dense(4, use_bias=False),
    "dropout": L.Dropout(0.5),
    "spatial_dropout": L.SpatialDropout1D(0.5),
    "noise": L.GaussianNoise(0.5),
    "gaussian_dropout": L.GaussianDropout(0.5),
    "alpha_dropout": L.AlphaDropout(0.5),
    "regularized": L.ActivityRegularization(0.1),
    "identity": L.Identity(),
    "relu": L.ReLU(max_value=0.8, negative_slope=0.1, threshold=0.2),
    "leaky_relu": L.LeakyReLU(0.17),
    "elu": L.ELU(0.7),
    "softmax": L.Softmax(),
    "softmax_over_time": L.Softmax(axis=1),
    "flatten": L.Flatten(),
    "flatten_channels_first": L.Flatten(data_format="channels_first"),
    "reshape": L.Reshape((5, -1)),
    "permute": L.Permute((2, 1)),
    "conv1d": L.Conv1D(4, 3, activation="relu"),
    "conv1d_same": L.Conv1D(4, 2, padding="same", strides=2, use_bias=False),
    "conv1d_causal": L.Conv1D(4, 3, padding="causal", dilation_rate=2),
    "conv1d_same_even": L.Conv1D(3, 4, padding="same"),
    "max_pooling": L.MaxPooling1D(3, strides=2),
    "max_pooling_same": L.MaxPooling1D(3, strides=2, padding="same"),
    "average_pooling": L.AveragePooling1D(2),
    "average_pooling_same": L.AveragePooling1D(3, strides=2, padding="same"),
    "batch_normalization": L.BatchNormalization(),
    "batch_normalization_plain": L.BatchNormalization(scale=False, center=False, axis=1),
    "batch_normalization_scale": L.BatchNormalization(center=False, epsilon=0.1),
    "layer_normalization": L.LayerNormalization(),
    "layer_normalization_axes": L.LayerNormalization(axis=(1, 2), center=False),
    "group_normalization": L.GroupNormalization(groups=5, epsilon=0.1),
    "group_normalization_all": L.GroupNormalization(groups=1, center=False),
    "group_normalization_time": L.GroupNormalization(groups=-1, axis=1, scale=False),
    "unit_normalization": L.UnitNormalization(),
    "unit_normalization_axes": L.UnitNormalization(axis=[1, 2]),
    "rescaling": L.Rescaling(0.5, offset=0.1),
    "rescaling_features": L.Rescaling([0.5, 1, 2, 3, 4], offset=[0, 1, 2, 3, 4]),
    "prelu": L.PReLU(),
    "prelu_shared": L.PReLU(shared_axes=[1]),
    "zero_padding": L.ZeroPadding1D((1, 2)),
    "zero_padding_both": L.ZeroPadding1D(2),
    "cropping": L.Cropping1D((1, 2)),
    "up_sampling": L.UpSampling1D(3),
    "separable_conv1d": L.SeparableConv1D(4, 3, depth_multiplier=2, activation="tanh"),
    "separable_conv1d_same": L.SeparableConv1D(4, 2, padding="same", strides=2, use_bias=False),
    "separable_conv1d_dilated": L.SeparableConv1D(4, 2, dilation_rate=2),
    "depthwise_conv1d": L.DepthwiseConv1D(3, depth_multiplier=2, activation="tanh"),
    "depthwise_conv1d_same": L.DepthwiseConv1D(2, padding="same", use_bias=False),
    "time_distributed": L.TimeDistributed(L.Dense(3, activation="tanh")),
}


@pytest.mark.parametrize("name", SIMPLE)
def test_simple_layers(name: str, tmp_path: Path) -> None:
    agree(through(SIMPLE[name]), tmp_path)


@pytest.mark.parametrize("axis", [-1, 1, (2,)], ids=str)
def test_normalization_by_what_was_measured(axis: Any, tmp_path: Path) -> None:
    layer = L.Normalization(axis=axis)
    layer.adapt(RNG.normal(1e3, 2, size=(9, T, F)).astype(np.float32))
    model = through(layer, L.Dense(2))
    x = RNG.normal(1e3, 2, size=(4, T, F)).astype(np.float32)
    for suffix in ("keras", "h5"):
        model.save(tmp_path / f"m.{suffix}")
        np.testing.assert_allclose(
            onward.load(tmp_path / f"m.{suffix}")(x), model(x).detach().numpy(), rtol=2e-5, atol=2e-5
        )


@pytest.mark.parametrize("layer", [L.Normalization(mean=1.0, variance=2.0), L.Normalization(axis=None)])
def test_normalization_that_is_not_honoured_is_refused(layer: Any, tmp_path: Path) -> None:
    through(layer).save(tmp_path / "m.keras")
    with pytest.raises(onward.errors.FileError, match=r"\(Normalization\) has .* does not honour"):
        onward.load(tmp_path / "m.keras")


IMAGES = {
    "conv2d": L.Conv2D(4, (3, 2), strides=(2, 1), activation="tanh"),
    "conv2d_same": L.Conv2D(4, 3, padding="same", dilation_rate=2),
    "depthwise": L.DepthwiseConv2D(3, strides=2, depth_multiplier=2, padding="same", activation="relu"),
    "depthwise_channels_first": L.DepthwiseConv2D((3, 2), data_format="channels_first"),
    "separable": L.SeparableConv2D(4, (3, 2), depth_multiplier=2, dilation_rate=1),
    "zero_padding": L.ZeroPadding2D(((1, 2), (0, 3))),
    "zero_padding_same": L.ZeroPadding2D((1, 2), data_format="channels_first"),
    "cropping": L.Cropping2D(((1, 0), (2, 1))),
    "up_sampling": L.UpSampling2D((2, 3)),
    "group_normalization": L.GroupNormalization(groups=3),
    "prelu": L.PReLU(shared_axes=[1, 2]),
    "conv2d_groups": L.Conv2D(6, 2, groups=3, padding="same", strides=2),
    "conv2d_channels_first": L.Conv2D(4, 3, data_format="channels_first", padding="same"),
    "max_pooling": L.MaxPooling2D((2, 3), padding="same"),
    "average_pooling": L.AveragePooling2D(2, padding="same"),
    "global_max": L.GlobalMaxPooling2D(),
    "global_average": L.GlobalAveragePooling2D(keepdims=True),
    "global_average_channels_first": L.GlobalAveragePooling2D(data_format="channels_first"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_layers_of_images(name: str, tmp_path: Path) -> None:
    agree(through(IMAGES[name], shape=(5, 7, 3)), tmp_path)


@pytest.mark.parametrize("layer", [L.GlobalAveragePooling1D, L.GlobalMaxPooling1D])
@pytest.mark.parametrize("mask", [False, True])
def test_global_pooling_over_time(layer: Any, mask: bool, tmp_path: Path) -> None:
    # a row of which no step counts is NaN in Keras too
    agree(through(*([L.Masking()] if mask else []), layer(), shape=(T, 4)), tmp_path)


@pytest.mark.parametrize("name", [name for name in SIMPLE if "softmax" not in name])
def test_what_becomes_of_the_mask_after(name: str, tmp_path: Path) -> None:
    """The LSTM at the end sees the mask or does not: what leaves it would show."""
    layer = SIMPLE[name].__class__.from_config(SIMPLE[name].get_config())
    end = L.Dense(2) if "flatten" in name else L.LSTM(3, return_sequences=True)
    agree(through(L.Masking(), layer, end), tmp_path)


ACTIVATIONS = (
    "linear relu relu6 leaky_relu elu selu celu sigmoid hard_sigmoid log_sigmoid tanh hard_tanh tanh_shrink "
    "hard_shrink soft_shrink softplus softsign silu hard_silu mish gelu exponential softmax log_softmax "
    "sparsemax squareplus sparse_plus sparse_sigmoid glu"
).split()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, tmp_path: Path) -> None:
    agree(through(L.Dense(6), L.Activation(name)), tmp_path)


@pytest.mark.parametrize("merge", [L.Add, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate])
@pytest.mark.parametrize("masks", [(), (0,), (1,), (0, 1)], ids=str)
def test_merges_and_their_masks(merge: Any, masks: tuple[int, ...], tmp_path: Path) -> None:
    inputs = [keras.Input((T, F)), keras.Input((T, F))]
    given = [L.Masking()(x) if i in masks else x for i, x in enumerate(inputs)]
    agree(keras.Model(inputs, L.LSTM(3, return_sequences=True)(merge()(given))), tmp_path)


def test_other_merges(tmp_path: Path) -> None:
    x, y, z = keras.Input((T, F)), keras.Input((T, F)), keras.Input((F,))
    outputs = [
        L.Subtract()([x, y]),
        L.Dot(axes=2)([x, y]),
        L.Dot(axes=(2, 1), normalize=True)([x, z]),
        L.Concatenate(axis=1)([x, y]),
        L.Add()([x, y, x]),
        L.RepeatVector(3)(z),
    ]
    agree(keras.Model([x, y, z], outputs), tmp_path)


@pytest.mark.parametrize("mask_zero", [False, True])
def test_embedding(mask_zero: bool, tmp_path: Path) -> None:
    for dtype in ("int32", "float32"):
        ids = keras.Input((None,), dtype=dtype, name="ids")
        y = L.LSTM(3, return_sequences=True)(L.Embedding(9, 4, mask_zero=mask_zero)(ids))
        agree(keras.Model(ids, y), tmp_path)


ATTENTION = {
    "dot": L.Attention,
    "scaled": lambda: L.Attention(use_scale=True),
    "concat": lambda: L.Attention(score_mode="concat"),
    "concat_scaled": lambda: L.Attention(score_mode="concat", use_scale=True),
    "additive": L.AdditiveAttention,
    "additive_plain": lambda: L.AdditiveAttention(use_scale=False),
}


@pytest.mark.parametrize("masks", [(), (0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str, masks: tuple[int, ...], tmp_path: Path) -> None:
    query, value, key = keras.Input((6, F)), keras.Input((T, F)), keras.Input((T, F))
    q, v = (L.Masking()(x) if i in masks else x for i, x in enumerate((query, value)))
    attended, scores = ATTENTION[name]()([q, v, key], return_attention_scores=True)
    causal = ATTENTION[name]()([v, v], use_causal_mask=True)
    agree(keras.Model([query, value, key], [attended, scores, causal, L.GRU(2)(attended)]), tmp_path)


def test_shared_layers_nested_models_and_several_nodes(tmp_path: Path) -> None:
    inner_in = keras.Input((T, 4))
    inner = keras.Model(inner_in, [L.Dense(4)(inner_in), L.GRU(2)(inner_in)], name="inner")
    outer = keras.Sequential([keras.Input((T, 4)), L.Dense(4), inner_sequence()], name="outer")
    x, y = keras.Input((T, F), name="first"), keras.Input((T, F), name="second")
    shared = L.Dense(4, name="shared")
    a, b = shared(x), shared(y)
    (c, d), (e, f) = inner(a), inner(b)
    g = outer(L.Add()([c, e, shared(x)]))
    model = keras.Model([x, y], [g, d, L.Concatenate()([f, d])])
    agree(model, tmp_path)
    inputs = drawn_inputs(model)
    opened = onward.load(tmp_path / "model.keras")
    by_name = opened(dict(zip(("first", "second"), inputs, strict=True)))
    assert all((p == q).all() for p, q in zip(by_name, opened(inputs), strict=True))


def inner_sequence() -> keras.Model:
    return keras.Sequential(
        [keras.Input((T, 4)), L.LSTM(3, return_sequences=True), L.Dense(2)], name="sequence"
    )


@pytest.mark.parametrize("both", [False, True], ids=["", "bidirectional"])
@pytest.mark.parametrize("place", ["position", "name", "and_mask", "mask_alone"])
@pytest.mark.parametrize("name", RECURRENT)
def test_a_state_beside_a_masked_input(name: str, place: str, both: bool, tmp_path: Path) -> None:
    """Keras finds the mask of a call's only array, and what follows the layer may see it all the same."""
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


def named(structure: Any) -> keras.Model:
    """A model in a model, whose inputs and outputs have names in an order other than the sorted one."""
    a, b = keras.Input((T, F), name="in_a"), keras.Input((T, F), name="in_b")
    y = {"q": L.Activation("tanh")(a), "p": L.Subtract()([a, b]), "o": [a, L.Activation("relu")(b)]}
    return keras.Model(structure(a, b), y, name="named")


@pytest.mark.parametrize("given", [{}, {"masked": True}], ids=["", "masked"])
@pytest.mark.parametrize(
    "structure", [lambda a, b: {"b": b, "a": a}, lambda a, b: [b, a]], ids=["dict", "list"]
)
def test_arrays_by_name_are_those_of_their_names(structure: Any, given: Any, tmp_path: Path) -> None:
    x, y = keras.Input((T, F), name="x"), keras.Input((T, F), name="y")
    u, v = (L.Masking()(x), L.Masking()(y)) if given else (x, y)
    inner = named(structure)
    z = inner(structure(u, v))
    outputs = [L.Subtract()([z["p"], z["q"]]), L.LSTM(2)(z["o"][1]), z["o"][0]]
    agree(keras.Model([x, y], outputs), tmp_path)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_model_gives_and_takes_what_it_names(suffix: str, tmp_path: Path) -> None:
    model = named(lambda a, b: {"b": b, "a": a})
    given = {name: RNG.normal(size=(3, T, F)).astype(np.float32) for name in "ab"}
    model.save(tmp_path / f"m.{suffix}")
    opened: Any = onward.load(tmp_path / f"m.{suffix}")
    opened.save(tmp_path / "m.safetensors")
    expected = model(given)
    for each in (opened, onward.load(tmp_path / "m.safetensors")):
        got = each(given)
        assert got.keys() == expected.keys() and list(each.inputs) == ["a", "b"]
        np.testing.assert_allclose(got["p"], expected["p"].detach().numpy(), atol=1e-6)
        np.testing.assert_allclose(got["q"], expected["q"].detach().numpy(), atol=1e-6)
        np.testing.assert_allclose(got["o"][1], expected["o"][1].detach().numpy(), atol=1e-6)
        np.testing.assert_array_equal(each([given["a"], given["b"]])["p"], got["p"])


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
def test_masks_given_in_a_call(call: Any, tmp_path: Path) -> None:
    x = keras.Input((T, F))
    m, n = keras.Input((T,), dtype="bool", name="ids"), keras.Input((T, F), dtype="bool", name="ids_n")
    agree(keras.Model([x, m, n], call(x, m, n)), tmp_path)


ACTING: dict[str, Callable[..., Any]] = {
    "dropout": lambda **k: L.Dropout(0.5, **k),
    "noise": lambda **k: L.GaussianNoise(0.5, **k),
    "lstm": lambda **k: L.LSTM(3, dropout=0.5, **k),
    "both": lambda **k: L.Bidirectional(L.LSTM(3, recurrent_dropout=0.5), **k),
    "cell": lambda **k: L.RNN([L.GRUCell(3, dropout=0.5)], **k),
    "norm": lambda **k: L.BatchNormalization(**k),
    "model": lambda **k: keras.Sequential([keras.Input((T, F)), L.Dropout(0.5)], **k),
    "step": lambda **k: L.TimeDistributed(L.BatchNormalization(), **k),
}


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", ACTING)
def test_what_acts_as_in_training_is_refused_by_name(name: str, suffix: str, tmp_path: Path) -> None:
    layer = ACTING[name](name="acting")
    graph(lambda x: layer(x, training=True)).save(tmp_path / f"m.{suffix}")
    with pytest.raises(onward.errors.FileError, match=r"layer acting \(\w+\) is called with training=True"):
        onward.load(tmp_path / f"m.{suffix}")
    agree(graph(lambda x: layer(x, training=False)), tmp_path)


def test_what_does_the_same_in_training_is_run(tmp_path: Path) -> None:
    random = keras.initializers.RandomNormal(stddev=0.5)
    layers = [
        L.Bidirectional(L.LSTM(3, return_sequences=True, kernel_initializer=random)),
        L.Dropout(0.0),
        L.BatchNormalization(trainable=False),
        L.TimeDistributed(keras.Sequential([keras.Input((6,)), L.LayerNormalization()])),
    ]

    def build(x: Any) -> Any:
        for layer in layers:
            x = layer(x, training=True)
        return x

    agree(graph(build), tmp_path)


def test_a_name_inside_a_layer_is_not_that_of_another(tmp_path: Path) -> None:
    deepest = through(L.Dense(F, name="same"), L.BatchNormalization(name="norm"))
    layers = [
        L.TimeDistributed(L.Dense(F, name="same")),
        L.Dense(F, name="same"),
        L.BatchNormalization(name="norm"),
        L.Bidirectional(L.LSTM(F, name="lstm", return_sequences=True), merge_mode="sum"),
        L.LSTM(F, name="lstm", return_sequences=True),
        L.LSTM(F, name="forward_lstm", return_sequences=True),
    ]
    agree(through(through(*layers, deepest), L.LSTM(2)), tmp_path)


def test_a_softmax_over_several_axes_is_refused_by_name(tmp_path: Path) -> None:
    through(L.Softmax(axis=[1, 2])).save(tmp_path / "m.keras")
    with pytest.raises(onward.errors.FileError, match=r"layer softmax.* has axis=\[1, 2\]"):
        onward.load(tmp_path / "m.keras")


def squared(x: Any) -> Any:
    return ops.matmul(x, ops.transpose(x, (0, 2, 1)))


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "last": lambda x: x[:, -1],
    "slices": lambda x: [x[:, 1:-1], x[:, ::2, :3], x[..., -1], x[:, 0:1], x[:, :, None], x[..., 0, 1]],
    "arithmetic": lambda x: [2 / (x * x + 1), 1 - x, x - 1, -x, x**2, abs(x), x / 2, x * 0.5 + 1],
    "arrays": lambda x: [x + np.arange(F, dtype="f4"), ops.ones((F,)) - x],
    "reduced": lambda x: [ops.mean(x, axis=1), ops.max(x, axis=-1), ops.sum(x, 1), ops.min(x, axis=[1, 2])],
    "kept": lambda x: [ops.mean(x, axis=-1, keepdims=True), ops.sum(x, axis=[1, 2], keepdims=True)],
    "functions": lambda x: [ops.relu(x), ops.tanh(x), ops.sigmoid(x), ops.silu(x), ops.gelu(x), ops.elu(x)],
    "more": lambda x: [ops.softmax(x, axis=1), ops.leaky_relu(x, 0.3), ops.log_softmax(x), ops.softplus(x)],
    "numbers": lambda x: [ops.exp(x), ops.log(x * x + 1), ops.sqrt(x * x), ops.square(x), ops.clip(x, -1, 1)],
    "axes": lambda x: [ops.transpose(x, (0, 2, 1)), ops.swapaxes(x, 1, 2), ops.moveaxis(x, 1, 2)],
    "shapes": lambda x: [ops.reshape(x, (-1, T * F)), ops.expand_dims(x, (1, 2)), ops.squeeze(x[:, :1], 1)],
    "several": lambda x: [ops.concatenate([x, 2 * x], axis=-1), ops.stack([x, -x], axis=1)],
    "parts": lambda x: [*ops.split(x[:, :, :4], 2, axis=-1), ops.flip(x, axis=1), ops.repeat(x, 2, axis=1)],
    "chosen": lambda x: [ops.where(x > 0, x, 0.0), ops.maximum(x, 0.0), ops.tile(x, (1, 2, 1))],
    "product": lambda x: [squared(x), x @ ops.transpose(x, (0, 2, 1))],
    "attention": lambda x: ops.sum(ops.softmax(ops.tanh(x), axis=1) * x, axis=1),
    "of_masked": lambda x: L.LSTM(2)(2 * L.Masking()(x)[:, 1:]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name: str, tmp_path: Path) -> None:
    agree(graph(OPERATIONS[name]), tmp_path)


def test_a_whole_model_at_every_step(tmp_path: Path) -> None:
    words = keras.Sequential([keras.Input((4, F)), L.LSTM(3), L.Dense(2)])
    agree(through(L.TimeDistributed(words), L.GRU(2), shape=(3, 4, F)), tmp_path)


def test_lengths_are_the_mask_that_keras_would_get(tmp_path: Path) -> None:
    model = drawn(through(L.Bidirectional(L.LSTM(3, return_sequences=True)), L.GRU(2)))
    (x,) = drawn_inputs(model)
    lengths = np.array([3, 7, 1, 0, 5])
    mask = np.arange(T) < lengths[:, None]
    model.save(tmp_path / "m.keras")
    expected = model(x, mask=torch.tensor(mask)).detach().numpy()
    np.testing.assert_allclose(onward.load(tmp_path / "m.keras")(x, lengths=lengths), expected, atol=2e-6)


def test_a_custom_layer_is_a_function_and_nothing_else_is_guessed(tmp_path: Path) -> None:
    class Mean(L.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.mean(x, axis=1)

    model = drawn(through(L.LSTM(3, return_sequences=True), Mean(), L.Dense(2)))
    model.save(tmp_path / "m.keras")
    with pytest.raises(onward.errors.FileError, match="Mean"):
        onward.load(tmp_path / "m.keras")
    (x,) = drawn_inputs(model)
    opened = onward.load(tmp_path / "m.keras", custom_objects={"Mean": lambda x: x.mean(axis=1)})
    np.testing.assert_allclose(opened(x), model(x).detach().numpy(), atol=2e-6)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_what_training_adds_to_a_file_is_no_weight(optimizer: str, tmp_path: Path) -> None:
    inner = through(L.Dense(F))
    model = through(inner, L.LSTM(4, dropout=0.1), L.Dense(1, activation="sigmoid"))
    for each, metrics in ((inner, ["mae"]), (model, ["accuracy", keras.metrics.AUC()])):
        each.compile(optimizer, "mse", metrics=metrics)
        each.fit(RNG.normal(size=(4, T, F)), np.round(RNG.random((4, *each.output_shape[1:]))), verbose=0)
    agree(model, tmp_path)


@keras.saving.register_keras_serializable("mine")
def doubled(x: Any) -> Any:
    return 2 * x


def shifted(x: Any) -> Any:
    return x + 1


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_an_activation_of_ones_own_is_a_function_given(suffix: str, tmp_path: Path) -> None:
    layers = [
        L.Masking(),
        L.Dense(4, activation=doubled),
        L.Activation(shifted),
        L.LSTM(3, return_sequences=True),
        L.Conv1D(2, 2, activation=shifted),
    ]
    model = drawn(through(*layers))
    model.save(tmp_path / f"m.{suffix}")
    with pytest.raises(onward.errors.FileError, match=r"layer dense.* has activation='mine>doubled'"):
        onward.load(tmp_path / f"m.{suffix}")
    (x,) = drawn_inputs(model)
    given = {"mine>doubled": lambda x: 2 * x, "shifted": lambda x: x + 1}
    for names in (given, {"doubled": given["mine>doubled"], "shifted": given["shifted"]}):
        opened = onward.load(tmp_path / f"m.{suffix}", custom_objects=names)
        np.testing.assert_allclose(opened(x), model(x).detach().numpy(), rtol=2e-5, atol=2e-6)
    through(L.LSTM(3, activation=shifted)).save(tmp_path / f"cell.{suffix}")
    with pytest.raises(onward.errors.FileError, match="outside the cells of recurrent layers alone"):
        onward.load(tmp_path / f"cell.{suffix}", custom_objects=given)


@pytest.mark.parametrize("layer", [L.LeakyReLU, L.Softmax, L.ReLU, L.ELU], ids=lambda each: each.__name__)
def test_layers_as_activations(layer: Any, tmp_path: Path) -> None:
    agree(masked(L.Dense(4, activation=layer())), tmp_path)


BY_HAND: dict[str, tuple[list[Any], list[Any]]] = {
    "stacks": (
        [
            L.RNN([L.LSTMCell(3), L.LSTMCell(3)], return_sequences=True),
            L.Bidirectional(L.LSTM(3, return_sequences=True, use_bias=False)),
            L.SimpleRNN(4, return_sequences=True),
            L.GRU(4, return_sequences=True, reset_after=False),
            L.GRU(4, return_sequences=True),
            *(L.TimeDistributed(L.Dense(4)) for _ in range(12)),
        ],
        [
            onward.LSTM(F, 3, num_layers=2, batch_first=True),
            onward.LSTM(3, 3, bidirectional=True, bias=False, batch_first=True),
            onward.RNN(6, 4, batch_first=True),
            onward.GRU(4, 4, reset_after=False, batch_first=True),
            onward.GRU(4, 4, batch_first=True),
            *(onward.Linear(4, 4) for _ in range(12)),
        ],
    ),
    "norms": (
        [L.LayerNormalization(epsilon=1e-5), L.Dense(6, use_bias=False), L.LayerNormalization(epsilon=1e-5)],
        [onward.LayerNorm(F), onward.Linear(F, 6, bias=False), onward.LayerNorm(6)],
    ),
}


@pytest.mark.parametrize("ending", ["weights.h5", "h5", "keras"])
@pytest.mark.parametrize("name", BY_HAND)
def test_weights_go_into_a_model_built_by_hand(name: str, ending: str, tmp_path: Path) -> None:
    theirs, mine = BY_HAND[name]
    model = drawn(through(*(layer.__class__.from_config(layer.get_config()) for layer in theirs)))
    path = tmp_path / f"model.{ending}"
    if ending == "weights.h5":
        model.save_weights(path)
    else:
        model.save(path)
    net = onward.Sequential(*mine)
    net.load_weights(path)
    (x,) = drawn_inputs(model)
    np.testing.assert_allclose(net(x), model(x).detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("precision", [None, "float16", "int8"])
def test_a_model_streams_and_pools_as_it_runs_over_the_whole(precision: str | None, tmp_path: Path) -> None:
    through(L.LSTM(4, return_sequences=True), L.GRU(3, return_sequences=True), L.Dense(2)).save(
        tmp_path / "m.keras"
    )
    opened = onward.load(tmp_path / "m.keras")
    if precision is not None:
        opened = opened.quantize(precision)
    x = RNG.normal(size=(3, 7, opened.step_shape[0])).astype(np.float32)
    stream, pool = opened.stream(batch=3), opened.pool(2)
    ids = pool.open(3)
    np.testing.assert_array_equal(np.stack([stream(x[:, t]) for t in range(7)], axis=1), opened(x))
    np.testing.assert_array_equal(np.stack([pool.step(ids, x[:, t]) for t in range(7)], axis=1), opened(x))


@pytest.mark.parametrize("layer", [L.Masking(), L.Bidirectional(L.GRU(3)), L.LSTM(3, go_backwards=True)])
def test_what_needs_more_than_a_step_does_not_stream(layer: Any, tmp_path: Path) -> None:
    through(L.LSTM(4, return_sequences=True), layer).save(tmp_path / "m.keras")
    with pytest.raises(onward.errors.ArgumentError, match="cannot stream"):
        onward.load(tmp_path / "m.keras").stream()
