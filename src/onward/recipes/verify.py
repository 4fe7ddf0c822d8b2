"""Verify a model against expected outputs, and measure what batches, threads and precisions change."""

from __future__ import annotations

import copy
import pickle
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..core.threads import num_threads
from ..errors import ArgumentError, OnwardError, ShapeError
from ..graph import Model
from .divergence import Divergence, first_divergence

Arrays = dict[str, NDArray[Any]]
TOLERANCE = 1e-4
CALLS = 20  # the time of a call is the median of these


@dataclass
class Difference:
    """The difference between an output and the expected one; `scale` is the largest expected magnitude."""

    name: str
    shape: tuple[int, ...]
    largest: float
    mean: float
    position: tuple[int, ...]
    scale: float


@dataclass
class Verification:
    """The result of `verify`. It is true if no output differs by more than the tolerance.

    `same_bits` tells for rows, blocks of time, threads and instruction sets whether the outputs are
    identical: True, False, or the reason why that was not checked. `cost` is the largest difference, relative
    to the scale, after quantization to each precision. `divergence` names the first nodes whose outputs
    differ, if another model was expected and differs.
    """

    outputs: list[Difference]
    tolerance: float
    same_bits: dict[str, bool | str] = field(default_factory=dict)
    cost: dict[str, float | str] = field(default_factory=dict)
    microseconds: float = 0.0
    divergence: Divergence | str | None = None

    def __bool__(self) -> bool:
        return all(output.largest <= self.tolerance * max(output.scale, 1e-30) for output in self.outputs)

    def report(self) -> dict[str, Any]:
        """Return the result as plain Python values."""
        return {"passed": bool(self), **asdict(self)}


def verify(
    model: Callable[..., Any],
    inputs: Mapping[str, ArrayLike] | Sequence[ArrayLike],
    expected: Mapping[str, ArrayLike] | Sequence[ArrayLike] | Callable[..., Any],
    *,
    tolerance: float = TOLERANCE,
) -> Verification:
    """Run a model and compare its outputs with expected ones, by name or in order.

    `expected` may also be another model, which runs on the same inputs in order; if it differs, the result
    names the first nodes that do, matched by their names or order. An output passes if it differs from
    the expected one by at most `tolerance` times the largest expected magnitude. While it runs, the function
    changes the number of threads and the instruction set of the process.

    Raises ArgumentError if names do not match, and ShapeError for outputs of other shapes.

    Examples
    --------
    >>> import numpy as np, onward
    >>> lstm = onward.LSTM(3, 4)
    >>> x = np.ones((5, 2, 3), np.float32)
    >>> result = onward.verify(lstm, [x], lstm(x)[:1])
    >>> bool(result), result.outputs[0].largest, result.same_bits["threads"]
    (True, 0.0, True)
    """
    run = _Run(model, inputs)
    actual = run()
    if callable(expected):
        wanted = _Run(expected, list(run.inputs.values()))()
        if wanted.keys() != actual.keys() and len(wanted) == len(actual):
            wanted = dict(zip(actual, wanted.values(), strict=True))  # in order
    else:
        wanted = _named(expected, list(actual))
    if unknown := wanted.keys() - actual.keys():
        raise ArgumentError(
            f"expected outputs {', '.join(sorted(unknown))}; the model returns {', '.join(actual)}"
        )
    outputs = [_difference(name, actual[name], array) for name, array in wanted.items()]
    result = Verification(
        outputs,
        tolerance,
        {
            "rows": _same_rows(run, actual),
            "blocks of time": _same_blocks(run, actual),
            "threads": _same_in(map(num_threads, (1, 2, 4)), run, actual),
            "instruction sets": _same_on_every_isa(run, actual),
        },
        {precision: _cost(run, actual, precision) for precision in ("float16", "int8")},
        _microseconds(run),
    )
    if not result and callable(expected):
        result.divergence = first_divergence(model, expected, list(run.inputs.values()), tolerance)
    return result


