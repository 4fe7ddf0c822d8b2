"""Keras' weights for a model built by hand: each layer takes the arrays of its counterpart in Keras."""

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ...core.arrays import Shape
from ...errors import FileError
from ...layers.base import Layer
from ...layers.conv import Convolution
from ...layers.linear import Embedding, Linear
from ...layers.norm import BatchNorm, GroupNorm, LayerNorm
from ...layers.rnn import GRU, LSTM, RNN
from .hdf5 import Dataset, Group
from .stored_weights import GATES, Tensor, arrays, cell_weights, conv_weight, joined, layer_names, listed

SIDES = ("forward_layer", "backward_layer")  # the directions of a Bidirectional
CELLS: dict[type[Layer], str] = {RNN: "rnn", LSTM: "lstm", GRU: "gru"}
KERNEL = {"weight": "kernel", "bias": "bias"}
SCALE = {"weight": "gamma", "bias": "beta"}
# For other layers: a part of the name of Keras' class, and Keras' names of the weights in Keras' order.
PLAIN: dict[type[Layer], tuple[str, dict[str, str]]] = {
    Linear: ("dense", KERNEL),
    Embedding: ("embedding", {"weight": "embeddings"}),
    Convolution: ("conv", KERNEL),
    BatchNorm: ("norm", SCALE | {"running_mean": "moving_mean", "running_var": "moving_variance"}),
    LayerNorm: ("norm", SCALE),
    GroupNorm: ("norm", SCALE),
}


Shapes: TypeAlias = dict[str, tuple[Shape, ...]]  # those that each array may have, by Keras' names


class Need(NamedTuple):
    """The arrays that Keras keeps together for a layer or one direction of it, and what becomes of them."""

    kind: str  # the cell, or what the names of Keras' classes hold
    side: str  # the direction in a Bidirectional; else ""
    arrays: Shapes
    weights: Callable[[list[Tensor]], dict[str, Tensor]]

    def fits(self, shapes: list[Shape]) -> bool:
        """Whether arrays of these shapes can be those."""
        allowed = self.arrays.values()
        return len(shapes) == len(allowed) and all(map(operator.contains, allowed, shapes))

    def __str__(self) -> str:
        return ", ".join(f"{name} {' or '.join(map(str, shapes))}" for name, shapes in self.arrays.items())


def weights(root: Group, model: Layer, theano: bool) -> dict[str, Tensor]:
    """A file's arrays by the names of the model's weights. Raises FileError where file and model differ."""
    order: InOrder | ByClass = InOrder(root) if layer_names(root) is not None else ByClass(root)
    found: dict[str, Tensor] = {}
    for prefix, leaf in model.sublayers().items():
        for need in _needs(leaf, prefix, theano):
            try:
                own = need.weights(order.take(need))
            except FileError as error:
                raise FileError(f"{prefix.rstrip('.') or 'the model'}, {leaf!r}, {error}") from error
            found |= {prefix + name: weight for name, weight in own.items()}
    if left := order.left():
        raise FileError(f"the file has more weights than the model: {', '.join(left)}")
    return found


