"""Graphs that merge time with rows, or several steps into one, stream with the bits of the whole call."""

from typing import Any

import numpy as np
from support.randomized import random_cases
from support.sequence_graphs import blocks, normal

from onward.errors import ArgumentError
from onward.graph import Graph, Model

C, W = 2, 5  # the channels and the width of a frame


class Frames:
    """A random graph that computes frames on their own, and then combines the steps of each row.

    x has the axes (rows, time, C, W), or time first; a step may join several frames.
    """

    def __init__(self, seed: int) -> None:
        self.rng, self.graph = np.random.default_rng(seed), Graph()
        self.time_first, self.joined = bool(self.rng.integers(2)), int(self.pick(1, 1, 2, 3))
        self.rows = tuple(map(int, self.rng.integers(1, 4, self.pick(1, 1, 2))))
        self.is_open = bool(self.rng.integers(2))  # whether the file does not fix the first number of rows
        self.is_wrong = False  # whether it combines frames where they are merged

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def constant(self, *shape: int) -> str:
        return self.graph.add_constant(normal(self.rng, *shape))

    def reshaped(self, x: str, *sizes: int) -> str:
        return self.graph.add("Reshape", x, self.graph.add_constant(np.array(sizes)))

    def ordered(self, *rest: Any, steps: Any = -1, rows: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        rows = rows or self.rows
        return (steps, *rows, *rest) if self.time_first else (*rows, steps, *rest)

    @property
    def time_axis(self) -> int:
        return 0 if self.time_first else len(self.rows)

    def in_rows(self, x: str, features: int) -> str:
        """Give x the axes (rows, time, features), or time first."""
        if not self.is_open:
            return self.reshaped(x, *self.ordered(features))
        axis = int(self.time_first)
        rows = self.graph.add("Shape", "x", start=axis, end=axis + 1)
        sizes = self.ordered(features, rows=(rows, *self.rows[1:]))
        parts = [n if n is rows else self.graph.add_constant(np.array([n])) for n in sizes]
        return self.graph.add("Reshape", x, self.graph.add("Concat", *parts, axis=0))

    def frames(self, x: str) -> str:
        """Compute on frames (N, C, W), which may combine them."""
        for _ in range(self.rng.integers(1, 4)):
            match self.rng.integers(5):
                case 0:
                    x = self.graph.add("Conv", x, self.constant(C, C, 3), pads=[1, 1])
                case 1:
                    x = self.graph.add("Add", x, self.graph.add("Tanh", x))
                case 2:
                    x = self.graph.add("Softmax", x, axis=self.pick(1, 2))
                case 3:
                    x = self.graph.add("MatMul", x, self.constant(W, W))
                case 4:
                    x = self.graph.add("Concat", x, self.graph.add("Relu", x), axis=1)
                    x = self.graph.add("Conv", x, self.constant(C, 2 * C, 1))
        return x

    def wrong(self, x: str) -> str:
        """Combine frames where they are merged."""
        zero, one, last = (self.graph.add_constant(np.array([n])) for n in (0, 1, -1))
        match self.rng.integers(5):
            case 0:
                return self.graph.add("CumSum", x, self.graph.add_constant(np.array(0)))
            case 1:
                return self.graph.add("Sub", x, self.graph.add("ReduceMax", x, zero))
            case 2:
                rest = self.graph.add("Slice", x, one, self.graph.add_constant(np.array([1 << 40])), zero)
                return self.graph.add("Concat", rest, self.graph.add("Slice", x, zero, one, zero), axis=0)
            case 3:
                low = self.graph.add_constant(np.array([-(1 << 40)]))
                return self.graph.add("Slice", x, last, low, zero, last)
            case _:
                return self.graph.add("Softmax", x, axis=0)

    def model(self) -> Model:
        rows = ("batch" if self.is_open else self.rows[0], *self.rows[1:])
        x = self.graph.add_input("x", np.float32, self.ordered(C, W, steps="time", rows=rows))
        if self.pick(True, False):
            x = self.graph.add("Relu", x)
        x = self.reshaped(x, -1, C, W)
        x = self.frames(x)
        if self.rng.random() < 0.2:
            x, self.is_wrong = self.wrong(x), True
        if self.pick(True, False):
            x = self.graph.add("MatMul", self.graph.add("Flatten", x), self.constant(C * W, 4))
            features = 4
        else:
            x, features = self.reshaped(x, -1, C * W), C * W
        x = self.in_rows(x, features)
        if self.joined > 1 and not self.time_first:
            features *= self.joined
            x = self.in_rows(x, features)
        x = self.graph.add("Mul", x, self.constant(features))
        self.graph.outputs = (self.graph.add("CumSum", x, self.graph.add_constant(np.array(self.time_axis))),)
        return Model(self.graph)


def test_frames_on_merged_axes_stream_in_the_order_of_the_whole_call() -> None:
    """Blocks hold the rows of each step one after the other; what combines them in this order is refused."""
    refused = cases = 0
    for seed in range(random_cases(60)):
        case = Frames(seed)
        model, T = case.model(), case.joined * int(case.rng.integers(1, 7))
        x = normal(case.rng, *case.ordered(C, W, steps=T))
        whole = model(x)
        try:
            stream = model.stream(case.rows[0] if case.is_open else None, time_axis=case.time_axis)
        except ArgumentError as error:
            assert case.is_wrong, (seed, str(error))
            refused += 1
            continue
        cases += 1
        parts = [stream(x.take(range(T)[block], case.time_axis)) for block in blocks(case.rng, T)]
        y = np.concatenate([*parts, stream.finish()], case.time_axis)
        np.testing.assert_array_equal(y.view(np.int32), whole.view(np.int32), str(seed), strict=True)
    assert refused and cases > 2 * refused
