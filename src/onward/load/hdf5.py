"""HDF5 read as if it were hostile: plain datasets and text attributes, inside the file, of the file's size.

Needs h5py: pip install 'onward[keras]'.
"""

import io
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
FILTERS = {"gzip", "lzf", None}
MAX_RATIO, SLACK = 20, 1 << 24  # of what a file unpacks to: times its size, and bytes beyond that
MAX_OBJECTS, MAX_DEPTH = 100_000, 64

Result = TypeVar("Result")


class Group:
    """A group of a file: its members by name in the file's order, its text attributes, its arrays.

    Every reading raises FileError for what is damaged, leads out of the file or in a circle, or claims more
    than the file can hold.
    """

    def __init__(self, group: Any, file: "_File", path: str = "", above: tuple[int, ...] = ()) -> None:
        self._group = group
        self._file = file
        self.path = path
        self._above = above

    def __iter__(self) -> Iterator[str]:
        return iter(_try(self.path, lambda: list(self._group)))

    def __contains__(self, name: str) -> bool:
        return _try(self.path, lambda: self._group.get(name, getlink=True) is not None)

    def group(self, path: str) -> "Group":
        """The group at a path from this one, or FileError."""
        found: Any = self
        for name in path.split("/"):
            found = found[name]
            if not isinstance(found, Group):
                raise FileError(f"{found.path} is no group")
        return found  # type: ignore[no-any-return]

    def __getitem__(self, name: str) -> "Group | Dataset":
        path = f"{self.path}/{name}"
        return _try(path, lambda: self._member(name, path))

    def _member(self, name: str, path: str) -> "Group | Dataset":
        import h5py

        link = self._group.get(name, getlink=True)
        if link is None:
            raise FileError(f"{path} is missing")
        if not isinstance(link, h5py.HardLink):
            raise FileError(f"{path} is a {type(link).__name__}, which may lead anywhere: it is not followed")
        self._file.count(path)
        member = self._group[name]
        if isinstance(member, h5py.Dataset):
            return Dataset(member, self._file, path)
        if not isinstance(member, h5py.Group):
            raise FileError(f"{path} is neither a group nor an array")
        address = h5py.h5o.get_info(member.id).addr
        if address in self._above or len(self._above) > MAX_DEPTH:
            raise FileError(f"{path} leads in a circle, or deeper than {MAX_DEPTH} groups")
        return Group(member, self._file, path, (*self._above, address))

    def text(self, name: str) -> str | None:
        """The attribute of that name, if there is one."""
        values = self.texts(name)
        return None if values is None else values[0] if len(values) == 1 else "".join(values)

    def texts(self, name: str) -> list[str] | None:
        """A list of texts; Keras stores a long one in pieces, with the number of the piece after the name."""
        return _try(f"{self.path}@{name}", lambda: self._texts(name))

    def _texts(self, name: str) -> list[str] | None:
        attributes = self._group.attrs
        pieces = [name] if name in attributes else []
        while f"{name}{len(pieces)}" in attributes and pieces != [name]:
            pieces.append(f"{name}{len(pieces)}")
        if not pieces:
            return None
        texts: list[str] = []
        for piece in pieces:
            identifier = attributes.get_id(piece)
            # texts of any length lie elsewhere in the file, where two may share a place
            self._file.take(math.prod(identifier.shape) * max(identifier.dtype.itemsize, 64), piece)
            for value in np.atleast_1d(np.asarray(attributes[piece], object)).reshape(-1):
                texts.append(value.decode("utf-8") if isinstance(value, bytes) else str(value))
                self._file.take(len(texts[-1]), piece)
        return texts


class Dataset:
    """An array in a file, read when asked for."""

    def __init__(self, dataset: Any, file: "_File", path: str) -> None:
        self._dataset = dataset
        self._file = file
        self.path = path

    @property
    def shape(self) -> tuple[int, ...]:
        """As the file claims it."""
        return _try(self.path, lambda: tuple(self._dataset.shape))

    def read(self) -> NDArray[Any]:
        """The numbers. Their size is checked before memory is taken for them."""
        return _try(self.path, self._read)

    def _read(self) -> NDArray[Any]:
        dataset, path = self._dataset, self.path
        if dataset.external or dataset.is_virtual:
            raise FileError(f"{path} has its numbers in other files, which are not read")
        if dataset.dtype.kind not in "biuf":
            raise FileError(f"{path} has type {dataset.dtype}; expected numbers")
        if dataset.compression not in FILTERS or dataset.scaleoffset is not None:
            raise FileError(f"{path} is compressed with {dataset.compression or 'scale-offset'}: unknown")
        itemsize = dataset.dtype.itemsize
        self._file.take(math.prod(dataset.shape) * itemsize, path)
        self._file.take(math.prod(dataset.chunks or (0,)) * itemsize, path)
        if math.prod(dataset.shape) and not dataset.id.get_storage_size():
            raise FileError(f"{path} claims the shape {dataset.shape}, but the file holds no numbers for it")
        array: NDArray[Any] = dataset[()]
        return array


class _File:
    """How much of a file may still be read."""

    def __init__(self, size: int) -> None:
        self._left = size * MAX_RATIO + SLACK
        self._objects = MAX_OBJECTS

    def take(self, size: int, path: str) -> None:
        self._left -= size
        if self._left < 0:
            raise FileError(f"{path} and what stands before it claim {MAX_RATIO} times what the file holds")

    def count(self, path: str) -> None:
        self._objects -= 1
        if self._objects < 0:
            raise FileError(f"{path} and what stands before it are more than {MAX_OBJECTS} objects")


def read(data: bytes) -> Group:
    """The root of a file in memory. Raises FileError."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise FileError(
            "HDF5 is read with h5py, which is not installed: pip install 'onward[keras]'"
        ) from error
    # the library is never given a path, so that nothing beside the file can be opened
    return Group(_try("", lambda: h5py.File(io.BytesIO(data), "r")), _File(len(data)))


def _try(path: str, action: Callable[[], Result]) -> Result:
    """What the action gives; whatever the library raises on damaged files becomes a FileError."""
    try:
        return action()
    except FileError:
        raise
    except (
        Exception
    ) as error:  # it has no list of its errors: OSError, RuntimeError, KeyError, ValueError, ...
        raise FileError(f"{path or 'HDF5'} is damaged: {error}") from error
