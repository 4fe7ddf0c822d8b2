"""Rebuild the models that Onward saved from the descriptions in their files."""

import inspect
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from .. import layers
from ..core import budget
from ..core.cell import Cell
from ..core.quantize import PRECISIONS
from ..errors import ArgumentError
from ..layers.base import NO_WEIGHTS, Layer
from ..layers.quantize import Quantizable
from ..layers.recurrent import Recurrent

LAYERS: dict[str, type[Layer]] = {
    name: getattr(layers, name) for name in layers.__all__ if name != "Sequential"
}


def restore(description: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Layer:
    """Build the model of a `Layer.description` and fill it with the tensors of its file.

    Raises ArgumentError, before it allocates any weights, if names, shapes or dtypes disagree.
    """
    if description.get("type") == "Sequential" and isinstance(description.get("layers"), list):
        model: Layer = layers.Sequential(*map(_build, description["layers"]))
    else:
        model = _build(description)
    # a hostile description may claim any number of tensors: stop at the first that is missing
    for name, shape, dtype in model.stored_weights():
        if name not in tensors:
            raise ArgumentError(f"{name} is missing; expected shape {shape}")
        if tensors[name].dtype != dtype:
            raise ArgumentError(f"{name} has dtype {tensors[name].dtype}; expected {dtype}")
    model.load_state_dict(tensors)
    return model


def cell(description: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Cell:
    """Return the cell of the description of a recurrent layer with these weights.

    Raises ArgumentError, as `restore` does, and unless time is the first axis of the layer.
    """
    layer = restore(description, tensors)
    if not isinstance(layer, Recurrent) or layer.batch_first:
        raise ArgumentError(f"a node runs {layer!r}; expected a recurrent layer with the time axis first")
    return layer.cell


def _build(description: Any) -> Layer:
    """The described layer, without weights."""
    config = dict(description) if isinstance(description, dict) else {}
    layer_type = _layer_type(config.pop("type", None))
    config = {name: _argument(value) for name, value in config.items()}
    precision = config.pop("precision", None) if issubclass(layer_type, Quantizable) else None
    if precision not in (None, *PRECISIONS):
        raise ArgumentError(f"the precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    if type(layer_count := config.get("num_layers")) is int:
        budget.spend(100 * budget.STEP * layer_count)
    if "rng" in inspect.signature(layer_type).parameters:
        config["rng"] = NO_WEIGHTS
    layer = layer_type(**config)
    return layer.compressed(precision) if isinstance(layer, Quantizable) and precision else layer


def _layer_type(name: Any) -> type[Layer]:
    """The class of a layer by the name that its description has for it. Raises ArgumentError."""
    if isinstance(name, str) and name.startswith("keras."):
        raise ArgumentError(
            "the file holds a Keras model as Onward 0.1 saved it: load the Keras file and save it again"
        )
    if not isinstance(name, str) or name not in LAYERS:
        raise ArgumentError(
            f"the file describes a layer of type {name!r}; expected one of {', '.join(LAYERS)}"
        )
    return LAYERS[name]


def _argument(value: Any) -> Any:
    """The value of a layer's argument; descriptions of layers in it become layers."""
    if isinstance(value, list):
        return [_argument(item) for item in value]
    if isinstance(value, dict):
        return _build(value) if "type" in value else {name: _argument(item) for name, item in value.items()}
    return value
