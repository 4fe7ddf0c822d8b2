"""Export models as ONNX."""

from __future__ import annotations

import os

from ...core import storage
from ...core.extras import install_hint
from ...errors import ArgumentError
from ...layers.base import Layer


def export_onnx(model: Layer, path: str | os.PathLike[str], *, lengths: bool = False) -> None:
    """Write a layer, a Sequential, or a Keras model that is a chain of layers without masks, as ONNX.

    The graph has the input `x` and the output `y`, in the model's layout. Each recurrent layer adds its
    initial state to the inputs (h0, c0) and its final state to the outputs (h_n, c_n); if there are several,
    the names start with the layer's: `2.h0`. With `lengths`, the graph has an int32 input `lengths` (B,);
    rows of length 0 keep their initial state, in every runtime.

    The sizes of batch, time and convolution axes are dynamic; x has three axes if the layers accept any
    number. An LSTM with proj_size becomes a function of ONNX operators. If Onward loads the graph again, it
    gives the same bits. Raises FileError, and ArgumentError for a layer that ONNX operators cannot express.
    """
    try:
        from ..keras.runtime import Model
        from ..keras.runtime.as_sequential import sequential
        from .writer import model_of
    except ModuleNotFoundError as error:
        raise ArgumentError(f"export_onnx needs {error.name}: {install_hint('onnx')}") from error
    if isinstance(model, Model):
        model = sequential(model)
    storage.replace(path, model_of(model, lengths).SerializeToString())
