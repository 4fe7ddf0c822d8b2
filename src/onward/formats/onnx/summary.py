"""A summary of an ONNX graph: one row per node that holds parameters, subgraphs included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from ...layers.summary import Axes, Row

Weights = dict[str, NDArray[Any]]


class Summary(NamedTuple):
    """The rows, the weights of each by name, and how many nodes have no parameters and so no row."""

    rows: list[Row]
    weights: list[Weights]
    others: int


def summarize(model: ModelProto) -> Summary:
    """The summary of a model. A weight that several nodes share belongs to the first of them."""
    rows: list[Row] = []
    weights: list[Weights] = []
    others = 0
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception:  # shapes are a convenience, and the onnx package raises errors of many types
        inferred = model
    graphs = list(_graphs(inferred.graph))
    arrays: Weights = {}  # names are unique over all graphs: a body uses the arrays of the graphs around it
    for graph in graphs:
        arrays |= {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        arrays |= {node.output[0]: value for node in graph.node if (value := _constant(node)) is not None}
    for graph in graphs:
        shapes = {value.name: _axes(value) for value in (*graph.value_info, *graph.output)}
        for node in graph.node:
            if node.op_type == "Constant":
                continue
            held = {name: arrays.pop(name) for name in node.input if name in arrays}
            held = {name: array for name, array in held.items() if array.dtype.kind == "f" or array.ndim > 1}
            if held:
                name = node.name or node.output[0]
                sizes = sum(w.size for w in held.values()), sum(w.nbytes for w in held.values())
                rows.append(Row(name, node.op_type, shapes.get(node.output[0]), *sizes))
                weights.append(held)
            else:
                others += 1
    return Summary(rows, weights, others)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph, and those inside its nodes: bodies of loops and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _constant(node: NodeProto) -> NDArray[Any] | None:
    """The value of a Constant node that holds a tensor."""
    if node.op_type != "Constant" or node.attribute[0].name != "value":
        return None
    value: NDArray[Any] = onnx.numpy_helper.to_array(node.attribute[0].t)
    return value


def _axes(value: ValueInfoProto) -> Axes | None:
    """The declared or inferred shape of a value: sizes, or the names of those that are open."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(map(_size, kind.shape.dim))


def _size(axis: onnx.TensorShapeProto.Dimension) -> int | str:
    if axis.HasField("dim_value"):
        return axis.dim_value
    # shape inference makes up names for sizes that the file does not name
    return axis.dim_param if axis.dim_param and not axis.dim_param.startswith("unk__") else "?"
