"""Training data in batches: sequences grouped by length, one long sequence in chunks, or any iterable."""

from __future__ import annotations  # np.random is slow to import

import copy
import zlib
from collections.abc import Iterable, Iterator, Sized
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import arrays
from ..core.checks import flag, integer
from ..errors import ArgumentError, ShapeError
from ..layers.base_model import BaseModel, call
from ..layers.conv import Spatial
from ..layers.norm import BatchNorm, GroupNorm
from ..model import Model

AnyArray: TypeAlias = NDArray[Any]
Targets: TypeAlias = list[AnyArray] | AnyArray
JITTER = 0.25  # random change of each length before sorting, as a fraction of the length


class Batch(NamedTuple):
    """One batch: x and lengths for the model, targets for the loss.

    With goes_on=True, the model starts from the final state of the previous batch. weights: how much
    each row of the targets counts in the mean of the loss, (B,) for sequences; None: all the same.

    >>> import numpy as np
    >>> batch = Batch(np.zeros((20, 4, 12)), np.zeros(4, int), lengths=np.array([20, 7, 1, 3]))
    >>> batch.x.shape, batch.goes_on
    ((20, 4, 12), False)
    """

    x: Any
    targets: Any
    lengths: NDArray[np.int64] | None = None
    goes_on: bool = False
    weights: NDArray[np.float64] | None = None

    def with_x(self, x: Any) -> Batch:
        """Return the batch with another x."""
        return self._replace(x=x)


class Data:
    """Base class of data sets: batches, the same number in each epoch; `size` is None if it is unknown.

    >>> issubclass(Batches, Data) and issubclass(Chunks, Data)
    True
    """

    size: int | None

    def settings(self) -> dict[str, Any]:
        """Return the settings that must be the same when training resumes, as JSON types."""
        return {"number of batches": self.size}

    def epoch(self, rng: np.random.Generator | None) -> Iterator[Batch]:
        """Yield the batches of one epoch, in an order drawn from `rng`, or in a fixed order if it is None."""
        raise NotImplementedError

    def for_model(self, model: BaseModel) -> Data:
        """Return the data in the form that `model` needs."""
        return self


