"""A chain of recurrent and dense nodes as layers, so that it streams, pools and traces."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base import UNDRAWN, Layer
from ..dense import Embedding, Last, Linear, Softmax
from ..errors import ArgumentError
from ..model import Sequential
from .onnx_evaluator import Evaluator
from .onnx_operators import described
from .onnx_recurrent import Node

# what states and shapes go through that are made outside of the layers
MOVES = {
    "Cast", "Concat", "ConstantOfShape", "Expand", "Gather", "Identity", "Mul", "Reshape", "Shape", "Slice",
    "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
FEATURES, DIRECTIONS = "features", "directions"


def layers_of(evaluator: Evaluator) -> Sequential:
    """The layers that a graph's first input goes through to its first output.

    Raises ArgumentError, which names the node that stands in the way.
    """
    chain = _Chain(evaluator)
    for node in evaluator.rt_nodes_:
        chain.follow(node)
    return chain.finished(evaluator.output_names[0])


class _Chain:
    """How far the input has come: the name of the value, what its axes are, and the layers before it.

    Axes are the numbers that they have in the input, FEATURES and DIRECTIONS.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.constants = evaluator.plan().constants
        self.needed = _ancestors(evaluator)
        self.at = evaluator.input_names[0]
        shape = evaluator.input_types[0].tensor_type.shape.dim
        self.axes: list[Any] = [0, 1] if len(shape) == 2 else [0, 1, FEATURES]
        self.time: int | None = None  # which axis of the input it is, once a recurrent node has said so
        self.lengths = False
        self.states = set(evaluator.input_names[1:])  # and what only moves them, or shapes
        self.layers: list[Layer] = []

    def follow(self, node: Any) -> None:
        """One step, if the chain goes through the node."""
        outputs = set(node.output)
        if outputs <= self.constants.keys():
            return
        if self.at in node.input and node.op_type != "Shape":
            step = getattr(self, f"_{node.op_type.lower()}", None)
            if isinstance(node, Node):
                self._recurrent(node)
            elif step is None or not step(node, [self.constants.get(name) for name in node.input]):
                raise ArgumentError(f"{described(node.onnx_node)} stands in the way of layers")
            else:
                self.at = node.output[0]
        elif self._only_moves(node):
            self.states |= outputs
        elif outputs & self.needed:
            raise ArgumentError(f"{described(node.onnx_node)} is no part of a chain of layers")

    def finished(self, output: str) -> Sequential:
        if self.at != output:
            raise ArgumentError(f"the chain of layers ends in {self.at}, not in the first output, {output}")
        kept = [axis for axis in self.axes if axis not in (FEATURES, DIRECTIONS)]
        if kept != sorted(kept):
            raise ArgumentError(f"the axes of {output} are not in the order that layers have")
        return Sequential(*self.layers)

    def _only_moves(self, node: Any) -> bool:
        """Whether a node moves states or shapes; of numbers of its own it may add zeros alone."""
        values = [self.constants[name] for name in node.input if name in self.constants and name]
        if node.op_type == "ConstantOfShape" and node.value is not None:
            values.append(node.value)
        zeros = all(value.dtype.kind != "f" or not value.any() for value in values)
        known = self.states | self.constants.keys() | ({self.at} if node.op_type == "Shape" else set())
        return node.op_type in MOVES and zeros and known.issuperset(node.input)

    def _recurrent(self, node: Node) -> None:
        time, batch = (self.axes[1], self.axes[0]) if node.batch_first else (self.axes[0], self.axes[1])
        if self.time not in (None, time) or self.axes[2:] != [FEATURES] or node.input[0] != self.at:
            raise ArgumentError(f"{described(node.onnx_node)} takes another axis for time than those before")
        self.time = time
        *_, lengths, h0, c0 = (*node.input, "", "", "", "")[:7]
        for name in (h0, c0):
            if name not in self.states and np.any(self.constants.get(name, 0)):
                raise ArgumentError(f"{described(node.onnx_node)} starts from numbers that are in the graph")
        self.lengths = bool(lengths)
        layer = node.layer([self.constants.get(name) for name in node.input], batch_first=time == 1)
        self.layers.append(layer)
        self.states |= set(node.output[1:])
        y, h = (*node.output, "")[:2]
        if y in self.needed or layer.bidirectional:
            self.at = y
            self.axes = [batch, time, DIRECTIONS] if node.batch_first else [time, DIRECTIONS, batch]
        else:
            self.layers.append(Last(batch_first=time == 1))
            self.at, self.axes = h, [batch, DIRECTIONS] if node.batch_first else [DIRECTIONS, batch]
        self.axes.append(FEATURES)

    def _last(self, axis: int) -> bool:
        """Takes the last step, which is that of each row if there are no lengths."""
        if self.lengths or self.time is None or self.axes[axis] != self.time:
            return False
        del self.axes[axis]
        self.layers.append(Last(batch_first=self.time == 1))
        return True

    # One function for each operator: whether it could be followed. `constants` are those of its inputs.

    def _identity(self, node: Any, constants: list[Any]) -> bool:
        return True

    _dropout = _identity

    def _cast(self, node: Any, constants: list[Any]) -> bool:
        return not self.layers  # of the input, which layers convert themselves

    def _transpose(self, node: Any, constants: list[Any]) -> bool:
        self.axes = [self.axes[axis] for axis in node.perm]
        return True

    def _squeeze(self, node: Any, constants: list[Any]) -> bool:
        axes = getattr(node, "axes", None) if len(constants) < 2 else constants[1]
        places = [] if axes is None else [int(axis) % len(self.axes) for axis in axes]
        directions = getattr(self.layers[-1], "bidirectional", False) if self.layers else True
        if [self.axes[place] for place in places] != [DIRECTIONS] or directions:
            return False
        self.axes.remove(DIRECTIONS)
        return True

    def _reshape(self, node: Any, constants: list[Any]) -> bool:
        """(.., .., D, H) to (.., .., D*H)"""
        if constants[1] is None or self.axes[-2:] != [DIRECTIONS, FEATURES]:
            return False
        self.axes.remove(DIRECTIONS)
        return len(constants[1]) == len(self.axes)

    def _gather(self, node: Any, constants: list[Any]) -> bool:
        table, index = constants
        if table is not None and node.axis == 0 and table.ndim == 2 and FEATURES not in self.axes:
            layer = Embedding(*table.shape, dtype=table.dtype, rng=UNDRAWN)
            layer.load_state_dict({"weight": table})
            self.layers.append(layer)
            self.axes.append(FEATURES)
            return True
        return index is not None and index.ndim == 0 and index == -1 and self._last(node.axis)

    def _matmul(self, node: Any, constants: list[Any]) -> bool:
        """With the bias of the Add after it, if there was one."""
        _, W, *b = constants
        return node.input[0] == self.at and (not b or b[0] is not None) and self._linear(W, *b)

    def _gemm(self, node: Any, constants: list[Any]) -> bool:
        _, W, b = (*constants, None)[:3]
        if node.alpha != 1 or node.beta != 1 or node.transA or (len(node.input) == 3 and b is None):
            return False
        return self._linear(W.T if node.transB and W is not None else W, b)

    def _linear(self, W: Any, b: Any = None) -> bool:
        if W is None or W.ndim != 2 or self.axes[-1:] != [FEATURES]:
            return False
        if b is not None and b.shape != W.shape[1:]:
            return False
        inputs, outputs = W.shape
        layer = Linear(inputs, outputs, bias=b is not None, dtype=W.dtype, rng=UNDRAWN)
        layer.load_state_dict({"weight": W.T} | ({} if b is None else {"bias": b}))
        self.layers.append(layer)
        return True

    def _softmax(self, node: Any, constants: list[Any]) -> bool:
        if node.axis not in (-1, len(self.axes) - 1) or self.axes[-1] != FEATURES:
            return False
        self.layers.append(Softmax())
        return True


def _ancestors(evaluator: Evaluator) -> set[str]:
    """The names of what the first output is made of."""
    needed = {evaluator.output_names[0]}
    for node in reversed(evaluator.rt_nodes_):
        if needed.intersection(node.output):
            needed.update(node.input)
    return needed
