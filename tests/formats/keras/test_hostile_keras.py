"""Hostile HDF5 files and Keras archives are refused."""

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import support
from support import hostile

pytestmark = pytest.mark.filterwarnings("ignore:Keras 1 does not record")
DATA = support.DATA / "keras"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Callable[[str, bytes], Path]]:
    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    yield write


def hdf5(change: Callable[[h5py.File], None]) -> bytes:
    content = io.BytesIO((DATA / "tagger_2.h5").read_bytes())
    with h5py.File(content, "r+") as file:
        change(file)
    return content.getvalue()


def kernel(file: h5py.File) -> str:
    """The path of the embedding's table."""
    group = file["model_weights"]["embedding"]
    return f"/model_weights/embedding/{group.attrs['weight_names'][0]}"


def replace_kernel(make: Callable[[h5py.File, str], None]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        path = kernel(file)
        del file[path]
        make(file, path)

    return change


def circle(file: h5py.File) -> None:
    file["model_weights/embedding/loop"] = file["model_weights"]


HOSTILE = {
    "external link": replace_kernel(
        lambda file, path: file.__setitem__(path, h5py.ExternalLink("/etc/hostname", "/x"))
    ),
    "soft link": replace_kernel(lambda file, path: file.__setitem__(path, h5py.SoftLink("/model_weights"))),
    "external data": replace_kernel(
        lambda file, path: file.create_dataset(path, (5, 4), "f4", external=[("/etc/passwd", 0, 80)]) and None
    ),
    "no numbers": replace_kernel(lambda file, path: file.create_dataset(path, (5, 4), "f4") and None),
    "huge and empty": replace_kernel(
        lambda file, path: file.create_dataset(path, (1 << 40, 1 << 20), "f4", chunks=(1, 1)) and None
    ),
    "compressed": replace_kernel(
        lambda file, path: (
            file.create_dataset(path, data=np.zeros((20_000, 2_000), "f4"), compression="gzip") and None
        )
    ),
    "huge chunk": replace_kernel(
        lambda file, path: (
            file.create_dataset(
                path,
                data=np.zeros((5, 4), "f4"),
                maxshape=(None, None),
                chunks=(1 << 13, 1 << 12),
                compression="gzip",
            )
            and None
        )
    ),
    "text": replace_kernel(lambda file, path: file.create_dataset(path, data=[b"x"]) and None),
    "circle": circle,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_hdf5_is_refused(name: str, files: Callable[[str, bytes], Path]) -> None:
    hostile.refused(files("hostile.h5", hdf5(HOSTILE[name])))


def archive(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as target:
        with zipfile.ZipFile(DATA / "tagger_3.keras") as source:
            given = {name: source.read(name) for name in source.namelist()}
        for name, data in (given | members).items():
            target.writestr(name, data)
    return content.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        {"../../evil": b""},
        {"/etc/evil": b""},
        {"model.weights.h5": bytes(1 << 27)},
        {"config.json": b"[" * 100_000},
        {"config.json": b'{"class_name": "Sequential"}'},
        {"config.json": b'{"class_name": "Sequential", "config": {"name": "x", "layers": [3]}}'},
        {"metadata.json": b"[]"},
        {"model.weights.h5": b"nothing"},
    ],
    ids=["above", "absolute", "bomb", "deep", "no config", "no layer", "no version", "no hdf5"],
)
def test_hostile_archives_are_refused(members: dict[str, bytes], files: Callable[[str, bytes], Path]) -> None:
    hostile.refused(files("hostile.keras", archive(**members)))


def test_json_in_another_encoding_is_refused(files: Callable[[str, bytes], Path]) -> None:
    config = '{"class_name": "Sequential"}'.encode("utf-32-le")
    assert "config.json is not valid JSON" in hostile.refused(
        files("hostile.keras", archive(**{"config.json": config}))
    )
