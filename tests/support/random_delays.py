"""Random networks of dilated and strided convolutions, whose streams carry many steps."""

from typing import Any

import numpy as np

from onward.graph import Graph, Model

LOOKUPS = 7  # rows of the table


class RandomDelays:
    """A network over x (batch, channels, time), whose first channel also selects rows of a table."""

    def __init__(self, rng: np.random.Generator, batch: int | str) -> None:
        self.rng, self.graph = rng, Graph()
        self.inputs = int(rng.choice([1, 3, 16]))
        self.channels = int(rng.choice([3, 16, 33]))
        x = self.graph.add_input("x", np.float32, (batch, self.inputs, "time"))
        values = [self.graph.add("Conv", x, self.weights(self.channels, self.inputs, 1))]
        if rng.random() < 0.2:  # in NumPy
            values.append(self.graph.add("CumSum", values[0], self.graph.add_constant(np.array(2))))
        for _ in range(int(rng.integers(2, 6))):
            values.append(self.layer(values))
        table = self.graph.add_constant(rng.normal(size=(LOOKUPS, self.channels)).astype(np.float32))
        first = self.graph.add("Gather", x, self.graph.add_constant(np.array(0)), axis=1)
        lookups = self.graph.add("Cast", first, to=np.dtype(np.int64))  # near the end: it may be out of range
        rows = self.graph.add("Transpose", self.graph.add("Gather", table, lookups), perm=[0, 2, 1])
        values.append(self.graph.add("Add", values[-1], rows))
        if rng.random() < 0.3:
            values.append(self.conv(values[-1], stride=int(rng.integers(2, 5))))
        outputs = [values[-1], values[int(rng.integers(1, len(values) - 1))]]
        self.graph.outputs = tuple(self.graph.add("Identity", y) for y in outputs[: rng.integers(1, 3)])

    def weights(self, *shape: int) -> str:
        numbers = self.rng.normal(0.1, 1, shape) / np.sqrt(np.prod(shape[1:]))
        return self.graph.add_constant(numbers.astype(np.float32))

    def conv(self, x: str, stride: int = 1) -> str:
        """Add a convolution, most of them causal, of all channels or of each."""
        group = self.channels if self.rng.random() < 0.3 else 1
        kernel, dilation = int(self.rng.integers(2, 4)), int(self.rng.integers(1, 21))
        span = (kernel - 1) * dilation
        after = int(self.rng.integers(1, span + 1)) if self.rng.random() < 0.2 else 0
        weights = self.weights(self.channels, self.channels // group, kernel)
        options: dict[str, Any] = {"dilations": [dilation], "pads": [span - after, after], "group": group}
        return str(self.graph.add("Conv", x, weights, strides=[stride], **options))

    def layer(self, values: list[str]) -> str:
        """Add a layer that reads recent values; several may read one."""
        add, recent = self.graph.add, [str(value) for value in self.rng.choice(values[-3:], 2)]
        y = self.conv(recent[0])
        if self.rng.random() < 0.5:
            y = add(str(self.rng.choice(["Tanh", "Relu"])), y)
        choice = self.rng.integers(4)
        if choice == 0:
            y = add("Add", y, recent[1])
        elif choice == 1:
            both = add("Concat", y, recent[1], axis=1)
            y = add("Conv", both, self.weights(self.channels, 2 * self.channels, 1))
        elif choice == 2:
            y = add("Mul", y, self.conv(recent[0]))
        return str(y)

    def model(self) -> Model:
        """Return the model."""
        return Model(self.graph)

    def sequence(self, rows: int, steps: int) -> Any:
        """Return x for some rows."""
        x = self.rng.normal(size=(rows, self.inputs, steps)).astype(np.float32)
        x[:, 0] = self.rng.integers(0, LOOKUPS, (rows, steps))
        return x