class _Run:
    """A model with its inputs: by name if the model names them, otherwise in order."""

    def __init__(self, model: Any, inputs: Mapping[str, ArrayLike] | Sequence[ArrayLike]) -> None:
        self.model = model
        self.names = names = _names(model, "inputs")
        if isinstance(inputs, Mapping):
            self.inputs = {name: np.asarray(array) for name, array in inputs.items()}
            if not names or not set(self.inputs) <= set(names):
                self.names = []
        else:
            keys = names if len(names) >= len(inputs) else [f"input {i}" for i in range(len(inputs))]
            self.inputs = {name: np.asarray(a) for name, a in zip(keys, inputs, strict=False)}

    def __call__(self, inputs: Arrays | None = None) -> Arrays:
        given = self.inputs if inputs is None else inputs
        results = self.model(**given) if self.names else self.model(*given.values())
        names = _names(self.model, "outputs")
        flat = list(_arrays(results))
        if len(names) != len(flat):
            names = [f"output {i}" for i in range(len(flat))]
        return dict(zip(names, flat, strict=True))

    def with_model(self, model: Any) -> _Run:
        run = copy.copy(self)
        run.model = model
        return run


def _names(model: Any, attribute: str) -> list[str]:
    """Return the names of a whole model's inputs or outputs; single layers have none."""
    names = getattr(model, attribute, ())
    return list(names) if isinstance(names, tuple) else []


def _arrays(results: Any) -> Iterator[NDArray[Any]]:
    """Yield the arrays of nested results in order."""
    if isinstance(results, Mapping):
        results = list(results.values())
    if isinstance(results, list | tuple):
        for result in results:
            yield from _arrays(result)
    else:
        yield np.asarray(results)


def _named(arrays: Mapping[str, ArrayLike] | Sequence[ArrayLike], names: list[str]) -> Arrays:
    if isinstance(arrays, Mapping):
        return {name: np.asarray(array) for name, array in arrays.items()}
    if len(arrays) > len(names):
        raise ArgumentError(f"{len(arrays)} outputs are expected, but the model returns {len(names)}")
    return {name: np.asarray(array) for name, array in zip(names, arrays, strict=False)}


def _difference(name: str, actual: NDArray[Any], expected: NDArray[Any]) -> Difference:
    if actual.shape != expected.shape:
        raise ShapeError(f"{name} has shape {actual.shape}; the expected output has shape {expected.shape}")
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        apart = np.where(equal, 0.0, np.abs(a - b))
    apart = np.where(np.isnan(apart), np.inf, apart)
    finite = np.abs(b[np.isfinite(b)])
    scale = float(finite.max()) if finite.size else 0.0
    if not apart.size:
        return Difference(name, actual.shape, 0.0, 0.0, (), scale)
    position = tuple(int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape))
    return Difference(name, actual.shape, float(apart.max()), float(apart.mean()), position, scale)


def _identical(a: Arrays, b: Arrays) -> bool:
    return all(np.array_equal(a[name], b[name], equal_nan=a[name].dtype.kind in "fc") for name in a)


def _batch_axes(run: _Run) -> dict[str, int] | None:
    """Return the batch axis of each input: a size that all of them share."""
    arrays = list(run.inputs.values())
    batch_first = isinstance(run.model, Model) or getattr(run.model, "batch_first", True)
    order: tuple[int, ...] = (0, 1) if batch_first else (1, 0)
    if isinstance(run.model, Model) and run.model.layout is not None:
        batch = run.model.layout.axes.batch
        order = () if batch is None else (batch,)
    for axis in order:
        sizes = {a.shape[axis] for a in arrays if a.ndim > axis}
        if len(sizes) == 1 and sizes.pop() > 1 and all(a.ndim > axis for a in arrays):
            return dict.fromkeys(run.inputs, axis)
    return None


