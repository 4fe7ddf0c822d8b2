"""Models saved by Onward load unchanged; a crash keeps the old file; descriptions are checked."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.safetensors_files import container, problem, saved, state_dict

import onward
from onward.errors import ArgumentError, FileError
from onward.formats.native import LAYERS
from onward.layers.base import Layer

RNG = np.random.default_rng(0)


MODELS = [
    onward.RNN(5, 7, nonlinearity="relu", bias=False),
    onward.LSTM(5, 7, num_layers=3, bidirectional=True, proj_size=2, dtype="float64"),
    onward.GRU(5, 7, reset_after=False, batch_first=True, dropout=0.5),
    onward.Linear(5, 7, bias=False),
    onward.Embedding(5, 7, padding_idx=0),
    onward.Conv1d(6, 4, 3, padding="same", groups=2),
    onward.Conv2d(6, 4, (3, 2), stride=(2, 1), dtype="float64"),
    onward.MaxPool2d((3, 2), 1),
    onward.AvgPool1d(3, count_include_pad=False),
    onward.BatchNorm1d(6, 0.1),
    onward.LayerNorm((3, 7), bias=False),
    onward.GroupNorm(2, 6),
    onward.Last(),
    onward.Sequential(
        onward.Embedding(9, 5), onward.LSTM(5, 7), onward.Last(), onward.Linear(7, 3), onward.Softmax()
    ),
    onward.Sequential(),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_saved_models_load_unchanged(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = onward.load(str(tmp_path / "model"))
    assert type(again) is type(model)
    assert repr(again) == repr(model)
    assert again.dtype == model.dtype
    for name, weight in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], weight)
        assert again.state_dict()[name].flags.writeable


def test_every_layer_can_be_loaded() -> None:
    public = [getattr(onward, name) for name in onward.__all__]
    layers = {c.__name__ for c in public if isinstance(c, type) and issubclass(c, Layer)}
    assert layers - {"Sequential"} <= LAYERS.keys()


def test_a_loaded_model_gives_the_same_outputs(tmp_path: Path) -> None:
    model, x = MODELS[-2], RNG.integers(0, 9, (6, 4))
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(
        onward.load(tmp_path / "model")(x, lengths=[1, 2, 6, 0]), model(x, lengths=[1, 2, 6, 0])
    )


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_crash_while_saving_keeps_the_old_file(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "model"
    MODELS[0].save(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, broken, crash)
    with pytest.raises(FileError, match=f"{re.escape(str(path))} cannot be written: No space left on device"):
        MODELS[1].save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows restricts links")
def test_saving_through_a_link_replaces_its_target_with_default_permissions(tmp_path: Path) -> None:
    target, link, other = tmp_path / "target", tmp_path / "link", tmp_path / "other"
    other.touch()
    link.symlink_to(target)
    MODELS[0].save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_saving_to_an_impossible_path_names_it(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "model", tmp_path):
        with pytest.raises(FileError, match=f"{re.escape(str(path))} cannot be written"):
            MODELS[0].save(path)


LINEAR = {
    "format": 1,
    "type": "Linear",
    "in_features": 3,
    "out_features": 2,
    "bias": True,
    "dtype": "float32",
}


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        (LINEAR | {"format": 2}, "has format 2, but this Onward reads format 1: upgrade Onward"),
        (LINEAR | {"format": "one"}, "has format 'one'"),
        ({"type": "Linear"}, "'onward' is not the JSON that Onward writes: 'format'"),
        ([LINEAR], "'onward' is not the JSON that Onward writes"),
        (3, "'onward' is not the JSON that Onward writes"),
        (
            LINEAR | {"type": "Telepathy"},
            "a layer of type 'Telepathy'; expected one of",
        ),
        (LINEAR | {"type": ["Linear"]}, r"a layer of type ['Linear']"),
        ({"format": 1}, "a layer of type None"),
        ({"format": 1, "type": "Linear", "in_features": 3}, "missing a required argument: 'out_features'"),
        (LINEAR | {"device": "cuda"}, "Linear: has no argument device"),
        (LINEAR | {"self": 1}, "Linear: multiple values for argument 'self'"),
        (LINEAR | {"in_features": 1e9}, "in_features=1000000000.0, but must be an integer"),
        (LINEAR | {"in_features": {}}, "in_features={}, but must be an integer"),
        (LINEAR | {"dtype": "complex64"}, "dtype='complex64'"),
        (LINEAR | {"in_features": 4}, "weight has shape (2, 3); expected (2, 4)"),
        (LINEAR | {"bias": False}, "bias is not expected"),
        (LINEAR | {"dtype": "float64"}, "weight has dtype float32; expected float64"),
        (LINEAR | {"type": "LSTM"}, "LSTM: has no argument in_features, out_features"),
        ({"format": 1, "type": "Sequential"}, "a layer of type 'Sequential'"),
        ({"format": 1, "type": "Sequential", "layers": [3]}, "a layer of type None"),
        ({"format": 1, "type": "Sequential", "layers": [LINEAR]}, "Linear: has no argument format"),
        ({"format": 1, "type": "Sequential", "layers": []}, "weight is not expected"),
        ({"format": 1, "type": "Last"}, "weight is not expected"),
        ({"format": 1, "type": "Last", "rng": 1}, "Last: has no argument rng"),
    ],
)
def test_descriptions_are_checked(architecture: Any, words: str, tmp_path: Path) -> None:
    assert words in problem(saved(tmp_path, state_dict(onward.Linear(3, 2)), architecture))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "nul", '{"format": 1e999}'])
def test_invalid_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(container({}, {"onward": text}))
    assert "model" in problem(tmp_path / "model")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    weights = state_dict(onward.Linear(3, 2))
    del weights["weight"]
    assert "weight is missing; expected shape (2, 3)" in problem(saved(tmp_path, weights, LINEAR))


def test_options_that_the_file_records_are_refused(tmp_path: Path) -> None:
    MODELS[0].save(tmp_path / "model")
    with pytest.raises(ArgumentError, match="the file records its options; remove the arguments"):
        onward.load(tmp_path / "model", batch_first=False)


PEAK = """
import sys
import numpy as np
import onward

def peak() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

before = peak()
model = onward.load(sys.argv[1])
layer = model[""] if isinstance(model, dict) else model
layer(np.zeros((1, 1, layer.input_size)))
print(peak() - before)
"""


@pytest.mark.parametrize("foreign", [False, True])
def test_loading_needs_memory_for_the_weights_and_their_packed_form_only(
    foreign: bool, tmp_path: Path
) -> None:
    layer, path = onward.LSTM(1024, 600, rng=0), tmp_path / "model"
    layer.save(path)
    if foreign:
        path = saved(tmp_path, layer.state_dict())
    taken = subprocess.run([sys.executable, "-c", PEAK, path], check=True, capture_output=True, text=True)
    weights = sum(weight.nbytes for weight in layer.state_dict().values())
    assert int(taken.stdout) < 1.3 * 2 * weights
