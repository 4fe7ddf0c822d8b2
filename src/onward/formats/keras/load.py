"""Keras' files: .keras archives, HDF5 with model and weights, and HDF5 with weights alone."""

import json
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import FileError, KerasWarning
from ...layers.base import Layer
from ..zip import Data, ZipMembers
from . import (
    HDF5_SIGNATURE,
    hdf5,
    layer_configs,
    match_weights,
    model_config,
    operation_configs,
    recurrent_configs,
)
from .runtime import KerasLayer, Model
from .source import Context, build
from .stored_weights import ByLayer, ByPath, Tensor, Weights, arrays, layer_names

BUILDERS = (
    layer_configs.BUILDERS | recurrent_configs.BUILDERS | operation_configs.BUILDERS | model_config.BUILDERS
)
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


def load(
    data: Data,
    keras_version: str | None = None,
    custom_objects: Mapping[str, Callable[..., Any]] | None = None,
) -> KerasLayer:
    """The model in a file. Raises FileError."""
    config, written, root = _opened(data)
    if config is None:
        raise FileError("the file contains weights but no model: build the model and call its load_weights")
    read: set[str] = set()
    theano = root.text("backend") == "theano"
    version = keras_version or written or _assumed(config)
    context = _context(version, theano, custom_objects or {})
    model = build(config, _weights(root, read), context)
    if left := [each.path for each in arrays(root) if each.path not in read]:
        raise FileError(f"the file has weights that belong to no layer: {', '.join(left)}")
    if not isinstance(model, Model):
        raise FileError(f"the file contains a {config.get('class_name')}; expected a model")
    return model


def tensors(data: Data) -> dict[str, Tensor]:
    """All weights of a file by path. Raises FileError."""
    _, _, root = _opened(data)
    return {dataset.path.lstrip("/"): dataset.read().copy() for dataset in arrays(root)}


def weights_for(data: Data, model: Layer) -> dict[str, Tensor]:
    """A file's weights by the names that they have in a model built by hand. Raises FileError."""
    _, _, root = _opened(data)
    return match_weights.weights(root, model, root.text("backend") == "theano")


def _opened(data: Data) -> tuple[dict[str, Any] | None, str | None, hdf5.Group]:
    """The configuration, the version of Keras, and the root of the weights."""
    if data[:8] != HDF5_SIGNATURE:
        members = ZipMembers(data)
        metadata = _json(bytes(members[METADATA]), METADATA)
        root = hdf5.read(members[WEIGHTS])
        return _json(bytes(members[CONFIG]), CONFIG), metadata.get("keras_version"), root
    root = hdf5.read(data)
    config = root.text("model_config")
    weights = root.group("model_weights") if "model_weights" in root else root
    version = root.text("keras_version") or weights.text("keras_version")
    return None if config is None else _json(config, "model_config"), version, weights


def _json(text: str | bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FileError(f"{name} is not a JSON object")
    return value


def _weights(root: hdf5.Group, read: set[str]) -> Weights:
    """The weights of the model, which note in `read` what was taken of them."""
    return ByPath(root, "", read) if layer_names(root) is None else ByLayer(root, read)


def _assumed(config: Mapping[str, Any]) -> str:
    """The version of a file that does not say it."""
    version = "1" if "W_regularizer" in json.dumps(config) else "2"  # the words changed
    warnings.warn(
        f"the file does not say which Keras wrote it: taken for Keras {version} "
        "(keras_version says otherwise)",
        KerasWarning,
        stacklevel=4,  # the caller of onward.load
    )
    return version


def _context(version: str, theano: bool, custom_objects: Mapping[str, Callable[..., Any]]) -> Context:
    """What old files leave out depends on the version of Keras."""
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
    if not numbers or numbers[0] not in (1, 2, 3):
        raise FileError(f"keras_version is {version!r}, but this Onward knows Keras 1, 2 and 3")
    of_tensorflow = "tf" in version
    return Context(
        BUILDERS,
        numbers[0],
        # Keras 2.3 made sigmoid the default
        recurrent_activation="sigmoid" if numbers >= [2, 3] else "hard_sigmoid",
        # in TensorFlow since its 1.13, which calls itself 2.2.4-tf; Keras 2.4 is that of TensorFlow
        zeros_in_both=None if numbers == [2] else numbers >= [2, 2 if of_tensorflow else 4],
        masks_inside=numbers == [2] or (numbers[0] == 2 and (of_tensorflow or numbers >= [2, 2])),
        theano=theano,
        custom_objects=custom_objects,
    )
