"""Reverse-mode differentiation of graphs in NumPy, step by step in the loops of Scan nodes.

`GRADIENTS` maps an operation to its rule: a function of the gradient with respect to the output, the output,
the inputs and the attributes of a node, which returns the gradient with respect to each input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import onward._core as _core

from ..core.functions import standardized, standardized_gradient
from ..errors import ArgumentError
from .graph import Graph
from .node import AnyArray, Node
from .operations import OPERATIONS
from .operations.control import loop_inputs
from .operations.products import multiply

Gradients = dict[str, AnyArray]


class Run:
    """The values of a graph for some inputs, which the way back reads; those of loops for each iteration."""

    def __init__(self, graph: Graph, inputs: Sequence[AnyArray]) -> None:
        self._graph = graph
        self.values: dict[str, Any] = dict(graph.constants)
        self.values |= {declared.name: x for declared, x in zip(graph.inputs, inputs, strict=True)}
        self._iterations = dict[str, list[Run]]()  # by the name of a node
        for node in graph.nodes:
            given = [self.values[name] if name else None for name in node.inputs]
            if node.operation == "Scan":
                results = self._scan(node, given)
            else:
                results = OPERATIONS[node.operation].compute(given, node.attributes)
            self.values |= zip(node.outputs, results, strict=False)

    def _scan(self, node: Node, given: Sequence[Any]) -> Sequence[AnyArray]:
        """Run the body of a loop for each slice along the first axes."""
        body, count = node.attributes["body"], node.attributes["num_scan_inputs"]
        states, scanned, outer = loop_inputs(given, node.captured, count)
        runs = self._iterations[node.name] = list[Run]()
        for slices in zip(*scanned, strict=True):
            runs.append(Run(body, [*states, *slices, *outer]))
            states = runs[-1].outputs[: len(states)]
        written = zip(*(run.outputs[len(states) :] for run in runs), strict=True)
        return [*states, *map(np.stack, written)]

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs of the graph."""
        return [declared.name for declared in self._graph.inputs]

    @property
    def outputs(self) -> list[AnyArray]:
        """The outputs of the graph."""
        return [self.values[name] for name in self._graph.outputs]

    def back(self, gradients: Sequence[AnyArray]) -> Gradients:
        """Return the gradients with respect to all values, from those with respect to the outputs.

        A value that the outputs do not depend on has none. Raises ArgumentError, which names the node, for an
        operation without a rule.
        """
        found: Gradients = {}
        for name, gradient in zip(self._graph.outputs, gradients, strict=True):
            _add(found, name, gradient)
        for node in reversed(self._graph.nodes):
            given = [found.get(name) for name in node.outputs]
            if any(each is not None for each in given):
                for name, gradient in self._through(node, given):
                    _add(found, name, gradient)
        return found

    def _through(self, node: Node, given: Sequence[AnyArray | None]) -> Iterator[tuple[str, AnyArray]]:
        """Yield the gradients with respect to the inputs of a node."""
        if node.operation == "Scan":
            yield from self._through_scan(node, given)
            return
        rule = GRADIENTS.get(node.operation)
        if rule is None:
            raise ArgumentError(f"{node} has no gradient")
        inputs = [self.values[name] if name else None for name in node.inputs]
        results = rule(given[0], self.values[node.outputs[0]], *inputs, **node.attributes)
        for name, x, gradient in zip(node.inputs, inputs, results, strict=False):
            if gradient is not None and x is not None and x.dtype.kind == "f":
                yield name, _summed(gradient, x.shape)

    def _through_scan(self, node: Node, given: Sequence[AnyArray | None]) -> Iterator[tuple[str, AnyArray]]:
        body: Graph = node.attributes["body"]
        count, runs = node.attributes["num_scan_inputs"], self._iterations[node.name]
        names = [declared.name for declared in body.inputs]
        states, slices, outer = loop_inputs(names, node.captured, count)
        wide = [
            np.zeros_like(self.values[name]) if gradient is None else gradient
            for name, gradient in zip(node.outputs, given, strict=True)
        ]
        after, written = wide[: len(states)], wide[len(states) :]
        first, scanned, captured = loop_inputs(node.inputs, node.captured, count)
        of_slices: dict[str, list[AnyArray]] = {
            inner: []
            for inner, name in zip(slices, scanned, strict=True)
            if self.values[name].dtype.kind == "f"
        }
        shared: Gradients = {}
        for t in reversed(range(len(runs))):
            found = runs[t].back([*after, *(gradient[t] for gradient in written)])
            by_name = {
                name: found.get(name, np.zeros_like(runs[t].values[name])) for name in (*states, *of_slices)
            }
            after = [by_name[name] for name in states]
            for name, each in of_slices.items():
                each.append(by_name[name])
            for name in set(outer) & found.keys():
                _add(shared, name, found[name])
        yield from zip(first, after, strict=True)
        for name, inner in zip(scanned, slices, strict=True):
            if inner in of_slices:
                yield name, np.stack(of_slices[inner][::-1])
        for name, inner in zip(captured, outer, strict=True):
            if inner in shared:
                yield name, shared[inner]


