"""The C library through ctypes: models, sessions and their arrays."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import onward

from . import ROOT

MAX_AXES = 16
CALL, STREAM, POOL = range(3)
OK, OUT_OF_MEMORY, NOT_READABLE, BAD_FILE, BAD_ARGUMENT, NO_PROGRAM, BAD_VALUE = range(7)
DTYPES = [np.dtype(name) for name in ("float32", "float64", "int32", "int64", "int8", "uint8", "bool")]

Arrays = list[NDArray[Any]]

# Layers that stream, with every option that the file of a compiled model has.
MODELS: dict[str, Any] = {
    "rnn": lambda: onward.RNN(3, 5, 2, rng=0),
    "rnn clipped": lambda: onward.RNN(3, 5, nonlinearity="relu", clip=0.7, rng=0),
    "gru": lambda: onward.GRU(3, 17, rng=0),
    "gru reset before": lambda: onward.GRU(3, 5, reset_after=False, bias=False, rng=0),
    "lstm": lambda: onward.LSTM(3, 33, 2, rng=0),
    "lstm projected": lambda: onward.LSTM(3, 8, proj_size=3, rng=0),
    "lstm options": lambda: onward.LSTM(
        3, 6, peephole=True, coupled=True, clip=0.5, activations=("hard_sigmoid", "softplus", "mish"), rng=0
    ),
    "lstm batch first": lambda: onward.LSTM(3, 5, batch_first=True, rng=0),
    "norms": lambda: onward.Sequential(
        onward.Linear(3, 6, rng=0), onward.GRU(6, 5, rng=1), onward.LayerNorm(5), onward.Softmax()
    ),
    "int8": lambda: onward.Sequential(onward.GRU(3, 8, rng=0), onward.Linear(8, 2, rng=1)).quantize("int8"),
    "float16": lambda: onward.Sequential(onward.LSTM(3, 8, rng=0), onward.Linear(8, 2)).quantize("float16"),
    "last": lambda: onward.Sequential(onward.LSTM(3, 4, rng=0), onward.Last(), onward.Linear(4, 2, rng=1)),
}


class Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        ("axes", ctypes.c_int32),
        ("sizes", ctypes.c_int64 * MAX_AXES),
        ("bytes", ctypes.c_size_t),
    )


class Port(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int),
        ("axes", ctypes.c_int32),
        ("sizes", ctypes.c_int64 * MAX_AXES),
        ("axis_names", ctypes.c_char_p * MAX_AXES),
    )


class CError(Exception):
    """A status and a message of the library."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def path() -> Path:
    """The library that the editable install built."""
    found = sorted(ROOT.glob("build/*/cpp/c/libonward.so"), key=lambda each: each.stat().st_mtime)
    if not found:
        pytest.skip("the C library is built by an editable install on Linux only")
    return found[-1]


