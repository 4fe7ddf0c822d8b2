"""Random graphs whose values have different rates and lengths: strides, skips, crops, pads and joins."""

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from onward.graph import Input, Model
from support.sequence_graphs import RandomGraph


class Saved(NamedTuple):
    """A value that a skip connection joins later."""

    value: str
    channels: int
    rate: Fraction


class MultirateGraph(RandomGraph):
    """A graph over x (batch, time, 5) that halves and doubles its steps, and joins values of equal rates."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.rate, self.saved = Fraction(1), list[Saved]()

    def save(self) -> None:
        self.saved.append(Saved(self.value, self.channels, self.rate))

    def down(self) -> None:
        """A convolution, a pool or a slice with a stride."""
        self.save()
        stride = self.pick(2, 2, 3, 4)
        kernel = stride * self.pick(1, 2) + self.pick(-1, 0, 0, 1)
        pads = self.pick([0, 0], [kernel - 1, 0], [kernel // 2, kernel // 2], [1, 2], [0, kernel])
        match self.pick("conv", "conv", "pool", "slice"):
            case "conv":
                channels = self.pick(3, 5)
                weights = self.constant(channels, self.channels, kernel)
                before = self.length(self.value)
                self.add("Conv", weights, pads=pads, strides=[stride])
                self.channels = channels
                if self.pick(0, 1):
                    self.computed(before, sum(pads) - kernel, stride)
            case "pool":
                name, kernel = self.pick("MaxPool", "AveragePool"), max(2, kernel)
                self.add(
                    name, kernel_shape=[kernel], strides=[stride], pads=self.pick([0, 0], [1, 0], [0, 1])
                )
            case "slice":
                start = self.pick(0, 0, 1)
                self.add("Slice", *(self.integers(n) for n in (start, 2**62, 2, stride)))
        self.rate /= stride
        self.add("Relu")

    def up(self) -> None:
        """A transposed convolution, repeated steps, or channels that become steps."""
        factor = self.pick(2, 2, 3, 4)
        match self.pick("transposed", "transposed", "repeated", "channels"):
            case "transposed":
                kernel = factor * self.pick(1, 2) + self.pick(-1, 0, 0, 1)
                channels, extra = self.pick(3, 5), max(0, kernel - factor)
                weights = self.constant(self.channels, channels, kernel)
                crop = self.pick([0, 0], [0, extra], [extra // 2, extra - extra // 2])
                options = {"strides": [factor], "pads": crop, "output_padding": [self.pick(0, 0, 1)]}
                self.add("ConvTranspose", weights, **options)
                self.channels = channels
            case "repeated":
                scales = self.graph.add_constant(np.array([1, 1, factor], np.float32))
                options = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
                self.add("Resize", "", scales, mode="nearest", **options)
            case "channels":
                weights = self.constant(self.channels * factor, self.channels, 1)
                self.add("Conv", weights)
                self.add("Transpose", perm=[0, 2, 1])
                self.add("Reshape", self.integers(0, -1, self.channels))
                self.add("Transpose", perm=[0, 2, 1])
        self.rate *= factor

    def computed(self, before: str, more: int, stride: int) -> None:
        """Use the number of steps, computed from that before a convolution, as some exporters do.

        Reshape to it, or expand a constant to it.
        """
        windows = self.graph.add(
            "Div", self.graph.add("Add", before, self.integers(more)), self.integers(stride)
        )
        batch = self.graph.add("Gather", self.graph.add("Shape", self.value), self.integers(0))
        steps = self.graph.add("Add", windows, self.integers(1))
        if self.pick(0, 1):
            sizes = self.graph.add("Concat", self.integers(self.channels), steps, axis=0)
            self.add("Mul", self.graph.add("Expand", self.constant(self.channels, 1), sizes))
            return
        self.add("Reshape", self.graph.add("Concat", batch, self.integers(self.channels), steps, axis=0))

    def length(self, value: str) -> str:
        """Return the number of steps of a value (batch, channels, time), as an array of one element."""
        return self.graph.add("Gather", self.graph.add("Shape", value), self.integers(2))

    def cut(self, value: str, other: str, less: int = 0) -> str:
        """Return value[:, :, : len(other) - less]."""
        end = self.length(other)
        if less:
            end = self.graph.add("Sub", end, self.integers(less))
        elif self.pick(0, 0, 1):  # value[:, :, : -(len(value) - len(other))], empty if they are equally long
            longer = self.graph.add("Add", self.length(other), self.graph.add("Sub", end, self.length(other)))
            end = self.graph.add("Identity", longer)
        return self.graph.add("Slice", value, self.integers(0), end, self.integers(2))

    def skip(self) -> None:
        """Join an earlier value of the same rate: sums, products and channels of the steps that both have."""
        alike = [saved for saved in self.saved if saved.rate == self.rate]
        if not alike:
            return
        other = alike[self.rng.integers(len(alike))]
        how = self.pick("both", "both", "first", "none")
        value, skipped = self.value, other.value
        if how != "none":
            skipped = self.cut(skipped, value)
        if how == "both":
            value = self.cut(value, skipped)
        if other.channels == self.channels and self.pick(0, 1):
            self.value = self.graph.add(self.pick("Add", "Mul", "Max"), value, skipped)
        else:
            self.value = self.graph.add("Concat", value, skipped, axis=1)
            self.channels += other.channels

    def crop(self) -> None:
        """Leave out some steps at either side."""
        start, end = self.pick(0, 1, 3), self.pick(2**62, -1, -3)
        self.add("Slice", self.integers(start), self.integers(end), self.integers(2))

    def shift(self) -> None:
        """Join known steps along time: before, after, or instead of the last ones."""
        if self.pick(0, 1):
            self.save()
        batch = self.graph.add("Gather", self.graph.add("Shape", self.value), self.integers(0))
        sizes = self.graph.add("Concat", batch, self.integers(self.channels, 2), axis=0)
        steps = self.graph.add("Expand", self.constant(1, self.channels, 1), sizes)
        how = self.pick("before", "after", "delay")
        if how == "delay":
            self.add("Slice", self.integers(0), self.integers(-2), self.integers(2))
        parts = (self.value, steps) if how == "after" else (steps, self.value)
        self.value = self.graph.add("Concat", *parts, axis=2)

    def delayed(self) -> None:
        """Join the value with its earlier steps; a single step is repeated by chance."""
        start, count = self.value, self.pick(1, 2, 3)
        self.add("Slice", self.integers(0), self.integers(-count), self.integers(2))
        self.add("Pad", self.integers(0, 0, count, 0, 0, 0))
        self.value = self.graph.add(self.pick("Sub", "Max"), self.value, start)

    def gate(self) -> None:
        """Multiply one half of the channels with the sigmoid of the other one, and normalize."""
        weights = self.constant(self.channels * 2, self.channels, 1)
        self.add("Conv", weights)
        halves = self.graph.add_all("Split", (self.value,), 2, axis=1, num_outputs=2)
        self.value = self.graph.add("Mul", halves[0], self.graph.add("Sigmoid", halves[1]))
        if self.pick(0, 1):
            self.layer_norm()

    def rows_of_channels(self) -> None:
        """Move channels into the batch and back, as separators of several sources do."""
        self.add("Conv", self.constant(self.channels * 2, self.channels, 1))
        batch = self.graph.add("Gather", self.graph.add("Shape", self.value), self.integers(0))
        rows, steps = self.graph.add("Mul", batch, self.integers(2)), self.length(self.value)
        sizes = self.pick((rows, self.integers(self.channels, -1)), (self.integers(-1, self.channels), steps))
        self.add("Reshape", self.graph.add("Concat", batch, self.integers(2, self.channels, -1), axis=0))
        self.add("Reshape", self.graph.add("Concat", *sizes, axis=0))
        self.add("Tanh")
        sizes = self.pick((batch, self.integers(-1), steps), (batch, self.integers(self.channels * 2, -1)))
        self.add("Reshape", self.graph.add("Concat", *sizes, axis=0))
        self.channels *= 2

    def broadcast(self) -> None:
        """Add a constant that is expanded to the length of the value."""
        shape = self.graph.add("Shape", self.value)
        self.value = self.graph.add(
            "Add", self.value, self.graph.add("Expand", self.constant(self.channels, 1), shape)
        )

    def output(self) -> str:
        return self.graph.add("Transpose", self.value, perm=[0, 2, 1])

    def build(self, length: int) -> Model:
        operations = [
            *(self.down, self.down, self.up, self.up, self.skip, self.skip, self.skip, self.crop, self.shift),
            self.delayed,
            *(
                self.pad,
                self.conv,
                self.residual,
                self.gate,
                self.rows_of_channels,
                self.broadcast,
                self.recurrent,
            ),
            *(self.cumulative, self.norm, self.activation),
        ]
        self.stride = 2  # RandomGraph adds no strides of its own
        outputs = []
        for _ in range(length):
            operations[self.rng.integers(len(operations))]()
            if self.pick(*[0] * 9, 1) and len(outputs) < 2:
                outputs.append((self.output(), self.rate))
        outputs.append((self.output(), self.rate))
        self.graph.outputs = tuple(name for name, _ in outputs)
        self.rates = [rate for _, rate in outputs]
        dtype: Any = np.dtype(np.float32)
        self.graph.declared_outputs = tuple(Input(f"y{i}", dtype) for i in range(len(outputs)))
        return Model(self.graph)