def _add(found: Gradients, name: str, gradient: AnyArray) -> None:
    found[name] = found[name] + gradient if name in found else gradient


def _summed(gradient: AnyArray, shape: tuple[int, ...]) -> AnyArray:
    """Return a gradient summed over the axes along which an input of this shape was broadcast."""
    leading = gradient.ndim - len(shape)
    ones = [
        leading + axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[leading + axis] != 1
    ]
    axes = (*range(leading), *ones)
    return gradient.sum(axes).reshape(shape) if axes else gradient.reshape(shape)


def _of_product(dy: Any, y: Any, A: Any, B: Any, bias: Any = None) -> tuple[Any, ...]:
    """Multiply with the core, whose sums have one order, whatever the number of threads."""
    dA = multiply(dy, B.swapaxes(-1, -2))
    if B.ndim > 2:
        return dA, multiply(A.swapaxes(-1, -2), dy), dy
    x, dproducts = (np.ascontiguousarray(each).reshape(-1, each.shape[-1]) for each in (A, dy))
    dW = np.zeros_like(B.T, order="C")
    _core.add_gradients(dproducts, x, dW, None)
    return dA, dW.T, dy


def _of_slice(dy: Any, y: Any, x: Any, starts: Any, ends: Any, axes: Any) -> tuple[Any, ...]:
    dx = np.zeros_like(x)
    place = [slice(None)] * x.ndim
    for start, end, axis in zip(starts, ends, axes, strict=True):
        place[axis] = slice(start, end)
    dx[tuple(place)] = dy
    return (dx,)


def _of_concat(dy: Any, y: Any, *parts: Any, axis: int) -> tuple[Any, ...]:
    ends = np.cumsum([0, *(part.shape[axis] for part in parts)])
    return tuple(np.take(dy, range(*pair), axis) for pair in pairwise(ends))


def _of_sum(dy: Any, y: Any, x: Any, axes: Any = None, *, keepdims: int = 1) -> tuple[Any, ...]:
    wide = dy if keepdims else np.expand_dims(dy, tuple(axes))
    return (np.broadcast_to(wide, x.shape),)


def _of_layer_norm(
    dy: Any, y: Any, x: Any, gain: Any, bias: Any = None, *, axis: int = -1, epsilon: float = 1e-5
) -> tuple[Any, ...]:
    """y = gain z + bias, and z is standardized along the last axis."""
    return standardized_gradient(dy * gain, x, epsilon), dy * standardized(x, epsilon), dy


def _sigmoid(x: AnyArray) -> AnyArray:
    result: AnyArray = OPERATIONS["Sigmoid"].compute([x], {})[0]
    return result


def _moved(dy: Any, y: Any, x: Any, *others: Any, **attributes: Any) -> tuple[Any, ...]:
    return (dy.reshape(x.shape),)


GRADIENTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {
    "Add": lambda dy, y, a, b: (dy, dy),
    "Sub": lambda dy, y, a, b: (dy, -dy),
    "Mul": lambda dy, y, a, b: (dy * b, dy * a),
    "Div": lambda dy, y, a, b: (dy / b, -dy * y / b),
    "Neg": lambda dy, y, x: (-dy,),
    "Max": lambda dy, y, a, b: (dy * (a >= b), dy * (a < b)),
    "Where": lambda dy, y, condition, a, b: (None, np.where(condition, dy, 0), np.where(condition, 0, dy)),
    "MatMul": _of_product,
    "Sigmoid": lambda dy, y, x: (dy * y * (1 - y),),
    "Tanh": lambda dy, y, x: (dy * (1 - y) * (1 + y),),
    "Exp": lambda dy, y, x: (dy * y,),
    "Sqrt": lambda dy, y, x: (dy / (2 * y),),
    "Sin": lambda dy, y, x: (dy * np.cos(x),),
    "Cos": lambda dy, y, x: (-dy * np.sin(x),),
    "Softplus": lambda dy, y, x: (dy * _sigmoid(x),),
    "ReduceSum": _of_sum,
    "LayerNormalization": _of_layer_norm,
    "Slice": _of_slice,
    "Concat": _of_concat,
    "Reshape": _moved,
    "Squeeze": _moved,
    "Unsqueeze": _moved,
    "Transpose": lambda dy, y, x, perm: (dy.transpose(np.argsort(perm)),),
}
