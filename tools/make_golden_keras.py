"""Write tests/data/keras: small models saved by Keras 2 (tf_keras) and Keras 3, and their outputs.

Needs tf_keras with TensorFlow, and keras with PyTorch. Each file contains features that only some files have;
tests/peers tests every layer.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import numpy as np
import tf_keras
from tf_keras.src.saving.legacy.hdf5_format import _convert_rnn_weights

FOLDER = Path(__file__).parent.parent / "tests" / "data" / "keras"
RNG = np.random.default_rng(0)
T, F = 6, 3


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    answers: dict[str, Any] = {}
    for framework, version in ((tf_keras, 2), (keras, 3)):
        for make in (tagger, graph, front_end):
            answers |= write(framework, version, make)
    answers |= write_cudnn()
    answers |= write_weights()
    answers |= write_keras_1()
    for framework, version in ((tf_keras, 2), (keras, 3)):
        answers |= write(framework, version, between)
    np.savez_compressed(FOLDER / "answers.npz", **answers)
    write_forecaster()


def write(framework: Any, version: int, make: Any) -> dict[str, Any]:
    """Write a model in both formats, and its outputs."""
    answers: dict[str, Any] = {}
    model = with_random_weights(make(framework))
    inputs = [random_input(tensor.shape) for tensor in model.inputs]
    outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    for ending in ("h5", "keras"):
        name = f"{make.__name__}_{version}.{ending}"
        model.save(FOLDER / name)
        answers |= {f"{name}/x{i}": x for i, x in enumerate(inputs)}
        flat = outputs if isinstance(outputs, list | tuple) else [outputs]
        answers |= {f"{name}/y{i}": np.asarray(as_numpy(y)) for i, y in enumerate(flat)}
    return answers


def as_numpy(y: Any) -> Any:
    return y.detach().numpy() if hasattr(y, "detach") else y.numpy()


def with_random_weights(model: Any) -> Any:
    """The model with random weights."""
    for variable in model.weights:
        values = RNG.uniform(-0.7, 0.7, variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.name else values)
    return model


def random_input(shape: Any) -> Any:
    """Token ids for inputs with one axis, features for others; some steps are masked."""
    sizes = (3, *(T if size is None else size for size in shape[1:]))
    x = RNG.integers(0, 5, sizes) if len(sizes) == 2 else RNG.normal(size=sizes)
    if len(sizes) == 3:
        x[0, :2], x[1, 2], x[2, -2:] = 0, 0, 0
    return x.astype(np.float32)


def tagger(k: Any) -> Any:
    """Masks in the middle, hard_sigmoid gates, reset before the product, zeros at masked steps."""
    L = k.layers
    gru = L.GRU(
        3, recurrent_activation="hard_sigmoid", reset_after=False, return_sequences=True, name="before"
    )
    return k.Sequential(
        [
            k.Input((T,)),
            L.Embedding(5, 4, mask_zero=True),
            L.Bidirectional(L.LSTM(3, return_sequences=True)),
            L.Dropout(0.5),
            gru,
            L.LSTM(2, activation="softsign", return_sequences=True, zero_output_for_mask=True),
            L.TimeDistributed(L.Dense(3, activation="softmax")),
        ]
    )


def graph(k: Any) -> Any:
    """Two inputs, states passed on, a shared layer, a nested model called twice, merges of masked arrays."""
    L = k.layers
    inside = k.Input((T, 4))
    nested = k.Model(inside, L.BatchNormalization()(L.Dense(4)(inside)), name="nested")
    x, z = k.Input((T, F), name="first"), k.Input((T, F), name="second")
    shared = L.Dense(4, activation="hard_sigmoid", name="shared")
    masked = L.Masking()(x)
    y, h, c = L.LSTM(4, return_sequences=True, return_state=True)(masked)
    decoded = L.LSTM(4, return_sequences=True)(shared(z), initial_state=[h, c])
    both = L.Add()([nested(shared(masked)), nested(y)])
    attended = L.AdditiveAttention()([both, decoded])
    stacked = L.RNN([L.GRUCell(3), L.SimpleRNNCell(2)])(L.Concatenate()([both, attended]))
    return k.Model([x, z], [stacked, decoded, attended])


def front_end(k: Any) -> Any:
    """Convolution, normalization and pooling before a recurrent layer."""
    L = k.layers
    return k.Sequential(
        [
            k.Input((8, 5, 2)),
            L.Conv2D(3, (3, 2), padding="same", strides=(1, 2), activation="relu"),
            L.BatchNormalization(),
            L.AveragePooling2D((2, 1), padding="same"),
            L.Reshape((4, 9)),
            L.Conv1D(4, 2, padding="causal", dilation_rate=2),
            L.LayerNormalization(),
            L.MaxPooling1D(2, strides=1),
            L.GRU(3, go_backwards=True, return_sequences=True),
            L.LeakyReLU(),
            L.Flatten(),
        ]
    )


def between(k: Any) -> Any:
    """Operations between layers: indexing, arithmetic, and masks that pooling ignores."""
    L = k.layers
    x = k.Input((T, F))
    masked = L.Masking()(x)
    y, h, _, _, c = L.Bidirectional(L.LSTM(4, return_sequences=True, return_state=True))(masked)
    decoded = L.LSTM(4, return_sequences=True)(masked, [h, c])
    z = 0.5 * decoded[:, 1:] + 1
    z = L.SeparableConv1D(4, 2, depth_multiplier=2)(L.ZeroPadding1D((1, 2))(z))
    z = L.UnitNormalization()(L.PReLU(shared_axes=[1])(L.GroupNormalization(groups=2)(z)))
    z = L.UpSampling1D(2)(L.Cropping1D(1)(L.DepthwiseConv1D(2)(L.Rescaling(2.0, offset=-0.5)(z))))
    return k.Model(x, [z, z[:, -1], L.GlobalMaxPooling1D()(y), L.GlobalMaxPooling1D()(decoded)])


class CuDNNLSTM:
    """The converter in Keras recognizes cuDNN's layout by this class name."""


