"""Quantize a graph: its recurrent layers, and the constant matrices of its products and convolutions.

Recurrent layers compute with their quantized matrices. The other matrices are stored as float16, or as int8
with one scale for each output, and become float32 again when the first plan is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.checks import non_negative
from ..errors import ArgumentError
from ..layers.quantize import check_difference, check_precision, quantized_matrix
from .graph import Graph
from .node import AnyArray, Node
from .simplification.simplify import simplify

PRODUCTS = ("MatMul", "Gemm", "Conv")


def quantized(graph: Graph, precision: str) -> Graph:
    """Return a graph with quantized weights. Raises ArgumentError if it has none to quantize."""
    check_precision(precision)
    defaults = {name: graph.constants[name] for name in graph.defaults}
    own = {name: array for name, array in graph.constants.items() if name not in defaults}
    simple = simplify(graph.replaced(constants=own))  # recurrent nodes become layers
    quantizer = _Quantizer(simple.constants, precision)
    nodes = [quantizer.node(node) for node in simple.nodes]
    if not quantizer.count:
        raise ArgumentError(
            "the graph has no recurrent layers and no products with constant float32 matrices"
        )
    used = {*simple.outputs, *(name for node in nodes for name in node.inputs)}
    used |= {name for node in quantizer.nodes for name in node.inputs}
    constants = {name: array for name, array in quantizer.constants.items() if name in used}
    return simple.replaced(nodes=[*quantizer.nodes, *nodes], constants=constants | defaults)


class _Quantizer:
    """Quantizes nodes one by one; `nodes` restore the matrices."""

    def __init__(self, constants: Mapping[str, AnyArray], precision: str) -> None:
        self.constants, self._precision = dict(constants), precision
        self.nodes: list[Node] = []
        self.count = 0
        self._restored: dict[tuple[str, int], str] = {}

    def node(self, node: Node) -> Node:
        layer = node.attributes.get("layer")
        if layer is not None and layer.dtype == np.float32 and not layer.precision:
            self.count += 1
            return node._replace(attributes={**node.attributes, "layer": layer._compressed(self._precision)})
        weight = self.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if node.operation not in PRODUCTS or weight is None or weight.dtype != np.float32:
            return node
        if weight.ndim < 2 or (node.operation != "Conv" and weight.ndim != 2):
            return node
        axis = 0 if node.operation == "Conv" or node.attributes.get("transB") else 1
        self.count += 1
        return node._replace(inputs=(node.inputs[0], self._matrix(node.inputs[1], axis), *node.inputs[2:]))

    def _matrix(self, name: str, axis: int) -> str:
        """Store a constant with one scale for each index of an axis; return the value that restores it."""
        if (name, axis) not in self._restored:
            weight, stored = self.constants[name], f"{name}/{self._precision}/{axis}"
            rows = np.moveaxis(weight, axis, 0)
            matrix, scale = quantized_matrix(name, rows.reshape(len(rows), -1), self._precision)
            self.constants[stored] = np.moveaxis(matrix.reshape(rows.shape), 0, axis)
            restored = (f"{stored}/restored",)
            if scale is None:
                node = Node("Cast", (stored,), restored, {"to": np.dtype(np.float32)}, name)
            else:
                self.constants[f"{stored}/scale"] = scale
                inputs = (stored, f"{stored}/scale")
                node = Node("DequantizeLinear", inputs, restored, {"axis": axis}, name)
            self.nodes.append(node)
            self._restored[name, axis] = f"{stored}/restored"
        return self._restored[name, axis]


def check_outputs(small: Any, model: Any, check: Any, tolerance: float, precision: str) -> None:
    """Raise PrecisionError if outputs for `check`, inputs of the model, differ by more than allowed."""
    allowed = non_negative("tolerance", tolerance)
    pairs = zip(_outputs(small, check), _outputs(model, check), strict=True)
    differences = [np.abs(np.asarray(y, np.float64) - x).ravel() for y, x in pairs]
    check_difference(np.concatenate(differences), precision, allowed, np.shape(check))


def _outputs(model: Any, check: Any) -> list[AnyArray]:
    match check:
        case Mapping():
            results = model(**check)
        case tuple():
            results = model(*check)
        case _:
            results = model(check)
    results = results if isinstance(results, tuple) else (results,)
    return [y for y in results if isinstance(y, np.ndarray) and y.dtype.kind == "f"]
