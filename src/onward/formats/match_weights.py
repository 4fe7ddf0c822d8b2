"""Tensors of a file under the names of a model built by hand, where the file has others."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from ..core.arrays import Shape
from ..layers.base import Layer


def weights(tensors: Mapping[str, NDArray[Any]], model: Layer, ordered: bool) -> Mapping[str, NDArray[Any]]:
    """The tensors by the names that they have in the model, or as they are where those cannot be told.

    Names that agree are taken as they are; else, if the modules in the file have the same weights as the
    layers of the model, in order, each is taken for each. Where a file has no order, each must be the only
    one of its shapes.
    """
    shapes = dict(model.shapes())
    mine, theirs = _by_prefix(shapes), _by_prefix({name: tensor.shape for name, tensor in tensors.items()})
    if not ordered:
        of_shapes = {group: prefix for prefix, group in theirs.items()}
        clear = len(of_shapes) == len(theirs) == len(mine)
        theirs = {of_shapes[group]: group for group in mine.values() if clear and group in of_shapes}
    if tensors.keys() == shapes.keys() or list(mine.values()) != list(theirs.values()):
        return tensors
    return {
        own + name: tensors[other + name]
        for (own, group), other in zip(mine.items(), theirs, strict=True)
        for name, _ in group
    }


def _by_prefix(shapes: Mapping[str, Shape]) -> dict[str, tuple[tuple[str, Shape], ...]]:
    """What each module has: names and shapes, sorted."""
    groups: dict[str, list[tuple[str, Shape]]] = {}
    for name, shape in shapes.items():
        before, dot, last = name.rpartition(".")
        groups.setdefault(before + dot, []).append((last, shape))
    return {prefix: tuple(sorted(group)) for prefix, group in groups.items()}