class CuDNNGRU:
    """Like CuDNNLSTM."""


def write_forecaster() -> None:
    """Write a table, a Keras 3 forecaster trained on it, and the 24 rows that Keras forecasts."""
    t = np.arange(400)
    load = 50 + 10 * np.sin(2 * np.pi * t / 24) + 2 * np.sin(2 * np.pi * t / 168) + RNG.normal(0, 0.5, 400)
    temperature = 15 + 8 * np.sin(2 * np.pi * (t - 6) / 24) + RNG.normal(0, 0.5, 400)
    table = np.column_stack([t, load, temperature])
    options: dict[str, Any] = {"delimiter": ",", "comments": ""}
    path = FOLDER / "forecaster.csv"
    np.savetxt(path, table, ("%d", "%.2f", "%.2f"), header="hour,load,temperature", **options)
    series = np.loadtxt(path, delimiter=",", skiprows=1)[:, 1:].astype(np.float32)
    rows, window = (series - series.mean(0)) / series.std(0), 48
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((None, 2)), layers.Conv1D(8, 3, padding="causal", activation="relu"), layers.GRU(12),
        layers.Dense(2),
    ])  # fmt: skip
    model.compile("adam", "mse")
    x = np.stack([rows[k : k + window] for k in range(len(rows) - window)])
    model.fit(x, rows[window:], epochs=40, verbose=0)
    model.save(FOLDER / "forecaster.keras")
    for _ in range(24):
        rows = np.concatenate([rows, model.predict(rows[None, -window:], verbose=0)])
    answer = rows[-24:] * series.std(0) + series.mean(0)
    np.savetxt(FOLDER / "forecaster_answer.csv", answer, "%.4f", header="load,temperature", **options)


def write_cudnn() -> dict[str, Any]:
    """Write a file like those of GPU layers: weights in cuDNN's layout under cuDNN's names."""
    L = tf_keras.layers
    layers = [k.Input((T, F)) for k in (tf_keras,)] + [L.LSTM(4, return_sequences=True), L.GRU(3)]
    model = with_random_weights(tf_keras.Sequential(layers))
    x = random_input((None, T, F))
    model.save(FOLDER / "cudnn.h5")
    with h5py.File(FOLDER / "cudnn.h5", "r+") as file:
        text = file.attrs["model_config"]
        for kind, cudnn in (("LSTM", CuDNNLSTM), ("GRU", CuDNNGRU)):
            text = text.replace(f'"class_name": "{kind}"', f'"class_name": "{cudnn.__name__}"')
            layer = next(layer for layer in model.layers if type(layer).__name__ == kind)
            group = file["model_weights"][layer.name]
            converted = _convert_rnn_weights(cudnn(), layer.get_weights())
            for name, weight in zip(group.attrs["weight_names"], converted, strict=True):
                del group[name]
                group[name] = weight
        file.attrs["model_config"] = text
    return {"cudnn.h5/x0": x, "cudnn.h5/y0": model(x).numpy()}


def write_weights() -> dict[str, Any]:
    """Write files of Keras 2 and 3 that contain only weights."""
    answers: dict[str, Any] = {}
    for framework, name in (
        (tf_keras, "weights_2.h5"),
        (tf_keras, "weights_2.weights.h5"),
        (keras, "weights_3.weights.h5"),
    ):
        L = framework.layers
        model = with_random_weights(
            framework.Sequential(
                [
                    framework.Input((T,)),
                    L.Embedding(5, 4),
                    L.LSTM(3, return_sequences=True),
                    L.Bidirectional(L.GRU(3, return_sequences=True)),
                    L.Dense(2),
                ]
            )
        )
        x = random_input((None, T))
        model.save_weights(FOLDER / name)
        answers |= {f"{name}/x0": x, f"{name}/y0": as_numpy(model(x))}
    return answers


