"""Models of Onward in the formats of others."""

from __future__ import annotations

import os

from ...core import storage
from ...core.extras import install_hint
from ...errors import ArgumentError
from ...layers.base import Layer
from ..keras.runtime import Model
from ..keras.runtime.as_sequential import sequential


def export_onnx(model: Layer, path: str | os.PathLike[str], *, lengths: bool = False) -> None:
    """Writes a layer, a Sequential, or a model of Keras that is a chain of layers without masks, as ONNX.

    The graph takes `x` and gives `y`, laid out as the model does. Each recurrent layer adds its initial state
    to the inputs, h0 and c0, and its final state to the outputs, h_n and c_n, after the layer's name where
    there are several: `2.h0`. With `lengths`, the graph also takes lengths (B,) in int32;
    rows of length 0 keep their initial state, in every runtime.

    Batch, time and the places of a convolution stay open; x has three axes where its layers take any number.
    An LSTM with proj_size becomes a function of ONNX's operators. Loaded again by Onward, the graph gives the
    same bits. Raises FileError, and ArgumentError for what ONNX's operators do not say.
    """
    try:
        from .writer import model_of
    except ModuleNotFoundError as error:
        raise ArgumentError(f"export_onnx needs {error.name}: {install_hint('onnx')}") from error
    if isinstance(model, Model):
        model = sequential(model)
    storage.replace(path, model_of(model, lengths).SerializeToString())