class InOrder:
    """Keras 1 and 2 list the layers in the model's order, and the arrays of each."""

    def __init__(self, root: Group) -> None:
        self._left = [entry for name in layer_names(root) or [] for entry in listed(root.group(name))]

    def take(self, need: Need) -> list[Tensor]:
        """The next arrays. Raises FileError if they do not fit."""
        count, gates = len(need.arrays), GATES.get(need.kind, 1)
        inputs, columns = next(iter(need.arrays.values()))[0][-2:] if gates > 1 else (0, 0)
        if gates > 1 and self._left and self._left[0][1].shape == (inputs, columns // gates):
            count *= gates  # Keras 1
        taken = self._left[:count]
        found = joined(need.kind, [dataset.read() for _, dataset in taken])
        # a nested model stores the averages of normalizations after all trained weights
        averages = [name.startswith("moving") for name in need.arrays]
        misplaced = len(taken) == len(averages) and averages != [
            re.search(r"(moving|running)_\w+(:0)?$", name) is not None for name, _ in taken
        ]
        if misplaced or not need.fits([array.shape for array in found]):
            given = ", ".join(f"{dataset.path} {dataset.shape}" for _, dataset in taken) or "nothing"
            raise FileError(f"takes {need}, but next in the file is {given}")
        del self._left[:count]
        return found

    def left(self) -> list[str]:
        return [dataset.path for _, dataset in self._left]


class ByClass:
    """Keras 3 names layers by their class and counts them, dense, dense_1: each class has its order."""

    def __init__(self, root: Group) -> None:
        self._left: dict[str, list[Dataset]] = defaultdict(list)
        for dataset in arrays(root):
            self._left[dataset.path.rpartition("/")[0]].append(dataset)

    def take(self, need: Need) -> list[Tensor]:
        """The next arrays that fit. Raises FileError if none do, or if it cannot tell which."""
        fitting = [
            path
            for path, datasets in self._left.items()
            if need.side == _side(path) and need.fits([dataset.shape for dataset in datasets])
        ]
        fitting = [path for path in fitting if need.kind in path] or fitting
        if not fitting:
            left = ", ".join(self.left())
            raise FileError(f"takes {need}, which the file does not contain; it still contains {left}")
        if len({re.sub(r"_\d+(?=/)", "", path) for path in fitting}) > 1:
            raise FileError(f"takes {need}: the file does not record the order of {', '.join(fitting)}")
        return [dataset.read() for dataset in self._left.pop(min(fitting, key=_place))]

    def left(self) -> list[str]:
        return [dataset.path for datasets in self._left.values() for dataset in datasets]


def _side(path: str) -> str:
    return next((side for side in SIDES if side in path), "")


def _place(path: str) -> list[int]:
    """Sorts dense before dense_1, and dense_9 before dense_10."""
    return [int(count or 0) for count in re.findall(r"(?:_(\d+))?/", path)]


def _needs(leaf: Layer, prefix: str, theano: bool) -> Iterator[Need]:
    """What a layer takes, in Keras' order. Raises FileError for weights that Keras' layers do not have."""
    if type(leaf) in CELLS:
        yield from _needs_of_cells(leaf, prefix)
        return
    shapes = dict(leaf.shapes())
    kind, names = next((each for base, each in PLAIN.items() if isinstance(leaf, base)), ("", {}))
    own = [name for name in names if name in shapes]
    if shapes.keys() - names - {"num_batches_tracked"}:
        raise FileError(f"{leaf!r} at {prefix} has weights that are not read from a file of Keras")
    shaped: Shapes = {names[name]: (shapes[name],) for name in own}
    if "kernel" in shaped:
        out, inputs, *size = shapes["weight"]
        shaped["kernel"] = ((*size, inputs, out),)

    def weights(found: list[Tensor]) -> dict[str, Tensor]:
        by_name = dict(zip(own, found, strict=True))
        if "kernel" in shaped:  # a Linear's is that of a convolution without sizes
            by_name["weight"] = conv_weight(by_name["weight"], theano)
        return by_name | ({"num_batches_tracked": np.zeros(())} if isinstance(leaf, BatchNorm) else {})

    if own:
        yield Need(kind, _side(prefix), shaped, weights)


def _needs_of_cells(leaf: Any, prefix: str) -> Iterator[Need]:
    """One for each layer and direction."""
    cell, shapes = CELLS[type(leaf)], dict(leaf.shapes())
    for name in [each for each in shapes if each.startswith("weight_ih")]:
        suffix, (rows, I) = name.removeprefix("weight_ih"), shapes[name]  # noqa: E741 (the axis letter)
        own: Shapes = {"kernel": ((I, rows),), "recurrent_kernel": ((rows // GATES[cell], rows),)}
        if leaf.bias:  # (2 rows,) is cuDNN's
            both = cell == "gru" and leaf.reset_after
            own["bias"] = ((2, rows) if both else (rows,), *([(2 * rows,)] if both or cell == "lstm" else []))
        ends = {f"{part}{suffix}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        if extra := {each for each in shapes if each.endswith(suffix)} - ends:
            raise FileError(
                f"{leaf!r} at {prefix} has {', '.join(sorted(extra))}, which Keras layers do not have"
            )
        side = SIDES[suffix.endswith("_reverse")] if leaf.bidirectional else _side(prefix)

        def weights(found: list[Tensor], suffix: str = suffix) -> dict[str, Tensor]:
            cells = cell_weights(cell, *found)
            return {name.replace("_l0", suffix): weight for name, weight in cells.items()}

        yield Need(cell, side, own, weights)