class Batches(Data):
    """Sequences in batches of similar length, to reduce padding; each epoch draws new batches.

    x: (T, N, ...), (N, T, ...) with batch_first, or a list of N arrays (T_n, ...). y: one target per
    sequence, (N,) or (N, O), or one per time step, laid out like x. lengths (N,): the number of valid steps
    of each sequence; None: all. batch_size: the number of sequences in a batch; None: 32, or N if that is
    less. per_step: whether y holds one target per time step; None infers it from the shape of y and, if that
    is ambiguous, `fit` and `evaluate` infer it from the rank of the model's output. weights (N,): how much
    each sequence counts in the mean of the loss, or a list of (T_n,) for each step; None: all the same.
    The batches have the layout of x; in `fit` and `evaluate`, that of the model.

    Raises ArgumentError, ShapeError, DtypeError.

    >>> data = Batches([np.ones((4, 2)), np.ones((3, 2))], [0, 1])
    >>> [batch.x.shape for batch in data.epoch(None)]
    [(4, 2, 2)]
    """

    def __init__(
        self,
        x: ArrayLike | list[Any],
        y: ArrayLike | list[Any],
        lengths: ArrayLike | None = None,
        batch_size: int | None = None,
        batch_first: bool = False,
        per_step: bool | None = None,
        weights: ArrayLike | list[Any] | None = None,
    ) -> None:
        self.batch_first = flag("batch_first", batch_first)
        self.per_step = None if per_step is None else flag("per_step", per_step)
        if isinstance(x, list):
            self.items = [np.atleast_1d(arrays.as_array(item, f"x[{n}]")) for n, item in enumerate(x)]
        else:
            x, y = arrays.as_array(x, "x"), arrays.as_array(y, "y")
            if x.ndim < 2:
                layout = "(N, T, ...)" if batch_first else "(T, N, ...)"
                raise ShapeError(f"x has shape {x.shape}; expected {layout}, or a list of arrays (T, ...)")
            self.items = list(x if batch_first else x.swapaxes(0, 1))
        N = len(self.items)
        if N == 0:
            raise ArgumentError("the data is empty: x has no sequence")
        for n, item in enumerate(self.items):
            if item.shape[1:] != self.items[0].shape[1:]:
                first = self.items[0].shape
                raise ShapeError(f"x[{n}] has shape {item.shape}, but x[0] {first}: only T may differ")
        self._readings = _readings(self.items, y, batch_first or isinstance(x, list))
        if self.per_step is None and len(self._readings) == 1:
            (self.per_step,) = self._readings
        if not self._readings or self.per_step not in (None, *self._readings):
            raise ShapeError(self._misfit(y))
        self.batch_size = min(32, N) if batch_size is None else integer("batch_size", batch_size, 1)
        if self.batch_size > N:
            raise ArgumentError(f"batch_size={batch_size}, but the data has {N} sequences: use {N} or less")
        self.size = -(-N // self.batch_size)
        if lengths is not None:
            ends = arrays.as_lengths(lengths, (N,), max(map(len, self.items)))
            for n, (item, end) in enumerate(zip(self.items, ends, strict=True)):
                if end > len(item):
                    raise ArgumentError(f"lengths[{n}] is {end}, but x[{n}] has {len(item)} steps")
            # the steps past each length, and their targets, are dropped
            self.items = [item[:end] for item, end in zip(self.items, ends, strict=True)]
            if True in self._readings:
                self._readings[True] = [y[:end] for y, end in zip(self._readings[True], ends, strict=True)]
        self.lengths = np.array([len(item) for item in self.items], np.int64)
        self.weights = None if weights is None else checked_weights(weights, self.lengths)

    def _misfit(self, y: Any) -> str:
        """Say why y does not fit x."""
        N = len(self.items)
        if not isinstance(y, list):
            readings = [f"({N},) or ({N}, O)", "one target per time step, laid out like x"]
            expected = " or ".join(readings) if self.per_step is None else readings[self.per_step]
            return f"y has shape {np.shape(y)}, but x has {N} sequences; expected {expected}"
        if len(y) != N:
            return f"y has {len(y)} targets, but x has {N} sequences"
        for n, (item, target) in enumerate(zip(self.items, y, strict=True)):
            if np.shape(target)[:1] != item.shape[:1]:
                return f"y[{n}] has shape {np.shape(target)}, but x[{n}] has {len(item)} steps"
            if np.shape(target)[1:] != np.shape(y[0])[1:]:
                return f"y[{n}] has shape {np.shape(target)}, but y[0] {np.shape(y[0])}: only T may differ"
        return "y has one target per time step, but per_step=False"

    def for_model(self, model: BaseModel) -> Batches:
        """Return the data in the model's layout, with one target per step if its output has a time axis."""
        data = copy.copy(self)
        data.batch_first = rows_first(model, self.batch_first)
        if self.per_step is None:
            longest = max(self.items, key=len)
            y, _ = model.run(longest[None] if data.batch_first else longest[:, None], None, None, call)
            data.per_step = y.ndim > 2
        return data

    @property
    def targets(self) -> Targets:
        """The targets: a list of N arrays (T_n, ...), or one array with a row for each sequence."""
        if self.per_step is None:
            raise ArgumentError(
                "y may hold one target per time step or one vector per sequence: pass per_step=True or False"
            )
        return self._readings[self.per_step]

    def settings(self) -> dict[str, Any]:
        targets = self.targets
        content = self.items + targets if isinstance(targets, list) else [*self.items, targets]
        if self.weights is not None:
            content += self.weights if isinstance(self.weights, list) else [self.weights]
        return super().settings() | {
            "batch size": self.batch_size,
            "data set": f"{len(self.items)} sequences, {self.lengths.sum()} steps, {_checksum(content)}",
        }

    def epoch(self, rng: np.random.Generator | None) -> Iterator[Batch]:
        N = len(self.items)
        keys = self.lengths if rng is None else self.lengths * rng.uniform(1 - JITTER, 1 + JITTER, N)
        order = np.argsort(keys, kind="stable")
        numbers = np.arange(self.size or 0) if rng is None else rng.permutation(self.size or 0)
        targets = self.targets
        for number in numbers:
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            y = self._padded(targets, rows) if isinstance(targets, list) else targets[rows]
            weights = self.weights
            if weights is not None:
                weights = self._padded(weights, rows) if isinstance(weights, list) else weights[rows]
            yield Batch(self._padded(self.items, rows), y, self.lengths[rows], weights=weights)

    def _padded(self, sequences: list[AnyArray], rows: AnyArray) -> AnyArray:
        x = arrays.padded([sequences[row] for row in rows])
        return x if self.batch_first else x.swapaxes(0, 1)


def checked_weights(weights: Any, lengths: NDArray[np.int64]) -> Targets:
    """Return weights (N,), or (T_n,) for each step, in float64. Raises ShapeError, ArgumentError."""
    try:
        rows = [np.asarray(row, np.float64) for row in weights]
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"weights must be numbers, one per sequence or one per step: {error}") from error
    per_step = bool(rows) and rows[0].ndim > 0
    if [row.shape for row in rows] != [(length,) if per_step else () for length in lengths.tolist()]:
        raise ShapeError(
            f"weights do not fit the {len(lengths)} sequences: expected ({len(lengths)},), or one per step"
        )
    every = np.concatenate([row.reshape(-1) for row in rows])
    if not (np.isfinite(every).all() and (every >= 0).all() and every.any()):
        raise ArgumentError("weights must be finite, at least 0, and not all zero")
    return rows if per_step else every


