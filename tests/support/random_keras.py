"""Random Keras models with masks and branches, of Keras 3 or of tf_keras."""

from typing import Any

import numpy as np

T = 6
ACTIVATIONS = (
    "linear", "tanh", "relu", "sigmoid", "softplus", "softsign", "selu", "elu", "hard_sigmoid", "swish",
    "gelu", "softmax",
)  # fmt: skip
ACTIVATIONS_OF_KERAS_3 = (
    "relu6", "hard_silu", "leaky_relu", "celu", "mish", "hard_tanh", "hard_shrink", "soft_shrink",
    "tanh_shrink", "log_sigmoid", "sparse_plus", "sparse_sigmoid", "squareplus", "log_softmax", "sparsemax",
)  # fmt: skip


class RandomModel:
    """Builds one model; `keras` is the package, `rng` decides."""

    def __init__(self, keras: Any, rng: np.random.Generator) -> None:
        self.keras, self.L, self.rng = keras, keras.layers, rng
        self.is_3 = keras.__version__.startswith("3")
        # has no effect in inference, but TensorFlow traces layers without it for a GPU, which takes seconds
        self.options = {} if self.is_3 else {"recurrent_dropout": 0.1}

    def build(self) -> Any:
        """Return a model of one or two inputs, whose outputs depend on the values and on the masks."""
        inputs, values = [], []
        for number in range(self.rng.integers(1, 3)):
            inputs.append(self._input(number))
            values.append(self._start(inputs[-1]))
        for _ in range(self.rng.integers(2, 7)):
            values.append(self._combined(values) if self.rng.random() < 0.35 else self._next(values[-1]))
        outputs = [self.L.LSTM(2, **self.options)(values[-1])]  # reads the mask
        outputs.append(self.L.GlobalMaxPooling1D()(values[-1]))  # reads masked steps
        if self.rng.random() < 0.5:
            outputs.append(self._end(self._pick(values)))
        return self.keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs)

    def inputs(self, model: Any) -> list[np.ndarray]:
        """Return inputs with masked steps at the start, in the middle and at the end of rows."""
        arrays = []
        for tensor in model.inputs:
            shape = (5, T, *tensor.shape[2:])
            ids = len(shape) == 2
            x = self.rng.integers(1, 5, shape) if ids else self.rng.normal(size=shape).astype(np.float32)
            for row, steps in enumerate(([0, 1], [-1, -2], [2, 4], [*range(T)])):
                x[row, steps] = 0
            arrays.append(x.astype(np.int32) if ids else x)
        return arrays

    def _pick(self, choices: list[Any]) -> Any:
        return choices[self.rng.integers(len(choices))]

    def _size(self) -> int:
        return int(self.rng.integers(1, 6))

    def _flag(self, chance: float = 0.3) -> bool:
        return bool(self.rng.random() < chance)

    def _input(self, number: int) -> Any:
        time = None if self._flag() else T
        if self._flag():
            return self.keras.Input((time,), dtype="int32", name=f"ids_{number}")
        return self.keras.Input((time, self._size()), name=f"x_{number}")

    def _start(self, x: Any) -> Any:
        if len(x.shape) == 2:
            return self.L.Embedding(5, self._size(), mask_zero=self._flag(0.7))(x)
        return self.L.Masking()(x) if self._flag(0.7) else x

    def _activation(self) -> str:
        return self._pick([*ACTIVATIONS, *(ACTIVATIONS_OF_KERAS_3 if self.is_3 else ())])

    def _functions(self, *names: str) -> dict[str, Any]:
        """Return functions of a cell: by their names, or as layers with parameters."""
        L = self.L
        layers = [lambda: L.LeakyReLU(0.1), lambda: L.ReLU(0.8, 0.1, 0.2), lambda: L.ELU(0.6), L.Softmax]
        return {
            name: self._pick(layers)() if self._flag(0.2) else self._activation()
            for name in names
            if self._flag(0.4)
        }

    def _cell(self, units: int, **options: Any) -> Any:
        L, gates, own = self.L, ("activation", "recurrent_activation"), self.options
        options = {"return_sequences": True, "zero_output_for_mask": self._flag()} | options
        functions = self._functions(*gates)
        kinds = [
            lambda **k: L.LSTM(units, use_bias=self._flag(0.7), **functions, **own, **k),
            lambda **k: L.GRU(units, reset_after=self._flag(0.5), **functions, **own, **k),
            lambda **k: L.SimpleRNN(units, **self._functions("activation"), **k),
            lambda **k: L.RNN([L.LSTMCell(units, **functions), L.GRUCell(units)], **k),
        ]
        return self._pick(kinds)(**options)

    def _layer(self, features: int) -> Any:
        """Return a layer from (B, T, features) to (B, T, any)."""
        L, n = self.L, self._size()
        activation = self._activation()
        kinds = [
            lambda: L.Dense(n, activation=activation),
            lambda: L.Activation(activation),
            lambda: self._cell(n),
            lambda: self._cell(n),
            lambda: self._cell(n, go_backwards=True),
            lambda: L.Bidirectional(self._cell(n), merge_mode=self._pick(["concat", "sum", "ave", "mul"])),
            lambda: L.TimeDistributed(self._pick([L.Dense(n), L.LayerNormalization(), L.Dropout(0.1)])),
            lambda: L.Conv1D(n, self._size(), padding=self._pick(["same", "causal"]), activation=activation),
            lambda: L.SeparableConv1D(n, 2, padding="same"),
            lambda: L.DepthwiseConv1D(2, padding="same"),
            lambda: L.MaxPooling1D(2, strides=1, padding="same"),
            lambda: L.AveragePooling1D(2, strides=1, padding="same"),
            lambda: L.BatchNormalization(scale=self._flag(0.5)),
            lambda: L.LayerNormalization(
                center=self._flag(0.7), scale=self._flag(0.7), epsilon=self._pick([1e-3, 1])
            ),
            lambda: L.UnitNormalization(),
            lambda: L.Rescaling(0.7, offset=0.1),
            lambda: L.Masking(),
            lambda: L.Identity() if self.is_3 else L.Dropout(0.2),
            lambda: self._pick([L.Dropout, L.SpatialDropout1D, L.GaussianNoise])(0.2),
            lambda: self._pick([L.PReLU(shared_axes=[1]), L.LeakyReLU(), L.ELU(0.5), L.ReLU(0.8)]),
            lambda: L.Reshape((T, features)),
            lambda: L.ActivityRegularization(0.1),
        ]
        if self.is_3:
            kinds += [
                lambda: L.GroupNormalization(1, epsilon=self._pick([1e-3, 1])),
                lambda: L.RMSNormalization(),
                lambda: L.Conv1DTranspose(n, 3, padding="same"),
            ]
        return self._pick(kinds)()

    def _next(self, x: Any) -> Any:
        return self._layer(x.shape[-1])(x)

    def _combined(self, values: list[Any]) -> Any:
        L, x = self.L, self._pick(values)
        y = self._pick(values)
        if self._flag(0.3):
            size = x.shape[-1]
            y = L.Dense(size)(y)
            kinds = [
                lambda: L.Attention(use_scale=self._flag())([x, y]),
                lambda: L.AdditiveAttention()([x, y]),
                lambda: L.MultiHeadAttention(2, 3)(L.Dense(3)(x), L.Dense(4)(y)),
            ]
            return self._pick(kinds)()
        if self._flag(0.3):
            return L.Concatenate()([x, y])
        if self._flag(0.3):
            return self._with_states(x, y)
        y = L.Dense(x.shape[-1])(y)
        if self._flag(0.2):  # one with another axis
            wide = L.Reshape((1, T, x.shape[-1]))(y)
            merged = self._pick([L.Add, L.Multiply, L.Average, L.Maximum, L.Minimum])()([x, wide])
            return L.Reshape((T, x.shape[-1]))(merged)
        kinds = [L.Add, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Subtract]
        return self._pick(kinds)()([x, y])

    def _with_states(self, x: Any, y: Any) -> Any:
        """Return the outputs for y of a layer that starts with the states after x."""
        units, functions = self._size(), self._functions("activation")
        kind = self._pick([self.L.LSTM, self.L.GRU, self.L.SimpleRNN])
        layers = [
            kind(units, return_sequences=True, return_state=True, **functions, **self.options) for _ in "xy"
        ]
        _, *states = layers[0](x)
        return layers[1](y, initial_state=states)[0]

    def _end(self, x: Any) -> Any:
        L = self.L
        kinds = [
            lambda: L.GlobalAveragePooling1D()(x),
            lambda: self._pick([L.LSTM, L.GRU])(2, go_backwards=True, **self.options)(x),
            lambda: L.Bidirectional(L.GRU(2, **self.options))(x),
            lambda: 2 * x[:, -1] - 1,
            lambda: L.Dense(2)(L.Concatenate(axis=1)([x, x])),
            lambda: L.Dot(axes=2)([x, x]),
        ]
        return self._pick(kinds)()


def random_attention(keras: Any, rng: np.random.Generator) -> Any:
    """Return a model of attention over a masked input (T, 3); the order of its calls decides the masks."""
    L = keras.layers
    x = keras.Input((T, 3))
    values = [L.Masking()(x)]
    for _ in range(rng.integers(2, 6)):
        a, b = (values[rng.integers(len(values))] for _ in "ab")
        kinds = [
            lambda a=a, b=b: L.MultiHeadAttention(1, 2)(a, b),
            lambda a=a, b=b: L.MultiHeadAttention(2, 3)(a, b),
            lambda a=a, b=b: L.Attention()([a, b]),
            lambda a=a, b=b: L.Add()([a, b]),
            lambda a=a, b=b: L.Multiply()([a, b]),
            lambda a=a: L.LayerNormalization()(a),
            lambda a=a: L.Dropout(0.1)(a),
            lambda a=a: L.LSTM(3, return_sequences=True)(a),
        ]
        values.append(kinds[rng.integers(len(kinds))]())
    return keras.Model(x, [L.GlobalAveragePooling1D()(y) for y in values[-2:]])
