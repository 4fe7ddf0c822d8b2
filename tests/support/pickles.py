"""Hand-written pickles and archives in the formats of torch.save."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import onward
from onward.errors import FileError

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def tensor(
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None = None,
    start: int = 0,
    key: str = "0",
    kind: str = "FloatStorage",
    view: bytes = b"",
) -> bytes:
    """The opcodes with which torch.save writes a tensor."""
    if strides is None:
        strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    axes = [b"(" + b"".join(map(number, sizes)) + b"t" for sizes in (shape, strides)]
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\n" + kind.encode() + b"\n"
        + text(key) + text("cpu") + number(1) + view + b"tQ" + number(start) + b"".join(axes)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def entries(**values: bytes) -> bytes:
    """A pickled dict."""
    return b"\x80\x02}(" + b"".join(text(name) + value for name, value in values.items()) + b"u."


def zipped(pickled: bytes, *storages: bytes, **more: bytes) -> Callable[[Path], Path]:
    """An archive like those that torch.save writes."""

    def write(folder: Path) -> Path:
        path = folder / "model.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", pickled)
            for key, storage in enumerate(storages):
                archive.writestr(f"model/data/{key}", storage)
            for name, content in more.items():
                archive.writestr(f"model/{name}", content)
        return path

    return write


def floats(count: int) -> bytes:
    return np.arange(count, dtype="<f4").tobytes()


def problem(path: Path) -> str:
    """The error that every function for opening the file raises; it must name the file."""
    for opened in (onward.load_tensors, onward.load):
        with pytest.raises(FileError) as error:
            opened(path)
        assert str(path) in str(error.value)
    return str(error.value)


def problem_of_load(path: Path) -> str:
    with pytest.raises(FileError) as error:
        onward.load(path)
    assert str(path) in str(error.value)
    return str(error.value)
