"""Where each layer's weights lie in Keras' files: by path in those of Keras 3, in lists in older ones."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...core.gates import GATE_ORDER, reorder
from ...errors import FileError
from .hdf5 import Dataset, Group

Tensor = NDArray[Any]
LISTS = ("layers", "_layer_checkpoint_dependencies")  # the latter in TensorFlow 2.12 and 2.13
MODELS = ("Functional", "Model", "Sequential")
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
# The order of the gates in Keras 1, which stores a kernel, recurrent kernel and bias for each.
SEPARATE_GATES = {"lstm": "igfo", "gru": "zrn"}
NO_WEIGHTS = ("optimizer", "optimizer_weights", "seed_generator", "metrics")


class ByPath:
    """Keras 3: layers/gru_1/cell/vars/0, where members are named by their class and counted."""

    def __init__(self, group: Group | None, path: str, read: set[str]) -> None:
        self.group = group
        self._path = path
        self._read = read
        self._counts: Counter[str] = Counter()

    def _at(self, *names: str) -> "ByPath":
        """The weights under the first of these names that the file contains."""
        own = self.group
        found = next((own[each] for each in names if own is not None and each in own), None)
        group = found if isinstance(found, Group) else None
        return ByPath(group, f"{self._path}/{names[0]}", self._read)

    def part(self, name: str) -> "ByPath":
        """Return the weights of the layer in this attribute of the Keras layer."""
        return self._at(name, f"_{name}")  # Keras 2 keeps attributes private

    def member(self, attribute: str, kind: str, name: str) -> "ByPath":
        """Return the weights of the next layer of a list, from its class and its configured name."""
        snake = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
        snake = re.sub("([a-z])([A-Z])", r"\1_\2", snake).lower()
        count = self._counts[snake]
        self._counts[snake] += 1
        among = self._at(*LISTS) if attribute == "layers" else self.part(attribute)
        return among.part(f"{snake}_{count}" if count else snake)

    def take(self, count: int) -> list[Tensor]:
        """The layer's own arrays, in Keras' order. Raises FileError if there are fewer or more."""
        own = self.part("vars").group
        names = [] if own is None else sorted(own, key=lambda name: (len(name), name))
        if len(names) != count or own is None:
            raise FileError(f"{self._path}/vars holds {len(names)} arrays; expected {count}")
        members = [own[name] for name in names]
        self._read |= {member.path for member in members}
        return [member.read() for member in members if isinstance(member, Dataset)]

    def rest(self) -> list[Tensor]:
        """All arrays of the layer and its parts that were not taken."""
        members = [] if self.group is None else list(arrays(self.group))
        self._read |= {member.path for member in members}
        return [member.read() for member in members]


class InOrder:
    """Keras 1 and 2: a list of named arrays for each layer of a model; those of its parts follow in order."""

    def __init__(self, arrays: list[tuple[str, Dataset]], path: str, read: set[str]) -> None:
        self._arrays = arrays
        self._path = path
        self._read = read

    def part(self, name: str) -> "InOrder":
        return self

    def member(self, attribute: str, kind: str, name: str) -> "InOrder":
        if attribute != "layers":  # cells
            return self
        # a model's trainable weights come before all others, so that in a nested one the names must tell
        paths = [re.split("[/:]", entry[0]) for entry in self._arrays]
        model = self._path.rpartition("/")[2]
        chosen = [name in path for path in paths] if kind in MODELS else _of_layer(paths, model, name)
        own = [entry for entry, is_own in zip(self._arrays, chosen, strict=True) if is_own]
        if kind in MODELS and not own:  # the names omit a nested model: only the names of its layers tell
            return InOrder(self._arrays, f"{self._path}/{name}", self._read)
        for entry in own:
            self._arrays.remove(entry)
        return InOrder(own, f"{self._path}/{name}", self._read)

    def take(self, count: int) -> list[Tensor]:
        if len(self._arrays) < count:
            raise FileError(f"{self._path} holds {len(self._arrays)} more arrays; expected {count}")
        taken = [dataset for _, dataset in self._arrays[:count]]
        del self._arrays[:count]
        self._read |= {dataset.path for dataset in taken}
        return [dataset.read() for dataset in taken]

    def rest(self) -> list[Tensor]:
        return self.take(len(self._arrays))


def _of_layer(paths: list[list[str]], model: str, name: str) -> list[bool]:
    """Return which arrays belong to a layer, rather than to another layer that contains one of its name.

    The name follows that of the model or, in files that omit it, is nearer the root than in any other path.
    """
    if any(below := [(model, name) in pairwise(path) for path in paths]):
        return below
    highest = min((path.index(name) for path in paths if name in path), default=0)
    return [path[highest : highest + 1] == [name] for path in paths]


class ByLayer(InOrder):
    """The groups of a file of Keras 1 or 2, one for each layer of its model."""

    def __init__(self, root: Group, read: set[str]) -> None:
        super().__init__([], root.path, read)
        self._root = root
        self._names = layer_names(root) or []

    def member(self, attribute: str, kind: str, name: str) -> InOrder:
        own = listed(self._root.group(name)) if name in self._names else []
        return InOrder(own, name, self._read)


Weights: TypeAlias = ByPath | InOrder  # of one layer


def layer_names(root: Group) -> list[str] | None:
    """The layers of a file of Keras 1 or 2 in the model's order; None in a file of Keras 3."""
    return root.texts("layer_names")


