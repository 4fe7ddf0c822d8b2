"""Match the tensors of a file with the weights of a model whose layers have other names."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from ..core.arrays import Shape
from ..layers.base import Layer

Group = tuple[tuple[str, Shape], ...]  # the names and shapes of one layer's weights


def rename(tensors: Mapping[str, NDArray[Any]], model: Layer, ordered: bool) -> Mapping[str, NDArray[Any]]:
    """The tensors under the model's names, or unchanged if they cannot be matched.

    If the names differ, the modules of the file are matched with the layers of the model: in order if the
    file has an order, provided that each pair has the same weights; otherwise by their shapes, provided that
    these are unique.
    """
    shapes = dict(model.shapes())
    ours, theirs = _by_prefix(shapes), _by_prefix({name: tensor.shape for name, tensor in tensors.items()})
    if not ordered:
        prefixes = {group: prefix for prefix, group in theirs.items()}
        unique = len(prefixes) == len(theirs) == len(ours)
        theirs = {prefixes[group]: group for group in ours.values() if unique and group in prefixes}
    if tensors.keys() == shapes.keys() or list(ours.values()) != list(theirs.values()):
        return tensors
    return {
        our_prefix + name: tensors[their_prefix + name]
        for (our_prefix, group), their_prefix in zip(ours.items(), theirs, strict=True)
        for name, _ in group
    }


def _by_prefix(shapes: Mapping[str, Shape]) -> dict[str, Group]:
    """The names and shapes of each module's weights, sorted."""
    groups: dict[str, list[tuple[str, Shape]]] = {}
    for name, shape in shapes.items():
        before, dot, last = name.rpartition(".")
        groups.setdefault(before + dot, []).append((last, shape))
    return {prefix: tuple(sorted(group)) for prefix, group in groups.items()}
