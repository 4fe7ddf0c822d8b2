"""The nodes of an ONNX graph as those of Onward's graphs."""

from collections.abc import Callable, Sequence
from typing import Any

import onnx
from onnx.reference.op_run import OpRun

from ...core import activations
from ...graph import Node
from .evaluator import Evaluator, is_pure, run
from .layer_operators import Elementwise, OfRows
from .operators import described
from .quantized import DynamicQuantizeLSTM
from .recurrent_operators import Node as Recurrent


def nodes_of(nodes: Sequence[OpRun]) -> list[Node]:
    """Nodes of an evaluator, those of both branches of an If with them."""
    return [_node(node) for node in nodes]


def _node(node: OpRun) -> Node:
    proto = node.onnx_node
    given = {
        a.name: _plain(onnx.helper.get_attribute_value(a)) for a in proto.attribute if not a.ref_attr_name
    }
    operation = proto.op_type if proto.domain in ("", "com.microsoft") else f"{proto.domain}.{proto.op_type}"
    if node.has_linked_attribute:
        operation = f"linked {operation}"  # its attributes come with the call of the function around it
    branches: tuple[Any, ...] = ()
    layer: Callable[..., Any] | None = None
    if isinstance(node, Elementwise):
        operation, given = "Activation", {"function": activations.call(node.layer._spec)}
    elif isinstance(node, OfRows):
        given |= {"axis": node.axis, "joins_axes": node._joins}
    elif isinstance(node, DynamicQuantizeLSTM):
        layer = node.core_options
    elif isinstance(node, Recurrent):
        layer = _layer(node)
    elif operation == "If":
        branches = tuple(map(_branch, (node.then_branch, node.else_branch)))  # type: ignore[attr-defined]  # see OpRun
        given = {}
    return Node(
        operation,
        described(proto),
        tuple(proto.input),
        tuple(proto.output),
        given,
        lambda *inputs: run(node, inputs),
        is_pure(node),
        branches,
        layer,
    )


def _branch(body: Evaluator) -> tuple[list[Node], tuple[str, ...]]:
    return [*_constants(body), *nodes_of(body.rt_nodes_)], tuple(body.output_names)


def _constants(body: Evaluator) -> list[Node]:
    """The initializers of a subgraph, as nodes without inputs."""
    return [
        Node("Constant", name, (), (name,), {}, lambda array=array: (array,))
        for name, array in body.rt_inits_.items()
    ]


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _layer(node: Recurrent) -> Callable[..., Any] | None:
    """The layer of a recurrent node from its weights, whether it runs in reverse, and its layout."""
    options = node._options
    if options is None:
        return None
    return lambda *weights: (node._cached(*weights), options.reverse, options.batch_first)
