"""Safetensors files written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

import onward
from onward.errors import FileError


def container(
    tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None
) -> bytes:
    """A safetensors file from the dtype, shape and bytes of each tensor."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def state_dict(layer: Any, prefix: str = "", dtype: str = "f4") -> dict[str, Any]:
    return {prefix + name: weight.astype(dtype) for name, weight in layer.state_dict().items()}


def saved(folder: Path, tensors: dict[str, Any], architecture: Any = None) -> Path:
    path = folder / "model.safetensors"
    metadata = None if architecture is None else {"onward": json.dumps(architecture)}
    path.write_bytes(safetensors.numpy.save(tensors, metadata))
    return path


def problem(path: Path, **options: Any) -> str:
    """The error that loading raises; it must name the file."""
    with pytest.raises(FileError) as error:
        onward.load(path, **options)
    assert str(path) in str(error.value)
    return str(error.value)
