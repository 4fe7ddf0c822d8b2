"""The content of a file of a compiled model, which cpp/run/model_file.h describes and reads."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import onward._core as _core

from ...core import files
from ...graph import Input
from ...graph.node import AnyArray
from ...graph.plan.builder import aligned
from ...graph.plan.view import DTYPES
from ...graph.plan.words import WordWriter
from . import HEADER, SIGNATURE
from .programs import Compiled, FileRecorder, GraphPrograms

ALIGNMENT = 64  # bytes
CHECKSUM, SIZE = 16, 24  # where they are in the header


class FileWriter:
    """Collects what a file says about graphs and streams, in words."""

    def __init__(self, recorder: FileRecorder) -> None:
        self._recorder, self._writer = recorder, WordWriter(self._place)

    def write(self, *values: Any) -> None:
        """Append values: numbers, names, lists, arrays, or None."""
        for value in values:
            self._writer.write(value)

    def graph(self, programs: GraphPrograms, outputs: Sequence[Input]) -> None:
        """Append a graph, with its inputs and outputs as a caller sees them."""
        self._ports(programs.graph.inputs)
        self._ports(outputs)
        self._writer.words.append(len(programs.compiled))
        for compiled in programs.compiled:
            self._part(compiled)

    def content(self) -> bytes:
        """Return the content of the file."""
        weights = [
            [len(each["arrays"]), *map(int, each["arrays"]), *each["words"]]
            for each in self._recorder.weights
        ]
        arrays, offset, data = [], 0, bytearray()
        for array in self._recorder.tensors.values():
            arrays.append((array.dtype.name, list(array.shape), offset, None))
            data += array.tobytes()
            data += bytes(-len(data) % ALIGNMENT)
            offset = len(data)
        start = WordWriter(self._place)
        start.words.append(len(arrays))
        for dtype, shape, where, _ in arrays:
            for value in (dtype, shape, where):
                start.write(value)
        start.words.append(len(weights))
        for part in weights:
            start.words.extend((len(part), *part))
        words = np.array(start.words + self._writer.words, "<i8").tobytes()
        gap = bytes(-len(words) % ALIGNMENT)
        end = HEADER + len(words) + len(gap)
        rest = struct.pack("<5q", end + len(data), HEADER, len(words) // 8, end, len(data))
        start_of_file = struct.pack("<8sII", SIGNATURE, _core.FILE_VERSION, _core.FILE_LANES)
        return _checked(start_of_file, rest + words + gap + data)

    def _place(self, array: NDArray[Any]) -> int:
        """Return the number under which an array is stored."""
        return int(self._recorder.name_of(array))

    def _ports(self, ports: Sequence[Input]) -> None:
        self._writer.words.append(len(ports))
        for name, dtype, axes, _ in ports:
            assert dtype is not None
            self.write(name, dtype.name, axes is not None, len(axes or ()))
            for axis in axes or ():
                self.write(*((-1, axis) if isinstance(axis, str) else (axis, "")))

    def _part(self, compiled: Compiled) -> None:
        """Append a program, after its length in words."""
        words, start = self._writer.words, len(self._writer.words)
        words.append(0)
        program = compiled.program
        words.append(len(program.signature))
        for required in program.signature:
            assert required is not None
            dtype, shape, value, _ = required
            self.write(dtype, list(shape))
            self.write(None if value is None else np.frombuffer(value, _dtype(dtype)).reshape(shape))
        self.write([dtype.name for dtype in compiled.plan.dtypes])
        constants: AnyArray | None = aligned(program.constants) if program.constants else None
        self.write(constants)
        words.extend(compiled.words.tolist())
        words[start] = len(words) - start - 1


def with_records(content: bytes, records: Mapping[str, Any]) -> bytes:
    """Return the content of a file with records in JSON behind its data, which programs do not read."""
    text = json.dumps(records).encode()
    size = struct.pack("<q", len(content) + len(text))
    return _checked(content[:CHECKSUM], size + content[SIZE + 8 :] + text)


def records(content: memoryview, name: str) -> Any:
    """Return what `with_records` added, or an empty dict. Raises FileError if it is no JSON."""
    if len(content) < HEADER:
        return {}
    data, data_size = struct.unpack_from("<2q", content, HEADER - 16)
    return files.parse_json(content[max(HEADER, data + data_size) :] or b"{}", f"{name}: the records")


def _checked(start: bytes, rest: bytes) -> bytes:
    return start + struct.pack("<Q", _core.checksum(rest)) + rest


def _dtype(name: str) -> np.dtype[Any]:
    assert name in DTYPES
    return np.dtype(name)
