"""Build the graph of a layer or a Sequential: one function for each kind of layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..core import activations
from ..core.arrays import Array
from ..errors import ArgumentError
from ..layers.activation import Activation, Dropout, Softmax
from ..layers.base import Layer
from ..layers.base_model import BaseModel
from ..layers.conv import Convolution, MaxPool, Pooling, Spatial
from ..layers.linear import Embedding, Linear
from ..layers.norm import BatchNorm, BatchNorm2d, GroupNorm, LayerNorm, Normalization
from ..layers.recurrence import Inputs, Recurrence
from ..layers.recurrent import Recurrent
from ..layers.sequential import Last, Sequential
from ..layers.stateful import Stateful
from .activation_names import OPERATORS, by_function
from .graph import Graph, Input
from .over_time.named_carries import from_zeros
from .plan.planner import Planner
from .recurrences import Equations, equations_of
from .simplification.simplify import simplify
from .writer import Recorder

OPERATION_OF = by_function(OPERATORS)


def planner_of(model: BaseModel, with_state: bool, lengths: bool = False) -> Planner:
    """Return the planner of a layer or a Sequential, whose graph takes and returns states if `with_state`."""
    graph = graph_of(model.frozen(), lengths, is_layer=True)
    return Planner(simplify(graph if with_state else from_zeros(graph)))


def recorded_recurrence(layer: Recurrence, inputs: Inputs) -> tuple[Sequence[Array], dict[str, Array]]:
    """Return the results of a layer, and its gates and states (T, B, ...), 0 past the length of a row."""
    recorded = dict[str, str]()
    graph = graph_of(layer, inputs.lengths is not None, recorded)
    graph.outputs = (*graph.outputs, *recorded.values())
    results = Planner(simplify(graph))(*inputs.arrays())
    count = 1 + len(layer.state_names)
    shown = dict(zip(recorded, results[count:], strict=True))
    if inputs.lengths is not None:
        for name, array in shown.items():
            valid = np.arange(len(array))[:, None] < inputs.lengths
            shown[name] = np.where(valid.reshape(*valid.shape, *[1] * (array.ndim - 2)), array, 0)
    return results[:count], shown


def graph_of(
    model: BaseModel, lengths: bool = False, recorded: dict[str, str] | None = None, is_layer: bool = False
) -> Graph:
    """Return the graph of a layer or a Sequential, from the input `x` to the output `y`.

    With `lengths`, it has an int32 input `lengths` (B,). Each recurrent layer adds its initial state to the
    inputs (h0, c0) and its final state to the outputs (h_n, c_n); if there are several, the names start with
    the layer's: `2.h0`. `recorded` takes the values of a `Recurrence` that traces show, by name. If
    `is_layer`, indices below 0 are out of range, as in layers; otherwise they count from the end. Raises
    ArgumentError for a layer of another kind, and for one whose call is not that of Onward's class.
    """
    layers = list(model) if isinstance(model, Sequential) else [model]
    states = len(model.recurrent_sublayers())
    builder = _Builder(layers, model, lengths, recorded, is_layer)
    y = "x"
    for index, layer in enumerate(layers):
        kind = next((kind for kind in KINDS if isinstance(layer, kind)), None)
        if kind is None or not calls_as_its_class(layer):
            raise ArgumentError(f"layer {index}, {layer!r}, {layer.without_graph}")
        builder.label = str(index), ""
        builder.prefix = f"{index}." if states > 1 else ""
        y = KINDS[kind](builder, layer, y)
    builder.outputs[0] = y
    builder.graph.outputs, builder.graph.of_layers = tuple(builder.outputs), True
    builder.graph.declared_outputs = tuple(builder.declared)
    return builder.graph


def calls_as_its_class(layer: BaseModel) -> bool:
    """Whether a layer computes what its class of Onward does: a subclass may do something else."""
    package = Layer.__module__.rpartition(".")[0]
    kind = next(each for each in type(layer).__mro__ if each.__module__.startswith(package))
    return all(getattr(type(layer), name) is getattr(kind, name) for name in ("__call__", "run", "sublayers"))


class _Builder(Recorder):
    """A graph under construction: its layers, their names, and the outputs."""

    prefix = ""  # before the names of the states

    def __init__(
        self,
        layers: list[BaseModel],
        model: BaseModel,
        lengths: bool,
        recorded: dict[str, str] | None,
        is_layer: bool,
    ) -> None:
        super().__init__(Graph())
        self.recorded, self.is_layer = recorded, is_layer
        self.dtype, self.batch_first = model.dtype, model.batch_first
        axes = _input_axes(layers, model.batch_first)
        takes_indices = any(isinstance(layer, Embedding) for layer in layers)
        self.graph.add_input("x", np.int64 if takes_indices else self.dtype, axes)
        self.lengths = self.graph.add_input("lengths", np.int32, ("batch",)) if lengths else ""
        self.outputs = [""]
        self.declared = [Input("y", self.dtype)]  # its axes follow from those of x

    def constant(self, value: ArrayLike) -> str:
        """Add an array, converted to the model's dtype if it contains floats, and return its name."""
        array = np.asarray(value)
        return self.graph.add_constant(
            array.astype(self.dtype, copy=False) if array.dtype.kind == "f" else array
        )


