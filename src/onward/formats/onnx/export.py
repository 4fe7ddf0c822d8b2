"""Export models as ONNX."""

from __future__ import annotations

import os

from ...core.checks import flag, instance
from ...errors import ArgumentError
from ...layers.base_model import BaseModel

MAX_BYTES = 2**31 - 1  # the limit for a message in every implementation


def export_onnx(
    model: BaseModel,
    path: str | os.PathLike[str],
    *,
    lengths: bool = False,
    check: bool = True,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write a model as ONNX: a layer, a Sequential, or a whole model.

    A graph keeps the names of its inputs, outputs and nodes. Layers become a graph with the input `x` and the
    output `y`, in the model's layout. Each recurrent layer adds its initial state to the inputs (h0, c0) and
    its final state to the outputs (h_n, c_n); if there are several, the names start with the layer's:
    `2.h0`. With `lengths`, the graph has an int32 input `lengths` (B,); rows of length 0 keep their initial
    state, in every runtime.

    The sizes of batch, time and convolution axes are dynamic; x has three axes if the layers accept any
    number. What no operator expresses, such as a layer in int8 or an LSTM with proj_size, becomes a
    function of ONNX operators. If Onward loads the graph again, it gives the same bits: before it is written,
    it is opened and compared with the model on random inputs, if the model declares the axes of its inputs.
    With check=False, it is not. metadata: texts to add to the file's metadata, by key.

    Raises FileError, and ArgumentError for a node that runs a Python function.

    >>> import tempfile
    >>> from pathlib import Path
    >>> import onward
    >>> path = Path(tempfile.mkdtemp()) / "model.onnx"
    >>> onward.export_onnx(onward.LSTM(12, 64), path)
    >>> onward.load(path).inputs
    ('x', 'h0', 'c0')
    """
    from ...layers.graphs import graph_of
    from ...model import Model
    from .check import check_export
    from .protobuf import encode
    from .writer import model_of

    instance("model", model, BaseModel, "a layer or a model of onward, such as Sequential(...)")
    if flag("lengths", lengths) and isinstance(model, Model):
        raise ArgumentError("lengths applies to layers only: a graph has the inputs of its source")
    graph = model.general_graph() if isinstance(model, Model) else graph_of(model, lengths)
    texts = instance("metadata", {} if metadata is None else metadata, dict, "a dict of texts")
    for key, text in texts.items():
        instance("a key of metadata", key, str, "a text")
        instance(f"metadata[{key!r}]", text, str, "a text")
    content = encode(model_of(graph, texts))
    if len(content) > MAX_BYTES:
        raise ArgumentError(
            f"the model takes {len(content)} bytes as ONNX; Protocol Buffers allow {MAX_BYTES}: "
            "save it with model.save"
        )
    if flag("check", check):
        check_export(graph, content, path)
    from ...core import atomic

    atomic.replace(path, content)
