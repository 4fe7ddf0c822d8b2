"""Keras files in tests/data/keras, Keras' outputs for them, and copies with changed configurations."""

import json
import shutil
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
