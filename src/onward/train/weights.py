"""The trainable weights, each listed once: a layer that a model uses several times has several names."""

import copy
from collections.abc import Mapping
from typing import TypeAlias

from ..core.arrays import Array
from ..layers.base import Layer

Weights: TypeAlias = dict[str, Array]


def trained(model: Layer) -> Weights:
    """Return every weight of the model once, under its first name."""
    weights = model._weights_by_name()
    return {name: weights[name] for name, first in _first_names(model).items() if name == first}


def summed(model: Layer, gradients: Mapping[str, Array]) -> Weights:
    """Return the gradient of each weight of `trained`, summed over all uses of its layer."""
    first_names = _first_names(model)
    sums: Weights = {}
    for name, gradient in gradients.items():
        first = first_names[name]
        sums[first] = sums[first] + gradient if first in sums else gradient
    return sums


def _first_names(model: Layer) -> dict[str, str]:
    """Map every name of a weight to its first name."""
    prefixes: dict[int, str] = {}
    names: dict[str, str] = {}
    for prefix, leaf in model.sublayers().items():
        first = prefixes.setdefault(id(leaf), prefix)
        names |= {prefix + name: first + name for name in leaf._weights_by_name()}
    return names


def replaced(model: Layer, weights: Weights) -> Layer:
    """Return a copy of the model with the given weights replaced; the other weights are shared."""
    shared = {id(weight): weight for weight in model._weights_by_name().values()}
    other = copy.deepcopy(model, shared)
    other._take(weights)
    return other
