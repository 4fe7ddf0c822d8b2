"""A chain of recurrent and dense nodes as layers, so that it streams, pools and traces."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ...layers.activation import Activation, Softmax
from ...layers.base import NO_WEIGHTS, Layer
from ...layers.embedding import Embedding
from ...layers.last import Last
from ...layers.linear import Linear
from ...layers.norm import LayerNorm
from ...layers.sequential import Sequential
from .evaluator import Evaluator
from .function_operators import Projected
from .layer_operators import Elementwise
from .operators import described
from .recurrent_operators import Node

# what states and shapes go through that are made outside of the layers
MOVES = {
    "Cast", "Concat", "ConstantOfShape", "Expand", "Gather", "Identity", "Mul", "Reshape", "Shape", "Slice",
    "Split", "Squeeze", "Transpose", "Unsqueeze", "final_state", "steps",
}  # fmt: skip
SHAPES = {"Shape", "steps"}  # of the value that the chain has come to
FEATURES, DIRECTIONS = "features", "directions"
# sizes that stand for those that a graph leaves open: products of sizes are then told apart
OPEN = 10007, 10009, 10037
INFLATED = {"ConstantOfShape", "Expand", "steps"}  # to those sizes


def layers_of(evaluator: Evaluator) -> Sequential:
    """The layers that a graph's first input goes through to its first output.

    Raises ArgumentError, which names the node that cannot be converted.
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
        # how many of each axis there are, and what is made of that, in a run with the sizes of OPEN
        declared = [n.dim_value for n in shape] if len(shape) == len(self.axes) else [0] * len(OPEN)
        self.sizes: dict[Any, int] = {
            axis: n or size for axis, n, size in zip(self.axes, declared, OPEN, strict=False)
        }
        self.shapes: dict[str, Any] = {}
        self.time: int | None = None  # which axis of the input it is, once a recurrent node has said so
        self.inputs = evaluator.input_names[1:]
        self.states = set(self.inputs)  # and what only moves them, or shapes
        self.all_steps: set[str] = set()  # what says that each row has all of them
        self.lengths = ""  # the input of the graph that says it instead
        self.layers: list[Layer] = []
        self.final: dict[str, bool] = {}  # final states of layers of one direction, and whether batch first
        self.among = 0, 1  # which the value is of how many along DIRECTIONS, if each has one

    def follow(self, node: Any) -> None:
        """One step, if the chain goes through the node."""
        outputs = set(node.output)
        if outputs <= self.constants.keys():
            return
        if self.at in node.input and node.op_type not in SHAPES:
            activation = self._elementwise if isinstance(node, Elementwise) else None
            step = getattr(self, f"_{node.op_type.lower()}", activation)
            if isinstance(node, Node | Projected):
                self._recurrent(node)
            elif step is None or not step(node, [self.constants.get(name) for name in node.input]):
                raise ArgumentError(f"{described(node.onnx_node)} cannot be converted to layers")
            else:
                self.at = node.output[0]
        elif self._only_moves(node):
            self.states |= outputs
            self._keep_shapes(node)
            self.all_steps |= outputs if node.op_type == "steps" else set()
        elif outputs & self.needed:
            raise ArgumentError(f"{described(node.onnx_node)} is no part of a chain of layers")

    def finished(self, output: str) -> Sequential:
        if self.at != output:
            raise ArgumentError(f"the chain of layers ends in {self.at}, not in the first output, {output}")
        if self.among != (0, 1):
            raise ArgumentError(f"{output} has the final states of several layers")
        kept = [axis for axis in self.axes if axis not in (FEATURES, DIRECTIONS)]
        if kept != sorted(kept):
            raise ArgumentError(f"the axes of {output} are not in the order that layers have")
        return Sequential(*self.layers)

    def _keep_shapes(self, node: Any) -> None:
        """What a node makes of the value's shape, in a run with the sizes of OPEN."""
        if node.op_type in INFLATED:
            return
        value = np.broadcast_to(np.float32(0), [self.sizes[axis] for axis in self.axes])
        own = {self.at: value} if node.op_type in SHAPES else {}
        inputs = [own.get(name, self.shapes.get(name, self.constants.get(name))) for name in node.input]
        if all(a is not None for a in inputs):
            with contextlib.suppress(Exception):  # whatever an operator makes of them: it then says nothing
                self.shapes |= zip(node.output, node.run(*inputs), strict=True)

    def _only_moves(self, node: Any) -> bool:
        """Whether a node moves states or shapes; of numbers of its own it may add zeros alone."""
        values = [self.constants[name] for name in node.input if name in self.constants and name]
        if node.op_type == "ConstantOfShape" and node.value is not None:
            values.append(node.value)
        zeros = all(value.dtype.kind != "f" or not value.any() for value in values)
        known = self.states | self.constants.keys() | ({self.at} if node.op_type in SHAPES else set())
        return node.op_type in MOVES and zeros and known.issuperset(node.input)

    def _recurrent(self, node: Node | Projected) -> None:
        time, batch = (self.axes[1], self.axes[0]) if node.batch_first else (self.axes[0], self.axes[1])
        if self.time not in (None, time) or self.axes[2:] != [FEATURES] or node.input[0] != self.at:
            raise ArgumentError(f"{described(node.onnx_node)} has another time axis than the nodes before it")
        lengths, *states = (*node.input, "", "", "", "")[node.first_of_states :][:3]
        for name in states:
            if name not in self.states and np.any(self.constants.get(name, 0)):
                raise ArgumentError(f"{described(node.onnx_node)} starts from numbers that are in the graph")
        own = "" if lengths in self.all_steps else lengths
        if own not in ("", *self.inputs) or (self.time is not None and own != self.lengths):
            raise ArgumentError(f"{described(node.onnx_node)} takes other lengths than the other nodes")
        self.time, self.lengths = time, own
        layer = node.layer([self.constants.get(name) for name in node.input], batch_first=time == 1)
        self.layers.append(layer)
        self.sizes |= {
            DIRECTIONS: 1 + layer.bidirectional,
            FEATURES: getattr(layer, "proj_size", 0) or layer.hidden_size,
        }
        self.states |= set(node.output[1:])
        y, h = (*node.output, "")[:2]
        if not layer.bidirectional:
            self.final[h] = node.batch_first
        if y in self.needed or layer.bidirectional:
            self.at = y
            self.axes = [batch, time, DIRECTIONS] if node.batch_first else [time, DIRECTIONS, batch]
        else:
            self.layers.append(Last(batch_first=time == 1))
            self.at, self.axes = h, [batch, DIRECTIONS] if node.batch_first else [DIRECTIONS, batch]
        self.axes.append(FEATURES)

    def _last_step(self, axis: int) -> bool:
        if self.time is None or not self._is(axis, self.time):
            return False
        del self.axes[axis]
        self.layers.append(Last(batch_first=self.time == 1))
        return True

    # One function for each operator: whether it could be followed. `constants` are those of its inputs.

    def _identity(self, node: Any, constants: list[Any]) -> bool:
        return True

    _dropout = _identity

    def _concat(self, node: Any, constants: list[Any]) -> bool:
        """Of final states, one of which goes on."""
        if len(constants) == 1:
            return True
        alike = {self.final.get(name) for name in node.input} == {self.final.get(self.at)}
        if not alike or self.at not in self.final or not self._is(node.axis, DIRECTIONS):
            return False
        self.among = list(node.input).index(self.at), len(constants)
        return list(node.input).count(self.at) == 1

    def _slice(self, node: Any, constants: list[Any]) -> bool:
        """To the one of final states that goes on."""
        if len(constants) == 1:
            starts, ends, axes, steps = node.starts, node.ends, node.axes, None
        else:
            starts, ends, axes, steps = (*constants[1:], None, None)[:4]
        if starts is None or ends is None or axes is None or len(axes) != 1:
            return False
        step = 1 if steps is None else int(steps[0])
        taken = range(self.among[1])[int(starts[0]) : int(ends[0]) : step]
        fits = self._has_one_direction(int(axes[0])) and list(taken) == [self.among[0]]
        self.among = 0, 1
        return fits

    def _has_one_direction(self, axis: int) -> bool:
        directions = getattr(self.layers[-1], "bidirectional", False) if self.layers else True
        return self._is(axis, DIRECTIONS) and not directions

    def _is(self, axis: int, what: Any) -> bool:
        return -len(self.axes) <= axis < len(self.axes) and self.axes[axis] == what

    def _cast(self, node: Any, constants: list[Any]) -> bool:
        return not self.layers  # of the input, which layers convert themselves

    def _transpose(self, node: Any, constants: list[Any]) -> bool:
        self.axes = [self.axes[axis] for axis in node.perm]
        return True

    def _squeeze(self, node: Any, constants: list[Any]) -> bool:
        axes = getattr(node, "axes", None) if len(constants) < 2 else constants[1]
        places = [] if axes is None else [int(axis) % len(self.axes) for axis in axes]
        if len(places) != 1 or not self._has_one_direction(places[0]) or self.among != (0, 1):
            return False
        self.axes.remove(DIRECTIONS)
        return True

    def _reshape(self, node: Any, constants: list[Any]) -> bool:
        """(.., .., D, H) to (.., .., D*H), or of one direction without its axis, in any of its places."""
        if len(constants) == 1 or DIRECTIONS not in self.axes or self.among != (0, 1):
            return False
        shape = self.shapes.get(node.input[1], constants[1])
        joined = self.axes[-2:] == [DIRECTIONS, FEATURES]
        if shape is None or not (joined or self._has_one_direction(self.axes.index(DIRECTIONS))):
            return False
        before = [self.sizes[axis] for axis in self.axes]
        after = [
            before[place] if n == 0 and place < len(before) and not getattr(node, "allowzero", 0) else int(n)
            for place, n in enumerate(shape)
        ]
        rest = math.prod(n for n in after if n != -1)
        after = [math.prod(before) // rest if n == -1 and rest else n for n in after]
        self.sizes[FEATURES] *= self.sizes[DIRECTIONS]
        self.axes.remove(DIRECTIONS)
        return after == [self.sizes[axis] for axis in self.axes]

    def _gather(self, node: Any, constants: list[Any]) -> bool:
        table, index = constants
        if table is not None and node.axis == 0 and table.ndim == 2 and FEATURES not in self.axes:
            layer = Embedding(*table.shape, dtype=table.dtype, rng=NO_WEIGHTS)
            layer.load_state_dict({"weight": table})
            self.layers.append(layer)
            self.axes.append(FEATURES)
            self.sizes[FEATURES] = table.shape[1]
            return True
        if index is None or index.ndim != 0:
            return False
        if self._has_one_direction(node.axis):
            place, count = self.among
            del self.axes[node.axis]
            self.among = 0, 1
            return bool(index in (place, place - count))
        # which is that of each row if there are no lengths
        return bool(index == -1) and not self.lengths and self._last_step(node.axis)

    def _last(self, node: Any, constants: list[Any]) -> bool:
        """Of rows of lengths; a function of Onward's, as those after it."""
        return bool(self.lengths) and node.input[1] == self.lengths and self._last_step(1)

    def _silu(self, node: Any, constants: list[Any]) -> bool:
        if any(parameter is None for parameter in constants[1:]):
            return False
        self.layers.append(Activation(node.op_type, *(parameter.item() for parameter in constants[1:])))
        return True

    _affine = _scaled_tanh = _silu

    def _elementwise(self, node: Elementwise, constants: list[Any]) -> bool:
        self.layers.append(node.layer)
        return True

    def _clip(self, node: Any, constants: list[Any]) -> bool:
        """To [0, 6], which is relu6."""
        bounds = constants[1:] or [getattr(node, name, None) for name in ("min", "max")]
        self.layers.append(Activation("relu6"))
        return bounds == [0, 6]

    def _layernormalization(self, node: Any, constants: list[Any]) -> bool:
        _, weight, *bias = constants
        arrays = [weight, *bias]
        if any(a is None or a.ndim != 1 for a in arrays) or node.axis not in (-1, len(self.axes) - 1):
            return False
        named = dict(zip(("weight", "bias"), arrays, strict=False))
        layer = LayerNorm(len(weight), node.epsilon, bias=len(named) == 2, dtype=weight.dtype, rng=NO_WEIGHTS)
        layer.load_state_dict(named)
        self.layers.append(layer)
        return bool(self.axes[-1] == FEATURES)

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
        layer = Linear(inputs, outputs, bias=b is not None, dtype=W.dtype, rng=NO_WEIGHTS)
        layer.load_state_dict({"weight": W.T} | ({} if b is None else {"bias": b}))
        self.layers.append(layer)
        self.sizes[FEATURES] = outputs
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
