"""Keras' files: .keras archives, HDF5 with model and weights, and HDF5 with weights alone."""

import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from ...core.files import parse_json
from ...errors import FileError, KerasWarning
from ...graph import Graph
from ..zip import Data, ZipMembers
from . import HDF5_SIGNATURE, hdf5, match_weights
from .layer import LAYERS, Context, Layer
from .model import whole_graph
from .stored_weights import MODELS, ByLayer, ByPath, Tensor, Weights, arrays, layer_names

__all__ = ["LAYERS", "load", "tensors", "weights_for"]
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


def load(
    data: Data,
    keras_version: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    weights: Data | None = None,
) -> Graph:
    """Return the graph of the model in a file, or in a JSON file with the weights in another file.

    Raises FileError.
    """
    config, written, root = _opened(data, weights)
    if config is None:
        raise FileError("the file contains weights but no model: build the model and call its load_weights")
    read: set[str] = set()  # the paths of the weights that are read
    version: Any = keras_version or written or _assumed(config)
    context = _context(version, root.text("backend") == "theano", custom_objects or {})
    stored: Weights = ByPath(root, "", read) if layer_names(root) is None else ByLayer(root, read)
    model = Layer(config, stored, context)
    if model.kind not in MODELS:
        raise FileError(f"the file contains a {model.kind}; expected a model")
    graph = whole_graph(model)
    if left := [each.path for each in arrays(root) if each.path not in read]:
        raise FileError(f"the file has weights that belong to no layer: {', '.join(left)}")
    return graph


def tensors(data: Data) -> dict[str, Tensor]:
    """Return all weights of a file by path. Raises FileError."""
    _, _, root = _opened(data)
    return {dataset.path.lstrip("/"): dataset.read() for dataset in arrays(root)}


def weights_for(data: Data, model: Any) -> dict[str, Tensor]:
    """Return a file's weights by the names that they have in a model built by hand. Raises FileError."""
    _, _, root = _opened(data)
    return match_weights.weights(root, model, root.text("backend") == "theano")


def _opened(data: Data, weights: Data | None = None) -> tuple[dict[str, Any] | None, str | None, hdf5.Group]:
    """Return the configuration, the version of Keras, and the root of the weights."""
    if weights is not None:
        config, (_, version, root) = _json(bytes(data), "the model"), _opened(weights)
        return config, config.get("keras_version") or version, root
    if data[:8] != HDF5_SIGNATURE:
        members = ZipMembers(data)
        metadata = _json(members.checked(METADATA), METADATA)
        root = hdf5.read(members.checked(WEIGHTS))
        return _json(members.checked(CONFIG), CONFIG), metadata.get("keras_version"), root
    root = hdf5.read(data)
    written = root.text("model_config")
    group = root.group("model_weights") if "model_weights" in root else root
    version = root.text("keras_version") or group.text("keras_version")
    return None if written is None else _json(written, "model_config"), version, group


def _json(text: str | bytes | memoryview, name: str) -> dict[str, Any]:
    value = parse_json(text, name)
    if not isinstance(value, dict):
        raise FileError(f"{name} is not a JSON object")
    return value


def _assumed(config: Mapping[str, Any]) -> str:
    """Return the version of a file that does not record it, and issue a warning if it is a guess."""
    if "module" in config:
        return "3"  # the to_json of Keras 2 records its version
    version = "1" if "W_regularizer" in json.dumps(config) else "2"  # the words changed
    warnings.warn(
        f"the file does not record its version of Keras: assuming Keras {version}; pass keras_version=",
        KerasWarning,
        stacklevel=6,  # the caller of onward.load
    )
    return version


def _context(version: Any, theano: bool, custom_objects: Mapping[str, Any]) -> Context:
    """Return the settings that old files omit and the version of Keras implies."""
    if not isinstance(version, str):
        raise FileError(f"keras_version is {str(version)[:60]}; expected text")
    numbers = [int(number) for number in re.findall(r"\d{1,9}", version)[:2]]
    if not numbers or numbers[0] not in (1, 2, 3):
        raise FileError(f"keras_version is {version!r}, but this Onward knows Keras 1, 2 and 3")
    of_tensorflow = "tf" in version
    return Context(
        numbers[0],
        # Keras 2.3 made sigmoid the default
        recurrent_activation="sigmoid" if numbers >= [2, 3] else "hard_sigmoid",
        # in TensorFlow since its 1.13, which calls itself 2.2.4-tf; Keras 2.4 is that of TensorFlow
        zeros_in_both=None if numbers == [2] else numbers >= [2, 2 if of_tensorflow else 4],
        masks_inside=numbers == [2] or (numbers[0] == 2 and (of_tensorflow or numbers >= [2, 2])),
        attention_removes_masks=numbers >= [3, 8],
        theano=theano,
        custom_objects=custom_objects,
    )