def _input_axes(layers: list[BaseModel], batch_first: bool) -> tuple[int | str, ...]:
    """The axes of the input x, from the first layer that determines them."""
    axes: tuple[int | str, ...] = ("batch", "time") if batch_first else ("time", "batch")
    for layer in layers:
        if layer.step_shape is not None:
            return (*axes, *layer.step_shape)
        match layer:
            case LayerNorm():
                return (*axes, *layer.normalized_shape)
            case Spatial() | BatchNorm() | GroupNorm():
                names = ("in_channels", "num_features", "num_channels")  # pooling keeps the channels
                found = (getattr(each, n) for each in layers for n in names if hasattr(each, n))
                channels = next(found, "channels")
                two = getattr(layer, "axes", 1) == 2 or isinstance(layer, BatchNorm2d)
                return ("batch", channels, *(("height", "width") if two else ("length",)))
    return (*axes, "features")


def _over_time(b: _Builder, layer: Any, x: str) -> str:
    """Add a layer with a state, over (T, B, I)."""
    initial = []
    for part, (first, _, *row) in zip(layer.state_names, layer.state_shapes(1), strict=True):
        axes = (first, "batch", *row)
        initial.append(b.graph.add_input(f"{b.prefix}{part}0", b.dtype, axes))
        b.declared.append(Input(f"{b.prefix}{part}_n", b.dtype, axes))
    if b.batch_first:
        x = b.add("Transpose", x, perm=[1, 0, 2])
    y, final = (_recurrent if isinstance(layer, Recurrent) else _recurrence)(b, layer, x, initial)
    b.outputs += final
    return b.add("Transpose", y, perm=[1, 0, 2]) if b.batch_first else y


def _recurrent(b: _Builder, layer: Any, x: str, initial: Sequence[str]) -> tuple[str, Sequence[str]]:
    outputs = ("", *(f"{b.prefix}{part}_n" for part in layer.state_names))
    inputs = (x, b.lengths, *initial)
    y, *final = b.graph.add_all("Recurrent", inputs, outputs, name=b.label[0], cell=layer.cell)
    return y, final


def _recurrence(b: _Builder, layer: Any, x: str, initial: Sequence[str]) -> tuple[str, Sequence[str]]:
    is_traced = b.recorded is not None
    equations = Equations(b.graph, layer, b.label[0], b.prefix, b.lengths, initial, is_traced)
    y = equations.masked(equations_of(layer)(equations, layer, equations.value(x))).name
    if b.recorded is not None:
        b.recorded |= equations.recorded
    return y, equations.final


