"""Convert a chain of recurrent and dense nodes to layers, which stream, pool and trace."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np

from ..core import activations
from ..errors import ArgumentError, OnwardError
from ..graph.activation_names import OPERATORS
from ..graph.graph import Graph
from ..graph.inference import Values, outputs_of
from ..graph.node import Node, Signature, needed_nodes
from ..graph.over_time.named_carries import MOVES
from ..graph.size import Axes, Size
from .activation import Activation, Softmax
from .base import NO_WEIGHTS, Layer
from .chain_states import States
from .linear import Embedding, Linear
from .norm import LayerNorm
from .rnn import of_cell
from .sequential import Last, Sequential

SHAPES = {"Shape", "Steps"}  # operations that read only the shape of the chain's last value
DTYPES = np.float32, np.float64  # of weights
FEATURES, DIRECTIONS = "features", "directions"


def layers_of(graph: Graph, from_zeros: bool = False) -> Sequential:
    """Return the layers between the first input and the first output of a simplified graph.

    The others must be states, in the order of the layers unless these start `from_zeros`. Raises
    ArgumentError, which names the node that cannot be converted.
    """
    chain = _Chain(graph)
    for node in graph.nodes:
        chain.follow(node)
    if not from_zeros:
        chain.states.check(graph.outputs[1:])
    return chain.finished(*graph.outputs)


class _Chain:
    """Follows the nodes from the first input: the last value `at`, its `axes`, and the layers so far.

    An axis is a tuple of its parts: numbers of axes of the input, DIRECTIONS if there are two, and FEATURES.
    It has several parts if it merges them, and none if it is the axis of the only direction.
    """

    def __init__(self, graph: Graph) -> None:
        self.constants = graph.constants
        self.needed = {graph.outputs[0]}  # the values that the first output depends on
        needed_nodes(graph.nodes, self.needed)
        self.at = graph.inputs[0].name
        shape = graph.inputs[0].axes or ()
        parts: list[Any] = [0, 1] if len(shape) == 2 else [0, 1, FEATURES]
        self.axes: list[Any] = [(part,) for part in parts]
        self.features: Any = (FEATURES,)
        # the size of each part, and the values that follow from sizes
        declared = shape if len(shape) == len(parts) else [""] * len(parts)
        open_axes, named = Axes(is_open=True), dict[str, Size]()

        def size_of(size: int | str, name: str) -> Any:
            if isinstance(size, int) and size:
                return size
            added = open_axes.add(name)
            return named.setdefault(size, added) if size else added

        self.sizes: dict[Any, Any] = {
            part: size_of(size, f"axis {part}") for part, size in zip(parts, declared, strict=True)
        }
        self.values: Values = dict(graph.constants)
        self.time: Any = None  # the time axis of the input, known from the first recurrent node
        self.inputs = [declared.name for declared in graph.inputs[1:]]
        self.moved = set(self.inputs)  # the states, and values that only move states or shapes
        self.states = States(graph, size_of, self.values)
        self.all_steps: set[str] = set()  # values that give each row the full length
        self.lengths = ""  # the input that holds the lengths, if there is one
        self.layers: list[Layer] = []
        self.final: set[str] = set()  # final states of layers of one direction
        self.is_integer = False  # whether a node has converted the input to integers
        self.among = 0, 1  # the place of the value among concatenated final states, and their number

    def follow(self, node: Node) -> None:
        """Extend the chain by a node that uses its last value."""
        outputs = set(node.outputs)
        if self.at in node.inputs and node.operation not in SHAPES:
            activation = self._elementwise if node.operation in OPERATORS else None
            step = getattr(self, f"_take_{node.operation.lower()}", activation)
            if node.operation == "Recurrent":
                self._recurrent(node)
            elif step is None or not step(node, [self.constants.get(name) for name in node.inputs]):
                raise ArgumentError(f"{node} cannot be converted to layers")
            else:
                self.at = node.outputs[0]
        elif self._only_moves(node):
            self.moved |= outputs
            self.states.move(node)
            self._infer(node)
            self.all_steps |= outputs if node.operation == "Steps" else set()
        elif outputs & self.needed:
            raise ArgumentError(f"{node} is not part of a chain of layers")

    def finished(self, output: str, *others: str) -> Sequential:
        if dropped := [name for name in others if name not in self.moved]:
            raise ArgumentError(f"{dropped[0]} is neither the first output nor a state of a layer")
        if self.at != output:
            raise ArgumentError(f"the chain of layers ends in {self.at}, not in the first output, {output}")
        if self.among != (0, 1):
            raise ArgumentError(f"{output} has the final states of several layers")
        kept = [axis for axis in self.axes if axis not in ((), (DIRECTIONS,), (FEATURES,), self.features)]
        rest = self.axes[:-3] + self.axes[-2:]  # than that of the directions in outputs of ONNX's operators
        if kept != sorted(kept) or () in rest:
            raise ArgumentError(f"the axes of {output} are not in the order that layers have")
        return Sequential(*self.layers)

    def _size(self, axis: Any) -> Any:
        return math.prod(self.sizes[part] for part in axis)

    def _infer(self, node: Node) -> None:
        """Infer the outputs of a node from the shape of the last value."""
        self.values[self.at] = Signature(tuple(map(self._size, self.axes)), np.dtype(np.float32))
        with contextlib.suppress(OnwardError, KeyError):  # an operator may reject these sizes
            self.values |= outputs_of(node, self.values)

    def _only_moves(self, node: Node) -> bool:
        """Whether a node only moves states or shapes; constants among its inputs must be zeros."""
        values = [self.constants[name] for name in node.inputs if name in self.constants and name]
        if node.attributes.get("value") is not None:
            values.append(node.attributes["value"])
        zeros = all(value.dtype.kind != "f" or not value.any() for value in values)
        known = self.moved | self.constants.keys() | ({self.at} if node.operation in SHAPES else set())
        is_number = node.operation == "Mul" or (
            node.operation == "Cast" and np.dtype(node.attributes["to"]).kind != "f"
        )
        if is_number and not self.states.elements.keys().isdisjoint(node.inputs):
            return False
        return node.operation in MOVES and zeros and known.issuperset(node.inputs)

    def _recurrent(self, node: Node) -> None:
        x, lengths, *states = (*node.inputs, "", "", "")[:4]
        time, batch = self.axes[:2]
        if self.time not in (None, time) or self.axes[2:] != [self.features] or x != self.at:
            raise ArgumentError(f"{node} has a different time axis from the nodes before it")
        if node.attributes.get("reverse"):
            raise ArgumentError(f"{node} runs only in reverse, which layers do not support")
        for name in states:
            if name not in self.moved and np.any(self.constants.get(name, 0)):
                raise ArgumentError(f"{node} starts from a constant state other than zeros")
        used_lengths = "" if lengths in self.all_steps else lengths
        if used_lengths not in ("", *self.inputs) or (self.time is not None and used_lengths != self.lengths):
            raise ArgumentError(f"{node} takes different lengths from the other nodes")
        self.time, self.lengths = time, used_lengths
        cell = node.attributes["cell"]
        self.layers.append(of_cell(cell, time == (1,)))
        D, units = cell.sizes.D, cell.sizes.P
        self.moved |= set(node.outputs[1:])
        self.states.add_layer(node, states, cell.state_shapes(self._size(batch)))
        y, h = (*node.outputs, "")[:2]
        if D == 1:
            self.final.add(h)
        self.sizes |= {DIRECTIONS: D, FEATURES: units}
        self.features = (DIRECTIONS, FEATURES)[2 - D :]
        if y in self.needed or D == 2:
            self.at, self.axes = y, [time, batch, self.features]
        else:
            self.layers.append(Last(batch_first=time == (1,)))
            self.at, self.axes = h, [(), batch, self.features]

    def _last_step(self, axis: int) -> bool:
        if self.time is None or not self._is(axis, self.time):
            return False
        del self.axes[axis]
        self.layers.append(Last(batch_first=self.time == (1,)))
        return True

    # One method for each operator, _take_..., returns whether the chain continues through the node.
    # `constants` are the inputs that are constants, None for others.

    def _take_finalstate(self, node: Node, constants: list[Any]) -> bool:
        """Select the state of rows without steps, as layers do."""
        return node.inputs[0] == self.at and node.inputs[2] == self.lengths

    def _take_unsqueeze(self, node: Node, constants: list[Any]) -> bool:
        """Insert the axis of the only direction."""
        axes = [] if constants[1] is None else [int(axis) % (len(self.axes) + 1) for axis in constants[1]]
        if len(axes) != 1 or () in self.axes or self.sizes.get(DIRECTIONS) != 1:
            return False
        self.axes.insert(axes[0], ())
        return True

    def _take_concat(self, node: Node, constants: list[Any]) -> bool:
        """Concatenate final states of which later nodes use one."""
        if not self.final.issuperset(node.inputs) or not self._is(node.attributes["axis"], ()):
            return False
        self.among = list(node.inputs).index(self.at), len(constants)
        return list(node.inputs).count(self.at) == 1

    def _take_slice(self, node: Node, constants: list[Any]) -> bool:
        """Select the final state with which the chain continues."""
        starts, ends, axes, steps = (*constants[1:], None, None)[:4]
        if starts is None or ends is None or axes is None or len(axes) != 1:
            return False
        step = 1 if steps is None else int(steps[0])
        taken = range(self.among[1])[int(starts[0]) : int(ends[0]) : step]
        fits = self._is(int(axes[0]), ()) and list(taken) == [self.among[0]]
        self.among = 0, 1
        return fits

    def _is(self, axis: int, what: Any) -> bool:
        return -len(self.axes) <= axis < len(self.axes) and self.axes[axis] == what

    def _take_cast(self, node: Node, constants: list[Any]) -> bool:
        """Leave it to the layers to convert the input, to integers for an embedding or to floats."""
        kind = np.dtype(node.attributes["to"]).kind
        fits = not self.layers and (kind == "i" or (kind == "f" and not self.is_integer))
        self.is_integer |= kind == "i"
        return fits

    def _take_transpose(self, node: Node, constants: list[Any]) -> bool:
        if len(node.attributes["perm"]) != len(self.axes):
            return False
        self.axes = [self.axes[axis] for axis in node.attributes["perm"]]
        return True

    def _take_squeeze(self, node: Node, constants: list[Any]) -> bool:
        """Remove the axis of the only direction."""
        axes = None if len(constants) < 2 else constants[1]
        if axes is None or len(axes) != 1 or not self._is(int(axes[0]), ()) or self.among != (0, 1):
            return False
        del self.axes[int(axes[0])]
        return True

    def _take_reshape(self, node: Node, constants: list[Any]) -> bool:
        """Merge the directions and the features, split them, or remove the axis of the only direction."""
        before = self.axes
        return self._regroup(node) and self.axes != before and self._merged() <= {self.features}

    def _take_flatten(self, node: Node, constants: list[Any]) -> bool:
        """Merge the axes before the features, as exporters do around a softmax."""
        return self._regroup(node) and len(self.axes) == 2 and self.axes[-1] == self.features

    def _merged(self) -> set[Any]:
        return {axis for axis in self.axes if len(axis) > 1}

    def _regroup(self, node: Node) -> bool:
        """Distribute the parts of the axes over the axes of the output, in the same order."""
        self._infer(node)
        found = self.values.get(node.outputs[0])
        if found is None or self.among != (0, 1):
            return False
        parts, self.axes = [part for axis in self.axes for part in axis], []
        for size in found.shape:
            axis: Any = ()
            while parts and (self._size(axis) != size or (not axis and self.sizes[parts[0]] == 1)):
                axis += (parts.pop(0),)
            self.axes.append(axis)
        return not parts and [self._size(axis) for axis in self.axes] == list(found.shape)

    def _take_gather(self, node: Node, constants: list[Any]) -> bool:
        table, index = constants
        if (
            table is not None
            and node.attributes.get("axis", 0) == 0
            and table.ndim == 2
            and table.dtype in DTYPES
            and (FEATURES,) not in self.axes
        ):
            self._add(Embedding(*table.shape, dtype=table.dtype, rng=NO_WEIGHTS), table)
            self.axes.append(self.features)
            self.sizes[FEATURES] = table.shape[1]
            return True
        if index is None or index.ndim != 0:
            return False
        axis = node.attributes.get("axis", 0)
        if self._is(axis, ()):
            place, count = self.among
            del self.axes[axis]
            self.among = 0, 1
            return bool(index in (place, place - count))
        # without lengths, the last step of the batch is the last one of each row
        return bool(index == -1) and not self.lengths and self._last_step(axis)

    def _take_laststep(self, node: Node, constants: list[Any]) -> bool:
        """Select the last step of each row by the lengths of the recurrent layers."""
        return bool(self.lengths) and node.inputs[1] == self.lengths and self._last_step(1)

    def _take_swish(self, node: Node, constants: list[Any]) -> bool:
        self.layers.append(Activation("silu"))
        return bool(node.attributes.get("alpha", 1) == 1)

    def _elementwise(self, node: Node, constants: list[Any]) -> bool:
        function, defaults = OPERATORS[node.operation]
        if not node.attributes.keys() <= defaults.keys():
            return False
        numbers = (node.attributes.get(name, value) for name, value in defaults.items())
        self.layers.append(Activation(function, *numbers))
        return True

    def _take_selu(self, node: Node, constants: list[Any]) -> bool:
        _, alpha, gamma = activations.call("selu")
        self.layers.append(Activation("selu"))
        return node.attributes in ({}, {"alpha": alpha, "gamma": gamma})

    def _take_clip(self, node: Node, constants: list[Any]) -> bool:
        """Clip to [0, 6], which is relu6."""
        bounds = constants[1:]
        self.layers.append(Activation("relu6"))
        return bounds == [0, 6]

    def _take_layernormalization(self, node: Node, constants: list[Any]) -> bool:
        _, *arrays = constants
        if any(
            a is None or a.ndim != 1 or a.dtype not in DTYPES for a in arrays
        ) or not self._is_over_features(node):
            return False
        size, dtype, epsilon = len(arrays[0]), arrays[0].dtype, node.attributes.get("epsilon", 1e-5)
        layer = LayerNorm(size, epsilon, bias=len(arrays) == 2, dtype=dtype, rng=NO_WEIGHTS)
        self._add(layer, *arrays)
        return True

    def _take_matmul(self, node: Node, constants: list[Any]) -> bool:
        """Multiply by a constant matrix, and add the constant third input if there is one."""
        _, W, *b = constants
        return node.inputs[0] == self.at and (not b or b[0] is not None) and self._linear(W, *b)

    def _take_gemm(self, node: Node, constants: list[Any]) -> bool:
        _, W, b = (*constants, None)[:3]
        a = node.attributes
        plain = a.get("alpha", 1) == 1 and a.get("beta", 1) == 1 and not a.get("transA")
        if not plain or (len(node.inputs) == 3 and b is None):
            return False
        return self._linear(W.T if a.get("transB") and W is not None else W, b)

    def _linear(self, W: Any, b: Any = None) -> bool:
        if W is None or W.ndim != 2 or W.dtype not in DTYPES or self.axes[-1:] != [self.features]:
            return False
        if b is not None and b.shape != W.shape[1:]:
            return False
        inputs, outputs = W.shape
        layer = Linear(inputs, outputs, bias=b is not None, dtype=W.dtype, rng=NO_WEIGHTS)
        self._add(layer, W.T, *([] if b is None else [b]))
        self.features, self.sizes[FEATURES] = (FEATURES,), outputs
        self.axes[-1] = self.features
        return True

    def _take_softmax(self, node: Node, constants: list[Any]) -> bool:
        self.layers.append(Softmax())
        return self._is_over_features(node)

    def _is_over_features(self, node: Node) -> bool:
        is_last = node.attributes.get("axis", -1) in (-1, len(self.axes) - 1)
        return bool(is_last and self.axes[-1] == self.features)

    def _add(self, layer: Layer, *weights: Any) -> None:
        """Add a layer with a weight and perhaps a bias."""
        layer.load_state_dict(dict(zip(("weight", "bias"), weights, strict=False)))
        self.layers.append(layer)
