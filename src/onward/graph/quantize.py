"""Quantize a graph: its recurrent layers, and the constant matrices of its products and convolutions.

All of them compute with the quantized matrices. Convolutions in which each channel has its own kernel, and
those over three axes, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..core.cell import Cell
from ..core.identity import Identity
from ..core.quantize import check_precision, quantized_matrix
from ..errors import ArgumentError
from .graph import Graph, with_bodies
from .node import AnyArray, Node
from .simplification.simplify import simplify


def quantized(graph: Graph, precision: str) -> Graph:
    """Return a graph with quantized weights. Raises ArgumentError if it has none to quantize."""
    check_precision(precision)
    defaults = {name: graph.constants[name] for name in graph.defaults}
    fixed = {name: array for name, array in graph.constants.items() if name not in defaults}
    simple = simplify(graph.replaced(constants=fixed))  # recurrent nodes get cells
    quantizer = _Quantizer(precision, {})
    small = quantizer.quantized(simple)
    if not quantizer.count:
        raise ArgumentError(
            "the graph has no recurrent layers and no products with constant float32 matrices"
        )
    return small.replaced(constants=small.constants | defaults)


class _Quantizer:
    """Quantizes the nodes of a graph one by one, and counts them."""

    def __init__(self, precision: str, cells: dict[Identity, Cell]) -> None:
        self.constants: dict[str, AnyArray] = {}
        self._precision, self._cells = precision, cells  # the quantized copy of each cell
        self.count = 0
        self._stored: dict[Any, tuple[str, str]] = {}

    def quantized(self, graph: Graph) -> Graph:
        """Return a graph with quantized weights, and without the constants that nothing uses then."""
        self.constants = dict(graph.constants)
        nodes = [new for node in graph.nodes for new in self._nodes(with_bodies(node, self._body))]
        return graph.replaced(nodes=nodes, constants=self.constants).without_unused()

    def _body(self, body: Graph) -> Graph:
        inner = _Quantizer(self._precision, self._cells)
        small = inner.quantized(body)
        self.count += inner.count
        return small

    def _nodes(self, node: Node) -> Iterator[Node]:
        """Return the nodes that replace a node."""
        cell = node.attributes.get("cell")
        weight = self.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if cell is not None and cell.dtype == np.float32 and not cell.precision:
            yield node.with_attributes({**node.attributes, "cell": self._cell(cell)})
        elif weight is None or weight.dtype != np.float32 or not weight.size:
            yield node
        elif node.operation in ("MatMul", "Gemm") and weight.ndim == 2:
            yield from self._product(node, weight)
        elif node.operation == "Conv" and weight.ndim <= 4 and not _is_depthwise(weight, node):
            x, name, bias = (*node.inputs, "")[:3]
            W, scale = self._matrix(name, lambda: weight)
            yield node.with_operation("QuantizedConv").with_inputs(x, W, scale, bias)
        else:
            yield node

    def _cell(self, cell: Cell) -> Cell:
        """Return the quantized copy of a cell, which several nodes may share."""
        self.count += 1
        key = Identity(cell)
        if key not in self._cells:
            self._cells[key] = cell.compressed(self._precision)
        return self._cells[key]

    def _product(self, node: Node, weight: AnyArray) -> Iterator[Node]:
        """Replace alpha x W + beta C, with x and W transposed on request."""
        (x, name, C), output, a = (*node.inputs, "")[:3], node.outputs[0], node.attributes
        bias, alpha, beta = self.constants.get(C), a.get("alpha", 1.0), a.get("beta", 1.0)
        transposed = bool(a.get("transB"))
        if C and bias is None and beta != 1:
            yield node
            return
        if a.get("transA"):
            yield Node("Transpose", (x,), (f"{output}/rows",), {"perm": (1, 0)}, node.name, node.source)
            x = f"{output}/rows"
        W, scale = self._matrix(
            name, lambda: np.float32(alpha) * (weight if transposed else weight.T), transposed, alpha
        )
        if bias is not None and beta != 1:
            C, bias = f"{output}/bias", bias * np.float32(beta)
            self.constants[C] = bias
        begins = bias is not None and bias.shape == (len(self.constants[W]),)
        product = output if begins or not C else f"{output}/product"
        inputs = (x, W, scale, C if begins else "")
        yield Node("QuantizedMatMul", inputs, (product,), {}, node.name, node.source)
        if product != output:
            yield Node("Add", (product, C), (output,), {}, node.name, node.source)

    def _matrix(self, name: str, make: Callable[[], AnyArray], *variant: Any) -> tuple[str, str]:
        """Store what `make` makes of a constant, (O, ..); return its name and that of its scales, or ""."""
        self.count += 1
        if (name, *variant) not in self._stored:
            W = make()
            stored = f"{name}/{self._precision}/{len(self._stored)}"
            matrix, scale = quantized_matrix(name, W.reshape(len(W), -1), self._precision)
            self.constants[stored] = np.ascontiguousarray(matrix.reshape(W.shape))
            if scale is not None:
                self.constants[f"{stored}/scale"] = scale
            self._stored[name, *variant] = stored, "" if scale is None else f"{stored}/scale"
        return self._stored[name, *variant]


def _is_depthwise(weight: AnyArray, node: Node) -> bool:
    """Return whether each channel has its own kernel."""
    return bool(node.attributes.get("group", 1) == len(weight) > 1 == weight.shape[1])


def outputs(model: Any, check: Any) -> list[AnyArray]:
    """The outputs of a model that are floats for an input, a tuple of inputs, or a dict of inputs by name."""
    if isinstance(check, Mapping):
        results = model.results((), dict(check))
    else:
        results = model.results(check if isinstance(check, tuple) else (check,), {})
    return [y for y in results if isinstance(y, np.ndarray) and y.dtype.kind == "f"]