def listed(group: Group) -> list[tuple[str, Dataset]]:
    """The arrays of a layer in a file of Keras 1 or 2, by the names that Keras has for them."""
    entries = []
    for name in group.texts("weight_names") or []:
        *above, last = name.split("/")
        member = (group.group("/".join(above)) if above else group)[last]
        if not isinstance(member, Dataset):
            raise FileError(f"{member.path} is not an array")
        entries.append((name, member))
    return entries


def arrays(group: Group) -> Iterator[Dataset]:
    """Yield all arrays of a file except those of optimizers, metrics and random generators."""
    of_layers = layer_names(group) is not None or group.path.rpartition("/")[2] in LISTS
    for name in group:
        if of_layers or name not in NO_WEIGHTS:
            member = group[name]
            if isinstance(member, Dataset):
                yield member
            else:
                yield from arrays(member)


def conv_weight(kernel: Tensor, theano: bool) -> Tensor:
    """Return the kernel (*sizes, inputs, filters) of a convolution in PyTorch's layout; Theano flips it."""
    weight = kernel.transpose(-1, -2, *range(kernel.ndim - 2))
    return np.flip(weight, tuple(range(2, kernel.ndim))) if theano else weight


def joined(cell: str, found: list[Tensor]) -> list[Tensor]:
    """Return the kernel, recurrent kernel and bias of a cell, which Keras 1 may store gate by gate."""
    order = SEPARATE_GATES.get(cell, "")
    if not order or len(found) != 3 * len(order):
        return found
    gates = {gate: found[3 * k : 3 * k + 3] for k, gate in enumerate(order)}
    each = [gates[gate] for gate in GATE_ORDER["keras", cell]]
    return [np.concatenate(parts, axis=-1) for parts in zip(*each, strict=True)]


def cell_weights(
    cell: str, kernel: Tensor, recurrent: Tensor, bias: Tensor | None = None
) -> dict[str, Tensor]:
    """Return Keras' weights of a cell ("rnn", "lstm" or "gru") by the names of Onward's layers.

    kernel (I, G*H), recurrent kernel (H, G*H); bias (G*H,), or (2, G*H) for both products, or (2*G*H,) in
    cuDNN's layout, where each gate's kernel is transposed in place and its recurrent kernel transposed.
    """
    gates = GATES[cell]
    H = recurrent.shape[0] if recurrent.ndim == 2 else 0
    I = kernel.shape[0] if kernel.ndim == 2 else 0  # noqa: E741 (the axis letter)
    shapes = [array.shape for array in (kernel, recurrent, bias) if array is not None]
    if shapes[:2] != [(I, gates * H), (H, gates * H)] or H * I == 0:
        raise FileError(f"the weights have shapes {shapes}; expected those of a Keras {cell.upper()}")
    if bias is not None and bias.shape == (2 * gates * H,) and gates > 1:
        kernel = np.hstack([k.T.reshape(k.shape, order="F") for k in np.hsplit(kernel, gates)])
        recurrent = np.hstack([k.T for k in np.hsplit(recurrent, gates)])
        bias = bias.reshape(2, -1)
    weights = {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T}
    if bias is not None:
        if bias.shape not in ((gates * H,), (2, gates * H)):
            raise FileError(f"the bias has shape {bias.shape}; expected ({gates * H},) or (2, {gates * H})")
        both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
        weights |= {"bias_ih_l0": both[0], "bias_hh_l0": both[1]}
    if cell == "rnn":
        return weights
    return {name: reorder(weight, cell, "keras", "torch") for name, weight in weights.items()}
