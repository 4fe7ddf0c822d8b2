"""Where the first NaN or infinity of a training step occurs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.arrays import Array
from ..layers.base_model import BaseModel, call
from ..layers.sequential import consecutive_layers
from .batches import Batch, rows_first


def origin(model: BaseModel, batch: Batch, state: Any, gradients: dict[str, Array]) -> str:
    """Describe where the first NaN or infinity of a training step occurs."""
    states = iter(model.split_states(state))
    batch_first = rows_first(model)
    y = np.asarray(batch.x)
    if not _is_finite(y):
        return f"in x, {_place(y, batch_first)}"
    for name, layer in zip(model.sublayers(), consecutive_layers(model), strict=False):
        where = f"layer {name.rstrip('.')}, {layer!r}" if name else repr(layer)
        for weight, value in layer.weights_by_name().items():
            if not _is_finite(value):
                return f"in {name}{weight}, because of an earlier step: lower the learning rate"
        y, _ = layer.run(y, next(states) if layer.state_names else None, batch.lengths, call)
        if not _is_finite(y):
            return f"in the output of {where}, {_place(y, batch_first)}, although its weights are finite"
    if not _is_finite(targets := np.asarray(batch.targets)):
        return f"in the targets, {_place(targets, batch_first)}"
    last = [name for name, gradient in gradients.items() if not _is_finite(gradient)]
    if last:
        return f"in the gradient of {last[-1]}, although all outputs are finite"
    return f"in the loss itself, for outputs up to {np.abs(y).max():.3g}: lower the learning rate"


def _is_finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind not in "f" or bool(np.isfinite(array).all())


def _place(array: NDArray[Any], batch_first: bool) -> str:
    """Name the earliest step and the row, counted from 0, with NaN or an infinity."""
    if array.ndim < 3:
        return f"row {np.argwhere(~np.isfinite(array))[0][0]} of the batch"
    steps = array.swapaxes(0, 1) if batch_first else array
    t, b = np.argwhere(~np.isfinite(steps))[0][:2]
    return f"first at step {t} of row {b} of the batch"
