"""A model prepared for streaming, and the conversion of its states for users, the core and files."""

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
from ..layers import Dropout, Last
from ..layers.base import Layer, call

# h (L, B, P) and c (L, B, H) or None, for each recurrent layer
States: TypeAlias = list[tuple[Array, Array | None]]


class StreamingModel:
    """A causal model that keeps its present weights: loading weights into the original has no effect on it.

    `kernels` are the core's objects that hold the states. If `in_core`, they compute the whole model;
    otherwise `run` computes it. Raises ArgumentError for a model that needs future steps.
    """

    def __init__(self, model: Layer) -> None:
        for layer in model.sublayers().values():
            if not layer.causal:
                why = (
                    "its reverse direction starts at the last step of the sequence"
                    if layer.state_names
                    else "it needs the whole sequence at once"
                )
                raise ArgumentError(f"{layer!r} cannot stream: {why}")
        if not model.causal:
            raise ArgumentError(f"{model!r} cannot stream: its output at a step depends on other steps")
        self.model = frozen(model)
        self.layers = self.model.recurrent_sublayers()
        if not self.layers:
            raise ArgumentError(f"{model!r} cannot stream: it has no recurrent layer")
        if self.model.step_shape is None:
            raise ArgumentError(f"{model!r} cannot stream: no layer determines the shape of a step")
        self.step_shape = self.model.step_shape
        self.batch_first = self.model.batch_first
        kernels = self._kernels_of_all_layers()
        self.in_core = kernels is not None
        self.kernels = kernels or [layer.step_kernel for layer in self.layers]
        self._weights = dict(self.model._weights_by_name())
        # the present step is the last one: Last passes each step through, as Dropout does
        passing = {name: Dropout() for name, layer in self.model.sublayers().items() if type(layer) is Last}
        self._every_step = self.model.with_sublayers(passing)

    def _kernels_of_all_layers(self) -> list[_core.Stack | _core.Dense] | None:
        """The core's objects for every layer that changes a step; None if the core lacks any of them."""
        layers = [layer for layer in self.model.in_order() or [] if not layer.unchanged_by_step]
        kernels = [kernel for layer in layers if (kernel := layer.step_kernel) is not None]
        return kernels if layers and len(kernels) == len(layers) else None

    def run(self, x: Any, state: Any, batched: bool, is_step: bool) -> tuple[Array, Any]:
        """Run a step or a block layer by layer, from `state` to y and the next state."""
        axis = 1 if batched and self.batch_first else 0
        y, state = self._every_step._run(np.expand_dims(x, axis) if is_step else x, state, None, call)
        return (np.take(y, 0, axis) if is_step else y), state

    def zeros(self, B: int) -> States:
        """The initial states of B rows."""
        states: States = []
        for layer in self.layers:
            h, *c = (np.zeros(shape, layer.dtype) for shape in layer.state_shapes(B))
            states.append((h, c[0] if c else None))
        return states

    def check_state(self, state: Any, B: int, batched: bool) -> States:
        """Convert a state that a call of the model accepts to states; None means zeros.

        Raises ShapeError, DtypeError, ArgumentError.
        """
        states: States = []
        for layer, part in zip(self.layers, self.model.split_states(state), strict=True):
            arrays = []
            for name, value, shape in zip("hc", layer.split_state(part), layer.state_shapes(B), strict=False):
                checked = layer.initial_state(name, value, shape, batched)
                # allocated only when needed: B may come from a file
                arrays.append(np.zeros(shape, layer.dtype) if checked is None else checked)
            h, *c = arrays
            states.append((h, c[0] if c else None))
        return states

    def join(self, states: States, batched: bool) -> Any:
        """The state that a call of the model returns."""
        parts = [
            layer.join_state(*((h, c) if batched else (h[:, 0], None if c is None else c[:, 0])))
            for layer, (h, c) in zip(self.layers, states, strict=True)
        ]
        return self.model.join_states(parts)

    def fingerprint(self) -> dict[str, str]:
        """Metadata that identifies the model: its precision, and hashes of its layers and weights."""
        import hashlib  # deferred: hashlib loads OpenSSL, which takes as much memory as all of Onward

        weights = hashlib.sha256()
        for name, weight in self._weights.items():
            weights.update(name.encode())
            weights.update(weight.tobytes())
        layers = json.dumps(self.model.description(), sort_keys=True).encode()
        return {
            "precision": self.layers[0].precision or str(self.layers[0].dtype),
            "model": hashlib.sha256(layers).hexdigest(),
            "weights": weights.hexdigest(),
        }

    def save(
        self,
        path: str | os.PathLike[str],
        file_type: str,
        states: States,
        extra: Mapping[str, NDArray[Any]],
    ) -> None:
        """Write states and additional arrays. Raises FileError."""
        tensors = {
            f"{index}.{name}": array
            for index, pair in enumerate(states)
            for name, array in zip("hc", pair, strict=True)
            if array is not None
        }
        storage.write(path, tensors | dict(extra), {"type": file_type, **self.fingerprint()})

    def load(self, path: str | os.PathLike[str], file_type: str) -> tuple[States, dict[str, NDArray[Any]]]:
        """Read the states and additional arrays that `save` wrote for the same model; shapes are not checked.

        Raises FileError for another type, version, precision or model, and for other weights.
        """
        tensors, metadata = storage.read(path)
        if metadata is None or metadata.get("type") != file_type:
            what = file_type.split()[0]
            raise FileError(f"{path} is not the state of a {what}: expected a file that {what}.save wrote")
        own = self.fingerprint()
        precision = f"a model in {metadata.get('precision')!r}, but this one is in {own['precision']!r}"
        for key, other in (
            ("precision", precision),
            ("model", "another model"),
            ("weights", "this model with other weights"),
        ):
            if metadata.get(key) != own[key]:
                raise FileError(f"{path} is the state of {other}")
        states: States = []
        for index, layer in enumerate(self.layers):
            names = [f"{index}.{name}" for name in layer.state_names]
            missing = [name for name in names if name not in tensors]
            if missing:
                raise FileError(f"{path} has no {missing[0]}")
            h, *c = (tensors.pop(name) for name in names)
            states.append((h, c[0] if c else None))
        return states, tensors


def frozen(model: Layer) -> Layer:
    """Prepare a model for streaming; all its streams share one packed copy of the present weights."""
    for layer in model.sublayers().values():
        _ = layer.step_kernel
    return model.frozen()
