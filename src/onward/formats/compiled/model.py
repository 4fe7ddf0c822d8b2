"""Compiled models, which run the programs of a file."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import ArrayLike

import onward._core as _core

from ...errors import ArgumentError, FileError
from ...layers.base_model import BaseModel

# What a first call does not need is imported where it is used: opening a compiled model must be fast.

if TYPE_CHECKING:
    from ...graph import Graph
    from ...streaming.graph_pool import GraphPool
    from ...streaming.graph_stream import GraphStream
    from .running import FilePlanner, FileStreamed


class CompiledModel(BaseModel):
    """A model from a `.onward` file: it runs without compiling, for the sizes that the file was compiled for.

    `inputs` and `outputs` are the names. All inputs are required. A file may hold calls, streams, or both.

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np, onward
    >>> path = Path(tempfile.mkdtemp()) / "model.onward"
    >>> summary = onward.GRU(3, 4, rng=0).compile(path)
    >>> model = onward.load(path)
    >>> model(np.ones((5, 1, 3), np.float32)).shape
    (5, 1, 4)
    >>> model.stream()(np.ones((2, 3), np.float32)).shape
    (2, 4)
    """

    without_graph: ClassVar[str] = "holds programs, not layers: use the model that was compiled"

    def __init__(self, file: Any) -> None:
        self._file = file
        ports = file.ports("calls")
        self._calls = None if ports is None else file.plans("calls")
        inputs, outputs = ports or ([], [])
        self.inputs, self.outputs = tuple(each[0] for each in inputs), tuple(each[0] for each in outputs)

    def __call__(self, /, *args: ArrayLike, **inputs: ArrayLike) -> Any:
        """Run the model.

        Arrays are converted to the dtypes of the inputs if these are of the same kind or wider. Raises
        SignatureError for unknown or missing inputs, ShapeError for sizes for which the file has no program,
        DtypeError, MemoryLimitError, and ArgumentError, which names the node, for values that a node does not
        accept.
        """
        results = None if self._calls is None else self._calls(args, inputs)
        if results is None:
            results = self._planner.converted(args, inputs)
        return results[0] if len(results) == 1 else results

    @cached_property
    def _planner(self) -> FilePlanner:
        from .running import FilePlanner

        if self._calls is None:
            raise ArgumentError("the file has programs for streams only: compile the model with a call")
        return FilePlanner(self._file, "calls", self._calls)

    @property
    def declared(self) -> Graph:
        """The inputs and outputs of calls, or of blocks if the file has no calls, without nodes."""
        from .running import FilePlanner

        return FilePlanner(self._file, "blocks" if self._calls is None else "calls", self._calls).graph

    @cached_property
    def streamed(self) -> FileStreamed:
        """The programs for blocks. Raises ArgumentError if the file has none."""
        from .running import FileStreamed

        return FileStreamed.of(self._file)

    def stream(self, batch: int | None = None) -> GraphStream:
        """Return a sequence that continues from call to call, or `batch` of them: `y = stream(x)`.

        The outputs are bitwise those of a stream of the model that was compiled. Raises ArgumentError if the
        file has no programs for streams.
        """
        from ...streaming.graph_stream import stream_of

        return stream_of(self.streamed.of_rows, batch)

    def pool(self, capacity: int, max_capacity: int | None = None) -> GraphPool:
        """Return streams addressed by id: `ids = pool.open(n)`, `y = pool.step(ids, x)`.

        Raises ArgumentError if the file has no programs for streams.
        """
        from ...streaming.graph_pool import pool_of

        return pool_of(self.streamed, capacity, max_capacity)

    def description(self) -> dict[str, Any]:
        raise ArgumentError(f"a compiled model {self.without_graph}")

    def weights_by_name(self) -> dict[str, Any]:
        self.description()
        return {}

    def state_dict(self) -> dict[str, Any]:
        return self.weights_by_name()

    def quantize(self, precision: str, *, check: Any = None, tolerance: float | None = None) -> Any:
        self.description()

    def summary_rows(self) -> list[Any]:
        self.description()
        return []

    def __repr__(self) -> str:
        streams = "" if self._file.stream() is None else ", streams"
        return f"CompiledModel(({', '.join(self.inputs)}) -> ({', '.join(self.outputs)}){streams})"


def load(path: str | os.PathLike[str], data: bytes | memoryview) -> CompiledModel:
    """Return the model of a file with this content. Raises FileError."""
    try:
        return CompiledModel(_core.ModelFile(data))
    except ValueError as error:
        raise FileError(f"{os.fspath(path)} cannot be opened: {error}") from None
