"""Random ONNX models in which the sizes of the inputs determine values: positions, masks, counts, bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

FEATURES = 3
Feeds = dict[str, Any]


class SizeModel:
    """A model of x (batch, time, FEATURES) and of lengths (batch,), which grows by random operations.

    `value` is a sequence (batch, any number of steps, FEATURES). Numbers are integers of shape (1,) that the
    sizes determine, and never negative.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.count, self.value = 0, "x"
        self.outputs: list[tuple[str, int]] = []
        choices = self.choices()
        for _ in range(int(self.rng.integers(1, 6))):
            choices[self.rng.integers(len(choices))]()
        total = self.add("ReduceSum", self.value, self.integers(1), keepdims=0)
        self.outputs = [(self.value, TensorProto.FLOAT), (total, TensorProto.FLOAT)]
        self.outputs.append((self.number(), TensorProto.INT64))

    def choices(self) -> list[Callable[[], None]]:
        own = (self.positions, self.counted, self.masked, self.last, self.filled, self.mean, self.triangle)
        more = (self.expanded, self.one_hot, self.padded, self.cut, self.strided, self.flat, self.backward)
        return [*own, *more, self.halves, self.top, self.reversed, self.tiled, self.rotated]

    def build(self) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "time", FEATURES])
        lengths = helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"])
        outputs = [
            helper.make_value_info(name, helper.make_tensor_type_proto(kind, None))
            for name, kind in self.outputs
        ]
        graph = helper.make_graph(self.nodes, "sizes", [x, lengths], outputs)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    # nodes

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        self.count += outputs
        names = [f"v{self.count - place}" for place in range(outputs)][::-1]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, array: Any) -> str:
        tensor = onnx.numpy_helper.from_array(np.asarray(array))
        name: str = self.add("Constant", value=tensor)
        return name

    def integers(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def scalar(self, number: str) -> str:
        name: str = self.add("Squeeze", number, self.integers(0))
        return name

    def float(self, number: str) -> str:
        name: str = self.add("Cast", number, to=TensorProto.FLOAT)
        return name

    def join(self, *parts: str | int) -> str:
        """Return a shape or other numbers, which are constants or numbers."""
        names = [part if isinstance(part, str) else self.integers(part) for part in parts]
        name: str = self.add("Concat", *names, axis=0)
        return name

    # numbers

    def size(self, axis: int) -> str:
        if self.rng.random() < 0.5:
            name: str = self.add("Shape", self.value, start=axis, end=axis + 1)
        else:
            name = self.add("Gather", self.add("Shape", self.value), self.integers(axis), axis=0)
        return name

    def number(self) -> str:
        """A random expression of the sizes."""
        number = self.size(self.pick(0, 1, 1, 1))
        for _ in range(int(self.rng.integers(0, 4))):
            constant = int(self.rng.integers(1, 5))
            other = self.integers(constant)
            kind = self.pick("Add", "Div", "Mod", "Mul", "Max", "Min", "rest", "both")
            if kind == "rest":  # of a division
                number = self.add("Sub", number, self.add("Div", number, other))
            elif kind == "both":
                number = self.add(self.pick("Add", "Min", "Max"), number, self.size(self.pick(0, 1)))
            else:
                number = self.add(kind, number, other)
        return number

    def small(self) -> str:
        """A number below 4."""
        name: str = self.add("Mod", self.number(), self.integers(int(self.rng.integers(2, 5))))
        return name

    def steps(self) -> str:
        """0, 1, 2, ... for each step."""
        zero, one = (self.constant(np.array(n, np.int64)) for n in (0, 1))
        name: str = self.add("Range", zero, self.scalar(self.size(1)), one)
        return name

    def column(self, numbers: str) -> str:
        name: str = self.add("Unsqueeze", self.float(numbers), self.integers(1))
        return name

    # operations on the sequence

    def positions(self) -> None:
        first, step = int(self.rng.integers(-2, 3)), int(self.pick(1, 2, 3))
        limit = self.add("Mul", self.size(1), self.integers(step))
        start, delta = (self.constant(np.array(n, np.int64)) for n in (first, step))
        end = self.scalar(self.add("Add", limit, self.integers(first)))
        self.value = self.add("Add", self.value, self.column(self.add("Range", start, end, delta)))

    def counted(self) -> None:
        one = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
        ones = self.add("ConstantOfShape", self.size(1), value=one)
        options = {"reverse": self.pick(0, 1), "exclusive": self.pick(0, 1)}
        places = self.add("CumSum", ones, self.constant(np.array(0, np.int64)), **options)
        self.value = self.add("Mul", self.value, self.add("Unsqueeze", places, self.integers(1)))

    def masked(self) -> None:
        lengths = self.add("Unsqueeze", "lengths", self.integers(1))
        steps = self.add("Unsqueeze", self.steps(), self.integers(0))
        mask = self.add("Unsqueeze", self.add("Less", steps, lengths), self.integers(2))
        self.value = self.add("Where", mask, self.value, self.constant(np.float32(self.rng.normal())))

    def last(self) -> None:
        at = self.add("Equal", self.steps(), self.scalar(self.number()))
        mask = self.add("Unsqueeze", at, self.integers(1))
        self.value = self.add("Where", mask, self.add("Neg", self.value), self.value)

    def filled(self) -> None:
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [float(np.float32(self.rng.normal()))])
        shape = self.join(self.pick(1, self.size(0)), self.size(1), self.pick(1, FEATURES))
        self.value = self.add("Add", self.value, self.add("ConstantOfShape", shape, value=value))

    def mean(self) -> None:
        total = self.add("ReduceSum", self.value, self.integers(1), keepdims=1)
        count = self.add("Max", self.pick(self.size(1), self.number()), self.integers(1))
        self.value = self.add("Sub", self.value, self.add("Div", total, self.float(count)))

    def triangle(self) -> None:
        """Sum over the steps before."""
        one = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
        ones = self.add("ConstantOfShape", self.join(self.size(1), self.size(1)), value=one)
        diagonal = self.scalar(self.small()) if self.rng.random() < 0.5 else self.constant(np.array(-1))
        mask = self.add("Trilu", ones, diagonal, upper=self.pick(0, 1))
        self.value = self.add("Tanh", self.add("MatMul", mask, self.value))

    def expanded(self) -> None:
        row = self.constant(self.rng.standard_normal((1, 1, FEATURES)).astype(np.float32))
        whole = self.add("Expand", row, self.join(self.size(0), self.size(1), self.pick(1, FEATURES)))
        self.value = self.add(self.pick("Add", "Mul"), self.value, whole)

    def one_hot(self) -> None:
        depth = self.add("Max", self.pick(self.size(1), self.number()), self.integers(1))
        places = self.add("Mod", self.steps(), depth)
        values = self.constant(np.array([0, 0.5], np.float32))
        rows = self.add("OneHot", places, depth, values, axis=-1)
        sums = self.add("ReduceSum", rows, self.integers(0), keepdims=0)  # of each class
        self.value = self.add("Add", self.value, self.column(self.add("Gather", sums, places, axis=0)))

    def padded(self) -> None:
        sides = self.pick(self.small(), 0), self.pick(self.small(), 1)
        pads = self.join(0, sides[0], 0, 0, sides[1], 0)
        self.value = self.add("Pad", self.value, pads, self.constant(np.float32(0.5)))

    def cut(self) -> None:
        start = self.pick(self.integers(0), self.small(), self.add("Div", self.size(1), self.integers(3)))
        ends = self.number(), self.add("Neg", self.small()), self.add("Sub", self.size(1), self.small())
        self.value = self.add("Slice", self.value, start, self.pick(*ends), self.integers(1))

    def strided(self) -> None:
        bounds = (self.integers(n) for n in (self.pick(0, 1), 1 << 40, 1, self.pick(2, 3)))
        self.value = self.add("Slice", self.value, *bounds)

    def flat(self) -> None:
        shape = self.add("Shape", self.value)
        width = self.add("Mul", self.size(1), self.integers(FEATURES))
        rows = self.add("Reshape", self.value, self.join(self.size(0), width), allowzero=1)
        self.value = self.add("Reshape", self.add("Sigmoid", rows), shape, allowzero=1)

    def backward(self) -> None:
        places = self.add("Sub", self.add("Sub", self.size(1), self.integers(1)), self.steps())
        self.value = self.add("Gather", self.value, places, axis=1)

    def rotated(self) -> None:
        """Begin with a later step."""
        moved = self.add("Add", self.steps(), self.number())
        places = self.add("Mod", moved, self.add("Max", self.size(1), self.integers(1)))
        self.value = self.add("Gather", self.value, places, axis=1)

    def halves(self) -> None:
        half = self.add("Div", self.size(1), self.integers(2))
        sizes = self.add("Concat", half, self.add("Sub", self.size(1), half), axis=0)
        first, second = self.add("Split", self.value, sizes, axis=1, outputs=2)
        self.value = self.add("Concat", second, self.add("Neg", first), axis=1)

    def top(self) -> None:
        k = self.add("Min", self.size(1), self.integers(int(self.rng.integers(1, 4))))
        self.value, _ = self.add("TopK", self.value, k, axis=1, outputs=2)

    def reversed(self) -> None:
        whole = self.add("Expand", self.size(1), self.size(0))
        lengths = self.add("Min", whole, self.pick("lengths", whole, self.add("Abs", "lengths")))
        self.value = self.add("ReverseSequence", self.value, lengths, batch_axis=0, time_axis=1)

    def tiled(self) -> None:
        repeats = self.add("Add", self.small(), self.integers(1))
        self.value = self.add("Tile", self.value, self.join(1, repeats, 1))


def feeds(seed: int, batch: int, steps: int) -> Feeds:
    """Random inputs of some sizes."""
    rng = np.random.default_rng((seed, batch, steps))
    x = rng.standard_normal((batch, steps, FEATURES)).astype(np.float32)
    return {"x": x, "lengths": rng.integers(0, steps + 1, batch)}


def sizes(seed: int, count: int) -> Iterator[tuple[int, int]]:
    """Batches and numbers of steps in random order, often 0, 1 and 2."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        low = rng.random(2) < 0.3
        batch = int(rng.integers(0, 3) if low[0] else rng.integers(2, 7))
        steps = int(rng.integers(0, 3) if low[1] else rng.integers(3, 40))
        yield batch, steps