def compiled(source: Path, program: Path) -> Path:
    """Compile a C program with the library, and return it; warnings are errors."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = path()
    command = [compiler, "-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{ROOT}/include"]
    command += [str(source), "-o", str(program), str(library), f"-Wl,-rpath,{library.parent}", "-lm"]
    subprocess.run(command, check=True)
    return program


class Library:
    """Functions that raise CError."""

    def __init__(self) -> None:
        self.c = ctypes.CDLL(str(path()))
        self.c.onward_error_message.restype = ctypes.c_char_p
        self.c.onward_version.restype = ctypes.c_char_p

    def __call__(self, name: str, *arguments: Any) -> None:
        status = getattr(self.c, f"onward_{name}")(*arguments)
        if status != OK:
            raise CError(status, self.c.onward_error_message().decode())


class CModel:
    """A model in memory or in a file."""

    def __init__(self, source: bytes | Path) -> None:
        self.library, self.pointer, self._source = Library(), ctypes.c_void_p(), source
        if isinstance(source, bytes):
            size = ctypes.c_size_t(len(source))
            self.library("open_memory", source, size, ctypes.byref(self.pointer))
        else:
            self.library("open_file", str(source).encode(), ctypes.byref(self.pointer))

    def ports(self, kind: str, mode: int) -> list[tuple[str, Any, list[int | str]]]:
        """The name, the dtype and the axes of each input or output."""
        found, port = [], Port()
        for i in range(getattr(self.library.c, f"onward_{kind}s")(self.pointer, mode)):
            self.library(kind, self.pointer, mode, i, ctypes.byref(port))
            axes = [
                port.sizes[axis] if port.sizes[axis] >= 0 else port.axis_names[axis].decode()
                for axis in range(port.axes)
            ]
            found.append((port.name.decode(), DTYPES[port.dtype], axes))
        return found

    def session(self, mode: int = CALL, streams: int = 1) -> CSession:
        return CSession(self, mode, streams)

    def __del__(self) -> None:
        self.library.c.onward_close(self.pointer)


class CSession:
    """A session; its calls take and return NumPy arrays."""

    def __init__(self, model: CModel, mode: int, streams: int) -> None:
        self.model, self.library, self.pointer = model, model.library, ctypes.c_void_p()
        self._outputs = self.library.c.onward_outputs(model.pointer, mode)
        count = ctypes.c_int64(streams)
        self.library("session_open", model.pointer, mode, count, ctypes.byref(self.pointer))

    def run(self, *inputs: NDArray[Any], out: Any = None) -> Arrays:
        """Run a call; `out` are arrays, or `targets` that a call before took."""
        outputs = out if isinstance(out, ctypes.Array) else self.targets(out)
        self.library("run", self.pointer, _tensors(inputs), len(inputs), outputs, self._outputs)
        return list(map(_array, outputs))

    def step(self, ids: Sequence[int], *inputs: NDArray[Any], out: Arrays | None = None) -> Arrays:
        numbers, outputs = (ctypes.c_int64 * max(len(ids), 1))(*ids), self.targets(out)
        n = ctypes.c_int64(len(ids))
        self.library("step", self.pointer, numbers, n, _tensors(inputs), len(inputs), outputs, self._outputs)
        return list(map(_array, outputs))

    def finish(self, id: int = 0) -> Arrays:
        outputs = self.targets(None)
        self.library("finish", self.pointer, ctypes.c_int64(id), outputs, self._outputs)
        return list(map(_array, outputs))

    def reserve(self, *inputs: NDArray[Any]) -> None:
        self.library("session_reserve", self.pointer, _tensors(inputs), len(inputs))

    def reset(self, id: int = 0) -> None:
        self.library("reset", self.pointer, ctypes.c_int64(id))

    def save(self, id: int = 0) -> bytes:
        size = ctypes.c_size_t()
        self.library("state_size", self.pointer, ctypes.c_int64(id), ctypes.byref(size))
        state = ctypes.create_string_buffer(size.value)
        self.library("save_state", self.pointer, ctypes.c_int64(id), state, size)
        return state.raw

    def restore(self, state: bytes, id: int = 0) -> None:
        size = ctypes.c_size_t(len(state))
        self.library("restore_state", self.pointer, ctypes.c_int64(id), state, size)

    def targets(self, out: Arrays | None) -> Any:
        tensors = (Tensor * max(self._outputs, 1))()
        for tensor, array in zip(tensors, out or (), strict=False):
            tensor.data, tensor.bytes = array.ctypes.data, array.nbytes
        return tensors

    def __del__(self) -> None:
        self.library.c.onward_session_close(self.pointer)


def _tensors(arrays: Sequence[NDArray[Any]]) -> Any:
    tensors = (Tensor * max(len(arrays), 1))()
    for tensor, array in zip(tensors, arrays, strict=False):
        assert array.flags.c_contiguous
        tensor.data, tensor.dtype, tensor.axes = array.ctypes.data, DTYPES.index(array.dtype), array.ndim
        tensor.sizes[: array.ndim] = array.shape
    return tensors


def _array(tensor: Any) -> NDArray[Any]:
    """A copy of an output."""
    shape, dtype = tuple(tensor.sizes[: tensor.axes]), DTYPES[tensor.dtype]
    size = math.prod(shape) * dtype.itemsize
    content = ctypes.string_at(tensor.data, size) if size else b""
    return np.frombuffer(content, dtype).reshape(shape).copy()
