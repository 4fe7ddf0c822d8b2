"""What a model file records about its training table, and records that are invalid."""

from pathlib import Path
from typing import Any

import pytest

import onward
from onward.core import storage
from onward.errors import FileError
from onward.tables import model_files
from onward.tables.data import Saved, Selection

NET = onward.Sequential(onward.GRU(2, 4, rng=0), onward.Last())


def test_a_saved_record_is_read_back_and_the_model_still_opens(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    saved = Saved(Selection(("a", "b"), ("y",), None, "t", 12, 3), ("no", "yes"))
    model_files.save(path, NET, saved)
    assert model_files.load_saved(path) == saved
    assert repr(onward.load(path)) == repr(NET)


def test_other_model_files_record_nothing(tmp_path: Path) -> None:
    NET.save(tmp_path / "net.safetensors")
    onward.export_onnx(NET, tmp_path / "net.onnx")
    for name in ("net.safetensors", "net.onnx"):
        assert model_files.load_saved(tmp_path / name) == Saved()
    model_files.save(tmp_path / "same.safetensors", NET, Saved())
    assert (tmp_path / "same.safetensors").read_bytes() == (tmp_path / "net.safetensors").read_bytes()


@pytest.mark.parametrize(
    "record",
    [
        7,
        {},
        {"selection": {}, "classes": [1]},
        {"selection": {}, "classes": None},
        {"selection": {"inputs": "a"}, "classes": []},
        {"selection": {"inputs": [1]}, "classes": []},
        {"selection": {"window": -3}, "classes": []},
        {"selection": {"window": True}, "classes": []},
        {"selection": {"group": 5}, "classes": []},
        {"selection": {"other": None}, "classes": []},
    ],
)
def test_an_invalid_record_is_a_file_error(tmp_path: Path, record: Any) -> None:
    path = tmp_path / "net.safetensors"
    storage.write(path, NET.weights_by_name(), NET.description() | {"table": record})
    with pytest.raises(FileError, match=r"net\.safetensors: the metadata entry 'table' is invalid"):
        model_files.load_saved(path)