def rows_first(model: BaseModel, otherwise: bool | None = None) -> bool:
    """Return whether batches for a model have the batch axis first; `otherwise` if the model takes either.

    Convolutions do, and whole models without a time axis.
    """
    if isinstance(model, Model):
        return model.layout is None or model.batch_first
    layers = list(model.sublayers().values())
    if layers and isinstance(layers[0], Spatial | BatchNorm | GroupNorm):
        return True
    tells = otherwise is None or any("batch_first" in vars(layer) for layer in layers)
    return model.batch_first if tells else bool(otherwise)


def _readings(items: list[AnyArray], y: Any, rows_first: bool) -> dict[bool | None, Targets]:
    """Return y as a list of targets per step (True) and as an array per sequence (False), if these fit."""
    whole: AnyArray | None
    if isinstance(y, list):
        rows = [arrays.as_array(row, f"y[{n}]") for n, row in enumerate(y)]
        whole = arrays.as_array(y, "y") if len({row.shape for row in rows}) == 1 else None
    else:
        whole = np.atleast_1d(arrays.as_array(y, "y"))
        rows = list(whole if rows_first or whole.ndim < 2 else whole.swapaxes(0, 1))
    fits = len(rows) == len(items)
    fits = fits and all(
        row.shape == item.shape[:1] + rows[0].shape[1:] for row, item in zip(rows, items, strict=True)
    )
    # a model's output for a sequence has one axis
    is_whole = whole is not None and len(whole) == len(items) and not (fits and whole.ndim > 2)
    candidates: list[tuple[bool, bool, Any]] = [(fits, True, rows), (is_whole, False, whole)]
    return {per_step: targets for possible, per_step, targets in candidates if possible}


def _checksum(content: Iterable[AnyArray]) -> str:
    """Return a checksum of arrays: their dtypes, shapes and bytes."""
    total = 0
    for array in content:
        total = zlib.crc32(f"{array.dtype}{array.shape}".encode(), total)
        total = zlib.crc32(array.tobytes(), total)
    return f"checksum {total:08x}"


