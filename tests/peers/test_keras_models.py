"""Whole Keras 3 models: graphs, names, operations, custom objects and weight files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
from keras import layers as L
from keras import ops
from support.keras_models import RNG, F, T, agree, graph, random_inputs, through, with_random_weights

import onward
from onward import train

# keras 3.15 uses what NumPy 2.4 deprecates
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:keras"),
    pytest.mark.filterwarnings(
        "ignore:.*was passed an input with a mask:UserWarning"
    ),  # the tests check that the mask is dropped
    pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning"),
]


def inner_sequence() -> keras.Model:
    return keras.Sequential(
        [keras.Input((T, 4)), L.LSTM(3, return_sequences=True), L.Dense(2)], name="sequence"
    )


def test_shared_layers_and_nested_models_give_the_outputs_of_keras(tmp_path: Path) -> None:
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
    inputs = random_inputs(model)
    opened = onward.load(tmp_path / "model.keras")
    by_name = opened(dict(zip(("first", "second"), inputs, strict=True)))
    assert all((p == q).all() for p, q in zip(by_name, opened(inputs), strict=True))


def with_named_inputs(structure: Any) -> keras.Model:
    """A nested model whose named inputs and outputs are not in alphabetical order."""
    a, b = keras.Input((T, F), name="in_a"), keras.Input((T, F), name="in_b")
    y = {"q": L.Activation("tanh")(a), "p": L.Subtract()([a, b]), "o": [a, L.Activation("relu")(b)]}
    return keras.Model(structure(a, b), y, name="named")


@pytest.mark.parametrize("given", [{}, {"masked": True}], ids=["", "masked"])
@pytest.mark.parametrize(
    "structure", [lambda a, b: {"b": b, "a": a}, lambda a, b: [b, a]], ids=["dict", "list"]
)
def test_inputs_can_be_passed_by_name(structure: Any, given: Any, tmp_path: Path) -> None:
    x, y = keras.Input((T, F), name="x"), keras.Input((T, F), name="y")
    u, v = (L.Masking()(x), L.Masking()(y)) if given else (x, y)
    inner = with_named_inputs(structure)
    z = inner(structure(u, v))
    outputs = [L.Subtract()([z["p"], z["q"]]), L.LSTM(2)(z["o"][1]), z["o"][0]]
    agree(keras.Model([x, y], outputs), tmp_path)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_named_inputs_and_outputs_keep_their_order(suffix: str, tmp_path: Path) -> None:
    model = with_named_inputs(lambda a, b: {"b": b, "a": a})
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
def test_layers_in_training_mode_are_refused(name: str, suffix: str, tmp_path: Path) -> None:
    layer = ACTING[name](name="acting")
    graph(lambda x: layer(x, training=True)).save(tmp_path / f"m.{suffix}")
    with pytest.raises(onward.errors.FileError, match=r"layer acting \(\w+\) is called with training=True"):
        onward.load(tmp_path / f"m.{suffix}")
    agree(graph(lambda x: layer(x, training=False)), tmp_path)


def test_layers_that_ignore_the_training_mode_are_run(tmp_path: Path) -> None:
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


def test_names_inside_layers_are_separate(tmp_path: Path) -> None:
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
    "padded": lambda x: [
        ops.pad(x, [[0, 0], [1, 2], [0, 1]]),
        ops.pad(x, ((0, 0), (2, 1), (1, 0)), "reflect"),
    ],
    "spread": lambda x: [ops.std(x, axis=1), ops.var(x, axis=[1, 2], keepdims=True), ops.std(x, axis=-1)],
    "norms": lambda x: [ops.norm(x, axis=-1), ops.norm(x, ord=1, axis=1), ops.norm(x, axis=[1, 2])],
    "sums": lambda x: [ops.cumsum(x, axis=1), ops.logsumexp(x, axis=-1), ops.logsumexp(x, 1, keepdims=True)],
    "unary": lambda x: [ops.log1p(x * x), ops.expm1(x), ops.tan(x), ops.arctan(x), ops.sinh(x), ops.erf(x)],
    "logical": lambda x: [ops.logical_xor(x > 0, x), ops.logical_not(x), ops.isnan(x), ops.not_equal(x, 0)],
    "largest": lambda x: [ops.argmax(x, axis=1), ops.argmin(x, axis=-1, keepdims=True)],
    "taken": lambda x: [
        ops.take(x, [0, 2], axis=1),
        ops.take(x, 3, axis=2),
        ops.roll(x, 2, axis=1),
    ],
    "encoded": lambda x: ops.one_hot(ops.argmax(x, axis=-1), F),
    "einsum": lambda x: [ops.einsum("btf,bsf->bts", x, x), ops.einsum("...f,...f->...", x, x)],
    "units": lambda x: [ops.normalize(x, axis=-1), ops.normalize(x, axis=1)],
    "rounded": lambda x: [ops.floor(x), ops.ceil(x), ops.sign(x), ops.rsqrt(x * x + 1), ops.prod(x, axis=-1)],
    "of_masked": lambda x: L.LSTM(2)(2 * L.Masking()(x)[:, 1:]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_give_the_outputs_of_keras(name: str, tmp_path: Path) -> None:
    agree(graph(OPERATIONS[name]), tmp_path)


def test_time_distributed_can_contain_a_model(tmp_path: Path) -> None:
    words = keras.Sequential([keras.Input((4, F)), L.LSTM(3), L.Dense(2)])
    agree(through(L.TimeDistributed(words), L.GRU(2), shape=(3, 4, F)), tmp_path)


def test_functions_replace_custom_layers(tmp_path: Path) -> None:
    class Mean(L.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.mean(x, axis=1)

    model = with_random_weights(through(L.LSTM(3, return_sequences=True), Mean(), L.Dense(2)))
    model.save(tmp_path / "m.keras")
    with pytest.raises(onward.errors.FileError, match="Mean"):
        onward.load(tmp_path / "m.keras")
    (x,) = random_inputs(model)
    opened = onward.load(tmp_path / "m.keras", custom_objects={"Mean": lambda x: x.mean(axis=1)})
    np.testing.assert_allclose(opened(x), model(x).detach().numpy(), atol=2e-6)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_optimizer_state_is_ignored(optimizer: str, tmp_path: Path) -> None:
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
def test_functions_replace_custom_activations(suffix: str, tmp_path: Path) -> None:
    layers = [
        L.Masking(),
        L.Dense(4, activation=doubled),
        L.Activation(shifted),
        L.LSTM(3, return_sequences=True),
        L.Conv1D(2, 2, activation=shifted),
    ]
    model = with_random_weights(through(*layers))
    model.save(tmp_path / f"m.{suffix}")
    with pytest.raises(onward.errors.FileError, match=r"layer dense.* has activation='mine>doubled'"):
        onward.load(tmp_path / f"m.{suffix}")
    (x,) = random_inputs(model)
    given = {"mine>doubled": lambda x: 2 * x, "shifted": lambda x: x + 1}
    for names in (given, {"doubled": given["mine>doubled"], "shifted": given["shifted"]}):
        opened = onward.load(tmp_path / f"m.{suffix}", custom_objects=names)
        np.testing.assert_allclose(opened(x), model(x).detach().numpy(), rtol=2e-5, atol=2e-6)
    cell = with_random_weights(through(L.LSTM(3, activation=shifted)))
    cell.save(tmp_path / f"cell.{suffix}")
    opened = onward.load(tmp_path / f"cell.{suffix}", custom_objects=given)
    np.testing.assert_allclose(opened(x), cell(x).detach().numpy(), rtol=2e-5, atol=2e-6)


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
def test_weights_load_into_a_new_model(name: str, ending: str, tmp_path: Path) -> None:
    theirs, mine = BY_HAND[name]
    model = with_random_weights(
        through(*(layer.__class__.from_config(layer.get_config()) for layer in theirs))
    )
    path = tmp_path / f"model.{ending}"
    if ending == "weights.h5":
        model.save_weights(path)
    else:
        model.save(path)
    net = onward.Sequential(*mine)
    net.load_weights(path)
    (x,) = random_inputs(model)
    np.testing.assert_allclose(net(x), model(x).detach().numpy(), rtol=2e-5, atol=2e-6)


class Doubled(L.Dense):
    """A subclass of a known layer with a key of its own."""

    def __init__(self, units: int, note: str = "", **options: Any) -> None:
        super().__init__(units, **options)
        self.note = note

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"note": self.note}


@keras.saving.register_keras_serializable("mine")
class Slow(L.LSTM):
    """A subclass of a recurrent layer."""


@pytest.mark.parametrize("classes", [(Doubled, Slow), (L.Dense, L.LSTM), (onward.Linear, onward.LSTM)])
def test_a_class_describes_a_subclass_of_a_known_layer(classes: Any, tmp_path: Path) -> None:
    layers = [
        L.Masking(),
        Doubled(4, "x", activation="tanh"),
        L.Bidirectional(Slow(3, return_sequences=True)),
    ]
    model = with_random_weights(through(*layers))
    (x,) = random_inputs(model)
    for suffix in ("keras", "h5"):
        model.save(tmp_path / f"m.{suffix}")
        with pytest.raises(onward.errors.FileError, match="Doubled"):
            onward.load(tmp_path / f"m.{suffix}")
        custom = dict(zip(("Doubled", "Slow"), classes, strict=True))
        opened = onward.load(tmp_path / f"m.{suffix}", custom_objects=custom)
        np.testing.assert_allclose(opened(x), model(x).detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("suffix", ["h5", "weights.h5"])
def test_a_model_in_json_opens_with_its_weights(suffix: str, tmp_path: Path) -> None:
    if suffix == "h5":
        x = keras.Input((T, F))
        y = L.Attention()([L.LSTM(3, return_sequences=True)(L.Masking()(x)), L.Dense(3)(x)])
        model = keras.Model(x, [y, L.GRU(2)(y)])
    else:
        model = through(L.Bidirectional(L.GRU(3, return_sequences=True)), through(L.Dense(2), shape=(T, 6)))
    (tmp_path / "model.json").write_text(with_random_weights(model).to_json())
    if suffix == "h5":
        model.save(tmp_path / "weights.h5")
    else:
        model.save_weights(tmp_path / "weights.weights.h5")
    (x_value,) = random_inputs(model)
    found = onward.load(tmp_path / "model.json", weights=tmp_path / f"weights.{suffix}")(x_value)
    expected = keras.tree.flatten(model(x_value))
    for got, wanted in zip(keras.tree.flatten(found), expected, strict=True):
        np.testing.assert_allclose(got, wanted.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["masked", "branches"])
def test_masked_and_branching_models_stream_quantize_and_export(name: str, tmp_path: Path) -> None:
    x = keras.Input((None, F))
    h = L.GRU(4, return_sequences=True)(L.Masking()(x) if name == "masked" else x)
    y = L.Concatenate()([h, L.Dense(3, activation="tanh")(x)]) if name == "branches" else L.Dense(3)(h)
    model = with_random_weights(keras.Model(x, L.LSTM(2, return_sequences=True)(y)))
    model.save(tmp_path / "m.keras")
    opened: Any = onward.load(tmp_path / "m.keras")
    given = RNG.normal(size=(5, 9, F)).astype(np.float32)
    for row, steps in enumerate(([0, 1], [-1, -2], [2, 4], [*range(9)])):
        given[row, steps] = 0
    expected = opened(given)
    np.testing.assert_allclose(expected, model(given).detach().numpy(), rtol=2e-5, atol=2e-6)
    stream = opened.stream(batch=5)
    blocks = [stream(given[:, start:stop]) for start, stop in ((0, 1), (1, 6), (6, 9))]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), expected)
    pool = opened.pool(5)
    ids = pool.open(5)
    steps = [pool.step(ids, given[:, t]) for t in range(9)]
    np.testing.assert_array_equal(np.stack(steps, axis=1), expected)
    opened.quantize("int8", check=given, tolerance=0.05)
    opened.export_onnx(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    (other,) = session.run(None, {session.get_inputs()[0].name: given})
    np.testing.assert_allclose(other, expected, atol=1e-5)
    np.testing.assert_array_equal(onward.load(tmp_path / "m.onnx")(given), expected)


@pytest.mark.parametrize("final", ["softmax", "sigmoid", "hard_sigmoid"])
@pytest.mark.parametrize("every_step", [False, True])
def test_the_loss_of_a_classifier_is_that_of_keras(final: str, every_step: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 5, 3)).astype(np.float32)
    outputs = 4 if final == "softmax" else 1
    y = rng.integers(0, max(2, outputs), (7, 5) if every_step else 7)
    model = keras.Sequential([
        keras.Input((None, 3)),
        L.LSTM(6, return_sequences=every_step),
        L.Dense(outputs, activation=final, kernel_initializer="orthogonal"),
    ])  # fmt: skip
    loss = "sparse_categorical_crossentropy" if outputs > 1 else "binary_crossentropy"
    model.compile(loss=loss, metrics=["accuracy"])
    expected = model.evaluate(x, y if outputs > 1 else y[..., None], verbose=0)
    model.save(tmp_path / "m.keras")
    whole = onward.load(tmp_path / "m.keras")
    assert isinstance(whole, onward.graph.Model)
    for each in (whole, whole.layers()):
        data = train.Batches(x, y, batch_first=True, per_step=every_step)
        np.testing.assert_allclose(train.evaluate(each, data), expected, rtol=1e-4)