def _linear(b: _Builder, layer: Any, x: str) -> str:
    weights = layer.weights_by_name()
    bias = [b.constant(weights["bias"])] if layer.bias else []
    if layer.precision:
        return b.add("QuantizedMatMul", x, *_quantized(b, weights), *bias)
    return b.add("MatMul", x, b.constant(weights["weight"].T), *bias)


def _quantized(b: _Builder, weights: dict[str, Array]) -> tuple[str, str]:
    """Add a quantized matrix and its scales; return their names, "" without scales."""
    scale = weights.get("weight_scale")
    return b.graph.add_constant(weights["weight"]), "" if scale is None else b.constant(scale)


def _embedding(b: _Builder, layer: Any, x: str) -> str:
    weights = layer.weights_by_name()
    if b.is_layer:
        end = b.constant(np.int64(layer.num_embeddings))
        x = b.add("Where", b.add("Less", x, b.constant(np.int64(0))), end, x)
    y = b.add("Gather", b.graph.add_constant(weights["weight"]), x)
    if not layer.precision:
        return y
    y = b.add("Cast", y, to=np.dtype(b.dtype))
    if "weight_scale" not in weights:
        return y
    return b.add("Mul", y, b.add("Gather", b.constant(weights["weight_scale"][:, None]), x))


def _last(b: _Builder, layer: Any, x: str) -> str:
    if not b.lengths:
        return b.add("Gather", x, b.constant(np.int64(-1)), axis=int(b.batch_first))
    if not b.batch_first:
        x = b.add("Transpose", x, perm=[1, 0, 2])
    return b.add("LastStep", x, b.lengths)


def _activation(b: _Builder, layer: Any, x: str) -> str:
    name, *numbers = activations.call(layer.spec)
    if layer.spec == "linear":
        return x
    if (name, *numbers) == activations.call("selu"):  # the operator's own numbers are float32
        exact = {"alpha": numbers[0], "gamma": numbers[1]} if b.dtype == np.float64 else {}
        return b.add("Selu", x, **exact)
    if name == "relu6":
        return b.add("Clip", x, b.constant(0.0), b.constant(6.0))
    operation = OPERATION_OF[name]
    return b.add(operation, x, **dict(zip(OPERATORS[operation].parameters, numbers, strict=False)))


def _convolution(b: _Builder, layer: Any, x: str) -> str:
    weights = layer.weights_by_name()
    matrix = _quantized(b, weights) if layer.precision else (b.constant(weights["weight"]),)
    bias = [b.constant(weights["bias"])] if layer.bias else []
    return b.add(
        "QuantizedConv" if layer.precision else "Conv",
        x,
        *matrix,
        *bias,
        group=layer.groups,
        **layer.window,
    )


def _pooling(b: _Builder, layer: Any, x: str) -> str:
    return b.add("MaxPool" if isinstance(layer, MaxPool) else "AveragePool", x, **layer.window)


def _norm(b: _Builder, layer: Any, x: str) -> str:
    options: dict[str, Any] = {"epsilon": layer.eps}
    match layer:
        case LayerNorm():
            shape = layer.normalized_shape
            operation, options["axis"] = "LayerNormalization", -len(shape)
        case GroupNorm():
            shape = (layer.num_channels,)
            operation, options["num_groups"] = "GroupNormalization", layer.num_groups
        case _:
            operation, shape = "BatchNormalization", (layer.num_features,)
    weights = {"weight": np.ones(shape), "bias": np.zeros(shape)} | layer.weights_by_name()
    names = ("weight", "bias", "running_mean", "running_var")
    return b.add(operation, x, *(b.constant(weights[name]) for name in names if name in weights), **options)


KINDS: dict[type[Layer], Callable[[_Builder, Any, str], str]] = {
    Stateful: _over_time,
    Linear: _linear,
    Embedding: _embedding,
    Activation: _activation,
    Softmax: lambda b, layer, x: b.add("Softmax", x, axis=layer.dim),
    Dropout: lambda b, layer, x: x,  # it has no effect at inference
    Last: _last,
    Convolution: _convolution,
    Pooling: _pooling,
    Normalization: _norm,
}
