"""Keras' weights for a model built by hand: each layer takes the arrays of its counterpart in Keras."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ...core.arrays import Shape
from ...errors import FileError
from ...layers.base import Layer
from ...layers.base_model import BaseModel
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

    def fits(self, found: Sequence[Tensor | Dataset]) -> bool:
        """Whether arrays of these shapes can be those."""
        pairs = zip_longest(found, self.arrays.values())
        return all(array is not None and array.shape in (shapes or ()) for array, shapes in pairs)

    def __str__(self) -> str:
        return ", ".join(f"{name} {' or '.join(map(str, shapes))}" for name, shapes in self.arrays.items())


def weights(root: Group, model: BaseModel, theano: bool) -> dict[str, Tensor]:
    """A file's arrays by the names of the model's weights. Raises FileError where file and model differ."""
    names = layer_names(root)
    take = _take_fitting if names is None else _take_next
    left = [entry for name in names or [] for entry in listed(root.group(name))]
    left += [(dataset.path, dataset) for dataset in arrays(root)] if names is None else []
    found: dict[str, Tensor] = {}
    for prefix, leaf in model.sublayers().items():
        for need in _needs(leaf, prefix, theano):
            try:
                own = need.weights(take(left, need))
            except FileError as error:
                raise FileError(f"{prefix.rstrip('.') or 'the model'}, {leaf!r}, {error}") from error
            found |= {prefix + name: weight for name, weight in own.items()}
    if left:
        paths = ", ".join(dataset.path for _, dataset in left)
        raise FileError(f"the file has more weights than the model: {paths}")
    return found


def _take_next(left: list[tuple[str, Dataset]], need: Need) -> list[Tensor]:
    """Remove the next arrays: Keras 1 and 2 list them in the model's order. Raises FileError for others."""
    count, gates = len(need.arrays), GATES.get(need.kind, 1)
    inputs, columns = next(iter(need.arrays.values()))[0][-2:] if gates > 1 else (0, 0)
    if gates > 1 and left and left[0][1].shape == (inputs, columns // gates):
        count *= gates  # Keras 1
    taken = left[:count]
    found = joined(need.kind, [dataset.read() for _, dataset in taken])
    # a nested model stores the averages of normalizations after all trained weights
    averages = [name.startswith("moving") for name in need.arrays]
    misplaced = len(taken) == len(averages) and averages != [
        re.search(r"(moving|running)_\w+(:0)?$", name) is not None for name, _ in taken
    ]
    if misplaced or not need.fits(found):
        given = ", ".join(f"{dataset.path} {dataset.shape}" for _, dataset in taken) or "nothing"
        raise FileError(f"takes {need}, but next in the file is {given}")
    del left[:count]
    return found


def _take_fitting(left: list[tuple[str, Dataset]], need: Need) -> list[Tensor]:
    """Remove the next arrays that fit: Keras 3 counts the layers of a class, as in dense and dense_1.

    Raises FileError if none fit, or if it cannot tell which.
    """
    groups: dict[str, list[Dataset]] = defaultdict(list)
    for name, dataset in left:
        groups[name.rpartition("/")[0]].append(dataset)
    fitting = [path for path, each in groups.items() if need.side == _side(path) and need.fits(each)]
    fitting = [path for path in fitting if need.kind in path] or fitting
    if not fitting:
        others = ", ".join(name for name, _ in left)
        raise FileError(f"takes {need}, which the file does not contain; it still contains {others}")
    if len({re.sub(r"_\d+(?=/)", "", path) for path in fitting}) > 1:
        raise FileError(f"takes {need}: the file does not record the order of {', '.join(fitting)}")
    # dense before dense_1, and dense_9 before dense_10
    chosen = min(fitting, key=lambda path: [int(n or 0) for n in re.findall(r"(?:_(\d+))?/", path)])
    left[:] = [entry for entry in left if entry[0].rpartition("/")[0] != chosen]
    return [dataset.read() for dataset in groups[chosen]]


def _side(path: str) -> str:
    return next((side for side in SIDES if side in path), "")


def _needs(leaf: BaseModel, prefix: str, theano: bool) -> Iterator[Need]:
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
