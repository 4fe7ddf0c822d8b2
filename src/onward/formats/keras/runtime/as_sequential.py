"""A model of Keras whose layers follow one another, as a Sequential of layers in PyTorch's style."""

from collections.abc import Iterator
from typing import Any

from .... import layers
from ....errors import ArgumentError
from ....layers.base import NO_WEIGHTS, Layer
from ....layers.last import Last
from ....layers.sequential import Sequential
from .activation_layers import IN_CORE, Activation, Softmax
from .basic import Dense, Embedding, Identity
from .graph import Model
from .normalization import LayerNormalization
from .recurrent_layers import RNN, Bidirectional, TimeDistributed

# activations of PyTorch's kind too, and their parameters with Keras' defaults
PARAMETERS: dict[str, dict[str, float]] = {
    **{name: {} for name in (*IN_CORE, "relu", "gelu")},
    "leaky_relu": {"negative_slope": 0.2},
    "elu": {"alpha": 1.0},
}


def sequential(model: Model) -> Sequential:
    """The layers, batch first. Raises ArgumentError, which names the layer that cannot be converted."""
    return Sequential(*_layers_of(model))


def _layers_of(model: Model) -> Iterator[Layer]:
    ways = [*(node["inputs"] for node in model.nodes), model.outputs]
    for count, way in enumerate(ways):
        name = model.nodes[count]["layer"] if count < len(model.nodes) else ""
        layer = model.layers.get(name)
        if list(way) != [[count, 0]] or len(model.inputs) != 1:
            raise ArgumentError(f"{name or 'its output'} does not accept the output of the layer before it")
        if layer is None:
            return
        layers = None if model.nodes[count].get("options") else _as_layers(layer)
        if layers is None:
            raise ArgumentError(f"{name}, {layer!r}, has no equivalent among the layers of a Sequential")
        yield from layers


def _as_layers(layer: Layer) -> list[Layer] | None:
    """The equivalent of a Keras layer; None if there is none."""
    match layer:
        case Model():
            return list(sequential(layer))
        case Identity():
            return []
        case Embedding(mask_zero=False):
            return [layer.table]
        case Dense():
            activation = _as_layers(layer.activation)
            return None if activation is None else [layer.linear, *activation]
        case TimeDistributed(layer=Dense()):
            return _as_layers(layer.layer)
        case Activation():
            return _activation(layer.activation, dict(layer.parameters or {}))
        case Softmax(axis=-1):
            return [layers.Softmax()]
        case LayerNormalization(axes=[-1]):
            return [layer.norm]
        case RNN(go_backwards=False, time_major=False):
            return [*layer.cells, *([] if layer.return_sequences else [Last(batch_first=True)])]
        case Bidirectional(merge_mode="concat"):
            return _both(layer.forward_layer, layer.backward_layer)
    return None


def _activation(name: str, parameters: dict[str, Any]) -> list[Layer] | None:
    if name == "softmax" and parameters.get("axis", -1) == -1:
        return [layers.Softmax()]
    if name == "linear":
        return []
    if name not in PARAMETERS or not parameters.keys() <= PARAMETERS[name].keys():
        return None
    return [layers.Activation(name, *(PARAMETERS[name] | parameters).values())]


def _both(forward: RNN, backward: RNN) -> list[Layer] | None:
    """Two directions as one layer, where each is a cell and gives every step."""
    first: Any
    (first, *more), (second, *others) = forward.cells, backward.cells
    whole = forward.return_sequences and backward.return_sequences
    whole = whole and backward.go_backwards and not forward.go_backwards
    if more or others or not whole or forward.time_major or first.description() != second.description():
        return None
    layer = type(first)(**first.config() | {"bidirectional": True}, rng=NO_WEIGHTS)
    layer.load_state_dict(
        first.state_dict() | {f"{name}_reverse": w for name, w in second.state_dict().items()}
    )
    return [layer]