def _same_rows(run: _Run, actual: Arrays) -> bool | str:
    axes = _batch_axes(run)
    if axes is None:
        return "the inputs have no batch axis of more than one row"
    B = next(a.shape[axes[name]] for name, a in run.inputs.items())
    row = B // 2
    alone = {name: np.take(a, [row], axes[name]) for name, a in run.inputs.items()}
    try:
        single = run(alone)
    except OnwardError as error:
        return f"the model does not accept one row: {error}"
    for name, whole in actual.items():
        sizes = zip(whole.shape, single[name].shape, strict=True)
        axis = next((i for i, pair in enumerate(sizes) if pair == (B, 1)), None)
        if axis is not None and not _identical({name: np.take(whole, [row], axis)}, single):
            return False
    return True


def _same_blocks(run: _Run, actual: Arrays) -> bool | str:
    """Compare a stream, which gets the sequence in blocks, with the whole call."""
    sequences = [a for a in run.inputs.values() if a.ndim > 1]
    if not hasattr(run.model, "stream") or len(sequences) != 1:
        return "a stream takes one sequence"
    x, fixed = sequences[0], {name: a for name, a in run.inputs.items() if a.ndim < 2}
    try:
        if isinstance(run.model, Model):
            layout = run.model.layout
            if layout is None:
                return "no recurrent layer shows which axis is time"
            time, rows = layout.axes.time or 0, layout.axes.batch
        else:
            time = 1 if x.ndim > 2 and run.model.batch_first else 0
            rows = None if x.ndim == 2 else 1 - time
        stream = run.model.stream(None if rows is None else x.shape[rows], **fixed)
        T = x.shape[time]
        blocks = [block for block in np.split(x, [1, 1 + T // 3, T], time) if block.shape[time]]
        parts = [list(_arrays(stream(block))) for block in blocks]
        parts.append(list(_arrays(stream.finish())))
    except OnwardError as error:
        return f"the model does not stream: {error}"
    return all(
        _is_joined(whole, list(pieces))
        for whole, pieces in zip(actual.values(), zip(*parts, strict=True), strict=False)
    )


def _is_joined(whole: NDArray[Any], parts: list[NDArray[Any]]) -> bool:
    """Whether an output is its parts along one axis, or the last of them."""
    for axis in range(whole.ndim):
        pieces = [part for part in parts if part.ndim == whole.ndim]
        with suppress(ValueError):  # the parts differ in other axes
            if np.array_equal(np.concatenate(pieces, axis), whole, equal_nan=whole.dtype.kind in "fc"):
                return True
    last = [part.reshape(whole.shape) for part in parts if part.size == whole.size][-1:]
    return any(np.array_equal(part, whole, equal_nan=whole.dtype.kind in "fc") for part in last)


def _same_in(
    contexts: Iterable[AbstractContextManager[None]], run: Callable[[], Arrays], actual: Arrays
) -> bool:
    """Whether the outputs are identical in each context."""
    for context in contexts:
        with context:
            if not _identical(actual, run()):
                return False
    return True


def _same_on_every_isa(run: _Run, actual: Arrays) -> bool | str:
    try:
        content = pickle.dumps(run.model)
    except Exception as error:  # models with Python functions
        return f"the model cannot be copied: {error}"
    isas = map(_instruction_set, _core.available_isas())
    return _same_in(isas, lambda: run.with_model(pickle.loads(content))(), actual)


@contextmanager
def _instruction_set(isa: str) -> Iterator[None]:
    before = _core.isa()
    _core.set_isa(isa)
    try:
        yield
    finally:
        _core.set_isa(before)


def _cost(run: _Run, actual: Arrays, precision: str) -> float | str:
    if not hasattr(run.model, "quantize"):
        return "the model cannot be quantized"
    try:
        quantized = run.with_model(run.model.quantize(precision))()
    except OnwardError as error:
        return str(error)
    first = next(iter(actual))
    if len(quantized) != len(actual):  # the layers of a chain return only its first output
        quantized, actual = {first: next(iter(quantized.values()))}, {first: actual[first]}
    pairs = zip(actual.items(), quantized.values(), strict=True)
    differences = [_difference(name, q, a) for (name, a), q in pairs]
    return max((d.largest / max(d.scale, 1e-30) for d in differences), default=0.0)


def _microseconds(run: _Run) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)
