"""The states of a model's recurrent layers: as people have them, as the core takes them, and in files."""

import json
import os
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..core import storage
from ..core.arrays import Array
from ..errors import ArgumentError, FileError
from ..layers.base import Layer, call

# h (L, B, P) and c (L, B, H) or None, of each recurrent layer
Parts: TypeAlias = list[tuple[Array, Array | None]]


class Live:
    """A model as it is now, whatever becomes of its weights, and the states of what runs through it.

    Raises ArgumentError for a model that needs steps yet to come.
    """

    def __init__(self, model: Layer) -> None:
        for leaf in model.sublayers().values():
            if not leaf.causal:
                why = (
                    "its reverse direction starts at the last step, yet to come"
                    if leaf.state_names
                    else "it takes the whole sequence at once"
                )
                raise ArgumentError(f"{leaf!r} cannot stream: {why}")
        if not model.causal:
            raise ArgumentError(f"{model!r} cannot stream: not all of it acts on each time step alone")
        self.model = frozen(model)
        self.leaves = self.model.recurrent_sublayers()
        if not self.leaves:
            raise ArgumentError(f"{model!r} cannot stream: it has no recurrent layer")
        if self.model.step_shape is None:
            raise ArgumentError(f"{model!r} cannot stream: its first layer takes steps of any shape")
        self.step_shape = self.model.step_shape
        self.batch_first = self.leaves[0].batch_first
        self.stacks = [leaf._kernel for leaf in self.leaves]
        self._weights = dict(self.model._weights_by_name())

    def chain(self) -> list[_core.Stack | _core.Dense] | None:
        """The core's layers that do all that the model does; None where it takes others too.

        Layers that pass a single step through unchanged, such as Last, have nothing to do in a stream.
        """
        layers = [layer for layer in self.model.in_order() or [] if not layer.unchanged_by_step]
        kernels = [kernel for layer in layers if (kernel := layer.step_kernel) is not None]
        return kernels if layers and len(kernels) == len(layers) else None

    def step(self, x: Any, state: Any, batched: bool) -> tuple[Array, Any]:
        """One step of x, ([B], features), and the state after it, by the model's own call."""
        axis = 1 if batched and self.batch_first else 0
        y, state = self.model._run(np.expand_dims(x, axis), state, None, call)
        return (np.take(y, 0, axis) if y.ndim == 2 + batched else y), state

    def zeros(self, B: int) -> Parts:
        """The state that B rows begin with."""
        parts: Parts = []
        for leaf in self.leaves:
            h, *c = (np.zeros(shape, leaf.dtype) for shape in leaf.state_shapes(B))
            parts.append((h, c[0] if c else None))
        return parts

    def taken(self, state: Any, B: int, batched: bool) -> Parts:
        """What a model's call takes as its state, checked. Raises ShapeError, DtypeError, ArgumentError."""
        taken: Parts = []
        states = self.model.split_states(state)
        for leaf, own, (h0, c0) in zip(self.leaves, states, self.zeros(B), strict=True):
            h, c = leaf.split_state(own)
            h = leaf.initial_state("h", h, h0.shape, batched)
            c = None if c0 is None else leaf.initial_state("c", c, c0.shape, batched)
            taken.append((h0 if h is None else h, c0 if c is None else c))
        return taken

    def given(self, parts: Parts, batched: bool) -> Any:
        """What a model's call returns as its state."""
        states = [
            leaf.join_state(*((h, c) if batched else (h[:, 0], None if c is None else c[:, 0])))
            for leaf, (h, c) in zip(self.leaves, parts, strict=True)
        ]
        return self.model.join_states(states)

    def identity(self) -> dict[str, str]:
        """What a state is of: a model's precision, and the fingerprints of its layers and its weights."""
        import hashlib  # here, as its OpenSSL takes as much memory as all of Onward

        weights = hashlib.sha256()
        for name, weight in self._weights.items():
            weights.update(name.encode())
            weights.update(weight.tobytes())
        layers = json.dumps(self.model.description(), sort_keys=True).encode()
        return {
            "precision": self.leaves[0].precision or str(self.leaves[0].dtype),
            "model": hashlib.sha256(layers).hexdigest(),
            "weights": weights.hexdigest(),
        }

    def save(
        self, path: str | os.PathLike[str], kind: str, parts: Parts, more: Mapping[str, NDArray[Any]]
    ) -> None:
        """Writes states, and other arrays with them. Raises FileError."""
        tensors = {
            f"{index}.{name}": array
            for index, pair in enumerate(parts)
            for name, array in zip("hc", pair, strict=True)
            if array is not None
        }
        storage.write(path, tensors | dict(more), {"type": kind, **self.identity()})

    def load(self, path: str | os.PathLike[str], kind: str) -> tuple[Parts, dict[str, NDArray[Any]]]:
        """The states in a file that `save` wrote of the same model, not yet checked, and the other arrays.

        Raises FileError, which says whether the file is of another kind, version, precision or model, or of
        other weights.
        """
        tensors, said = storage.read(path)
        if said is None or said.get("type") != kind:
            raise FileError(f"{path} is no state of a {kind.split()[0]}: expected a file that its save wrote")
        own = self.identity()
        for what, of in (
            ("precision", f"a model in {said.get('precision')!r}, but this one is in {own['precision']!r}"),
            ("model", "another model"),
            ("weights", "this model with other weights"),
        ):
            if said.get(what) != own[what]:
                raise FileError(f"{path} is the state of {of}")
        parts: Parts = []
        for index, leaf in enumerate(self.leaves):
            names = [f"{index}.{name}" for name in leaf.state_names]
            missing = [name for name in names if name not in tensors]
            if missing:
                raise FileError(f"{path} lacks {missing[0]}")
            h, *c = (tensors.pop(name) for name in names)
            parts.append((h, c[0] if c else None))
        return parts, tensors


def frozen(model: Layer) -> Layer:
    """The model with its present weights, whatever is loaded into the original later; no weight is copied."""
    return model.with_sublayers({name: _frozen_leaf(leaf) for name, leaf in model.sublayers().items()})


def _frozen_leaf(leaf: Layer) -> Layer:
    _ = leaf.step_kernel  # packed once, for all streams
    twin = object.__new__(type(leaf))
    twin.__dict__.update(leaf.__dict__)
    return twin
