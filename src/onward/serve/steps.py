"""What the server needs of a model: its inputs, steps of a pool, and runs over whole sequences."""

import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..formats.compiled.write import names_of_outputs
from ..layers.base_model import BaseModel
from ..model import Model
from ..streaming.graph_pool import GraphPool, SequencePool
from ..streaming.graph_stream import GraphStream, SequenceStream
from ..streaming.rows import ROWS_AT_ONCE
from .messages import AnyArray, Input, InputFormat, Output, Port

CAPACITY = 64  # streams in a new pool, which grows as needed
RUN_AT_ONCE = 4096  # steps of a whole sequence
WARM = 1, ROWS_AT_ONCE  # so many rows need every program of a pool


class Steps:
    """A model that streams: runs T steps of n streams of a pool, (n, T, ...), and whole sequences."""

    inputs: InputFormat

    def __init__(self, pool: Any, stream: Any, output_names: Sequence[str]) -> None:
        self.pool, self.output_names, self._stream = pool, output_names, stream
        self._lock = threading.Lock()  # guards the stream

    @abstractmethod
    def step(self, ids: Sequence[int], arrays: Sequence[AnyArray]) -> Sequence[Output]:
        """Run T steps of some streams. A call that raises changes no stream."""

    @abstractmethod
    def finish(self, ids: Sequence[int]) -> list[list[AnyArray]]:
        """Return the last steps of some streams, an array (T, ...) for each, and start other sequences."""

    def _start(self) -> None:
        """Begin a whole sequence."""
        self._stream.reset()

    @abstractmethod
    def _run(self, arrays: Sequence[AnyArray]) -> list[AnyArray]:
        """Continue the whole sequence with inputs (T, ...), and return the outputs (T, ...)."""

    def run(self, arrays: Sequence[AnyArray], most_bytes: int) -> list[AnyArray]:
        """Run a whole sequence of inputs (T, ...) and return the outputs (T, ...).

        Raises ArgumentError if they have more than `most_bytes`.
        """
        with self._lock:
            self._start()
            parts, size = [], 0
            for first in range(0, len(arrays[0]), RUN_AT_ONCE):
                block = [array[first : first + RUN_AT_ONCE] for array in arrays]
                parts.append(self._run(block))
                size += sum(output.nbytes for output in parts[-1])
                if size > most_bytes:
                    raise ArgumentError(f"the answer has over {most_bytes} bytes: send a shorter sequence")
            return self._joined(parts)

    def _joined(self, parts: Sequence[Sequence[AnyArray]]) -> list[AnyArray]:
        """Return the outputs of all parts of the stream's sequence, which has ended."""
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def warm_up(self) -> None:
        """Step new streams, so that the first clients do not wait while the model is prepared."""
        for n in WARM if not self.inputs.is_open else ():
            ids = self.pool.open(n).tolist()
            zeros = self.inputs.arrays([Input(bytes(self.inputs.step_bytes))] * n)
            try:
                self.step(ids, zeros)
            finally:
                self.pool.close(ids)


class GraphSteps(Steps):
    """The steps of a whole model whose states are inputs and outputs. Every call takes one step."""

    def __init__(self, pool: GraphPool, stream: GraphStream, output_names: Sequence[str]) -> None:
        super().__init__(pool, stream, output_names)
        self._alone = pool.copy()  # for whole sequences
        self._alone.open()
        self._has_row_axis = not pool.runs_together  # in messages; unknown rows become the first axis
        declared, ports = stream.streamed.inputs, []
        first = [None if each.axes is None else 0 for each in declared]
        for each, place in zip(declared, pool.input_axes or first, strict=True):
            axes = (None,) if each.axes is None else each.axes  # TorchScript declares none: take a vector
            sizes = [axis if isinstance(axis, int) else None for axis in axes]
            if place is not None:
                sizes[place : place + 1] = [1] if self._has_row_axis else []
            ports.append(Port(each.name, tuple(sizes), np.dtype(each.dtype or np.float32)))
        self.inputs = InputFormat(ports)

    def step(self, ids: Sequence[int], arrays: Sequence[AnyArray]) -> Sequence[Output]:
        before = self.pool.state(ids) if arrays[0].shape[1] > 1 else None
        try:
            return self._steps(self.pool, ids, arrays)
        except BaseException:
            if before is not None:
                self.pool.set_state(ids, before)
            raise

    def finish(self, ids: Sequence[int]) -> list[list[AnyArray]]:
        self.pool.reset(ids)
        return [[np.zeros(0, np.float32)] * len(ids) for _ in self.output_names]

    def _start(self) -> None:
        self._alone.reset(self._alone.ids)

    def _run(self, arrays: Sequence[AnyArray]) -> list[AnyArray]:
        outputs = self._steps(self._alone, self._alone.ids.tolist(), [x[None] for x in arrays])
        return [output[0] for output in outputs]

    def _steps(self, pool: Any, ids: Sequence[int], arrays: Sequence[AnyArray]) -> list[AnyArray]:
        steps = [self._step(pool, ids, [x[:, t] for x in arrays]) for t in range(arrays[0].shape[1])]
        return [np.stack(outputs, axis=1) for outputs in zip(*steps, strict=True)]

    def _step(self, pool: Any, ids: Sequence[int], arrays: Sequence[AnyArray]) -> list[AnyArray]:
        """Step a pool, which takes and returns the rows on axes of its own, with arrays (n, ...).

        Where rows run one after the other, messages keep these axes, with size 1.
        """
        axes, x, y = pool.input_axes or [None] * len(arrays), list(arrays), []
        for i, axis in enumerate(axes):
            if axis is not None:
                x[i] = np.moveaxis(np.squeeze(x[i], 1 + axis) if self._has_row_axis else x[i], 0, axis)
        outputs = _as_tuple(pool.step(ids, *x))
        for output, axis in zip(outputs, pool.output_axes, strict=True):
            y.append(np.moveaxis(output, axis or 0, 0))
            if axis is not None and self._has_row_axis:
                y[-1] = np.expand_dims(y[-1], 1 + axis)
        return y


