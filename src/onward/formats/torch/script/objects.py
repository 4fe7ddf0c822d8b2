"""The pickled modules of an archive as objects, with their attributes, for one call after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from ....graph.node import AnyArray
from ..archive import Archive
from ..unpickle import Global, PickledObject
from .code import Class, Code
from .recorder import Recorder
from .recording import Recording
from .values import Object, Unknown

MAX_DEPTH = 64
MAX_OBJECTS = 200_000
LISTS = {f"torch.jit._pickle.build_{kind}list" for kind in ("int", "tensor", "double", "bool")}


class Loader:
    """Creates the objects of an archive anew for each recording; the arrays are always the same."""

    def __init__(self, archive: Archive, code: Code) -> None:
        self.archive, self.code = archive, code
        self.arrays: dict[str, AnyArray] = {}
        self._names: dict[int, str] = {}  # names of the arrays, by the id of the pickled tensor
        self._by_memory: dict[Any, str] = {}
        self._layers: dict[Any, Any] = {}  # that all recordings share
        self.begin(Recorder(Recording()))

    def begin(self, recorder: Recorder) -> None:
        """Start a recording: forget the objects of the one before."""
        self.recorder, recorder.layers = recorder, self._layers
        self._objects: dict[int, Any] = {}
        self._count = 0

    def module(self) -> Object:
        """Return the module of the archive."""
        value = self.value(self.archive.tree, "", 0)
        if not isinstance(value, Object):
            raise ArgumentError("the archive contains no module")
        return value

    def constants(self) -> Sequence[Any]:
        """Return the constants of the code."""
        values = self.archive.constants
        return [self.value(each, f"CONSTANTS.c{i}", 0) for i, each in enumerate(values)]

    def value(self, pickled: Any, path: str, depth: int) -> Any:
        """Return a pickled value as the code sees it; `path` leads to it."""
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_OBJECTS:
            raise ArgumentError(
                f"the file has more than {MAX_OBJECTS} values, or more than {MAX_DEPTH} levels"
            )
        if id(pickled) in self._objects:
            return self._objects[id(pickled)]
        if isinstance(pickled, list | tuple):
            inner = [self.value(each, f"{path}.{i}", depth + 1) for i, each in enumerate(pickled)]
            return inner if isinstance(pickled, list) else tuple(inner)
        if isinstance(pickled, dict):
            return {key: self.value(each, f"{path}.{key}", depth + 1) for key, each in pickled.items()}
        if not isinstance(pickled, PickledObject):
            return pickled if not isinstance(pickled, Global) else Unknown(f"{path} is a class")
        if pickled.path in LISTS or pickled.path == "torch.jit._pickle.restore_type_tag":
            return self.value(pickled.args[0], path, depth + 1)
        if pickled.path.startswith("__torch__."):
            kind = self.code.find(pickled.path)
            if not isinstance(kind, Class):
                raise ArgumentError(f"the archive has no class {pickled.path[:100]}")
            created = self._objects[id(pickled)] = Object(kind, path=path)
            for name, value in (pickled.state if isinstance(pickled.state, dict) else {}).items():
                inner_path = f"{path}.{name}" if path else str(name)
                created.attributes[name] = self.value(value, inner_path, depth + 1)
            return created
        name = self._array_name(pickled, path)
        if name is None:
            return Unknown(f"{path} is a {pickled.path}, which is not supported")
        if name not in self.recorder.graph.values:
            self.recorder.graph.add_constant(self.arrays[name], name)
        tensor = self._objects[id(pickled)] = self.recorder.tensor(name)
        return tensor

    def _array_name(self, pickled: PickledObject, path: str) -> str | None:
        """Return the name of a tensor's array; tensors with the same elements share one."""
        if id(pickled) not in self._names:
            array = self.archive.array(pickled)
            if array is None:
                return None
            array = np.asarray(array, order="C")
            key = (array.ctypes.data, array.shape, array.dtype.str) if array.size else (path,)
            name = self._by_memory.setdefault(key, path)
            if name not in self.arrays:
                self.arrays[name] = array.copy()  # the file may change while the model lives
            self._names[id(pickled)] = name
        return self._names[id(pickled)]
