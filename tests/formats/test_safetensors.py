"""Safetensors files: headers are checked, and files that cannot be opened are named."""

import builtins
import json
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import hostile
from support.safetensors_files import container, problem, saved, state_dict

import onward

RNG = np.random.default_rng(0)


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    onward.Linear(5, 7).save(tmp_path / "model")
    monkeypatch.setattr(builtins, "open", refuse)
    assert "cannot be read: Permission denied" in problem(tmp_path / "model")


def test_a_missing_file_or_a_device_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in problem(tmp_path / "nowhere")
    assert "is not a file" in problem(tmp_path)
    if os.name == "posix":
        assert "is not a file" in problem(Path("/dev/null"))


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(8), b"\xff" * 64, b'{"a": 1}\n']
)
def test_an_unknown_format_is_refused_with_the_supported_ones(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(content)
    expected = "model has an unknown format" if content else "model is empty"
    assert f"{expected}; supported formats are safetensors" in problem(tmp_path / "model")
    (tmp_path / "model.safetensors").write_bytes(content)
    assert "is not a complete safetensors file" in problem(tmp_path / "model.safetensors")


SAVED_MODEL = b'\x08\x01\x12\xe6\x95B\n\xc8$\x12\x9e$\nB\n\x05AddV2\x12\x06\n\x01x"\x01T'
CORE_ML = b"\x08\x06\x12\xda\x01\n\x18\n\x07input_2\x1a\r*\x0b\n\x05\x01\xc4\xd6\x02\x01\x10\xa0\x80\x04"


def test_files_of_tensorflow_and_core_ml_are_not_called_damaged(tmp_path: Path) -> None:
    """They start with the first field of ONNX."""
    (tmp_path / "model.mlpackage").mkdir()
    for name, content in {
        "saved_model.pb": SAVED_MODEL, "graph.pb": SAVED_MODEL[9:], "a.mlmodel": CORE_ML, "model": CORE_ML
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    for name, expected in {
        "saved_model.pb": "unknown format.*convert them with tf2onnx",
        "graph.pb": "unknown format.*convert them with tf2onnx",
        ".": "is a directory.*convert them with tf2onnx",
        "a.mlmodel": "unknown format.*Core ML models: export the model",
        "model": "unknown format; supported formats are",
        "model.mlpackage": "is a directory.*Core ML models: export the model",
    }.items():
        assert re.search(expected, found := problem(tmp_path / name)), found


def test_models_of_onnx_in_files_of_another_name_are_opened(tmp_path: Path) -> None:
    (tmp_path / "init_net.pb").write_bytes(b"\x08\x03\x12\x07pytorch")
    assert "graph" in problem(tmp_path / "init_net.pb")  # which it lacks


FLOAT = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def test_unknown_keys_in_a_header_are_ignored(tmp_path: Path) -> None:
    header = json.dumps({"w": {**FLOAT, "say": 1}}).encode()
    (tmp_path / "model").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert onward.load_tensors(tmp_path / "model")["w"].shape == (2,)


@pytest.mark.parametrize(
    ("length", "header", "content"),
    [
        *((1 << bits, {"a": FLOAT}, bytes(8)) for bits in (0, 31, 32, 62, 63)),
        (None, {"a": FLOAT, "b": FLOAT}, bytes(8)),
        (None, {"a": FLOAT, "b": FLOAT | {"data_offsets": [4, 12]}}, bytes(12)),
        (None, {"a": FLOAT | {"data_offsets": [8, 0]}}, bytes(8)),
        (None, {"a": FLOAT | {"data_offsets": [0, 1 << 62]}}, bytes(8)),
        (None, {"a": FLOAT | {"shape": [1 << 62, 1 << 62]}}, bytes(8)),
        (None, {"a": FLOAT | {"shape": [1 << 32, 1 << 32, 0], "data_offsets": [0, 0]}}, b""),
        (None, {"a": FLOAT | {"shape": [1 << 64, 0], "data_offsets": [0, 0]}}, b""),
        (None, {"a": FLOAT | {"shape": [1] * 99 + [2]}}, bytes(8)),
    ],
)  # fmt: skip
def test_lengths_offsets_and_shapes_are_checked(
    length: int | None, header: dict[str, Any], content: bytes, tmp_path: Path
) -> None:
    text = json.dumps(header).encode()
    size = len(text) if length is None else length
    (tmp_path / "model").write_bytes(size.to_bytes(8, "little") + text + content)
    with hostile.bounded():
        problem(tmp_path / "model")


def test_false_sizes_allocate_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(container({"weight": ("F32", [1 << 20, 1 << 20], bytes(64))}))
    tracemalloc.start()
    assert "is not a complete safetensors file" in problem(path)
    linear = {"format": 1, "type": "Linear", "in_features": 3, "out_features": 10**12}
    lstm = {"format": 1, "type": "LSTM", "input_size": 3, "hidden_size": 10**30}
    conv = {"format": 1, "type": "Conv1d", "in_channels": 10**300, "out_channels": 1, "kernel_size": 10**300}
    for architecture in (linear, lstm, lstm | {"hidden_size": 1, "num_layers": 10**12}, conv):
        message = problem(saved(tmp_path, state_dict(onward.Linear(3, 2)), architecture))
        assert any(words in message for words in ("expected", "must be an integer from", "are allowed"))
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_an_unsupported_dtype_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(container({"fc.weight": ("F8_E4M3", [2, 3], bytes(6))}))
    assert "fc.weight has dtype F8_E4M3; expected one of" in problem(tmp_path / "model")


def test_half_precision_becomes_float32_exactly(tmp_path: Path) -> None:
    values = RNG.standard_normal((2, 3)).astype(np.float32)
    bfloat16 = (values.view(np.uint32) >> 16).astype("<u2")
    special = np.array([0x7F80, 0xFF80, 0x8000, 0x0001, 0x7FC0, 0x3F80], "<u2")
    (tmp_path / "model").write_bytes(
        container(
            {
                "a.weight": ("F16", [2, 3], values.astype("<f2").tobytes()),
                "b.weight": ("BF16", [2, 3], bfloat16.tobytes()),
                "c.weight": ("BF16", [1, 6], special.tobytes()),
            }
        )
    )
    parts = onward.load(tmp_path / "model")
    weights = {name: layer.state_dict()["weight"] for name, layer in parts.items()}
    np.testing.assert_array_equal(weights["a"], values.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(weights["b"], (values.view(np.uint32) & 0xFFFF0000).view(np.float32))
    np.testing.assert_array_equal(weights["c"], [[np.inf, -np.inf, -0.0, 2.0**-133, np.nan, 1]])
    assert {layer.dtype for layer in parts.values()} == {np.dtype("f4")}
