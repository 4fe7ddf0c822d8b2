"""ONNX graphs of Onward's models: its recurrent nodes for recurrent layers, the operators around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from . import activations
from .base import Layer
from .dense import Embedding, Last, Linear, Softmax
from .errors import ArgumentError
from .gates import reorder
from .layers import GRU
from .model import Sequential
from .recurrent import Recurrent

ACTIVATIONS = {  # ONNX's names for the core's functions, and the parameters that each takes
    "affine": ("Affine", "activation_alpha", "activation_beta"),
    "elu": ("Elu", "activation_alpha"),
    "hard_sigmoid": ("HardSigmoid", "activation_alpha", "activation_beta"),
    "leaky_relu": ("LeakyRelu", "activation_alpha"),
    "relu": ("Relu",),
    "scaled_tanh": ("ScaledTanh", "activation_alpha", "activation_beta"),
    "sigmoid": ("Sigmoid",),
    "softplus": ("Softplus",),
    "softsign": ("Softsign",),
    "tanh": ("Tanh",),
    "thresholded_relu": ("ThresholdedRelu", "activation_alpha"),
}
OPSET, IR_VERSION = (
    14,
    8,
)  # the first of which the recurrent operators are today's, and that all runtimes have


def model_of(model: Layer, lengths: bool) -> onnx.ModelProto:
    """The graph of a layer or a Sequential, checked. Raises ArgumentError."""
    layers = list(model) if isinstance(model, Sequential) else [model]
    states = sum(isinstance(layer, Recurrent) for layer in layers)
    graph = _Graph(layers, model, lengths)
    y = "x"
    for index, layer in enumerate(layers):
        kind = next((kind for kind in WRITERS if isinstance(layer, kind)), None)
        if kind is None:
            raise ArgumentError(f"layer {index}, {layer!r}, cannot be written as ONNX")
        graph.prefix = f"{index}." if states > 1 else ""
        y = WRITERS[kind](graph, layer, y)
    graph.node("Identity", [y], "y")
    return graph.finished()


class _Graph:
    """The nodes, constants, inputs and outputs of a graph that is being written."""

    prefix = ""  # of the names of states

    def __init__(self, layers: list[Layer], model: Layer, lengths: bool) -> None:
        self.dtype = model.dtype
        self.kind = helper.np_dtype_to_tensor_dtype(model.dtype)
        self.batch_first = any(getattr(layer, "batch_first", False) for layer in layers)
        self.lengths = "lengths" if lengths else ""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        axes = ["batch", "time"] if self.batch_first else ["time", "batch"]
        if layers and isinstance(layers[0], Embedding):
            self.inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, axes)]
        else:
            features = layers[0]._step_shape if layers else None
            self.inputs = [self.value("x", [*axes, *(features or ["features"])])]
        if lengths:
            self.inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]))
        self.outputs = [self.value("y", None)]

    def value(self, name: str, shape: Sequence[str | int] | None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, self.kind, shape)

    def node(self, op: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        """Adds a node; returns its first output, which is named after it unless there are names."""
        name = f"{len(self.nodes)}_{op}"
        self.nodes.append(helper.make_node(op, inputs, outputs or (name,), name, **attributes))
        return (outputs or (name,))[0]

    def constant(self, value: ArrayLike) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def finished(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "onward", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="onward")
        return onnx.shape_inference.infer_shapes(model, check_type=True)


def _recurrent(graph: _Graph, layer: Any, x: str) -> str:
    if layer.proj_size:
        raise ArgumentError(f"{layer!r} cannot be written as ONNX, whose LSTM has no projection")
    D, H = 1 + layer.bidirectional, layer.hidden_size
    if graph.batch_first:
        x = graph.node("Transpose", [x], perm=[1, 0, 2])
    initial, final = _states(graph, layer)
    for level in range(layer.num_layers):
        suffixes = [f"_l{level}", f"_l{level}_reverse"][:D]
        outputs = [f"{x}_Y", *(each[level] for each in final)]
        inputs = [x, *_weights(graph, layer, suffixes), graph.lengths, *(each[level] for each in initial)]
        if layer.peephole:
            inputs.append(_peephole(graph, layer, suffixes))
        y = graph.node(
            type(layer).__name__,
            inputs,
            *outputs,
            hidden_size=H,
            direction="bidirectional" if layer.bidirectional else "forward",
            **_attributes(layer),
        )
        last = level == layer.num_layers - 1
        # (T, D, B, H) to (T, B, D*H), the last one as the layer lays it out
        y = graph.node("Transpose", [y], perm=[2, 0, 1, 3] if last and graph.batch_first else [0, 2, 1, 3])
        x = graph.node("Reshape", [y, graph.constant([0, 0, D * H])])
    for name, parts in zip(("h_n", "c_n"), final, strict=False):
        graph.node("Concat", parts, graph.prefix + name, axis=0)
    return x


def _states(graph: _Graph, layer: Any) -> tuple[list[list[str]], list[list[str]]]:
    """Names of h, and of c if the layer has it, for each of its layers: the initial ones, the final ones."""
    L, D = layer.num_layers, 1 + layer.bidirectional
    shape = [L * D, "batch", layer.hidden_size]
    initial, final = [], []
    for part in ("h", "c")[: 1 + layer.has_c]:
        whole, parts = f"{graph.prefix}{part}0", [f"{graph.prefix}{part}0_l{n}" for n in range(L)]
        graph.inputs.append(graph.value(whole, shape))
        graph.outputs.append(graph.value(f"{graph.prefix}{part}_n", shape))
        graph.node("Split", [whole, graph.constant(np.full(L, D, np.int64))], *parts, axis=0)
        initial.append(parts)
        final.append([f"{graph.prefix}{part}_n_l{n}" for n in range(L)])
    return initial, final


def _weights(graph: _Graph, layer: Any, suffixes: list[str]) -> list[str]:
    """W, R and B of one layer, with all its directions."""
    weights, cell = layer._weights_by_name(), type(layer).__name__.lower()

    def stacked(*names: str) -> str:
        own = [[weights[name + suffix] for name in names] for suffix in suffixes]
        if cell != "rnn":
            own = [[reorder(weight, cell, "torch", "onnx") for weight in each] for each in own]
        return graph.constant([np.concatenate(each) for each in own])

    bias = stacked("bias_ih", "bias_hh") if layer.bias else ""
    return [stacked("weight_ih"), stacked("weight_hh"), bias]


def _peephole(graph: _Graph, layer: Any, suffixes: list[str]) -> str:
    """P of one layer, with all its directions."""
    weights = layer._weights_by_name()
    own = [reorder(weights["weight_peephole" + suffix], "peephole", "torch", "onnx") for suffix in suffixes]
    return graph.constant(own)


def _attributes(layer: Any) -> dict[str, Any]:
    """What a node says beside its sizes and its direction."""
    attributes: dict[str, Any] = {"activations": [], "activation_alpha": [], "activation_beta": []}
    for functions in layer._functions()[: 1 + layer.bidirectional]:
        for name, *numbers in map(activations.call, functions):
            own, *takes = ACTIVATIONS.get(name, (None,))
            if own is None or (name == "elu" and numbers[1] != 1):  # which is SELU
                raise ArgumentError(f"{layer!r} cannot be written as ONNX, whose recurrent nodes lack {name}")
            attributes["activations"].append(own)
            for parameter, number in zip(takes, numbers, strict=False):
                attributes[parameter].append(number)
    if layer.clip is not None:
        attributes["clip"] = layer.clip
    if layer.coupled:
        attributes["input_forget"] = 1
    if isinstance(layer, GRU):
        attributes["linear_before_reset"] = int(layer.reset_after)
    return {name: value for name, value in attributes.items() if value != []}


def _linear(graph: _Graph, layer: Any, x: str) -> str:
    weights = layer._weights_by_name()
    y = graph.node("MatMul", [x, graph.constant(weights["weight"].T)])
    return graph.node("Add", [y, graph.constant(weights["bias"])]) if layer.bias else y


def _embedding(graph: _Graph, layer: Any, x: str) -> str:
    return graph.node("Gather", [graph.constant(layer._weights_by_name()["weight"]), x])


def _softmax(graph: _Graph, layer: Any, x: str) -> str:
    return graph.node("Softmax", [x], axis=layer.dim)


def _last(graph: _Graph, layer: Any, x: str) -> str:
    if not graph.lengths:
        return graph.node("Gather", [x, graph.constant(np.int64(-1))], axis=int(graph.batch_first))
    if not graph.batch_first:
        x = graph.node("Transpose", [x], perm=[1, 0, 2])
    lengths = graph.node("Unsqueeze", [graph.lengths, graph.constant([1])])
    some = graph.node("Greater", [lengths, graph.constant(np.int32(0))])
    before = graph.node("Sub", [lengths, graph.constant(np.int32(1))])
    index = graph.node("Max", [graph.node("Cast", [before], to=TensorProto.INT64), graph.constant([0])])
    y = graph.node("GatherND", [x, index], batch_dims=1)
    return graph.node("Where", [some, y, graph.constant(np.zeros((), graph.dtype))])


WRITERS: dict[type[Layer], Callable[[_Graph, Any, str], str]] = {
    Recurrent: _recurrent,
    Linear: _linear,
    Embedding: _embedding,
    Softmax: _softmax,
    Last: _last,
}
