"""Keras 3 layers around recurrent ones, in models with random weights: the outputs match those of Keras."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L
from support.keras_models import RNG, F, T, agree, masked, through

import onward

# keras 3.15 uses what NumPy 2.4 deprecates
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:keras"),
    pytest.mark.filterwarnings(
        "ignore:.*was passed an input with a mask:UserWarning"
    ),  # the tests check that the mask is dropped
    pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning"),
]


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
    "rms_normalization": L.RMSNormalization(epsilon=0.1),
    "rms_normalization_axes": L.RMSNormalization(axis=[1, 2]),
    "conv1d_transpose": L.Conv1DTranspose(4, 3, activation="relu"),
    "conv1d_transpose_strided": L.Conv1DTranspose(4, 3, strides=3, use_bias=False),
    "conv1d_transpose_same": L.Conv1DTranspose(4, 3, strides=2, padding="same"),
    "conv1d_transpose_same_even": L.Conv1DTranspose(4, 4, strides=2, padding="same"),
    "conv1d_transpose_dilated": L.Conv1DTranspose(4, 3, dilation_rate=2, padding="same"),
    "conv1d_transpose_short": L.Conv1DTranspose(4, 2, strides=4),
    "conv1d_transpose_more": L.Conv1DTranspose(4, 3, strides=2, output_padding=1),
    "conv1d_transpose_same_more": L.Conv1DTranspose(4, 5, strides=3, padding="same", output_padding=1),
    "einsum_dense": L.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d", activation="tanh"),
    "einsum_dense_ellipsis": L.EinsumDense("...x,xy->...y", 4),
    "time_distributed": L.TimeDistributed(L.Dense(3, activation="tanh")),
}


@pytest.mark.parametrize("name", SIMPLE)
def test_simple_layers_give_the_outputs_of_keras(name: str, tmp_path: Path) -> None:
    agree(through(SIMPLE[name]), tmp_path)


@pytest.mark.parametrize("invert", [False, True], ids=["", "inverse"])
@pytest.mark.parametrize("axis", [-1, 1, (2,), (2, 1), None], ids=str)
def test_normalization_uses_its_adapted_statistics(axis: Any, invert: bool, tmp_path: Path) -> None:
    layer = L.Normalization(axis=axis, invert=invert)
    layer.adapt(RNG.normal(1e3, 2, size=(9, T, F)).astype(np.float32))
    model = through(layer, L.Dense(2))
    x = RNG.normal(1e3, 2, size=(4, T, F)).astype(np.float32)
    largest = float(layer(x).abs().max())  # a sum of numbers of this size may cancel
    for suffix in ("keras", "h5"):
        model.save(tmp_path / f"m.{suffix}")
        actual = onward.load(tmp_path / f"m.{suffix}")(x)
        np.testing.assert_allclose(actual, model(x).detach().numpy(), rtol=2e-5, atol=5e-6 * largest)


@pytest.mark.parametrize(
    "given", [(1.0, 2.0), ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 0.0])], ids=["numbers", "lists"]
)
def test_normalization_uses_given_statistics(given: Any, tmp_path: Path) -> None:
    mean, variance = given
    agree(through(L.Normalization(mean=mean, variance=variance)), tmp_path)


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
    "conv2d_transpose": L.Conv2DTranspose(4, (3, 2), strides=(2, 1), padding="same"),
    "conv2d_transpose_channels_first": L.Conv2DTranspose(4, 3, strides=2, data_format="channels_first"),
    "up_sampling_linear": L.UpSampling2D((2, 3), interpolation="bilinear"),
    "resizing": L.Resizing(8, 3),
    "augmentation": L.RandomRotation(0.2),
    "global_max": L.GlobalMaxPooling2D(),
    "global_average": L.GlobalAveragePooling2D(keepdims=True),
    "global_average_channels_first": L.GlobalAveragePooling2D(data_format="channels_first"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_image_layers_give_the_outputs_of_keras(name: str, tmp_path: Path) -> None:
    agree(through(IMAGES[name], shape=(5, 7, 3)), tmp_path)


VOLUMES = {
    "conv3d": L.Conv3D(4, (3, 2, 1), strides=(2, 1, 1), padding="same", activation="tanh"),
    "conv3d_transpose": L.Conv3DTranspose(2, 2, strides=2, padding="same"),
    "max_pooling": L.MaxPooling3D((2, 1, 2)),
    "average_pooling": L.AveragePooling3D(2, padding="same"),
    "zero_padding": L.ZeroPadding3D(((1, 2), (0, 3), (1, 1))),
    "cropping": L.Cropping3D(((1, 0), (0, 1), (1, 1))),
    "up_sampling": L.UpSampling3D((1, 2, 3)),
    "global_max": L.GlobalMaxPooling3D(),
    "global_average": L.GlobalAveragePooling3D(keepdims=True),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_volume_layers_give_the_outputs_of_keras(name: str, tmp_path: Path) -> None:
    agree(through(VOLUMES[name], shape=(4, 3, 5, 2)), tmp_path)


@pytest.mark.parametrize("layer", [L.GlobalAveragePooling1D, L.GlobalMaxPooling1D])
@pytest.mark.parametrize("mask", [False, True])
def test_global_pooling_over_time_ignores_masked_steps(layer: Any, mask: bool, tmp_path: Path) -> None:
    # a row without valid steps is also NaN in Keras
    agree(through(*([L.Masking()] if mask else []), layer(), shape=(T, 4)), tmp_path)


@pytest.mark.parametrize("name", [name for name in SIMPLE if "softmax" not in name])
def test_masks_pass_through_layers(name: str, tmp_path: Path) -> None:
    """The output of the LSTM at the end depends on whether it receives the mask."""
    layer = SIMPLE[name].__class__.from_config(SIMPLE[name].get_config())
    end = L.Dense(2) if "flatten" in name else L.LSTM(3, return_sequences=True)
    agree(through(L.Masking(), layer, end), tmp_path)


ACTIVATIONS = (
    "linear relu relu6 leaky_relu elu selu celu sigmoid hard_sigmoid log_sigmoid tanh hard_tanh tanh_shrink "
    "hard_shrink soft_shrink softplus softsign silu hard_silu mish gelu exponential softmax log_softmax "
    "sparsemax squareplus sparse_plus sparse_sigmoid glu"
).split()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_give_the_outputs_of_keras(name: str, tmp_path: Path) -> None:
    agree(through(L.Dense(6), L.Activation(name)), tmp_path)


@pytest.mark.parametrize("merge", [L.Add, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate])
@pytest.mark.parametrize("masks", [(), (0,), (1,), (0, 1)], ids=str)
def test_merges_combine_arrays_and_masks_as_keras_does(
    merge: Any, masks: tuple[int, ...], tmp_path: Path
) -> None:
    inputs = [keras.Input((T, F)), keras.Input((T, F))]
    given = [L.Masking()(x) if i in masks else x for i, x in enumerate(inputs)]
    agree(keras.Model(inputs, L.LSTM(3, return_sequences=True)(merge()(given))), tmp_path)


def test_merges_without_masks_give_the_outputs_of_keras(tmp_path: Path) -> None:
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
def test_embeddings_give_the_outputs_of_keras(mask_zero: bool, tmp_path: Path) -> None:
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
def test_attention_gives_the_outputs_of_keras(name: str, masks: tuple[int, ...], tmp_path: Path) -> None:
    query, value, key = keras.Input((6, F)), keras.Input((T, F)), keras.Input((T, F))
    q, v = (L.Masking()(x) if i in masks else x for i, x in enumerate((query, value)))
    attended, scores = ATTENTION[name]()([q, v, key], return_attention_scores=True)
    causal = ATTENTION[name]()([v, v], use_causal_mask=True)
    agree(keras.Model([query, value, key], [attended, scores, causal, L.GRU(2)(attended)]), tmp_path)


@pytest.mark.parametrize("masks", [(), (0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize("scores", [False, True], ids=["", "scores"])
def test_multi_head_attention_gives_the_outputs_of_keras(
    masks: tuple[int, ...], scores: bool, tmp_path: Path
) -> None:
    query, value, key = keras.Input((6, F)), keras.Input((T, F)), keras.Input((T, F))
    q, v = (L.Masking()(x) if i in masks else x for i, x in enumerate((query, value)))
    k = L.Masking()(key) if masks == (0, 1) else key
    attended = L.MultiHeadAttention(2, 3, value_dim=4)(q, v, k, return_attention_scores=scores)
    # a call removes the mask of its inputs, so that another layer needs an input of its own
    u = L.Masking()(value) if 1 in masks else value
    causal = L.MultiHeadAttention(3, 2, use_bias=False, output_shape=4)(u, u, use_causal_mask=True)
    y = attended[0] if scores else attended
    outputs = [y, *attended[1:]] if scores else [y]
    agree(keras.Model([query, value, key], [*outputs, causal, L.GRU(2)(y), L.LSTM(2)(causal)]), tmp_path)


def test_multi_head_attention_gives_outputs_of_several_axes(tmp_path: Path) -> None:
    x = keras.Input((T, F))
    agree(keras.Model(x, L.MultiHeadAttention(2, 3, output_shape=(2, 3))(x, x)), tmp_path)


def test_multi_head_attention_takes_a_mask_of_scores(tmp_path: Path) -> None:
    x, mask = keras.Input((T, F)), keras.Input((T, T), dtype="bool", name="ids")
    y = L.MultiHeadAttention(2, 3)(x, x, attention_mask=mask)
    agree(keras.Model([x, mask], y), tmp_path)


def test_a_softmax_over_several_axes_gives_the_outputs_of_keras(tmp_path: Path) -> None:
    agree(through(L.Softmax(axis=[1, 2])), tmp_path)


@pytest.mark.parametrize("layer", [L.LeakyReLU, L.Softmax, L.ReLU, L.ELU], ids=lambda each: each.__name__)
def test_a_layer_can_be_an_activation(layer: Any, tmp_path: Path) -> None:
    agree(masked(L.Dense(4, activation=layer())), tmp_path)


def test_logarithms_and_exponentials_keep_the_digits_of_tiny_numbers(tmp_path: Path) -> None:
    x, rng = keras.Input((4,)), np.random.default_rng(0)
    model = keras.Model(x, [keras.ops.log1p(x), keras.ops.expm1(x)])
    model.save(tmp_path / "model.keras")
    numbers = (rng.choice([-1, 1], (16, 4)) * 10.0 ** rng.uniform(-9, -0.1, (16, 4))).astype(np.float32)
    pairs = zip(onward.load(tmp_path / "model.keras")(numbers), (np.log1p, np.expm1), strict=True)
    for y, function in pairs:
        np.testing.assert_allclose(y, function(numbers.astype(np.float64)), rtol=1e-6)
