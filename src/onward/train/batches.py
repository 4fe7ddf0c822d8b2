"""Data in batches: sequences by length, one long sequence cut into chunks, or whatever an iterable gives."""

from __future__ import annotations  # np.random is slow to import

import zlib
from collections.abc import Iterable, Iterator, Sized
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import arrays
from ..core.checks import flag, integer
from ..errors import ArgumentError, ShapeError

AnyArray: TypeAlias = NDArray[Any]
MIXED = 0.25  # by how much of its length a sequence may move among those of other lengths


class Batch(NamedTuple):
    """x and lengths as the model takes them, targets as the loss takes them.

    With goes_on, the state begins where that of the batch before ended.
    """

    x: Any
    targets: Any
    lengths: NDArray[np.int64] | None = None
    goes_on: bool = False


class Data:
    """Batches, the same number in each epoch; None where that is not known."""

    size: int | None

    def settings(self) -> dict[str, Any]:
        """What a training that goes on from a checkpoint must find as it was, as JSON can hold it."""
        return {"number of batches": self.size}

    def epoch(self, rng: np.random.Generator | None) -> Iterator[Batch]:
        """The batches of one epoch, in an order drawn from `rng` before the first; None: their own order."""
        raise NotImplementedError


class Batches(Data):
    """Sequences, those of like length in a batch, so that little is padded; drawn anew for each epoch.

    x: (T, N, ...), (N, T, ...) with batch_first, or a list of N arrays (T, ...). y: (N, ...), a target for
    each sequence, or one for each step: laid out as x, or a list of arrays if x is. lengths (N,): how many of
    the steps of each sequence count; None: all. batch_size: sequences in a batch; None: 32, or all if there
    are fewer. Raises ArgumentError, ShapeError, DtypeError.
    """

    def __init__(
        self,
        x: ArrayLike | list[Any],
        y: ArrayLike | list[Any],
        lengths: ArrayLike | None = None,
        batch_size: int | None = None,
        batch_first: bool = False,
    ) -> None:
        self.batch_first = flag("batch_first", batch_first)
        self.items, self.targets = (
            _listed(x, y) if isinstance(x, list) else _split(x, y, lengths, batch_first)
        )
        N = len(self.items)
        if N == 0:
            raise ArgumentError("the data is empty: x has no sequence")
        if len(self.targets) != N:
            raise ShapeError(f"y has {len(self.targets)} targets, but x has {N} sequences")
        self.batch_size = min(32, N) if batch_size is None else integer("batch_size", batch_size, 1)
        if self.batch_size > N:
            raise ArgumentError(
                f"batch_size={batch_size}, but the data has {N} sequences: make it {N} or less"
            )
        self.size = -(-N // self.batch_size)
        for n, (item, target) in enumerate(zip(self.items, self.targets, strict=True)):
            if item.shape[1:] != self.items[0].shape[1:]:
                first = self.items[0].shape
                raise ShapeError(f"x[{n}] has shape {item.shape}, but x[0] {first}: only T may differ")
            if isinstance(self.targets, list) and len(target) != len(item):
                raise ShapeError(f"y[{n}] has {len(target)} steps, but x[{n}] has {len(item)}")
        if isinstance(x, list) and lengths is not None:
            self._cut(lengths)
        self.lengths = np.array([len(item) for item in self.items], np.int64)

    def settings(self) -> dict[str, Any]:
        steps, targets = int(self.lengths.sum()), self.targets
        of = self.items + targets if isinstance(targets, list) else [*self.items, targets]
        content = f"{len(self.items)} sequences of {steps} steps in all, checksum {_checksum(of)}"
        return super().settings() | {"batch size": self.batch_size, "data set": content}

    def _cut(self, lengths: ArrayLike) -> None:
        """Leaves of each sequence, and of its targets, the first so many steps."""
        ends = arrays.as_lengths(lengths, (len(self.items),), max(map(len, self.items)))
        for n, (item, end) in enumerate(zip(self.items, ends, strict=True)):
            if end > len(item):
                raise ArgumentError(f"lengths[{n}] is {end}, but x[{n}] has {len(item)} steps")
            self.items[n] = item[:end]
            if isinstance(self.targets, list):
                self.targets[n] = self.targets[n][:end]

    def epoch(self, rng: np.random.Generator | None) -> Iterator[Batch]:
        N = len(self.items)
        near = self.lengths if rng is None else self.lengths * rng.uniform(1 - MIXED, 1 + MIXED, N)
        order = np.argsort(near, kind="stable")
        numbers = np.arange(self.size or 0) if rng is None else rng.permutation(self.size or 0)
        for number in numbers:
            yield self.batch(order[number * self.batch_size : (number + 1) * self.batch_size])

    def batch(self, rows: NDArray[np.integer[Any]]) -> Batch:
        """The batch of the sequences numbered."""
        x = arrays.padded([self.items[row] for row in rows])
        if isinstance(self.targets, list):
            y = arrays.padded([self.targets[row] for row in rows])
            if self.batch_first:
                y = y.swapaxes(0, 1)
        else:
            y = self.targets[rows]
        return Batch(x.swapaxes(0, 1) if self.batch_first else x, y, self.lengths[rows])


def _listed(x: list[Any], y: Any) -> tuple[list[AnyArray], list[AnyArray] | AnyArray]:
    """Sequences and targets of a list of arrays."""
    items = [np.atleast_1d(arrays.as_array(item, f"x[{n}]")) for n, item in enumerate(x)]
    if isinstance(y, list) and all(np.ndim(item) for item in y):
        return items, [arrays.as_array(item, f"y[{n}]") for n, item in enumerate(y)]
    return items, np.atleast_1d(arrays.as_array(y, "y"))


def _split(
    x: ArrayLike, y: ArrayLike, lengths: ArrayLike | None, batch_first: bool
) -> tuple[list[AnyArray], list[AnyArray] | AnyArray]:
    """Sequences and targets of padded arrays; a list of targets is one for each step."""
    x, y = arrays.as_array(x, "x"), np.atleast_1d(arrays.as_array(y, "y"))
    if x.ndim < 2:
        layout = "(N, T, ...)" if batch_first else "(T, N, ...)"
        raise ShapeError(f"x has shape {x.shape}, but must be {layout}, or a list of arrays (T, ...)")
    rows = x if batch_first else x.swapaxes(0, 1)
    N, T = rows.shape[:2]
    ends = np.full(N, T) if lengths is None else arrays.as_lengths(lengths, (N,), T)
    items = [row[:end] for row, end in zip(rows, ends, strict=True)]
    if y.shape[:2] != x.shape[:2]:
        return items, y
    by_row = y if batch_first else y.swapaxes(0, 1)
    return items, [row[:end] for row, end in zip(by_row, ends, strict=True)]


def _checksum(of: list[AnyArray]) -> str:
    total = 0
    for array in of:
        total = zlib.crc32(array.tobytes(), total)
    return f"{total:08x}"


class Chunks(Data):
    """One long sequence, for truncated backpropagation through time.

    x (N, ...) and y (N, ...), a target for each step, are cut into batch_size parts of equal length, which
    run side by side, `steps` at a time; the state is carried on from chunk to chunk, the gradient is not. The
    fewer than batch_size steps left over at the end are left out. Raises ArgumentError, ShapeError.
    Source: Williams and Peng 1990.
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int = 32,
        steps: int = 100,
        batch_first: bool = False,
    ) -> None:
        x, y = arrays.as_array(x, "x"), arrays.as_array(y, "y")
        if x.ndim == 0 or y.shape[:1] != x.shape[:1]:
            raise ShapeError(f"x has shape {x.shape} and y {y.shape}, but both must be (N, ...): N steps")
        if len(x) == 0:
            raise ArgumentError("the data is empty: x has no step")
        B = integer("batch_size", batch_size, 1)
        if B > len(x):
            raise ArgumentError(f"batch_size={B}, but the data has {len(x)} steps: make it {len(x)} or less")
        self.steps = integer("steps", steps, 1)
        self.batch_first = flag("batch_first", batch_first)
        self.x, self.y = (a[: len(a) // B * B].reshape(B, -1, *a.shape[1:]) for a in (x, y))
        self.size = -(-self.x.shape[1] // self.steps)

    def settings(self) -> dict[str, Any]:
        content = f"{self.x.shape[0] * self.x.shape[1]} steps, checksum {_checksum([self.x, self.y])}"
        sizes = {"batch size": len(self.x), "steps of a chunk": self.steps}
        return super().settings() | sizes | {"data set": content}

    def epoch(self, rng: np.random.Generator | None) -> Iterator[Batch]:
        for start in range(0, self.x.shape[1], self.steps):
            x, y = (a[:, start : start + self.steps] for a in (self.x, self.y))
            if not self.batch_first:
                x, y = x.swapaxes(0, 1), y.swapaxes(0, 1)
            yield Batch(x, y, goes_on=start > 0)


class Given(Data):
    """The batches of an iterable, as model and loss take them: Batch, or (x, targets[, lengths])."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches
        self.size = len(batches) if isinstance(batches, Sized) else None

    def epoch(self, rng: np.random.Generator | None) -> Iterator[Batch]:
        for batch in self.batches:
            if isinstance(batch, Batch):
                yield batch
            elif isinstance(batch, tuple | list) and len(batch) in (2, 3):
                yield Batch(*batch)
            else:
                given = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
                raise ArgumentError(
                    f"the data gave a {type(batch).__name__}{given}, but must give (x, targets[, lengths])"
                )


def as_data(data: Any, batch_first: bool) -> Data:
    """What `fit` and `evaluate` take as data: arrays (x, y) or (x, y, lengths), Data, or an iterable."""
    if isinstance(data, Data):
        return data
    if isinstance(data, tuple):
        if len(data) not in (2, 3):
            raise ArgumentError(f"data is a tuple of {len(data)}, but must be (x, y) or (x, y, lengths)")
        x, y, *lengths = data
        return Batches(x, y, lengths[0] if lengths else None, batch_first=batch_first)
    if not isinstance(data, Iterable):
        raise ArgumentError(
            f"data is a {type(data).__name__}, but must be (x, y), Batches, Chunks or an iterable of batches"
        )
    return Given(data)