class Chunks(Data):
    """One long sequence in chunks, for truncated backpropagation through time.

    x (N, ...) and y (N, ...), one target per time step, are cut into batch_size parts of equal length, which
    run side by side, `steps` time steps at a time. The state is carried from chunk to chunk; the gradient is
    not. The last N mod batch_size steps are dropped. The chunks are (B, T, ...) with batch_first, otherwise
    (T, B, ...); in `fit` and `evaluate`, they have the layout of the model. Raises ArgumentError, ShapeError.

    >>> [chunk.x.shape for chunk in Chunks(np.arange(9), np.arange(9), batch_size=2, steps=3).epoch(None)]
    [(3, 2), (1, 2)]

    Source: Williams and Peng 1990.
    """

    def __init__(
        self, x: ArrayLike, y: ArrayLike, batch_size: int = 32, steps: int = 100, batch_first: bool = False
    ) -> None:
        x, y = arrays.as_array(x, "x"), arrays.as_array(y, "y")
        if x.ndim == 0 or y.shape[:1] != x.shape[:1]:
            raise ShapeError(f"x has shape {x.shape} and y {y.shape}; expected (N, ...) for both: N steps")
        if len(x) == 0:
            raise ArgumentError("the data is empty: x has no step")
        B = integer("batch_size", batch_size, 1)
        if B > len(x):
            raise ArgumentError(f"batch_size={B}, but the data has {len(x)} steps: use {len(x)} or less")
        self.steps = integer("steps", steps, 1)
        self.batch_first = flag("batch_first", batch_first)
        self.x, self.y = (a[: len(a) // B * B].reshape(B, -1, *a.shape[1:]) for a in (x, y))
        self.size = -(-self.x.shape[1] // self.steps)

    def settings(self) -> dict[str, Any]:
        content = f"{self.x.shape[0] * self.x.shape[1]} steps, {_checksum([self.x, self.y])}"
        sizes = {"batch size": len(self.x), "steps of a chunk": self.steps}
        return super().settings() | sizes | {"data set": content}

    def for_model(self, model: BaseModel) -> Chunks:
        """Return the data in the model's layout."""
        data = copy.copy(self)
        data.batch_first = rows_first(model, self.batch_first)
        return data

    def epoch(self, rng: np.random.Generator | None) -> Iterator[Batch]:
        for start in range(0, self.x.shape[1], self.steps):
            x, y = (a[:, start : start + self.steps] for a in (self.x, self.y))
            if not self.batch_first:
                x, y = x.swapaxes(0, 1), y.swapaxes(0, 1)
            yield Batch(x, y, goes_on=start > 0)


class IterableData(Data):
    """The batches of an iterable: Batch, or (x, targets[, lengths]), in the form that model and loss take."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches
        self.size = len(batches) if isinstance(batches, Sized) else None

    def settings(self) -> dict[str, Any]:
        settings = super().settings() | {"type of data": type(self.batches).__name__}
        if not isinstance(self.batches, list | tuple):  # others may produce new batches in each epoch
            return settings
        parts = (np.asarray(part) for batch in self.epoch(None) for part in batch if part is not None)
        return settings | {"data set": _checksum(parts)}

    def epoch(self, rng: np.random.Generator | None) -> Iterator[Batch]:
        for batch in self.batches:
            if isinstance(batch, Batch):
                yield batch
            elif isinstance(batch, tuple | list) and len(batch) in (2, 3):
                yield Batch(*batch)
            else:
                length = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
                raise ArgumentError(
                    f"the data yielded a {type(batch).__name__}{length}; expected (x, targets[, lengths])"
                )


def as_data(data: Any, model: BaseModel) -> Data:
    """Return arrays (x, y[, lengths]), Data or an iterable of batches as Data for a model."""
    if isinstance(data, Data):
        return data.for_model(model)
    if isinstance(data, tuple):
        if len(data) not in (2, 3):
            raise ArgumentError(f"data is a tuple of {len(data)}; expected (x, y) or (x, y, lengths)")
        x, y, lengths = (*data, None)[:3]
        return Batches(x, y, lengths, batch_first=rows_first(model)).for_model(model)
    if not isinstance(data, Iterable) or isinstance(data, np.ndarray | str | bytes):
        raise ArgumentError(
            f"data is a {type(data).__name__}; expected (x, y), Batches, Chunks or an iterable of batches"
        )
    return IterableData(data)
