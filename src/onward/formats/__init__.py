"""Opening models: `load` looks into the file, and each source has a file beside this one."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray

from ..core import storage
from ..core.extras import install_hint
from ..errors import ArgumentError, FileError, OnwardError
from ..layers.base import UNDRAWN, Layer, Weighted
from ..layers.conv import AvgPool1d, AvgPool2d, Conv1d, Conv2d, MaxPool1d, MaxPool2d
from ..layers.linear import Activation, Dropout, Embedding, Last, Linear, Softmax
from ..layers.norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from ..layers.quantize import PRECISIONS
from ..layers.recurrent import Recurrent
from ..layers.rnn import GRU, LSTM, RNN
from ..layers.sequential import Sequential
from . import match_weights, npz
from .keras import load as keras
from .keras.runtime import LAYERS as KERAS_LAYERS
from .torch import archive, names
from .torch import layers as torch_layers
from .torch.state_dict import StateDict, state_dicts

if TYPE_CHECKING:  # the onnx package is imported for ONNX files alone
    from .onnx.model import Graph

LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        *(RNN, LSTM, GRU, Linear, Embedding, Last, Activation, Softmax, Dropout),
        *(Conv1d, Conv2d, MaxPool1d, MaxPool2d, AvgPool1d, AvgPool2d),
        *(BatchNorm1d, BatchNorm2d, LayerNorm, GroupNorm),
    )
} | {f"keras.{layer.__name__}": layer for layer in KERAS_LAYERS}

FORMATS = "of safetensors, PyTorch (.pt), ONNX, Keras (.keras, .h5) or NumPy (.npz, .npy)"

Result = TypeVar("Result")


def load(
    path: str | os.PathLike[str],
    *,
    nonlinearity: str | None = None,
    batch_first: bool | None = None,
    keras_version: str | None = None,
    custom_objects: Mapping[str, Callable[..., Any]] | None = None,
) -> Layer | torch_layers.Parts | Graph:
    """The model in a file that Onward saved, or of ONNX; of any file of PyTorch, a dict of its layers.

    Of Keras' files (.keras, and .h5 with the model in it), the model, which takes the batch first.
    Layers that Onward does not know are given as functions of arrays, custom_objects={"MyLayer": function},
    by their class or, where several are Lambdas, by their names;
    keras_version ("2.2.4") is for files that do not say it, which are taken for Keras 1 or 2, by the words in
    them, with a KerasWarning of onward.errors.

    Files of PyTorch are state dicts in safetensors, and what torch.save and torch.jit.save write: state
    dicts, alone or in a checkpoint, and whole modules. An .npz of NumPy is a state dict, too. Nothing of them
    is run, and torch is not needed.

    What a state dict cannot say is said here: the `nonlinearity` of vanilla RNNs ("tanh" if None), and
    `batch_first` of all recurrent layers (False if None). Half and bfloat16 tensors are computed in float32.

    ONNX needs `pip install 'onward[onnx]'`; `help(type(model))` tells how the models of ONNX are called.

    Raises FileError, which names the file, the tensor and what was expected, and ArgumentError for an
    argument that the file itself answers.
    """
    data = storage.mapped(path)
    if keras.is_keras(data):
        _refuse(path, nonlinearity, batch_first)
        return _named(path, lambda: keras.load(data, keras_version, custom_objects))
    if (keras_version, custom_objects) != (None, None):
        raise ArgumentError(f"{path} is no file of Keras: leave keras_version and custom_objects out")
    if _is_onnx(path, data):
        _refuse(path, nonlinearity, batch_first)
        return _graph(path)
    found, architecture = _read(path)
    if architecture is not None:
        described = architecture
        _refuse(path, nonlinearity, batch_first)
        return _named(path, lambda: _restored(described, found[()].tensors))
    if any(state_dict.answers for state_dict in found.values()):
        _refuse(path, nonlinearity, batch_first)
    return _named(
        path, lambda: torch_layers.parts(names.merged(found), nonlinearity or "tanh", bool(batch_first))
    )


def _refuse(path: str | os.PathLike[str], nonlinearity: str | None, batch_first: bool | None) -> None:
    """Raises ArgumentError for what is said to `load` of a file that says it itself."""
    if (nonlinearity, batch_first) != (None, None):
        raise ArgumentError(f"{path} says its nonlinearity and batch_first itself: leave the arguments out")


def _named(path: str | os.PathLike[str], action: Callable[[], Result]) -> Result:
    """What the action gives; its errors name the file."""
    try:
        return action()
    except OnwardError as error:
        raise FileError(f"{path}: {error}") from error


def load_tensors(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """All arrays of a file by name, as they are in it; those of bfloat16 widened to float32.

    Of whatever `load` opens, and of NumPy's .npy, whose one array has the name "". In a checkpoint, the keys
    that lead to a state dict come before its names. Raises FileError.
    """
    data = storage.mapped(path)
    if keras.is_keras(data):
        return _named(path, lambda: keras.tensors(data))
    found, _ = _read(path)
    return {
        ".".join((*keys, name)): tensor.copy()
        for keys, state_dict in found.items()
        for name, tensor in state_dict.tensors.items()
    }


def _read(path: str | os.PathLike[str]) -> tuple[names.Found, dict[str, Any] | None]:
    """The state dicts of a file, and the architecture if Onward wrote it. The content tells what it is."""
    data = storage.mapped(path)
    if _is_onnx(path, data):
        return {(): StateDict(_graph(path).state_dict())}, None
    try:
        if data[:4] == b"PK\3\4":
            members = archive.Members(data)
            if npz.is_npz(members):
                return {(): StateDict(npz.read(members))}, None
            return state_dicts(archive.read(members)), None
        if data[: len(npz.MAGIC)] == npz.MAGIC:
            return {(): StateDict({"": npz.array(data, "the file")})}, None
        if archive.is_torch(data):
            return state_dicts(archive.read(data)), None
    except OnwardError as error:
        raise FileError(f"{path}: {error}") from error
    if data[8:9] != b"{" and not os.fspath(path).lower().endswith(".safetensors"):
        what = "of no format that Onward reads" if data else "empty"
        raise FileError(f"{path} is {what}: expected a file {FORMATS}")
    tensors, architecture = storage.read(path)
    return {(): StateDict(tensors)}, architecture


def _is_onnx(path: str | os.PathLike[str], data: bytes | mmap.mmap) -> bool:
    """Protocol buffers have no magic: ONNX writes its version first; at byte 8 of safetensors is a brace."""
    named = os.fspath(path).lower().endswith(".onnx")
    return not archive.is_torch(data) and data[8:9] != b"{" and (named or data[:1] == b"\x08")


def _graph(path: str | os.PathLike[str]) -> Graph:
    try:
        from .onnx import file
        from .onnx import model as onnx_model
    except ModuleNotFoundError as error:
        raise FileError(
            f"{path} is an ONNX file; reading it needs {error.name}: {install_hint('onnx')}"
        ) from error
    try:
        return onnx_model.Graph(file.read(path, storage.mapped(path)))
    except OnwardError as error:
        raise FileError(f"{path}: {error}") from error


def _weights_for(model: Layer, path: str | os.PathLike[str]) -> Mapping[str, NDArray[Any]]:
    """A file's tensors by the names that they have in a model built by hand."""
    data = storage.mapped(path)
    if keras.is_keras(data):
        return _named(path, lambda: keras.weights_for(data, model))
    found, _ = _read(path)
    # trusted to be what the model is
    tensors = _named(path, lambda: names.merged(found, trusted=True)).tensors
    return match_weights.weights(tensors, model, ordered=archive.is_torch(data))  # safetensors has no order


