"""TensorFlow Lite files of one recurrent operator with random options."""

from __future__ import annotations

import numpy as np

from .tflite_files import Case, Tensor, options

TANH, RELU = 4, 1


class RecurrentCases:
    """Draws a recurrent operator in real numbers, with integer weights, or in integers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.form = str(rng.choice(["float", "hybrid", "integer"]))
        self.I, self.H, self.P, self.B, self.T = (int(n) for n in rng.integers(2, 9, 5))
        self.asymmetric = self.form == "hybrid" and self.chance()

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def case(self) -> Case:
        kinds = [self.lstm, self.lstm, self.svdf]
        if self.form != "integer":
            kinds += [self.rnn, self.rnn, self.bidirectional_lstm, self.basic_lstm]
        return kinds[self.rng.integers(len(kinds))]()

    def weights(self, *shape: int) -> Tensor:
        if self.form == "float":
            return self.vector(*shape)
        numbers = self.rng.integers(-127, 128, shape).astype(np.int8)
        return Tensor(list(shape), "INT8", numbers, np.float32(self.rng.uniform(0.002, 0.008)))

    def vector(self, *shape: int) -> Tensor:
        return Tensor(list(shape), data=(self.rng.normal(size=shape) * 0.5).astype(np.float32))

    def peephole(self) -> Tensor:
        if self.form != "integer":
            return self.weights(self.H)
        numbers = self.rng.integers(-(1 << 15), 1 << 15, self.H).astype(np.int16)
        return Tensor([self.H], "INT16", numbers, np.float32(self.rng.uniform(1e-5, 4e-5)))

    def bias(self, n: int) -> Tensor:
        if self.form != "integer":
            return self.vector(n)
        return Tensor([n], "INT32", self.rng.integers(-3000, 3000, n).astype(np.int32), np.float32(1e-4))

    def sequence(self, size: int, time_major: bool) -> Tensor:
        shape = [self.T, self.B, size] if time_major else [self.B, self.T, size]
        return self.integers(shape) if self.form == "integer" else Tensor(shape)

    def integers(self, shape: list[int], scale: float | None = None, zero: int | None = None) -> Tensor:
        scale = float(self.rng.uniform(0.005, 0.05)) if scale is None else scale
        zero = int(self.rng.integers(-20, 20)) if zero is None else zero
        return Tensor(shape, "INT8", None, np.float32(scale), zero)

    def states(self, sizes: list[int]) -> list[Tensor]:
        return [Tensor([self.B, n], is_variable=True) for n in sizes]

    def gates(self, has_input: bool, has_peepholes: bool, projects: bool, bias: bool) -> list[Tensor | None]:
        """The weights of a direction."""
        P = self.P if projects else self.H
        used = [has_input, True, True, True]
        matrices = [self.weights(self.H, self.I) if use else None for use in used]
        recurrent = [self.weights(self.H, P) if use else None for use in used]
        peepholes = [self.peephole() if use and has_peepholes else None for use in (has_input, True, True)]
        biases = [self.bias(self.H) if use else None for use in used]
        ends = [self.weights(P, self.H) if projects else None, self.bias(P) if projects and bias else None]
        return [*matrices, *recurrent, *peepholes, *biases, *ends]

    def lstm(self) -> Case:
        projects, time_major = self.chance(0.4), self.chance()
        P = self.P if projects else self.H
        has_peepholes = self.chance(0.4) and not (projects and self.form == "integer")  # refused
        parts = self.gates(self.chance(0.7), has_peepholes, projects, self.chance())
        norms: list[Tensor | None] = [None] * 4
        if self.form != "integer" and self.chance(0.4):
            norms = [self.vector(self.H) if parts[k] is not None else None for k in range(4)]
        chosen = options("UnidirectionalSequenceLSTM", fusedActivationFunction=TANH, timeMajor=time_major)
        chosen.cellClip, chosen.projClip = (float(self.rng.choice([0, 0.5])) for _ in range(2))
        chosen.asymmetricQuantizeInputs = self.asymmetric
        states, y, x = (
            self.states([P, self.H]),
            self.sequence(P, time_major),
            self.sequence(self.I, time_major),
        )
        inner: list[Tensor] = []
        if self.form == "integer":
            hidden = self.integers([self.B, P], float(y.scale), y.zero)._replace(is_variable=True)
            has_tiny = parts[0] is not None and not projects  # without an input gate, they are refused
            exponent = -int(self.rng.integers(9, 18 if has_tiny else 16))
            cells = Tensor([self.B, self.H], "INT16", None, np.float32(2.0**exponent), is_variable=True)
            states, inside = [hidden, cells], hidden._replace(is_variable=False)
            if projects:
                inside = self.integers([self.B, self.H], float(self.rng.uniform(0.003, 0.02)))
            inner = [*[Tensor([1], "INT16", None, np.float32(2.0**-12))] * 4, inside._replace(shape=[1])]
        inputs = [x, *parts, *states, *norms]
        return Case("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, y, chosen, 3, inner)

    def bidirectional_lstm(self) -> Case:
        merge, peepholes = self.chance(), self.chance(0.3)
        time_major = merge or self.chance()  # LiteRT confuses the states of rows if batch is the first axis
        parts = [self.gates(self.chance(0.7), peepholes, False, False) for _ in range(2)]
        chosen = options("BidirectionalSequenceLSTM", fusedActivationFunction=TANH, timeMajor=time_major)
        chosen.mergeOutputs, chosen.asymmetricQuantizeInputs = merge, self.asymmetric
        inputs = [self.sequence(self.I, time_major), *parts[0], *parts[1], *self.states([self.H] * 4)]
        ys = [self.sequence(self.H * (1 + merge), time_major)] * (2 - merge)
        return Case("BIDIRECTIONAL_SEQUENCE_LSTM", [*inputs, *[None] * 9], ys[0], chosen, 3, (), ys[1:])

    def basic_lstm(self) -> Case:
        self.form = "float"
        B, H, K = self.B, self.H, self.I + self.H
        inputs = [
            Tensor([B, self.I]),
            Tensor([B, H]),
            self.weights(4 * H, K),
            self.bias(4 * H),
            Tensor([B, H]),
        ]
        others = [Tensor([B, n]) for n in (H, K, 4 * H)]
        return Case("LSTM", inputs, Tensor([B, H]), options("LSTM", kernelType=1), 2, (), others)

    def rnn(self) -> Case:
        cell = [self.weights(self.H, self.I), self.weights(self.H, self.H), self.bias(self.H)]
        activation, time_major, kind = (
            int(self.rng.choice([TANH, RELU, 3])),
            self.chance(),
            self.rng.integers(3),
        )
        chosen = {"fusedActivationFunction": activation, "asymmetricQuantizeInputs": self.asymmetric}
        (state,) = self.states([self.H])
        if kind == 0:
            inputs = [Tensor([self.B, self.I]), *cell, state]
            return Case("RNN", inputs, Tensor([self.B, self.H]), options("RNN", **chosen), 3)
        x, y = self.sequence(self.I, time_major), self.sequence(self.H, time_major)
        chosen["timeMajor"] = time_major
        if kind == 1:
            return Case(
                "UNIDIRECTIONAL_SEQUENCE_RNN", [x, *cell, state], y, options("SequenceRNN", **chosen), 3
            )
        other = [self.weights(self.H, self.I), self.weights(self.H, self.H), self.bias(self.H)]
        chosen["mergeOutputs"], hybrid = False, self.form == "hybrid"
        if hybrid and time_major:  # LiteRT's kernel differs from that of one direction
            return self.rnn()
        inputs = [x, *cell, state, *other, state, None, None, None]
        both = options("BidirectionalSequenceRNN", **chosen)
        return Case("BIDIRECTIONAL_SEQUENCE_RNN", inputs, y, both, 3, (), [y])

    def svdf(self) -> Case:
        rank, units, M = (int(n) for n in self.rng.integers(1, 5, 3))
        F, M = rank * units, M + 1
        chosen = options("SVDF", rank=rank, fusedActivationFunction=RELU)
        chosen.asymmetricQuantizeInputs = self.asymmetric
        state = Tensor([self.B, F * M], is_variable=True)
        x, y, over_time = Tensor([self.B, self.I]), Tensor([self.B, units]), self.weights(F, M)
        if self.form == "integer":
            x, y = self.integers([self.B, self.I]), self.integers([self.B, units], zero=-128)
            state = state._replace(type="INT16", scale=np.float32(self.rng.uniform(1e-4, 1e-3)))
            numbers = self.rng.integers(-(1 << 15), 1 << 15, (F, M)).astype(np.int16)
            over_time = Tensor([F, M], "INT16", numbers, np.float32(3e-5))
        bias = self.bias(units) if self.form == "integer" or self.chance() else None
        return Case("SVDF", [x, self.weights(F, self.I), over_time, bias, state], y, chosen, 4)
