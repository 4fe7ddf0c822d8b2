"""Files of the states of streams and pools."""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core import storage
from ..errors import FileError, OnwardError

# How errors describe a file whose metadata differs.
OTHER_MODELS = {
    "precision": "a model in {!r}, but this one is in {!r}",
    "model": "another model",
    "weights": "this model with other weights",
}

Ids: TypeAlias = NDArray[np.integer[Any]]
Restored = TypeVar("Restored")


def write_state(path: str | os.PathLike[str], kind: str, model: Any, tensors: Mapping[str, Any]) -> None:
    """Write the state of a stream or pool, which `kind` says, of a model. Raises FileError."""
    storage.write(path, tensors, {"type": f"{kind} of {model.owner}", **model.fingerprint()})


def read_state(
    path: str | os.PathLike[str],
    kind: str,
    model: Any,
    convert: Callable[[dict[str, NDArray[Any]]], Restored],
) -> Restored:
    """Convert the tensors that `write_state` wrote for the same model.

    Raises FileError for another kind, version, precision or model, for other weights, and instead of the
    errors that `convert` raises.
    """
    expected = f"a file that {kind}.save wrote"
    tensors, metadata = storage.read(path, expected=expected)
    file_type = f"{kind} of {model.owner}"
    if metadata is None or metadata.get("type") != file_type:
        what = file_type.removesuffix(" of Onward")
        raise FileError(f"{path} is not the state of a {what}: expected {expected}")
    for key, own in model.fingerprint().items():
        if metadata.get(key) != own:
            raise FileError(f"{path} is the state of {OTHER_MODELS[key].format(metadata.get(key), own)}")
    try:
        return convert(tensors)
    except KeyError as error:
        raise FileError(f"{path} has no {error.args[0]}") from error
    except OnwardError as error:
        raise FileError(f"{path}: {error}") from error
