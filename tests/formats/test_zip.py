"""NumPy's files: arrays are read by name, load into layers, and are checked."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support
from support import hostile

import onward
from onward.errors import FileError

SILERO = support.DATA / "silero_vad"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_every_layout_are_read_by_name(save: Any, tmp_path: Path) -> None:
    arrays = {
        "a.b": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.eye(3, 2, dtype="f4")),
        "swapped": np.arange(3, dtype=">f4"),
        "none": np.zeros((0, 3)),
        "one": np.float64(3),
        "half": np.ones(2, "f2"),
    }
    save(tmp_path / "weights.npz", **arrays)
    found = onward.load_tensors(tmp_path / "weights.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_changed_numbers_are_found_by_their_checksum(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "weights.npz", a=np.arange(300.0))
    content = bytearray((tmp_path / "weights.npz").read_bytes())
    for place in np.random.default_rng(0).integers(200, len(content) - 150, 20):
        content[place] ^= 4
        (tmp_path / "weights.npz").write_bytes(content)
        with pytest.raises(FileError, match=r"the member a.npy is damaged|has \d+ bytes"):
            onward.load_tensors(tmp_path / "weights.npz")
        content[place] ^= 4


def test_an_npy_is_one_array(tmp_path: Path) -> None:
    np.save(tmp_path / "weight.npy", np.eye(3, 2))
    np.testing.assert_array_equal(onward.load_tensors(tmp_path / "weight.npy")[""], np.eye(3, 2))


def test_load_weights_by_name(tmp_path: Path) -> None:
    source, target = (onward.Sequential(onward.GRU(3, 4), onward.Linear(4, 2)) for _ in range(2))
    np.savez(tmp_path / "weights.npz", **source.state_dict())
    target.load_weights(tmp_path / "weights.npz")
    np.testing.assert_array_equal(target(np.ones((5, 3))), source(np.ones((5, 3))))
    parts = onward.load(tmp_path / "weights.npz")
    assert {path: repr(layer) for path, layer in parts.items()} == {"0": "GRU(3, 4)", "1": "Linear(4, 2)"}


def test_a_trained_lstm_gives_the_outputs_of_its_framework() -> None:
    lstm = onward.load(SILERO / "lstm_weights.npz")[""]
    with np.load(SILERO / "frames.npz") as frames:
        y, (h, c) = lstm(frames["x"])
        np.testing.assert_allclose(y, frames["y"], rtol=0, atol=2e-6)
        np.testing.assert_allclose(h[0], frames["y"][-1], rtol=0, atol=2e-6)
        np.testing.assert_allclose(c[0, 0], frames["c"], rtol=0, atol=5e-5)


def npy(shape: str, dtype: str = "<f4", content: bytes = b"") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(f"({1 << 40}, {1 << 40})"), r"a.npy has shape \(1099511627776, 1099511627776\): "),
        (npy(f"(0, {1 << 63})"), "a.npy has shape"),
        (npy(f"({(1 << 63) - 1},)", "|u1", b"abc"), "a.npy has shape"),  # NumPy's own check overflows
        (npy("(3,)", content=bytes(11)), r"a.npy has shape \(3,\): 78 bytes are too few"),
        (npy("(" + "1, " * 65 + ")", content=bytes(4)), "at most 64 axes"),
        (npy("(-1,)"), "a.npy does not have the header of an array of numbers"),
        (npy("(1,)", "<f3", bytes(8)), "a.npy has shape"),
        (npy("(1,)", "|O", bytes(8)), "a.npy does not have the header of an array of numbers"),
        (npy("(1,)", "<U2", bytes(8)), "a.npy does not have the header of an array of numbers"),
        (npy("(" * 1000), "a.npy does not have the header of an array of numbers"),
        (npy("(1,)" + " " * 60_000), "a.npy does not have the header of an array of numbers"),
        (npy("open('x', 'w')"), "a.npy does not have the header of an array of numbers"),
        (
            b"\x93NUMPY\x09\x00" + bytes(9),
            "a.npy does not start with the header of a NumPy array",
        ),
        (b"", "a.npy does not start with the header of a NumPy array"),
    ],
)
def test_claimed_sizes_are_checked_before_allocation(content: bytes, words: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "weights.npz", "w") as archive:
        archive.writestr("a.npy", content)
    with hostile.bounded(memory=1 << 26), pytest.raises(FileError, match=words) as error:
        onward.load_tensors(tmp_path / "weights.npz")
    assert "weights.npz" in str(error.value)
