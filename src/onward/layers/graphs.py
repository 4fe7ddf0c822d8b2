"""Build the graph of a layer or a Sequential from the nodes that each layer adds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..core.arrays import Array
from ..errors import ArgumentError
from ..graph.graph import Graph, Input
from ..graph.over_time.named_carries import from_zeros
from ..graph.plan.planner import Planner
from ..graph.simplification.simplify import simplify
from ..graph.writer import Recorder
from .base_model import BaseModel
from .conv import Spatial
from .linear import Embedding
from .norm import BatchNorm, BatchNorm2d, GroupNorm, LayerNorm


def planner_of(model: BaseModel, with_state: bool, lengths: bool = False) -> Planner:
    """Return the planner of a layer or a Sequential, whose graph takes and returns states if `with_state`."""
    graph = graph_of(model.frozen(), lengths, is_layer=True)
    return Planner(simplify(graph if with_state else from_zeros(graph)))


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
    if not calls_as_its_class(model):
        raise ArgumentError(f"{model!r} {model.without_graph}")
    layers = list(model.sublayers().values())
    states = len(model.recurrent_sublayers())
    builder = GraphBuilder(layers, model, lengths, recorded, is_layer)
    y = "x"
    for index, layer in enumerate(layers):
        if not calls_as_its_class(layer):
            raise ArgumentError(f"layer {index}, {layer!r}, {layer.without_graph}")
        builder.label = str(index), ""
        builder.prefix = f"{index}." if states > 1 else ""
        y = layer.add_nodes(builder, y)
    builder.outputs[0] = y
    builder.graph.outputs, builder.graph.of_layers = tuple(builder.outputs), True
    builder.graph.declared_outputs = tuple(builder.declared)
    return builder.graph


def calls_as_its_class(layer: BaseModel) -> bool:
    """Whether a layer computes what its class of Onward does: a subclass may do something else."""
    kind = next(each for each in type(layer).__mro__ if each.__module__.startswith(str(__package__)))
    return all(getattr(type(layer), name) is getattr(kind, name) for name in ("__call__", "run", "sublayers"))


class GraphBuilder(Recorder):
    """A graph under construction, to which layers add their nodes: their names, and the outputs."""

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

    def constant(self, value: ArrayLike, name: str = "") -> str:
        """Add an array, converted to the model's dtype if it contains floats, and return its name."""
        array = np.asarray(value)
        array = array.astype(self.dtype, copy=False) if array.dtype.kind == "f" else array
        return self.graph.add_constant(array, name)

    def state(self, name: str, axes: tuple[int | str, ...]) -> str:
        """Declare an output for the end of a state; return the name of the input for its start."""
        self.declared.append(Input(f"{self.prefix}{name}_n", self.dtype, axes))
        return self.graph.add_input(f"{self.prefix}{name}0", self.dtype, axes)

    def quantized(self, weights: dict[str, Array]) -> tuple[str, str]:
        """Add a quantized matrix and its scales; return their names, "" without scales."""
        scale = weights.get("weight_scale")
        return self.graph.add_constant(weights["weight"]), "" if scale is None else self.constant(scale)


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
