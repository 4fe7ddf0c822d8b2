"""Find the origin of NaN and infinities in a training step by running the model layer by layer."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.arrays import Array
from ..layers.base import Layer, call
from .batches import Batch


def origin(model: Layer, batch: Batch, state: Any, gradients: dict[str, Array]) -> str:
    """Describe where the first NaN or infinity of a training step occurs."""
    names = list(model.sublayers())
    layers = model.in_order() or []
    states = iter(model.split_states(state))
    batch_first = model.batch_first
    y = np.asarray(batch.x)
    if not _is_finite(y):
        return f"in x, {_place(y, batch_first)}"
    for name, layer in zip(names, layers, strict=True):
        where = f"layer {name.rstrip('.')}, {layer!r}" if name else repr(layer)
        for weight, value in layer._weights_by_name().items():
            if not _is_finite(value):
                return f"in {name}{weight}, because of an earlier step: lower the learning rate"
        y, _ = layer._run(y, next(states) if layer.state_names else None, batch.lengths, call)
        if not _is_finite(y):
            return f"in the output of {where}, {_place(y, batch_first)}, although its weights are finite"
    if not _is_finite(np.asarray(batch.targets)):
        return f"in the targets, {_place(np.asarray(batch.targets), batch_first)}"
    last = [name for name, gradient in reversed(gradients.items()) if not _is_finite(gradient)]
    return f"in the gradient of {last[0]}, although all outputs are finite" if last else "in the loss itself"


def _is_finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind not in "f" or bool(np.isfinite(array).all())


def _place(array: NDArray[Any], batch_first: bool) -> str:
    """Name the earliest step and the row, counted from 0, with NaN or an infinity."""
    if array.ndim < 3:
        return f"row {np.argwhere(~np.isfinite(array))[0][0]} of the batch"
    steps = array.swapaxes(0, 1) if batch_first else array
    t, b = np.argwhere(~np.isfinite(steps))[0][:2]
    return f"first at step {t} of row {b} of the batch"
