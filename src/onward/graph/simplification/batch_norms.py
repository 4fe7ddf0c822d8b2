"""Fold batch normalization into the weights of the convolution or product before it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..graph import Graph, used_names
from ..node import AnyArray, Node

FOLDED = {"Conv", "ConvTranspose", "Gemm"}
FLOATS = {"float32", "float64"}


def fold_batch_norms(graph: Graph) -> Graph:
    """Return the graph without the batch norms that follow a node with constant weights.

    factor (W x + b - mean) + bias = (factor W) x + (factor (b - mean) + bias). The sums are rounded
    differently, so that a graph of layers stays as it is: it has the bits of the layers.
    """
    if graph.of_layers or not any(node.operation == "BatchNormalization" for node in graph.nodes):
        return graph
    uses = Counter((*used_names(graph.nodes), *graph.outputs))
    makers = {node.outputs[0]: node for node in graph.nodes}
    constants, replaced = dict(graph.constants), dict[str, Node]()  # by the first output of the node
    for norm in graph.nodes:
        before = makers.get(norm.inputs[0]) if norm.operation == "BatchNormalization" else None
        if before is None or uses[norm.inputs[0]] > 1 or _trains(norm):
            continue
        arrays = _folded(before, norm, constants)
        if arrays is not None:
            names = [f"{norm.outputs[0]}/{name}" for name in ("weights", "bias")]
            constants |= zip(names, arrays, strict=True)
            inputs = (before.inputs[0], *names)
            replaced[norm.outputs[0]] = before._replace(inputs=inputs, outputs=norm.outputs)
    nodes = [replaced.get(node.outputs[0], node) for node in graph.nodes]
    return graph.replaced(nodes=nodes, constants=constants).without_unused()


def _trains(norm: Node) -> bool:
    return len(norm.outputs) > 1 or norm.attributes.get("training_mode", 0) != 0


def _folded(before: Node, norm: Node, constants: Mapping[str, AnyArray]) -> tuple[AnyArray, AnyArray] | None:
    """Return the weights and the bias of both nodes together, or None if they are not constant floats."""
    if before.operation not in FOLDED or (before.operation == "Gemm" and _is_scaled(before)):
        return None
    names = (*before.inputs[1:], "")[:2]
    found: list[Any] = [constants.get(name) for name in (names[0], *norm.inputs[1:])]
    b = constants.get(names[1]) if names[1] else np.zeros(1, np.float32)
    if b is None or any(
        array is None or array.dtype.kind != "f" or array.dtype.itemsize < 4 for array in found
    ):
        return None
    W, scale, bias, mean, variance = (array.astype(np.float64) for array in found)
    if b.size not in (1, scale.size):
        return None
    factor = scale / np.sqrt(variance + norm.attributes.get("epsilon", 1e-5))
    weights = _scaled(before, W, factor)
    dtype = found[0].dtype
    shift = factor * (b.astype(np.float64).ravel() - mean) + bias
    return weights.astype(dtype), shift.astype(dtype)


def _is_scaled(gemm: Node) -> bool:
    return any(gemm.attributes.get(name, 1.0) != 1 for name in ("alpha", "beta"))


def _scaled(node: Node, W: AnyArray, factor: AnyArray) -> AnyArray:
    """Return the weights times the factors (M,) of the output channels."""
    if node.operation == "Gemm":
        return W * (factor[:, None] if node.attributes.get("transB") else factor)
    ones = (1,) * (W.ndim - 2)
    if node.operation == "Conv":
        return W * factor.reshape(-1, 1, *ones)
    groups = node.attributes.get("group", 1)  # W (C, M / group, *kernel)
    grouped = W.reshape(groups, -1, *W.shape[1:]) * factor.reshape(groups, 1, -1, *ones)
    return grouped.reshape(W.shape)
