"""Random models of tf_keras, converted to TensorFlow Lite in five forms, and LiteRT's reference kernels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

FORMS = ("float", "dynamic", "float16", "int8", "int16x8")


class RandomModel:
    """Builds a model of fixed sizes; `keras` is tf_keras, `rng` decides.

    The integers of layers that the converter writes as a loop end the process, and LiteRT cannot reverse
    sequences of integers. Of 16 bits, the converter has no LSTM, and LiteRT ends the process for attention
    and layer normalization.
    """

    def __init__(self, keras: Any, rng: np.random.Generator, form: str = "float") -> None:
        self.keras, self.L, self.rng = keras, keras.layers, rng
        self.has_loops, self.has_lstm = not form.startswith("int"), form != "int16x8"

    def build(self) -> Any:
        """Return a model of one input (1, T, I), or of an image, with random weights."""
        build = self._pick([self._image, *[self._film] * self.has_loops, *[self._sequence] * 6])
        model = build()
        for weight in model.weights:
            scale = 1.0 if "variance" in weight.name else 0.4
            values = self.rng.normal(size=weight.shape) * scale
            weight.assign(np.abs(values) + 0.2 if "variance" in weight.name else values)
        return model

    def _size(self, low: int = 2, high: int = 20) -> int:
        return int(self.rng.integers(low, high))

    def _pick(self, choices: Sequence[Any]) -> Any:
        return choices[self.rng.integers(len(choices))]

    def _sequence(self) -> Any:
        L = self.L
        inputs = self.keras.Input((self._size(4, 24), self._size()), batch_size=1)
        x = L.Masking(0.0)(inputs) if self.rng.random() < 0.15 * self.has_loops else inputs
        for _ in range(self._size(1, 4)):
            x = self._layer(x)
        end = self._pick([*["last"] * self.has_lstm, "mean", "all", "flat"])
        if end == "last":
            x = L.LSTM(self._size())(x)
        elif end == "mean":
            x = L.GlobalAveragePooling1D()(x)
        elif end == "flat":
            x = L.Flatten()(x)
        end = self._pick(["sigmoid", "softmax", None])
        return self.keras.Model(inputs, L.Dense(3, activation=end)(x))

    def _layer(self, x: Any) -> Any:
        L, n, activation = self.L, self._size(), self._pick(["relu", "tanh", "sigmoid", None])
        kinds = [
            lambda: L.TimeDistributed(L.Dense(n))(x),
            lambda: L.Conv1D(
                n, self._size(1, 4), padding=self._pick(["same", "causal", "valid"]), activation=activation
            )(x),
            lambda: L.Conv1D(n, 2, dilation_rate=2, padding="causal")(x),
            lambda: L.SeparableConv1D(n, 3, padding="same")(x),
            lambda: L.DepthwiseConv1D(2, padding="same")(x),
            lambda: L.Dense(n, activation=activation)(x),
            lambda: L.BatchNormalization()(L.Dense(n)(x)),
            lambda: L.MaxPooling1D(2, strides=1, padding="same")(x),
            lambda: L.AveragePooling1D(2, strides=1, padding="same")(x),
            lambda: L.Add()([L.Dense(x.shape[-1])(x), x]),
            lambda: L.Multiply()([L.Dense(x.shape[-1], activation="sigmoid")(x), x]),
            lambda: L.Concatenate()([x, L.Dense(n)(x)]),
        ]
        wide = [  # not of 16 bits
            lambda: L.LSTM(n, return_sequences=True)(x),
            lambda: L.LSTM(n, return_sequences=True, unroll=True)(x),
            lambda: L.GRU(n, return_sequences=True, unroll=True, reset_after=self._pick([True, False]))(x),
            lambda: L.SimpleRNN(n, return_sequences=True, unroll=True)(x),
            lambda: L.Attention()([x, x]),
            lambda: L.MultiHeadAttention(2, 4)(x, x),
            lambda: L.LayerNormalization()(x),
        ]
        loops = [  # of real numbers alone
            lambda: L.LSTM(n, return_sequences=True, go_backwards=True)(x),
            lambda: L.Bidirectional(L.LSTM(n, return_sequences=True))(x),
            lambda: L.LSTM(n, return_sequences=True, stateful=True)(x),
            lambda: L.GRU(n, return_sequences=True, reset_after=self._pick([True, False]))(x),
            lambda: L.GRU(n, return_sequences=True, stateful=True)(x),
            lambda: L.SimpleRNN(n, return_sequences=True, activation=self._pick(["tanh", "relu"]))(x),
            lambda: L.Bidirectional(L.GRU(n, return_sequences=True), merge_mode="sum")(x),
        ]
        return self._pick([*kinds, *wide * self.has_lstm, *loops * self.has_loops])()

    def _film(self) -> Any:
        """A convolutional LSTM over a few images."""
        L, n = self.L, self._size(2, 6)
        inputs = self.keras.Input((self._size(2, 5), 6, 5, n), batch_size=1)
        x = L.ConvLSTM2D(n, 3, padding="same", return_sequences=self._pick([True, False]))(inputs)
        return self.keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))

    def _image(self) -> Any:
        L, n = self.L, self._size(2, 6)
        inputs = self.keras.Input((self._size(6, 9), self._size(6, 9), n), batch_size=1)
        x = inputs
        for _ in range(2):
            kinds = [
                lambda x=x: L.Conv2D(
                    n, 3, strides=self._pick([1, 2]), padding=self._pick(["same", "valid"]), activation="relu"
                )(x),
                lambda x=x: L.DepthwiseConv2D(2, padding="same")(x),
                lambda x=x: L.SeparableConv2D(n, 2, padding="same")(x),
                lambda x=x: L.Conv2DTranspose(n, 2, strides=2, padding="same")(x),
                lambda x=x: L.AveragePooling2D(2, padding="same")(x),
                lambda x=x: L.MaxPooling2D(2)(x),
                lambda x=x: L.ReLU(6.0)(L.BatchNormalization()(x)),
                lambda x=x: L.ZeroPadding2D(1)(x),
            ]
            x = self._pick(kinds)()
        return self.keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x)))


def converted(model: Any, form: str, rng: np.random.Generator) -> bytes:
    """Convert a model; integers are calibrated with random inputs."""
    import tensorflow as tf

    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        model.export(folder)  # faster than from_keras_model, which also saves a function for each layer
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if form != "float":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if form == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if form.startswith("int"):
            shape = model.inputs[0].shape
            converter.representative_dataset = lambda: (
                [rng.normal(size=shape).astype(np.float32)] for _ in range(12)
            )
            sets = tf.lite.OpsSet
            wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            converter.target_spec.supported_ops = [wide if form == "int16x8" else sets.TFLITE_BUILTINS_INT8]
            dtype = tf.int16 if form == "int16x8" else tf.int8
            converter.inference_input_type = converter.inference_output_type = dtype
        content: bytes = converter.convert()
    return content


class Reference:
    """LiteRT's interpreter with its reference kernels, without delegates."""

    def __init__(self, content: bytes) -> None:
        import tensorflow as tf

        resolver = tf.lite.experimental.OpResolverType.BUILTIN_REF
        self.interpreter = tf.lite.Interpreter(model_content=content, experimental_op_resolver_type=resolver)
        self.interpreter.allocate_tensors()

    @property
    def inputs(self) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
        """The shape and dtype of each input."""
        details = self.interpreter.get_input_details()
        return [(tuple(each["shape"]), np.dtype(each["dtype"])) for each in details]

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        for details, array in zip(self.interpreter.get_input_details(), arrays, strict=True):
            self.interpreter.set_tensor(details["index"], array)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(each["index"]) for each in self.interpreter.get_output_details()]
