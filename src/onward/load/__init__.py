"""Opening models: `load` looks into the file, and each source has a file beside this one."""

import os
from typing import Any

from .. import files
from ..base import UNDRAWN, Layer, Weighted
from ..dense import Embedding, Last, Linear, Softmax
from ..errors import ArgumentError, FileError, OnwardError
from ..layers import GRU, LSTM, RNN
from ..model import Sequential
from . import torch

LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer for layer in (RNN, LSTM, GRU, Linear, Embedding, Last, Softmax)
}


def load(
    path: str | os.PathLike[str], *, nonlinearity: str | None = None, batch_first: bool | None = None
) -> Layer | torch.Parts:
    """The model in a safetensors file: what Onward saved, or a PyTorch state dict as a dict of its layers.

    What a state dict cannot say is said here: the `nonlinearity` of vanilla RNNs ("tanh" if None), and
    `batch_first` of all recurrent layers (False if None). Half and bfloat16 tensors are computed in float32.

    Raises FileError, which names the file, the tensor and what was expected, and ArgumentError for an
    argument that the file itself answers.
    """
    tensors, architecture = files.read(path)
    if architecture is not None and (nonlinearity, batch_first) != (None, None):
        raise ArgumentError(f"{path} says its nonlinearity and batch_first itself: leave the arguments out")
    try:
        if architecture is None:
            return torch.parts(tensors, nonlinearity or "tanh", bool(batch_first))
        return _restored(architecture, tensors)
    except OnwardError as error:
        raise FileError(f"{path}: {error}") from error


def _restored(architecture: dict[str, Any], tensors: torch.Tensors) -> Layer:
    """The model that `Layer.description` described. Nothing is allocated before names and shapes agree."""
    if architecture.get("type") == "Sequential" and isinstance(architecture.get("layers"), list):
        model: Layer = Sequential(*map(_blank, architecture["layers"]))
    else:
        model = _blank(architecture)
    for name, shape in model.shapes():  # of which a hostile file may claim any number: stop at the first
        if name not in tensors:
            raise ArgumentError(f"{name} is missing; expected shape {shape}")
        if tensors[name].dtype != model.dtype:
            raise ArgumentError(f"{name} has dtype {tensors[name].dtype}; expected {model.dtype}")
    model.load_state_dict(tensors)
    return model


def _blank(description: Any) -> Layer:
    """The layer described, without weights."""
    config = dict(description) if isinstance(description, dict) else {}
    kind = config.pop("type", None)
    if not isinstance(kind, str) or kind not in LAYERS:
        raise ArgumentError(
            f"the architecture has a layer of type {kind!r}; expected one of {', '.join(LAYERS)}"
        )
    if issubclass(LAYERS[kind], Weighted):
        config["rng"] = UNDRAWN
    return LAYERS[kind](**config)
