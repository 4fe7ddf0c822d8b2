"""Run a model on many sequences, in batches and on several threads, with the bits of single calls."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any, TypeVar

import numpy as np

from ..core import arrays
from ..core.arrays import Shape
from ..errors import ArgumentError, OnwardError
from ..layers.base_model import BaseModel, call
from ..layers.sequential import consecutive_layers
from ..model import Model
from .layout import AnyArray
from .rows import Rows

Item = TypeVar("Item")
Result = TypeVar("Result")
BATCH = 64  # sequences per call, enough for the core's full speed
MOST_NAMED = 10  # the maximum number of sequences in a message


def outputs(
    model: BaseModel | Rows,
    sequences: Sequence[AnyArray] | AnyArray,
    workers: int = 1,
    advance: Callable[[int], None] | None = None,
) -> list[AnyArray]:
    """Return the output of each sequence, (T, O) or (O,), bitwise that of the sequence on its own.

    The sequences of a model that runs on `Rows`, and the outputs, have the axes that the model declares. The
    output (O,) of a sequence without a step is NaN, because it would depend on the model alone. Sequences
    (T, ...) of equal length may be a single array (N, T, ...), which is not copied. workers: the number of
    threads. advance: called with the number of sequences of each batch that ends. Raises the errors of the
    model, for any sequence.
    """
    padded = not isinstance(model, Rows) and takes_padding(model)
    most = 1 if isinstance(model, Rows) and not model.takes_many else BATCH
    batches = batch_rows([sequence.shape for sequence in sequences], padded, most)

    def run(rows: list[int]) -> list[AnyArray]:
        # rows of equal length stay in order, so a batch of an array is a slice
        whole = isinstance(sequences, np.ndarray)
        some: Any = sequences[rows[0] : rows[-1] + 1] if whole else [sequences[row] for row in rows]
        return model.run(some) if isinstance(model, Rows) else run_batch(model, some, padded)

    found: dict[int, AnyArray] = {}
    for rows, ys in zip(batches, in_order(run, batches, workers), strict=True):
        found.update(zip(rows, ys, strict=True))
        if advance is not None:
            advance(len(rows))
    return [found[row] for row in range(len(found))]


def outputs_of_steps(
    model: BaseModel | Rows,
    sequences: Sequence[AnyArray] | AnyArray,
    workers: int = 1,
    advance: Callable[[int], None] | None = None,
    name: Callable[[int], str] | None = None,
) -> list[AnyArray]:
    """Return `outputs` for sequences of steps, (T, ...), as outputs whose first axis is time.

    name: the name of each sequence, for an error of the model, which would name a place in a batch.
    """
    rows = [model.from_steps(steps) for steps in sequences] if isinstance(model, Rows) else sequences
    try:
        found = outputs(model, rows, workers, advance)
    except OnwardError as error:
        if name is not None:
            _raise_for_one(model, rows, name, error)
        raise
    return [np.moveaxis(y, model.output_time, 0) for y in found] if isinstance(model, Rows) else found


def _raise_for_one(
    model: BaseModel | Rows,
    sequences: Sequence[AnyArray] | AnyArray,
    name: Callable[[int], str],
    cause: OnwardError,
) -> None:
    """Raise the error of the first sequence that the model rejects on its own, if there is one."""
    first, last = 0, len(sequences)
    while last - first > 1:
        middle = (first + last) // 2
        try:
            outputs(model, sequences[first:middle])
        except OnwardError:
            last = middle
        else:
            first = middle
    try:
        outputs(model, sequences[first:last])
    except OnwardError as error:
        raise type(error)(f"sequence {name(first)}: {error}") from cause


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, cancelled: Event | None = None
) -> Generator[Result, None, None]:
    """Yield the results in order, computed on threads that hold two items each; the end sets `cancelled`."""
    if workers == 1:
        yield from map(function, items)
        return
    executor = ThreadPoolExecutor(workers)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) == 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        if cancelled is not None:
            cancelled.set()
        executor.shutdown(cancel_futures=True)


def runnable(model: BaseModel) -> BaseModel | Rows:
    """Return the layers of a whole model that is a chain, or the model if it takes sequences, or its rows.

    Raises ArgumentError for a model of several inputs or outputs, or without an axis of rows.
    """
    if not isinstance(model, Model):
        return model
    try:
        return model.layers()
    except ArgumentError:
        rows = Rows(model)
        return model if takes_batches(model) else rows


def takes_batches(model: Model) -> bool:
    """Whether a model takes sequences as (T, B, ...) or (B, T, ...), for any number B of them."""
    layout, axes = model.layout, model.general.planner.graph.inputs[0].axes if model.layout else None
    if layout is None or axes is None or {*layout.axes} != {0, 1}:
        return False
    return isinstance(axes[layout.axes.batch or 0], str)


def takes_padding(model: BaseModel) -> bool:
    """Whether padding leaves the outputs unchanged; layers that are not recurrent may read padded steps."""
    if isinstance(model, Model):
        return False
    layers = [layer.causal or bool(layer.state_names) for layer in consecutive_layers(model)]
    return model.causal or (bool(layers) and all(layers))


def batch_rows(shapes: Sequence[Shape], padded: bool, most: int = BATCH) -> list[list[int]]:
    """Indices of the sequences in each batch, shortest first; all of equal shape unless `padded`."""
    order = np.argsort([shape[0] for shape in shapes], kind="stable").tolist()
    groups: dict[Shape, list[int]] = {(): order} if padded else {}
    for row in () if padded else order:
        groups.setdefault(shapes[row], []).append(row)
    return [rows[start : start + most] for rows in groups.values() for start in range(0, len(rows), most)]


def run_batch(model: BaseModel, sequences: Sequence[AnyArray] | AnyArray, padded: bool) -> list[AnyArray]:
    """The outputs of one batch, without those of padded steps."""
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    ragged = lengths.min() < lengths.max()
    x = arrays.padded(sequences) if ragged or not isinstance(sequences, np.ndarray) else sequences
    batch_first = model.batch_first
    steps = x if batch_first else x.swapaxes(0, 1)
    y, _ = model.run(steps, None, lengths if padded and ragged else None, call)
    if isinstance(y, list | tuple):
        raise ArgumentError(f"the model has {len(y)} outputs per sequence, but must have one")
    if y.ndim == 2:
        return list(y if lengths.all() else np.where(lengths[:, None] > 0, y, np.nan).astype(y.dtype))
    rows = y if batch_first else y.swapaxes(0, 1)
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def rows_with_nan(outputs: Sequence[AnyArray | None]) -> list[int]:
    """Indices of the outputs that contain NaN; entries that are None are ignored."""
    present = [y for y in outputs if y is not None]
    if not present or not np.isnan(np.concatenate(present, axis=None)).any():
        return []
    return [row for row, y in enumerate(outputs) if y is not None and np.isnan(y).any()]


def describe_nan(rows: Sequence[int], total: int, name: Callable[[int], str]) -> str:
    """Say which sequences have outputs that are NaN.

    >>> describe_nan([1, 3], 5, str)
    'the outputs are NaN for 2 of 5 sequences: 1, 3'
    """
    names = ", ".join(map(name, rows[:MOST_NAMED]))
    more = f" and {len(rows) - MOST_NAMED:,} more" if len(rows) > MOST_NAMED else ""
    return f"the outputs are NaN for {len(rows):,} of {total:,} sequences: {names}{more}"
