"""Convert a chain of recurrent and dense nodes to layers, which stream, pool and trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import activations, budget
from ..errors import ArgumentError, OnwardError
from ..graph.activation_names import OPERATORS
from ..graph.graph import Graph
from ..graph.inference import outputs_of
from ..graph.node import AnyArray, Node, needed_nodes
from ..graph.operations import OPERATIONS
from .activation import Activation, Softmax
from .base import NO_WEIGHTS
from .base_model import BaseModel
from .linear import Embedding, Linear
from .norm import LayerNorm
from .rnn import of_cell
from .sequential import Last, Sequential

# Operations that move states and shapes, which are computed outside of the layers.
MOVES = {
    "Cast", "Concat", "ConstantOfShape", "Expand", "FinalState", "Gather", "Identity", "Mul", "Reshape",
    "Shape", "Slice", "Split", "Squeeze", "Steps", "Transpose", "Unsqueeze",
}  # fmt: skip
SHAPES = {"Shape", "Steps"}  # of which read only shapes
# Of the first two axes. A number in the graph that holds for sequences of one size is wrong for the others.
SIZES = (3, 5), (5, 4)

Make = Callable[[], BaseModel]  # makes a layer
Places = NDArray[np.int64]


def layers_of(graph: Graph) -> Sequential:
    """Return the layers between the first input and the first output of a simplified graph.

    The others must be states. Raises ArgumentError, which names the node that cannot be converted.
    """
    with suppress(ArgumentError):
        return _layers_for(graph, (0, 0))
    axes = *(graph.inputs[0].axes or ()), 0, 0
    return _layers_for(graph, [size if isinstance(size, int) else 0 for size in axes[:2]])


def _layers_for(graph: Graph, fixed: Sequence[int]) -> Sequential:
    """Return the layers for an input whose first two axes have these sizes, or any where they are 0."""
    for sizes in SIZES:
        with budget.Limit.of(graph.constants.values()).entered():
            chain = _Chain(graph, [size or other for size, other in zip(fixed, sizes, strict=True)])
            for node in graph.nodes:
                chain.follow(node)
            chain.finish(graph)
    return Sequential(*[make() for make in chain.makers])


class _Chain:
    """Follows the nodes from the first input, and the places of the elements that the last layer returns.

    `rows` numbers the steps of all sequences, as the first two axes of the input hold them. A row of the last
    layer is at the place `start` + row * `features`; the places of what other layers return are lower.
    """

    def __init__(self, graph: Graph, sizes: Sequence[int]) -> None:
        x, *others = graph.inputs
        self.constants, self.values = graph.constants, dict(graph.constants)  # and what follows from shapes
        self.needed = {graph.outputs[0]}  # the values that the first output depends on
        needed_nodes(graph.nodes, self.needed)
        self.makers: list[Make] = []
        self.rows: Places = np.arange(math.prod(sizes)).reshape(sizes)
        self.kept = [self.rows]  # what the last layer may return: all rows, or those of final states
        self.time: Any = None  # the axis of time in the input, too
        self.is_last = False  # whether there is a layer that selects the last rows
        self.start, self.features, self.directions = 0, _features(graph), 1
        self.places: dict[str, Places] = {x.name: self._at(self.rows)}  # of the elements of values
        self.inputs = [declared.name for declared in others]
        self.states = set(self.inputs)  # the states, and values that only move states
        self.lengths = ""  # the input that holds the lengths, if there is one

    def follow(self, node: Node) -> None:
        """Extend the chain by a node that uses its last value."""
        known: dict[str, AnyArray] = {name: self.values[name] for name in node.inputs if name in self.values}
        places = {name: self.places[name] for name in node.inputs if name in self.places}
        inputs, outputs = {*filter(None, node.inputs)}, {*filter(None, node.outputs)}
        is_state = False
        if node.operation in MOVES and known.keys() | self.states >= inputs:
            arrays = [*known.values(), node.attributes.get("value")]
            is_state = all(a is None or a.dtype.kind != "f" or not a.any() for a in arrays)
        self.states |= outputs if is_state else set()
        if is_state and self.needed.isdisjoint(outputs):
            return
        if node.operation not in SHAPES and any((x >= self.start).any() for x in places.values()):
            if node.operation == "Recurrent":
                self._recurrent(node)
            elif not self._layer(node) and not self._moves(node, known | places):
                raise ArgumentError(f"{node} cannot be converted to layers")
        elif node.operation in SHAPES or not places:
            self.values |= _computed(node, known | places)
        if not is_state and not self.needed.isdisjoint(outputs - self.values.keys() - self.places.keys()):
            raise ArgumentError(f"{node} is not part of a chain of layers")

    def finish(self, graph: Graph) -> None:
        """Let the layers return the first output. Raises ArgumentError if they do not."""
        output, *others = graph.outputs
        if dropped := [name for name in others if name not in self.states]:
            raise ArgumentError(f"{dropped[0]} is neither the first output nor a state of a layer")
        places = self.places.get(output, np.array(-1))
        if (places < self.start).any():
            raise ArgumentError(
                f"{output} has the final states of several layers, or does not follow from them"
            )
        in_order = [self._are_in_order(places, rows) for rows in self.kept]
        if not any(in_order):
            nodes = "".join(f"{node}: " for node in graph.nodes if output in node.outputs)
            raise ArgumentError(f"{nodes}the axes of {output} are not in the order that layers have")
        if not in_order[0]:
            self._select_last()

    def _at(self, rows: Places) -> Places:
        """Return the places of the elements of rows; without features, a row is one element."""
        budget.take(rows.nbytes * max(1, self.features))
        if not self.features:
            return self.start + rows
        return self.start + rows[..., None] * self.features + np.arange(self.features)

    def _rows_of(self, places: Places) -> Places | None:
        """Return the rows of places whose last axis holds the features in order, or None."""
        if not self.features:
            return places - self.start
        first = places[..., 0] - self.start
        is_whole = places.shape[-1] == self.features and not (first[first >= 0] % self.features).any()
        return first // self.features if is_whole and (np.diff(places) == 1).all() else None

    def _holds(self, places: Places, rows: Places) -> bool:
        """Whether places hold each element of some rows of the last layer once, and no others of it."""
        return np.array_equal(np.sort(places[places >= self.start]), np.sort(self._at(rows), None))

    def _are_in_order(self, places: Places, rows: Places) -> bool:
        """Whether places are those of rows, perhaps with an axis of directions as in ONNX's operators."""
        plain = self._at(rows)
        parts = plain.reshape(*plain.shape[:-1], self.directions, -1)
        return any(np.array_equal(places, each) for each in (plain, np.moveaxis(parts, -2, -3)))

    def _select_last(self) -> None:
        if not self.is_last:
            self.makers.append(partial(Last, batch_first=self.time == 1))
        self.is_last = True

    def _add(self, make: Make) -> int:
        """Add a layer; return how much higher the places of its rows are."""
        self.makers.append(make)
        before, self.start = self.start, self.start + 2 * self.rows.size * max(1, self.features)
        return self.start - before

    def _recurrent(self, node: Node) -> None:
        x, lengths, *states = (*node.inputs, "", "", "")[:4]
        cell, rows = node.attributes["cell"], self._rows_of(self.places[x]) if x in self.places else None
        axes = [axis for axis in (0, 1) if rows is not None and np.array_equal(rows, self._steps(axis))]
        if not axes or not self.features or self.time not in (None, *axes):
            raise ArgumentError(f"{node} has a different time axis from the nodes before it")
        if node.attributes.get("reverse"):
            raise ArgumentError(f"{node} runs only in reverse, which layers do not support")
        for name in states:
            if name not in self.states and np.any(self.values.get(name, 0)):
                raise ArgumentError(f"{node} starts from a constant state other than zeros")
        time = axes[0] if self.time is None else self.time
        steps = self._steps(time)
        used = "" if np.all(self.values.get(lengths, 0) == len(steps)) else lengths
        if used not in ("", *self.inputs) or (self.time is not None and used != self.lengths):
            raise ArgumentError(f"{node} takes different lengths from the other nodes")
        self.time, self.lengths = time, used
        last = self.rows.size + np.arange(steps.shape[1]) if used else steps[-1]
        self.kept = [self.rows, last]
        self._add(partial(of_cell, cell, time == 1))
        self.features, self.directions = cell.sizes.DP, cell.sizes.D
        y, h = (*node.outputs, "")[:2]
        final = self._at(last)[None]
        found = {y: self._at(steps)}
        if cell.sizes.D == 1:  # the final states of the layers of a cell
            found[h] = np.concatenate([*[final - self.start] * (cell.num_layers - 1), final])
        self.places |= {name: places for name, places in found.items() if name}
        self.states |= {*filter(None, node.outputs[1:])}

    def _steps(self, time: int) -> Places:
        """Return the rows (T, B) of all steps, if time is this axis of the input."""
        return self.rows.swapaxes(0, time)

    def _moves(self, node: Node, arrays: Mapping[str, AnyArray]) -> bool:
        """Follow a node that moves whole rows, or all elements; return whether it does."""
        found, places = None, arrays.get(node.inputs[0])
        match node.operation:
            case "Cast" if not self.makers:  # layers convert the input themselves
                found = places
            case "FinalState" if node.inputs[2] == self.lengths:  # so do layers for rows without steps
                found = places
            case "LastStep" if self.lengths and node.inputs[1] == self.lengths and places is not None:
                if np.array_equal(places, self._at(self._steps(self.time).T)):
                    found = self._at(self.kept[-1])
            case operation if operation == "Concat" or OPERATIONS[operation].moves:
                found = _computed(node, arrays).get(node.outputs[0])
        if found is None or not any(self._holds(found, rows) for rows in self.kept):
            return False
        self.places[node.outputs[0]] = found
        return True

    def _layer(self, node: Node) -> bool:
        """Add the layer of a node; return whether there is one."""
        places = self.places.get(node.inputs[-1 if node.operation == "Gather" else 0])
        if places is None:
            return False
        rows, features, make = self._rows_of(places), self.features, _activation(node, self.constants)
        if make is None and rows is not None:
            make, features = self._dense(node, rows.ndim)
            self.directions = 1
        if make is None:
            return False
        if not self._holds(places, self.rows):
            self._select_last()
        higher, self.features = self._add(make), features
        self.places[node.outputs[0]] = places + higher if rows is None else self._at(rows)
        return True

    def _dense(self, node: Node, last_axis: int) -> tuple[Make | None, int]:
        """Return what makes the layer of a node over the features, and how many features that returns."""
        a, F = node.attributes, self.features
        arrays: list[Any] = [self.constants.get(name) for name in node.inputs if name]
        is_plain = a.get("alpha", 1) == a.get("beta", 1) == 1 and not a.get("transA")
        is_over_features = F and a.get("axis", -1) in (-1, last_axis)
        match node.operation, arrays:
            case "Gather", [table, None] if not (F or table is None or table.ndim != 2 or a.get("axis")):
                return partial(_filled, Embedding, table.shape, {}, table), table.shape[1]
            case "MatMul" | "Gemm", [None, W, *bias] if W is not None and W.ndim == 2 and is_plain:
                W = W.T if a.get("transB") else W
                if len(W) == F and all(b is not None and b.shape == W.shape[1:] for b in bias):
                    return partial(_filled, Linear, W.shape, {"bias": bool(bias)}, W.T, *bias), W.shape[1]
            case "LayerNormalization", [None, *weights] if is_over_features:
                options = {"eps": a.get("epsilon", 1e-5), "bias": len(weights) == 2}
                if all(w is not None and w.shape == (F,) for w in weights):
                    return partial(_filled, LayerNorm, (F,), options, *weights), F
            case "Softmax", _ if is_over_features:
                return Softmax, F
        return None, 0


