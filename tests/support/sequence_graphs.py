"""Random graphs over sequences: convolutions, pooling, norms, recurrent layers, branches and movement."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import onward
from onward.graph import Graph, Input, Model

CELLS = (onward.RNN, onward.GRU, onward.LSTM)


class RandomGraph:
    """A graph over x (batch, time, features) that grows by random operations on (batch, channels, time)."""

    def __init__(self, seed: int, features: int = 5, steps: int | str = "time") -> None:
        self.rng = np.random.default_rng(seed)
        self.graph, self.features, self.channels = Graph(), features, features
        x = self.graph.add_input("x", np.float32, ("batch", steps, features))
        self.value = self.graph.add("Transpose", x, perm=[0, 2, 1])
        self.stride, self.has_layer = 1, False

    def constant(self, *shape: int) -> str:
        return self.graph.add_constant((self.rng.normal(size=shape) * 0.5).astype(np.float32))

    def integers(self, *numbers: int) -> str:
        return self.graph.add_constant(np.array(numbers))

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def add(self, operation: str, *inputs: str, **attributes: Any) -> None:
        self.value = self.graph.add(operation, self.value, *inputs, **attributes)

    def conv(self) -> None:
        kernel, dilation = self.pick(1, 2, 3, 5), self.pick(1, 1, 2)
        stride = self.pick(1, 1, 1, 2, 3) if self.stride == 1 else 1
        self.stride *= stride
        group = self.pick(1, 1, self.channels)
        outputs = self.channels if group > 1 else self.pick(1, 4, 7)
        span = (kernel - 1) * dilation
        pads = self.pick([span, 0], [span // 2, span - span // 2], [0, 0], [span, span], [1, 2])
        weights = self.constant(outputs, self.channels // group, kernel)
        options = {"pads": pads, "strides": [stride], "dilations": [dilation], "group": group}
        if stride == 1 and self.pick(0, 0, 1):
            options["auto_pad"], pads = self.pick("SAME_UPPER", "SAME_LOWER"), []
        self.add("Conv", weights, *self.pick((), (self.constant(outputs),)), **options)
        self.channels = outputs
        if pads == [span, span] and stride == 1 and span:  # drop the last steps, as causal networks do
            self.add("Slice", self.integers(0), self.integers(-span), self.integers(2))

    def pool(self) -> None:
        kernel, stride = self.pick(2, 3), self.pick(1, 2) if self.stride == 1 else 1
        self.stride *= stride
        name = self.pick("MaxPool", "AveragePool")
        options = {"pads": self.pick([kernel - 1, 0], [1, 1], [0, 0])}
        if name == "AveragePool":
            options["count_include_pad"] = self.pick(0, 1)
        if stride == 2 and (self.pick(0, 1) or options.get("count_include_pad")):
            # with an even kernel, the padding before the first step does not depend on the length
            kernel, options = 2, {"auto_pad": self.pick("SAME_UPPER", "VALID")}
        elif stride == 2 and kernel == 3:
            options |= {"ceil_mode": 1, "pads": self.pick([2, 0], [0, 1])}
        self.add(name, kernel_shape=[kernel], strides=[stride], **options)

    def upsample(self) -> None:
        """Repeat each step, or let each step reach several later ones."""
        if self.pick(0, 1):
            scales = self.graph.add_constant(np.array([1, 1, 2], np.float32))
            modes = self.pick(
                {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
                {"coordinate_transformation_mode": "half_pixel"},
            )
            self.value = self.graph.add("Resize", self.value, "", scales, mode="nearest", **modes)
            return
        kernel, stride, dilation = self.pick(1, 2, 3, 5), self.pick(1, 2, 3), self.pick(1, 1, 2)
        group = self.pick(1, 1, self.channels)
        outputs = self.channels if group > 1 else self.pick(1, 4, 17)
        weights = self.constant(self.channels, outputs // group, kernel)
        span = (kernel - 1) * dilation + 1
        crop = self.pick([0, 0], [0, max(0, span - stride)], [span // 3, span // 3])
        options = {"strides": [stride], "dilations": [dilation], "group": group, "pads": crop}
        if stride > 1:
            options["output_padding"] = [self.pick(0, 1)]
        self.add("ConvTranspose", weights, *self.pick((), (self.constant(outputs),)), **options)
        self.channels = outputs

    def norm(self) -> None:
        scale, bias, mean = (self.constant(self.channels) for _ in range(3))
        variance = self.graph.add_constant(self.rng.uniform(0.5, 2, self.channels).astype(np.float32))
        self.add("BatchNormalization", scale, bias, mean, variance)

    def activation(self) -> None:
        self.add(self.pick("Relu", "Tanh", "Sigmoid", "Gelu"))

    def last_axis(self, operation: Callable[[], None]) -> None:
        """Run an operation on (batch, time, channels)."""
        self.add("Transpose", perm=[0, 2, 1])
        operation()
        self.add("Transpose", perm=[0, 2, 1])

    def layer_norm(self) -> None:
        scale, bias = self.constant(self.channels), self.constant(self.channels)
        self.last_axis(lambda: self.add("LayerNormalization", scale, bias))

    def softmax(self) -> None:
        self.last_axis(lambda: self.add("Softmax"))

    def linear(self) -> None:
        outputs = self.pick(1, 6)
        weights = self.constant(self.channels, outputs)
        if self.pick(0, 1):
            self.add("Einsum", weights, equation="bct,cd->bdt")
        else:
            self.last_axis(lambda: self.add("MatMul", weights))
        self.channels = outputs

    def pad(self) -> None:
        before, after = self.pick((2, 0), (0, 3), (2, 1), (-1, 1), (1, -2))
        mode = self.pick("constant", "reflect", "edge") if min(before, after) >= 0 else "constant"
        self.add("Pad", self.integers(0, 0, before, 0, 0, after), mode=mode)

    def cumulative(self) -> None:
        self.add("CumSum", self.graph.add_constant(np.array(2)))

    def running_mean(self) -> None:
        """The mean of the steps so far: a sum divided by the number of each step, as in cumulative norms."""
        length = self.graph.add("Slice", self.graph.add("Shape", self.value), *map(self.integers, (2, 3)))
        step, dtype = self.pick(1, self.channels), self.pick(np.float32, np.int64)
        end = self.graph.add("Mul", self.graph.add("Add", length, self.integers(1)), self.integers(step))
        limits = [self.integers(step), end, self.integers(step)]
        limits = [self.graph.add("Cast", name, to=np.dtype(dtype)) for name in limits]
        places = self.graph.add("Cast", self.graph.add("Range", *limits), to=np.dtype(np.float32))
        self.add("CumSum", self.integers(2))
        self.add("Div", places)

    def windows(self) -> None:
        """Weigh the steps of windows at computed places, which may overlap or be reversed."""
        taps, step = self.pick(1, 2, 3), self.pick(1, 2, -1)
        hop = self.pick(1, 1, 2, 3) if self.stride == 1 else 1
        self.stride *= hop
        add, places = self.graph.add, np.arange(taps) * step
        places += self.pick(0, 0, 2) - places.min()
        left = self.pick(0, 0, 2 * hop)
        self.add("Pad", self.integers(0, 0, places.max() + left, 0, 0, self.pick(0, 1)))
        length = add("Slice", add("Shape", self.value), *map(self.integers, (2, 3)))
        end = add("Sub", length, self.integers(places.max() + left))
        if self.pick(0, 1):
            starts = add("Range", self.integers(0), end, self.integers(hop))
        else:
            count = add("Div", add("Add", end, self.integers(hop - 1)), self.integers(hop))
            starts = add("Mul", add("Range", self.integers(0), count, self.integers(1)), self.integers(hop))
        axis, dtype = self.pick(0, 1), np.dtype(self.pick(np.int32, np.int64))
        starts = add("Cast", add("Unsqueeze", starts, self.integers(axis)), to=dtype)
        taps_of = self.graph.add_constant(places.astype(dtype).reshape((-1, 1) if axis == 0 else (1, -1)))
        self.add("Gather", add("Add", *self.pick((starts, taps_of), (taps_of, starts))), axis=2)
        if axis == 0:
            self.add("Transpose", perm=[0, 1, 3, 2])
        if self.pick(0, 1):
            self.add("Einsum", self.constant(taps), equation="...k,k->...")
        else:
            self.add("MatMul", self.constant(taps))

    def check(self) -> None:
        """Refuse sequences of few steps, as recordings do where an operator takes longer ones."""
        steps = self.graph.add("Gather", self.graph.add("Shape", self.value), self.integers(2))
        is_order = self.pick(True, False)
        holds = self.graph.add(
            "LessOrEqual" if is_order else "Equal", self.integers(self.pick(1, 2, 3)), steps
        )
        self.graph.add("Check", holds, message="too few steps", expected=is_order)

    def residual(self) -> None:
        """Add a branch with a centred convolution, which is later than the other one."""
        start = self.value
        kernel = self.pick(3, 5)
        weights = self.constant(self.channels, self.channels, kernel)
        self.add("Conv", weights, pads=[kernel // 2, kernel // 2])
        self.value = self.graph.add(self.pick("Add", "Mul"), self.value, start)

    def recurrent(self) -> None:
        units = self.pick(1, 7)
        layer = self.pick(*CELLS)(
            self.channels, units, num_layers=self.pick(1, 2), rng=int(self.rng.integers(99))
        )
        steps = self.graph.add("Transpose", self.value, perm=[2, 0, 1])
        states = 3 if isinstance(layer, onward.LSTM) else 2
        y = self.graph.add_all("Recurrent", (steps, ""), states, cell=layer.cell)[0]
        self.value = self.graph.add("Transpose", y, perm=[1, 2, 0])
        self.channels, self.has_layer = units, True

    def head(self) -> None:
        """End with (batch, time, channels), or with the last step or the maximum over time."""
        choice = self.pick("steps", "steps", "last", "maximum", "mean")
        if choice == "steps":
            self.add("Transpose", perm=[0, 2, 1])
        elif choice == "last":
            self.add("Gather", self.graph.add_constant(np.array(-1)), axis=2)
        elif choice == "mean":
            name = self.pick(
                *("ReduceMean", "ReduceSum", "GlobalAveragePool", "GlobalMaxPool", "ReduceProd"),
                *("ReduceL1", "ReduceL2", "ReduceSumSquare"),
            )
            self.add(name, *((self.integers(2),) if name.startswith("Reduce") else ()))
        else:
            self.add("ReduceMax", self.integers(2), keepdims=0)

    def build(self, length: int, has_checks: bool = False) -> Model:
        operations = [
            *(self.conv, self.conv, self.pool, self.norm, self.activation, self.layer_norm, self.softmax),
            *(
                self.linear,
                self.pad,
                self.cumulative,
                self.running_mean,
                self.residual,
                self.recurrent,
                self.upsample,
                self.windows,
            ),
        ]
        for _ in range(length):
            operations[self.rng.integers(len(operations))]()
            if has_checks and self.pick(0, 0, 1):
                self.check()
        if not self.has_layer:
            self.recurrent()
        self.head()
        self.graph.outputs = (self.value,)
        self.graph.declared_outputs = (Input(self.value, np.dtype(np.float32)),)
        return Model(self.graph)


def blocks(rng: np.random.Generator, T: int) -> list[slice]:
    """Random consecutive blocks of T steps, some of them empty."""
    ends = sorted(int(end) for end in rng.integers(0, T + 1, int(rng.integers(0, 8))))
    return [slice(a, b) for a, b in zip([0, *ends], [*ends, T], strict=True)]


def normal(rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    return rng.normal(size=shape).astype(np.float32)


def detector(features: int, steps: int | str = "time") -> Model:
    """A centred convolution with a stride, a GRU and a dense layer, over x (batch, time, features)."""
    drawn = RandomGraph(0, features, steps)
    drawn.add("Conv", drawn.constant(6, features, 5), pads=[2, 2], strides=[2])
    drawn.add("Transpose", perm=[2, 0, 1])
    layer = onward.GRU(6, 7, rng=0)
    drawn.value = drawn.graph.add_all("Recurrent", (drawn.value, ""), 2, cell=layer.cell)[0]
    drawn.add("MatMul", drawn.constant(7, 3))
    drawn.add("Transpose", perm=[1, 0, 2], output="y")
    drawn.graph.outputs = (drawn.value,)
    drawn.graph.declared_outputs = (Input("y", np.dtype(np.float32)),)
    return Model(drawn.graph)


def stepper(state: str = "state", new: str = "stateN", weights: int = 0) -> Model:
    """state' = tanh(x W + rate * state), y = state' * 2, with the state of shape (2, batch, 4)."""
    graph, dtype = Graph(), np.dtype(np.float32)
    x = graph.add_input("x", dtype, ("batch", 4))
    h = graph.add_input(state, dtype, (2, "batch", 4))
    rate = graph.add_input("rate", np.int64, ())
    W = graph.add_constant(normal(np.random.default_rng(weights), 4, 4))
    scaled = graph.add("Mul", h, graph.add("Cast", rate, to=dtype), name="scale")
    after = graph.add("Tanh", graph.add("Add", graph.add("MatMul", x, W), scaled), output=new)
    y = graph.add("Mul", after, graph.add_constant(np.array(2, np.float32)), output="y")
    graph.outputs = (y, after)
    graph.declared_outputs = (Input("y", dtype), Input(new, dtype, (2, "batch", 4)))
    return Model(graph)
