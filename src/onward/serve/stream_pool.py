"""A pool of separate streams, for whole models whose rows cannot run together."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import storage
from ..errors import FileError
from ..graph.node import AnyArray
from ..streaming.graph_stream import FILE_TYPE, GraphStream, check_file, fingerprint


class StreamPool:
    """Streams with ids, as those of `GraphPool`."""

    def __init__(self, stream: GraphStream) -> None:
        self._new = stream
        self._streams: dict[int, GraphStream] = {}
        self._next = 0

    def open(self, n: int = 1) -> NDArray[np.int64]:
        """Open n streams and return their ids."""
        ids = np.arange(self._next, self._next + n)
        self._next += n
        self._streams |= {number: self._new.copy() for number in ids.tolist()}
        return ids

    def close(self, ids: ArrayLike) -> None:
        """Close streams."""
        for number in np.asarray(ids).tolist():
            del self._streams[number]

    def step(
        self, ids: Sequence[int], run: Callable[[GraphStream, int], list[AnyArray]]
    ) -> list[list[AnyArray]]:
        """Run each stream with its place in ids, and return the list of the results for each output.

        A call that raises changes no stream.
        """
        streams = [self._streams[number].copy() for number in ids]
        results = [run(stream, place) for place, stream in enumerate(streams)]
        self._streams |= zip(ids, streams, strict=True)
        return [list(outputs) for outputs in zip(*results, strict=True)]

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids of the open streams, ascending."""
        return np.array(sorted(self._streams), np.int64)

    def __len__(self) -> int:
        return len(self._streams)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ids and carries of all streams. Raises FileError."""
        tensors = {f"{i}.{name}": a for i, each in self._streams.items() for name, a in each.state.items()}
        tensors["ids"] = self.ids
        storage.write(path, tensors, {"type": FILE_TYPE, "model": fingerprint(self._new._streamed)})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace all streams with those in a file. Raises FileError."""
        tensors, metadata = storage.read(path)
        check_file(path, metadata, FILE_TYPE, self._new._streamed)
        streams: dict[int, Any] = {}
        try:
            for number in tensors["ids"].tolist():
                streams[number] = self._new.copy()
                streams[number].state = {name: tensors[f"{number}.{name}"] for name in self._new.state}
        except (KeyError, ValueError) as error:
            raise FileError(f"{path} does not hold the streams that it lists: {error}") from error
        self._streams, self._next = streams, max(streams, default=-1) + 1