def write_keras_1() -> dict[str, Any]:
    """Write a file with the names, layout and order of Keras 1.2.2; Keras 2 computes its outputs."""
    L = tf_keras.layers
    hard = {"recurrent_activation": "hard_sigmoid"}
    layers = {
        "embedding_1": L.Embedding(7, 4),
        "convolution1d_1": L.Conv1D(4, 3, padding="same", activation="relu"),
        "batchnormalization_1": L.BatchNormalization(),
        "maxpooling1d_1": L.MaxPooling1D(2, strides=1),
        "bidirectional_1": L.Bidirectional(L.LSTM(3, return_sequences=True, **hard), merge_mode="sum"),
        "gru_1": L.GRU(3, reset_after=False, return_sequences=True, **hard),
        "lstm_1": L.LSTM(2, return_sequences=True, **hard),
        "simplernn_1": L.SimpleRNN(2, return_sequences=True),
        "timedistributed_1": L.TimeDistributed(L.Dense(3, activation="softmax")),
    }
    model = with_random_weights(tf_keras.Sequential([tf_keras.Input((T,)), *layers.values()]))
    x = random_input((None, T))
    lstm, gru = keras_1_cell("LSTM", 3, "cpu"), keras_1_cell("GRU", 3, "mem")
    dense = {
        "name": "dense_1",
        "output_dim": 3,
        "init": "glorot_uniform",
        "activation": "softmax",
        "bias": True,
    }
    conv = {"nb_filter": 4, "filter_length": 3, "border_mode": "same", "subsample_length": 1, "bias": True}
    pool = {"pool_length": 2, "stride": 1, "border_mode": "valid"}
    table = {"input_dim": 7, "output_dim": 4, "mask_zero": False, "dropout": 0.0, "input_length": T}
    norm = {
        "mode": 0,
        "axis": -1,
        "epsilon": 1e-3,
        "momentum": 0.99,
        "beta_init": "zero",
        "gamma_init": "one",
    }
    entries = [
        (
            "Embedding",
            table | {"batch_input_shape": [None, T], "input_dtype": "int32", "W_regularizer": None},
        ),
        ("Convolution1D", conv | {"activation": "relu", "init": "glorot_uniform", "b_constraint": None}),
        ("BatchNormalization", norm | {"gamma_regularizer": None, "beta_regularizer": None}),
        ("MaxPooling1D", pool),
        ("Bidirectional", {"merge_mode": "sum", "layer": {"class_name": "LSTM", "config": lstm}}),
        ("GRU", gru),
        ("LSTM", keras_1_cell("LSTM", 2, "gpu")),
        ("SimpleRNN", keras_1_cell("SimpleRNN", 2, "cpu")),
        ("TimeDistributed", {"layer": {"class_name": "Dense", "config": dense}}),
    ]
    named = zip(layers, entries, strict=True)
    config = [{"class_name": kind, "config": {"name": name, **rest}} for name, (kind, rest) in named]
    with h5py.File(FOLDER / "old_1.h5", "w") as file:
        file.attrs["keras_version"] = b"1.2.2"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config}).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for name, layer in layers.items():
            weights = keras_1_weights(name, layer.get_weights())
            group.create_group(name).attrs["weight_names"] = [
                f"{name}_{k}".encode() for k in range(len(weights))
            ]
            for k, weight in enumerate(weights):
                group[name][f"{name}_{k}"] = weight
    return {"old_1.h5/x0": x, "old_1.h5/y0": model(x).numpy()}


def keras_1_cell(kind: str, units: int, consume_less: str) -> dict[str, Any]:
    """The configuration of a recurrent layer."""
    config = {
        "output_dim": units, "init": "glorot_uniform", "inner_init": "orthogonal", "activation": "tanh",
        "W_regularizer": None, "U_regularizer": None, "b_regularizer": None, "dropout_W": 0.0,
        "dropout_U": 0.0,
        "return_sequences": True, "go_backwards": False, "stateful": False, "unroll": False,
        "consume_less": consume_less, "input_dim": 3, "input_length": None, "trainable": True,
    }  # fmt: skip
    if kind != "SimpleRNN":
        config["inner_activation"] = "hard_sigmoid"
    return config | ({"forget_bias_init": "one"} if kind == "LSTM" else {})


def keras_1_weights(name: str, weights: list[Any]) -> list[Any]:
    """The weights as Keras 1.2.2 (engine/topology.py) stores them: one array per gate, 4-D kernels."""
    if name.startswith("convolution1d"):
        return [weights[0][:, None], weights[1]]
    order = {"gru_1": "zrn", "bidirectional_1": "icfo"}.get(name)
    if order is None:
        return weights
    own = "zrn" if name == "gru_1" else "ifco"  # names in Keras 2
    apart = []
    for direction in (weights[k : k + 3] for k in range(0, len(weights), 3)):
        gates = [dict(zip(own, np.split(weight, len(own), axis=-1), strict=True)) for weight in direction]
        apart += [weight[gate] for gate in order for weight in gates]
    return apart


if __name__ == "__main__":
    sys.exit(main())
