"""Damaged files of every format are loaded or refused with an error that names them, without side effects."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
import support
from onnx import helper
from safetensors.numpy import save
from support import hostile, onnx_nodes

import onward

TORCH = support.DATA / "torch"
LSTM, DENSE = onward.LSTM(1, 1, rng=0), onward.Linear(1, 1, rng=0)
SHAPES = {"lstm": {"kernel": (1, 4), "recurrent_kernel": (1, 4), "bias": (4,)}}
SHAPES |= {"dense": {"kernel": (1, 1), "bias": (1,)}}


def saved() -> bytes:
    """A file saved by Onward, which includes the architecture."""
    model = onward.Sequential(onward.Conv1d(1, 1, 1), onward.BatchNorm1d(1), LSTM, DENSE)
    weights = {name: weight.copy() for name, weight in model.state_dict().items()}
    return save(weights, {"onward": json.dumps({"format": 1, **model.description()})})


def npz(write: Callable[..., Any]) -> bytes:
    buffer = io.BytesIO()
    write(buffer, **LSTM.state_dict())
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.eye(3))
    return buffer.getvalue()


def config() -> dict[str, Any]:
    """The Keras configuration of a model with an LSTM and a Dense layer."""
    layers = [
        {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, None, 1]}},
        {"class_name": "LSTM", "config": {"name": "lstm", "units": 1, "return_sequences": True}},
        {"class_name": "Dense", "config": {"name": "dense", "units": 1, "activation": "tanh"}},
    ]
    return {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}


def h5(with_model: bool) -> bytes:
    """An HDF5 file as Keras 2 writes it: a model with its weights, or only weights."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        root = file
        if with_model:
            file.attrs["model_config"] = json.dumps(config())
            root = file.create_group("model_weights")
        root.attrs["layer_names"] = list(SHAPES)
        for layer, arrays in SHAPES.items():
            names = {f"{layer}/{name}:0": shape for name, shape in arrays.items()}
            root.create_group(layer).attrs["weight_names"] = list(names)
            for name, shape in names.items():
                root[layer][name] = np.ones(shape, "f4")
    return buffer.getvalue()


def keras_archive() -> bytes:
    """An archive like those that Keras 3 writes."""
    weights, archive = io.BytesIO(), io.BytesIO()
    with h5py.File(weights, "w") as file:
        for path, layer in (("lstm/cell", "lstm"), ("dense", "dense")):
            for place, shape in enumerate(SHAPES[layer].values()):
                file[f"layers/{path}/vars/{place}"] = np.ones(shape, "f4")
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("metadata.json", json.dumps({"keras_version": "3.15.0"}))
        target.writestr("config.json", json.dumps(config()))
        target.writestr("model.weights.h5", weights.getvalue())
    return archive.getvalue()


def graph() -> bytes:
    weights = {"W": np.ones((1, 4, 1), "f4"), "R": np.ones((1, 4, 1), "f4"), "B": np.ones((1, 8), "f4")}
    node = helper.make_node("LSTM", ["X", *weights], ["Y"], hidden_size=1)
    model: onnx.ModelProto = onnx_nodes.model_of([node], {"X": np.ones((2, 3, 1), "f4")}, ["Y"], weights)
    return model.SerializeToString()


def fill(path: Path) -> Any:
    """Load a file that contains only weights."""
    model = onward.Sequential(LSTM, DENSE)
    model.load_weights(path)
    return model


# For each kind of file: how it is opened, and how a model that loads is checked.
READ: dict[str, Any] = {"load": onward.load_tensors}
PARTS: dict[str, Any] = {"check": hostile.check_parts}
MODEL: dict[str, Any] = {"check": hostile.check_model}
SCRIPT: dict[str, Any] = {"check": hostile.check_script}
FILES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "saved.safetensors": (saved(), {}),
    "state_dict.safetensors": (save(LSTM.state_dict()), PARTS),
    "zip.pt": ((TORCH / "weights.pt").read_bytes(), PARTS),
    "legacy.pt": ((TORCH / "legacy.pt").read_bytes(), PARTS),
    "whole.pt": ((TORCH / "front_whole.pt").read_bytes(), PARTS),
    "script.pt": ((TORCH / "front_script.pt").read_bytes(), SCRIPT),
    "trace.pt": ((TORCH / "front_trace.pt").read_bytes(), SCRIPT),
    "weights.npz": (npz(np.savez), PARTS),
    "compressed.npz": (npz(np.savez_compressed), PARTS),
    "weight.npy": (npy(), READ),
    "model.keras": (keras_archive(), MODEL),
    "model.h5": (h5(with_model=True), MODEL),
    "weights.h5": (h5(with_model=False), {"load": fill}),
    "graph.onnx": (graph(), MODEL),
}


@pytest.fixture(scope="module", autouse=True)
def all_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load every undamaged file first, so that no imports remain for the damaged ones."""
    folder = tmp_path_factory.mktemp("good")
    for name, (content, how) in FILES.items():
        (folder / name).write_bytes(content)
        loaded = how.get("load", onward.load)(folder / name)
        how.get("check", lambda loaded: None)(loaded)


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bytes, dict[str, Any]]:
    """The path to write to, the content of a valid file, and the function that opens and checks it."""
    return tmp_path / request.param, *FILES[request.param]


def test_truncated_files_are_refused(file: Any) -> None:
    path, content, how = file
    assert hostile.open_damaged(path, hostile.truncated(content), **how) == 100


def test_files_with_a_changed_byte_are_loaded_or_refused(file: Any) -> None:
    path, content, how = file
    places = 25 if how is SCRIPT else 250  # recording a script takes 40 ms
    hostile.open_damaged(path, hostile.flipped(content, places), **how)


def test_files_with_changed_integers_are_loaded_or_refused(file: Any) -> None:
    path, content, how = file
    places = 3 if how is SCRIPT else 15  # as above
    hostile.open_damaged(path, hostile.inflated(content, places), **how)


def test_files_with_the_signature_of_another_format_are_refused(file: Any) -> None:
    path, content, how = file
    starts = {other[:8] for other, _ in FILES.values()} | {bytes(8), b"\xff" * 8, b"\x89PNG\r\n\x1a\n"}
    others = [start + content[8:] for start in starts if start[:4] != content[:4]]
    assert hostile.open_damaged(path, others, **how) == len(others)


STORED = ["keras/graph_3.keras", "keras/tagger_2.h5", "torch/script.pt", "torch/trace.pt", "torch/weights.pt"]
STORED += ["exported_program/torch_2.13.pt2", "releases/0.1.0/tagger.safetensors"]
# In another process, which dies if it reads the end of a memory-mapped file that is gone.
OVERWRITE = """
import sys, onward
for path in sys.argv[1:]:
    model = onward.load(path)
    open(path, "wb").close()
    if isinstance(model, dict):
        model["rnn"].state_dict()
    else:
        model.save(path)
        onward.load(path)
"""


def test_a_model_survives_the_loss_of_its_file(tmp_path: Path) -> None:
    paths = [shutil.copy(support.DATA / name, tmp_path / name.replace("/", "_")) for name in STORED]
    graph: Any = onward.load(support.DATA / "keras/graph_3.keras")
    graph.save(tmp_path / "graph.safetensors")
    graph.export_onnx(tmp_path / "graph.onnx")
    paths += [tmp_path / "graph.safetensors", tmp_path / "graph.onnx"]
    subprocess.run([sys.executable, "-c", OVERWRITE, *map(str, paths)], check=True)
