"""Keras files in tests/data/keras, Keras' outputs for them, and copies with changed configurations."""

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from . import DATA as ALL_DATA

DATA = ALL_DATA / "keras"
ANSWERS = np.load(DATA / "answers.npz")


def case(name: str) -> tuple[list[Any], list[Any]]:
    """The inputs of a file's model and Keras' outputs for them."""
    keys = sorted(key for key in ANSWERS if key.startswith(f"{name}/"))
    return [ANSWERS[k] for k in keys if "/x" in k], [ANSWERS[k] for k in keys if "/y" in k]


def called(model: Any, inputs: list[Any]) -> list[Any]:
    outputs = model(inputs if len(inputs) > 1 else inputs[0])
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def changed(name: str, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the file with a changed configuration."""
    path = tmp_path / name
    shutil.copy(DATA / name, path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def layer_of(config: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in config["config"]["layers"] if each["class_name"] == kind)[
        "config"
    ]
    return found


def written(
    path: Path,
    kind: str,
    config: dict[str, Any],
    weights: dict[str, Any],
    *shapes: tuple[int, ...],
    dtype: str = "float32",
) -> Path:
    """Write a model of one layer, called with inputs of some shapes; `weights` are by path in the layer."""
    names = [f"input_{i}" for i in range(len(shapes))]
    keras = {"module": "keras.layers", "registered_name": None}
    inputs = [
        {
            "class_name": "InputLayer",
            "config": {"batch_shape": [None, *shape], "dtype": dtype, "name": name},
            "name": name,
        }
        for name, shape in zip(names, shapes, strict=True)
    ]
    tensors = [
        {"class_name": "__keras_tensor__", "config": {"shape": [None, *shape], "keras_history": [name, 0, 0]}}
        for name, shape in zip(names, shapes, strict=True)
    ]
    args = [tensors] if kind in ("Attention", "AdditiveAttention") else tensors
    calls = [{"args": args, "kwargs": {}}]
    own = {"class_name": kind, "config": {"name": "it", **config}, "name": "it", "inbound_nodes": calls}
    model = {
        "name": "model",
        "layers": [*({**keras, **each, "inbound_nodes": []} for each in inputs), keras | own],
        "input_layers": [[name, 0, 0] for name in names],
        "output_layers": ["it", 0, 0],
    }
    stored, layers = io.BytesIO(), re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
    with h5py.File(stored, "w") as file:
        file.create_group("vars")
        for name, array in weights.items():
            file[f"layers/{layers}/{name}"] = array
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.10.0"}))
        functional = {"module": "keras.src.models.functional", "class_name": "Functional", "config": model}
        archive.writestr("config.json", json.dumps(functional))
        archive.writestr("model.weights.h5", stored.getvalue())
    return path