class SequenceSteps(Steps):
    """The steps of layers or a model over a sequence; a call may complete none, one or several."""

    def __init__(self, pool: SequencePool, stream: SequenceStream, output_names: Sequence[str]) -> None:
        super().__init__(pool, stream, output_names)
        self._streamed = streamed = stream.streamed
        sizes, (time, rows), *_ = streamed.sequence
        shape = tuple(size for axis, size in enumerate(sizes) if axis not in (time, rows))
        dtype = streamed.inputs[0].dtype
        assert dtype is not None
        assert time is not None
        if streamed.layers is not None and dtype.kind == "i":
            dtype = np.dtype(np.int32)  # which holds all indices of an Embedding
        self._time = time - (rows is not None and rows < time)  # in an input without rows
        self.inputs = InputFormat([Port(streamed.inputs[0].name, shape, np.dtype(dtype))])

    def step(self, ids: Sequence[int], arrays: Sequence[AnyArray]) -> Sequence[Output]:
        outputs = _as_tuple(self.pool.step(ids, np.moveaxis(arrays[0], 1, 1 + self._time)))
        return [
            self._timed(i, output, 1)
            if isinstance(output, np.ndarray)
            else [self._timed(i, row, 0) for row in output]
            for i, output in enumerate(outputs)
        ]

    def _timed(self, i: int, y: AnyArray, axis: int) -> AnyArray:
        """Return output i with the time axis at `axis`; one without a time axis is a single step."""
        time, rows = self._streamed.outputs[i]
        if time is None:
            return np.expand_dims(y, axis)
        return np.moveaxis(y, axis + time - (rows is not None and rows < time), axis)

    def _run(self, arrays: Sequence[AnyArray]) -> list[AnyArray]:
        return self._by_time(self._stream(np.moveaxis(arrays[0], 0, self._time)))

    def _by_time(self, outputs: Any) -> list[AnyArray]:
        return [self._timed(i, output, 0) for i, output in enumerate(_as_tuple(outputs))]

    def _joined(self, parts: Sequence[Sequence[AnyArray]]) -> list[AnyArray]:
        every = zip(*parts, self._by_time(self._stream.finish()), strict=True)
        return [
            outputs[-1] if axes.time is None else np.concatenate(outputs)
            for outputs, axes in zip(every, self._streamed.outputs, strict=True)
        ]

    def finish(self, ids: Sequence[int]) -> list[list[AnyArray]]:
        finished = _as_tuple(self.pool.finish(ids))
        self.pool.reset(ids)
        return [[self._timed(i, y, 0) for y in outputs] for i, outputs in enumerate(finished)]


def _as_tuple(outputs: Any) -> tuple[Any, ...]:
    """Return outputs as a tuple, also a single one."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def steps_of(model: BaseModel, options: Mapping[str, Any]) -> Steps:
    """Return the steps of a model; `options` are those of `Model.pool`. Raises ArgumentError."""
    if options and not isinstance(model, Model):
        raise ArgumentError(f"{model!r} takes no options: its states are inside its layers")
    stream, pool = model.stream(**options), model.pool(CAPACITY, **options)
    streamed, names = stream.streamed, ["y"]
    if streamed.layers is None:
        assert isinstance(model, Model)
        names = names_of_outputs(model, streamed, options.get("carry"))
    return (SequenceSteps if isinstance(stream, SequenceStream) else GraphSteps)(pool, stream, names)
