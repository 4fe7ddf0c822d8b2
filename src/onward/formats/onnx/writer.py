"""Write Onward's layers as nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...core import activations
from ...core.arrays import Shape
from ...core.gates import reorder
from ...errors import ArgumentError
from ...graph.activation_names import OPERATORS, RECURRENT, by_function
from ...layers.activation import Activation, Softmax
from ...layers.base import Layer
from ...layers.conv import Convolution
from ...layers.dropout import Dropout
from ...layers.embedding import Embedding
from ...layers.last import Last
from ...layers.linear import Linear
from ...layers.norm import BatchNorm, BatchNorm2d, GroupNorm, LayerNorm
from ...layers.pooling import MaxPool, Pooling
from ...layers.recurrent import Recurrent
from ...layers.rnn import GRU
from ...layers.sequential import Sequential
from ...layers.summary import output_shape
from ...layers.windows import Spatial
from . import build, function_protos
from .messages import DataType, Graph, Model, Node, OperatorSetId, Tensor, ValueInfo

OPSET = 14  # the first opset with the current recurrent operators
# the opsets of newer operators
SINCE = {"LayerNormalization": 17, "Mish": 18, "Gelu": 20, "GroupNormalization": 21}
IR_VERSION = 8  # the first version with functions; all runtimes support it
OPERATOR_OF, RECURRENT_NAME_OF = by_function(OPERATORS), by_function(RECURRENT)


Axes = Sequence[int | str | None]


def model_of(model: Layer, lengths: bool) -> Model:
    """Build the graph of a layer or a Sequential. Raises ArgumentError."""
    layers = list(model) if isinstance(model, Sequential) else [model]
    states = len(model.recurrent_sublayers())
    graph = _Graph(layers, model, lengths)
    y = "x"
    for index, layer in enumerate(layers):
        kind = next((kind for kind in WRITERS if isinstance(layer, kind)), None)
        if kind is None:
            raise ArgumentError(f"layer {index}, {layer!r}, cannot be exported as ONNX")
        graph.prefix = f"{index}." if states > 1 else ""
        y = WRITERS[kind](graph, layer, y)
    graph.node("Identity", [y], "y")
    return graph.finished()


class _Graph:
    """The nodes, constants, inputs and outputs of a graph under construction."""

    prefix = ""  # of the states' names

    def __init__(self, layers: list[Layer], model: Layer, lengths: bool) -> None:
        self.dtype = model.dtype
        self.kind = build.DATA_TYPES[str(model.dtype)]
        self.batch_first = model.batch_first
        self.lengths = "lengths" if lengths else ""
        self.nodes: list[Node] = []
        self.constants: list[Tensor] = []
        self.functions: list[str] = []
        axes = self._input_axes(layers)
        takes_indices = any(isinstance(layer, Embedding) for layer in layers)
        self.inputs = [build.value_info("x", DataType.INT64 if takes_indices else self.kind, axes)]
        if lengths:
            self.inputs.append(build.value_info("lengths", DataType.INT32, ["batch"]))
        self.outputs = [self.value("y", _output_axes(layers, axes))]

    def _input_axes(self, layers: list[Layer]) -> list[int | str]:
        """The axes of the input x, from the first layer that determines them."""
        axes: list[int | str] = ["batch", "time"] if self.batch_first else ["time", "batch"]
        for layer in layers:
            match layer:
                case Embedding():
                    return axes
                case Recurrent() | Linear():
                    return [*axes, *(layer.step_shape or ())]
                case LayerNorm():
                    return [*axes, *layer.normalized_shape]
                case Spatial() | BatchNorm() | GroupNorm():
                    names = ("in_channels", "num_features", "num_channels")
                    channels = next((getattr(layer, n) for n in names if hasattr(layer, n)), "channels")
                    two = getattr(layer, "axes", 1) == 2 or isinstance(layer, BatchNorm2d)
                    return ["batch", channels, *(["height", "width"] if two else ["length"])]
        return [*axes, "features"]

    def value(self, name: str, axes: Axes | None) -> ValueInfo:
        """The declaration of a value of the model's dtype."""
        return build.value_info(name, self.kind, axes)

    def node(self, op: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        """Add a node and return its first output, which has the node's name unless outputs are named."""
        name = f"{len(self.nodes)}_{op}"
        self.nodes.append(build.node(op, inputs, outputs or (name,), name=name, **attributes))
        return (outputs or (name,))[0]

    def call(self, name: str, inputs: Sequence[str], *outputs: str) -> str:
        """Add a node that calls one of Onward's functions."""
        if name not in self.functions:
            self.functions.append(name)
        return self.node(name, inputs, *outputs, domain=function_protos.DOMAIN)

    def constant(self, value: ArrayLike) -> str:
        """Add an array, converted to the model's dtype if it contains floats, and return its name."""
        name, array = f"constant_{len(self.constants)}", np.array(value, order="C")
        if array.dtype.kind == "f":
            array = array.astype(self.dtype)
        self.constants.append(build.tensor(array, name))
        return name

    def finished(self) -> Model:
        opset = max(SINCE.get(node.op_type, OPSET) for node in self.nodes)
        opsets = [OperatorSetId(domain="", version=opset)]
        if self.functions:
            opsets.append(OperatorSetId(domain=function_protos.DOMAIN, version=function_protos.VERSION))
        return Model(
            ir_version=IR_VERSION,
            opset_import=opsets,
            producer_name="onward",
            graph=Graph(
                name="onward",
                node=self.nodes,
                input=self.inputs,
                output=self.outputs,
                initializer=self.constants,
            ),
            functions=[function_protos.function(name, str(self.dtype), opset) for name in self.functions],
        )


def _output_axes(layers: list[Layer], axes: Sequence[int | str]) -> Axes | None:
    """The axes of the output y, or None if they are unknown."""
    names: dict[int | str, int | str] = {"B": "batch", "T": "time"}
    shape: tuple[int | str, ...] | None = tuple(axes)
    for layer in layers:
        shape = output_shape(layer, shape)
        if shape is not None:
            sizes = [names.get(size, size) for size in shape]
            shape = tuple(sizes[:2] + ["?"] * len(sizes[2:]) if isinstance(layer, Spatial) else sizes)
    return None if shape is None else [None if size == "?" else size for size in shape]


def _recurrent(graph: _Graph, layer: Any, x: str) -> str:
    if layer.precision == "int8":
        raise ArgumentError(
            f"{layer!r} cannot be exported as ONNX: export the layer that it was quantized from"
        )
    level_of = _projected if layer.proj_size else _level
    D, P = 1 + layer.bidirectional, layer.proj_size or layer.hidden_size
    if graph.batch_first:
        x = graph.node("Transpose", [x], perm=[1, 0, 2])
    initial, final = _states(graph, layer)
    for level in range(layer.num_layers):
        suffixes = [f"_l{level}", f"_l{level}_reverse"][:D]
        states = [each[level] for each in initial], [each[level] for each in final]
        y = level_of(graph, layer, x, suffixes, *states)
        last = level == layer.num_layers - 1
        # (T, D, B, P) to (T, B, D*P), or batch first for the last output of a batch-first layer
        y = graph.node("Transpose", [y], perm=[2, 0, 1, 3] if last and graph.batch_first else [0, 2, 1, 3])
        x = graph.node("Reshape", [y, graph.constant([0, 0, D * P])])
    for name, parts in zip(("h_n", "c_n"), final, strict=False):
        graph.node("Concat", parts, graph.prefix + name, axis=0)
    return x


def _level(
    graph: _Graph, layer: Any, x: str, suffixes: list[str], initial: list[str], final: list[str]
) -> str:
    """Add the node of one layer with all its directions, from x (T, B, I) to Y (T, D, B, H).

    For rows of no steps, runtimes return zeros as the final state; final_state restores the initial one.
    """
    inputs = [x, *_weights(graph, layer, suffixes), graph.lengths, *initial]
    if layer.peephole:
        inputs.append(_peephole(graph, layer, suffixes))
    states = [f"{name}_node" for name in final] if graph.lengths else final
    y = graph.node(
        type(layer).__name__,
        inputs,
        f"{x}_Y",
        *states,
        hidden_size=layer.hidden_size,
        direction="bidirectional" if layer.bidirectional else "forward",
        **_attributes(layer),
    )
    if graph.lengths:
        for state, before, after in zip(states, initial, final, strict=True):
            graph.call("final_state", [state, before, graph.lengths], after)
    return y


def _projected(
    graph: _Graph, layer: Any, x: str, suffixes: list[str], initial: list[str], final: list[str]
) -> str:
    """Like _level, for an LSTM with projection, which is one function call per direction."""
    if not layer.is_plain():
        raise ArgumentError(f"{layer!r} cannot be exported as ONNX with proj_size and further options")
    ways = ["lstm", "lstm_reverse"][: len(suffixes)]
    own = [[f"{name}_{way}" for way in ways] for name in (*initial, *final)]
    each = graph.constant(np.ones(len(ways), np.int64))
    for name, parts in zip(initial, own, strict=False):
        graph.node("Split", [name, each], *parts, axis=0)
    weights, H, steps = layer._weights_by_name(), layer.hidden_size, graph.lengths or graph.call("steps", [x])
    ys = []
    for way, suffix, h0, c0, h_n, c_n in zip(ways, suffixes, *own, strict=True):
        inputs = [
            # a matrix (I, H) per gate; (1, H) for biases
            graph.constant(weights.get(name + suffix, np.zeros(4 * H)).reshape(4, H, -1).swapaxes(1, 2))
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        inputs.append(graph.constant(weights["weight_hr" + suffix].T))
        ys.append(graph.call(way, [x, *inputs, steps, h0, c0], f"{x}_{way}", h_n, c_n))
    for name, parts in zip(final, own[2:], strict=True):
        graph.node("Concat", parts, name, axis=0)
    return graph.node("Concat", ys, axis=1)


def _states(graph: _Graph, layer: Any) -> tuple[list[list[str]], list[list[str]]]:
    """The names of the initial and final states h, and c if there is one, of each layer."""
    L, D = layer.num_layers, 1 + layer.bidirectional
    units = {"h": layer.proj_size or layer.hidden_size, "c": layer.hidden_size}
    initial, final = [], []
    for part in layer.state_names:
        shape = [L * D, "batch", units[part]]
        whole, parts = f"{graph.prefix}{part}0", [f"{graph.prefix}{part}0_l{n}" for n in range(L)]
        graph.inputs.append(graph.value(whole, shape))
        graph.outputs.append(graph.value(f"{graph.prefix}{part}_n", shape))
        graph.node("Split", [whole, graph.constant(np.full(L, D, np.int64))], *parts, axis=0)
        initial.append(parts)
        final.append([f"{graph.prefix}{part}_n_l{n}" for n in range(L)])
    return initial, final


def _weights(graph: _Graph, layer: Any, suffixes: list[str]) -> list[str]:
    """W, R and B of one layer, for all directions."""
    weights, cell = layer._weights_by_name(), type(layer).__name__.lower()

    def stacked(*names: str) -> str:
        own = [[weights[name + suffix] for name in names] for suffix in suffixes]
        if cell != "rnn":
            own = [[reorder(weight, cell, "torch", "onnx") for weight in each] for each in own]
        return graph.constant([np.concatenate(each) for each in own])

    bias = stacked("bias_ih", "bias_hh") if layer.bias else ""
    return [stacked("weight_ih"), stacked("weight_hh"), bias]


def _peephole(graph: _Graph, layer: Any, suffixes: list[str]) -> str:
    """P of one layer, for all directions."""
    weights = layer._weights_by_name()
    own = [reorder(weights["weight_peephole" + suffix], "peephole", "torch", "onnx") for suffix in suffixes]
    return graph.constant(own)


def _attributes(layer: Any) -> dict[str, Any]:
    """The attributes of a node other than its sizes and direction."""
    attributes: dict[str, Any] = {"activations": [], "activation_alpha": [], "activation_beta": []}
    for functions in layer.functions()[: 1 + layer.bidirectional]:
        for name, *numbers in map(activations.call, functions):
            own = RECURRENT_NAME_OF.get(name)
            if own is None or (name == "elu" and numbers[1] != 1):  # SELU, which ONNX does not have here
                raise ArgumentError(
                    f"{layer!r} cannot be exported as ONNX: its recurrent operators do not have {name}"
                )
            attributes["activations"].append(own)
            for parameter, number in zip(RECURRENT[own].parameters, numbers, strict=False):
                attributes[f"activation_{parameter}"].append(number)
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
    return graph.call("last", [x, graph.lengths])


def _dropout(graph: _Graph, layer: Any, x: str) -> str:
    return x  # dropout has no effect at inference


def _activation(graph: _Graph, layer: Any, x: str) -> str:
    name, *numbers = activations.call(layer._spec)
    if (name, *numbers) == activations.call("linear"):
        return x
    if (name, *numbers) == activations.call("selu"):
        return graph.node("Selu", [x])
    if name == "relu6":
        return graph.node("Clip", [x, graph.constant(0.0), graph.constant(6.0)])
    if name in OPERATOR_OF:
        operator = OPERATOR_OF[name]
        return graph.node(operator, [x], **dict(zip(OPERATORS[operator].parameters, numbers, strict=False)))
    parameters = [graph.constant(number) for number in numbers] if name != "silu" else []
    return graph.call(name, [x, *parameters])


def _convolution(graph: _Graph, layer: Any, x: str) -> str:
    weights = layer._weights_by_name()
    kernel_size, stride, dilation = map(layer._sizes, (layer.kernel_size, layer.stride, layer.dilation))
    before, after = zip(*layer._sides(), strict=True)
    return graph.node(
        "Conv",
        [x, *(graph.constant(weights[name]) for name in ("weight", "bias") if name in weights)],
        kernel_shape=kernel_size,
        strides=stride,
        dilations=dilation,
        pads=before + after,
        group=layer.groups,
    )


def _pooling(graph: _Graph, layer: Any, x: str) -> str:
    options: dict[str, Any] = {"ceil_mode": int(layer.ceil_mode), "pads": layer._sizes(layer.padding) * 2}
    if isinstance(layer, MaxPool):
        operator, options["dilations"] = "MaxPool", layer._sizes(layer.dilation)
    else:
        operator, options["count_include_pad"] = "AveragePool", int(layer.count_include_pad)
    kernel_size, stride = map(layer._sizes, (layer.kernel_size, layer.stride))
    return graph.node(operator, [x], kernel_shape=kernel_size, strides=stride, **options)


def _batch_norm(graph: _Graph, layer: Any, x: str) -> str:
    weights = _affine(graph, layer, (layer.num_features,))
    statistics = [graph.constant(layer._weights_by_name()[f"running_{name}"]) for name in ("mean", "var")]
    return graph.node("BatchNormalization", [x, *weights, *statistics], epsilon=layer.eps)


def _layer_norm(graph: _Graph, layer: Any, x: str) -> str:
    shape = layer.normalized_shape
    inputs = [x, *_affine(graph, layer, shape)]
    return graph.node("LayerNormalization", inputs, epsilon=layer.eps, axis=-len(shape))


def _group_norm(graph: _Graph, layer: Any, x: str) -> str:
    inputs = [x, *_affine(graph, layer, (layer.num_channels,))]
    return graph.node("GroupNormalization", inputs, epsilon=layer.eps, num_groups=layer.num_groups)


def _affine(graph: _Graph, layer: Any, shape: Shape) -> list[str]:
    """A normalization's weight and bias; ones and zeros if it has none."""
    weights = {"weight": np.ones(shape), "bias": np.zeros(shape)} | layer._weights_by_name()
    return [graph.constant(weights[name]) for name in ("weight", "bias")]


WRITERS: dict[type[Layer], Callable[[_Graph, Any, str], str]] = {
    Recurrent: _recurrent,
    Linear: _linear,
    Embedding: _embedding,
    Activation: _activation,
    Softmax: _softmax,
    Dropout: _dropout,
    Last: _last,
    Convolution: _convolution,
    Pooling: _pooling,
    BatchNorm: _batch_norm,
    LayerNorm: _layer_norm,
    GroupNorm: _group_norm,
}
