"""The weights that are trained: each once, though a layer that is used several times has as many names."""

import copy
from collections.abc import Mapping
from typing import TypeAlias

from ..core.arrays import Array
from ..layers.base import Layer

Weights: TypeAlias = dict[str, Array]


def trained(model: Layer) -> Weights:
    """Each weight by the first of its names."""
    weights = model._weights_by_name()
    return {name: weights[name] for name, first in _first_names(model).items() if name == first}


def summed(model: Layer, gradients: Mapping[str, Array]) -> Weights:
    """The gradient by each weight of `trained`: the sum over the places where its layer is used."""
    first = _first_names(model)
    sums: Weights = {}
    for name, gradient in gradients.items():
        own = first[name]
        sums[own] = sums[own] + gradient if own in sums else gradient
    return sums


def _first_names(model: Layer) -> dict[str, str]:
    """Every name of a weight, and the first name of the same one."""
    prefixes: dict[int, str] = {}
    names: dict[str, str] = {}
    for prefix, leaf in model.sublayers().items():
        first = prefixes.setdefault(id(leaf), prefix)
        names |= {prefix + name: first + name for name in leaf._weights_by_name()}
    return names


def replaced(model: Layer, weights: Weights) -> Layer:
    """A model like this one, but with other weights for those named. This one stays as it is."""
    shared = {id(weight): weight for weight in model._weights_by_name().values()}
    other = copy.deepcopy(model, shared)
    other._take(weights)
    return other
