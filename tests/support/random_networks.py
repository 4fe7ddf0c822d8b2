"""Random networks of real numbers, with asymmetric weights: calls with convolutions, and streams."""

from typing import Any

import numpy as np

import onward
from onward.graph import Graph
from onward.model import Model

UNARY = "Relu Sigmoid Tanh LeakyRelu HardSwish Elu Gelu".split()
CELLS: tuple[Any, ...] = (
    lambda i, h, n, rng: onward.LSTM(i, h, n, rng=rng),
    lambda i, h, n, rng: onward.GRU(i, h, n, rng=rng),
    lambda i, h, n, rng: onward.GRU(i, h, n, reset_after=False, rng=rng),
    lambda i, h, n, rng: onward.RNN(i, h, n, rng=rng),
)


class Network:
    """A network under construction."""

    def __init__(self, rng: np.random.Generator, *axes: int | str) -> None:
        self.rng, self.graph = rng, Graph()
        self.y = self.graph.add_input("x", np.float32, axes)

    def weights(self, *shape: int) -> str:
        """Return constant weights that keep the variance of what they multiply."""
        W = self.rng.normal(0.1, 1, shape) / np.sqrt(np.prod(shape[1:]))
        return self.graph.add_constant((1.4 * W).astype(np.float32))

    def numbers(self, n: int, size: float = 0.3) -> str:
        """Return constant numbers."""
        return self.graph.add_constant(self.rng.normal(0.1, size, n).astype(np.float32))

    def add(self, operation: str, *others: str, **attributes: Any) -> str:
        """Apply an operation to the present value, which becomes its result."""
        self.y = self.graph.add(operation, self.y, *others, **attributes)
        return self.y

    def model(self) -> Model:
        """Return the model, whose output is the present value."""
        self.graph.outputs = (self.graph.add("Identity", self.y, output="y"),)
        return Model(self.graph)


def convolutions(rng: np.random.Generator) -> tuple[Model, dict[str, Any]]:
    """Convolutions, some of each channel, sums and products with them, a mean and a dense layer."""
    C = int(rng.integers(3, 9))
    net = Network(rng, 1, 2, 9, 7)
    net.add("Conv", net.weights(C, 2, 3, 3), net.numbers(C), pads=[1, 0, 2, 1], strides=[2, 1])
    for _ in range(int(rng.integers(1, 4))):
        before = net.add(str(rng.choice(UNARY)))
        if rng.random() < 0.5:
            net.add("Conv", net.weights(C, 1, 3, 3), net.numbers(C), group=C, pads=[1, 1, 1, 1])
            zero, six = (net.graph.add_constant(np.float32(number)) for number in (0, 6))  # type: ignore[arg-type]
            net.add("Clip", zero, six)
        net.add("Conv", net.weights(C, C, 1, 1), net.numbers(C))
        net.add(str(rng.choice(["Add", "Mul"])), before)
        net.add("Mul", net.numbers(1))
    net.add("GlobalAveragePool")
    net.add("Flatten")
    net.add("Gemm", net.weights(5, C), net.numbers(5), transB=1)
    if rng.random() < 0.5:
        net.add("Softmax")
    return net.model(), {}


def recurrences(rng: np.random.Generator) -> tuple[Model, dict[str, Any]]:
    """A stream: convolutions along time, recurrent layers and a dense layer."""
    C, H = int(rng.integers(3, 12)), int(rng.integers(3, 20))
    net = Network(rng, 1, 6, "time")
    net.add("Conv", net.weights(C, 6, 3), net.numbers(C), dilations=[int(rng.integers(1, 3))])
    net.add(str(rng.choice(UNARY)))
    if rng.random() < 0.5:
        net.add("Conv", net.weights(C, 1, 2), group=C)
    net.add("Transpose", perm=[2, 0, 1])
    layers = int(rng.integers(1, 3))
    layer = CELLS[int(rng.integers(len(CELLS)))](C, H, layers, int(rng.integers(99)))
    net.add("Recurrent", cell=layer.cell)
    net.add("MatMul", net.weights(H, 4))
    net.add("Add", net.numbers(4))
    return net.model(), {"stream": True, "time_axis": 2}


def random_network(rng: np.random.Generator) -> tuple[Model, dict[str, Any], np.ndarray[Any, Any]]:
    """Return a network, the options with which it becomes C, and 40 blocks of its input."""
    is_stream = rng.random() < 0.6
    model, options = (recurrences if is_stream else convolutions)(rng)
    shape = (40, 1, 6, 1) if is_stream else (40, 1, 2, 9, 7)
    return model, options, rng.normal(0.2, 1, shape).astype(np.float32)