def _activation(node: Node, constants: Mapping[str, AnyArray]) -> Make | None:
    """Return what makes the layer of an elementwise function, or None for other nodes."""
    a, name = node.attributes, node.operation
    if name == "Clip":  # to [0, 6]
        bounds = [constants.get(each) for each in node.inputs[1:]]
        return partial(Activation, "relu6") if bounds == [0, 6] else None
    if name == "Selu":
        numbers = dict(zip(("alpha", "gamma"), activations.call("selu")[1:], strict=True))
        return partial(Activation, "selu") if a in ({}, numbers) else None
    if name == "Swish":
        return partial(Activation, "silu") if a.get("alpha", 1) == 1 else None
    function, defaults = OPERATORS.get(name, ("", {}))
    if not function or not a.keys() <= defaults.keys():
        return None
    return partial(Activation, function, *(a.get(each, value) for each, value in defaults.items()))


def _filled(kind: Any, sizes: Sequence[int], options: Mapping[str, Any], *weights: AnyArray) -> BaseModel:
    """Return a layer with a weight and perhaps a bias."""
    layer: BaseModel = kind(*sizes, dtype=weights[0].dtype, rng=NO_WEIGHTS, **options)
    layer.load_state_dict(dict(zip(("weight", "bias"), weights, strict=False)))
    return layer


def _features(graph: Graph) -> int:
    """Return the features of the first input, 0 without an axis for them, or else a guess."""
    axes = graph.inputs[0].axes or ()
    sizes: list[Any] = [0] if len(axes) == 2 else [size or "" for size in axes[2:3]]
    sizes += [node.attributes["cell"].input_size for node in graph.nodes if "cell" in node.attributes]
    sizes += [array.shape[0] for array in graph.constants.values() if array.ndim == 2]
    return next((size for size in sizes if isinstance(size, int)), 1)


def _computed(node: Node, arrays: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """Return the outputs of a node as far as they follow from arrays by the names of its inputs."""
    if arrays.keys() >= {*filter(None, node.inputs)}:
        with suppress(OnwardError):  # an operator may reject these sizes
            return {name: a for name, a in outputs_of(node, arrays).items() if isinstance(a, np.ndarray)}
    return {}