Layer._weights_for = _weights_for


def _restored(architecture: dict[str, Any], tensors: names.Tensors) -> Layer:
    """The model that `Layer.description` described. Nothing is allocated before names and shapes agree."""
    if architecture.get("type") == "Sequential" and isinstance(architecture.get("layers"), list):
        model: Layer = Sequential(*map(_blank, architecture["layers"]))
    else:
        model = _blank(architecture)
    # of tensors, a hostile file may claim any number: stop at the first
    for name, shape, dtype in model._stored():
        if name not in tensors:
            raise ArgumentError(f"{name} is missing; expected shape {shape}")
        if tensors[name].dtype != dtype:
            raise ArgumentError(f"{name} has dtype {tensors[name].dtype}; expected {dtype}")
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
    config = {name: _inner(value) for name, value in config.items()}
    precision = config.pop("precision", None) if issubclass(LAYERS[kind], Recurrent) else None
    if precision not in (None, *PRECISIONS):
        raise ArgumentError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    if issubclass(LAYERS[kind], Weighted):
        config["rng"] = UNDRAWN
    layer = LAYERS[kind](**config)
    return layer._compressed(precision) if precision else layer


def _inner(value: Any) -> Any:
    """An argument, with the layers described in it."""
    if isinstance(value, list):
        return [_inner(each) for each in value]
    if isinstance(value, dict):
        return _blank(value) if "type" in value else {name: _inner(each) for name, each in value.items()}
    return value
