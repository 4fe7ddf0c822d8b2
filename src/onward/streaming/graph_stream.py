"""`GraphStream`: a sequence that runs through a whole model, continued from call to call."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

import onward._core as _core

from ..core import arrays
from ..core.calls import CallLock, Change
from ..core.checks import MOST_ROWS, enough_memory, integer
from ..errors import ArgumentError, DtypeError, ShapeError
from ..graph.declared import Input, as_declared
from ..graph.node import AnyArray
from ..graph.over_time.streamed import Streamed, TimeAndBatch
from .state import read_state, write_state

Carried = tuple[AnyArray, ...]


class _BlockAxes(NamedTuple):
    """The axes that the blocks of a call lack, and those that each output loses again."""

    added: list[tuple[int, ...]]
    dropped: list[tuple[int, ...]]
    lacks_rows: bool

    def expanded(self, blocks: Sequence[AnyArray]) -> list[AnyArray]:
        """Add the axes that blocks lack."""
        return [np.expand_dims(x, axes) for x, axes in zip(blocks, self.added, strict=True)]

    def squeezed(self, outputs: Sequence[AnyArray]) -> Carried:
        """Return outputs without the axes that the blocks lack."""
        try:
            return tuple([np.squeeze(y, axes) for y, axes in zip(outputs, self.dropped, strict=True)])
        except ValueError as error:  # the programs of a file need not fit one another
            shapes = ", ".join(str(y.shape) for y in outputs)
            raise ShapeError(
                f"the outputs have shapes {shapes}, but should have one row or step on axes {self.dropped}"
            ) from error


class GraphStream(_core.Session):
    """A sequence that runs through a whole model, continued from call to call: y = stream(x).

    The carries are what one call passes to the next: states, the last steps of convolutions, running sums. A
    call takes the other inputs, in order or by name, and returns the other outputs: one array, or a tuple.
    These are new arrays, or `out`: an array of the same shape and dtype, or a tuple of them, which share no
    memory with one another or with the inputs.

    A call that raises leaves the carries unchanged; calls from several threads take effect one after the
    other. Raises SignatureError, ShapeError and DtypeError, and ArgumentError, which names the node, for
    values that a node does not accept.
    """

    def __init__(self, streamed: Streamed, batch: int | None = None) -> None:
        self._layouts = _layouts_of(streamed, batch)  # by the number of axes of a block
        known = [self._layouts.get(axes) for axes in range(max(self._layouts, default=-1) + 1)]
        indices = [layout and (layout.added, layout.dropped) for layout in known]
        self._model, self._format, self._lock = streamed, streamed.format, CallLock()
        self.batch = batch  # the number of sequences; None: one without a batch axis
        times = [(layout.axes.time or 0, layout.rate) for layout in streamed.sequences]
        pairs = zip(streamed.inputs, streamed.sequences, strict=False)
        self._declared = [x.with_axes(*layout.at("", batch or 1)) for x, layout in pairs]  # of sequences
        count = len(streamed.outputs)
        super().__init__(streamed.planner.ready, self._lock, count, indices, times)
        self._carries = self._format.zeros(batch or 1)

    if TYPE_CHECKING:  # type: ignore, because the stub of the core's method has no NumPy types

        def __call__(  # type: ignore[override]
            self, /, *args: ArrayLike, out: Any = None, **inputs: ArrayLike
        ) -> Any:
            """Run a step or a block, and return the outputs."""

    def _converted(self, args: Sequence[Any], inputs: dict[str, Any]) -> Any:
        """Run a block that the core does not take as it is."""
        if len(args) == 2 and len(self._declared) == 1:  # y = stream(x, out), as for layers in the core
            args, inputs = args[:1], {"out": args[1], **inputs}
        out, named = inputs.get("out"), {name: x for name, x in inputs.items() if name != "out"}

        def compute() -> Change[Any]:
            self._check_open()
            carried, count = self._carries, len(self._model.carries)
            blocks, layout = self.block(args, named)
            axes = blocks[0].ndim - len(layout.added[0]) if layout else -1
            results = self._model.planner(*carried, *blocks)
            for carry, before, after in zip(self._model.carries, carried, results, strict=False):
                carry.check(before, after, "after this call")
            outputs = results[count:] if layout is None else layout.squeezed(results[count:])
            if out is not None:
                outputs = self._written(outputs, out, (*args, *named.values()))
            change = partial(self._continue, results[:count], axes)
            undo = partial(self._continue, carried, self._axes)
            return outputs[0] if len(outputs) == 1 else outputs, change, undo, (carried, results[:count])

        return self._lock.run(compute)

    def _continue(self, carried: Sequence[AnyArray], axes: int) -> None:
        self._carries, self._axes = carried, axes

    def _check_open(self) -> None:
        if not self._is_open:
            raise ArgumentError("the sequence has ended: call reset() to start another one")

    def _written(self, outputs: Carried, out: Any, inputs: Sequence[Any]) -> Carried:
        """Write outputs into `out`, and return its arrays. Raises ArgumentError, ShapeError, DtypeError."""
        targets, n = out if isinstance(out, tuple) else (out,), len(outputs)
        if len(targets) != n:
            what = "an array" if n == 1 else f"a tuple of {n} arrays"
            raise ArgumentError(f"out is {type(out).__name__}, but must be {what}")
        for target, y in zip(targets, outputs, strict=True):
            _check_out(target, y)
        arrays.check_separate(targets, inputs)
        for target, y in zip(targets, outputs, strict=True):
            target[...] = y
        return targets

    @property
    def streamed(self) -> Streamed:
        """The graph over one block, which the stream runs."""
        return self._model

    def block(
        self, args: Sequence[ArrayLike], inputs: dict[str, ArrayLike]
    ) -> tuple[list[AnyArray], _BlockAxes | None]:
        """Return the inputs of a call in order, as the plans take them."""
        values = self._model.in_order(args, inputs)
        return [as_declared(d, value) for d, value in zip(self._model.inputs, values, strict=True)], None

    @property
    def latency(self) -> int:
        """The number of steps after step k * stride of the input that step k of the output needs."""
        return self.streamed.latency

    @property
    def state(self) -> Any:
        """A copy of the state, in the form that a call of the model returns; assign to set the state."""
        return self._format.join(self._states(), self.batch is not None)

    @state.setter
    def state(self, state: Any) -> None:
        self._replace(self._format.check_state(state, self.batch or 1, self.batch is not None))

    def reset(self) -> None:
        """Set the state to that at the start of a sequence."""
        self._replace(self._format.zeros(self.batch or 1))

    def copy(self) -> Self:
        """Return a new stream with a copy of the state."""
        branch = type(self)(self._model, self.batch)
        with self._lock.reading():
            branch._set_state(self._states())
            branch._is_open, branch._axes = self._is_open, self._axes
        return branch

    def __copy__(self, memo: Any = None) -> Self:
        return self.copy()

    __deepcopy__ = __copy__

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a safetensors file. Raises FileError."""
        write_state(path, "stream", self._format, self._format.tensors(self._states()))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the state with one that a stream of the same model saved.

        Raises FileError, and leaves the state unchanged, if the file is damaged or has another type, version,
        model or batch size.
        """
        restored, rows = self._format.restored, self.batch or 1
        self._replace(read_state(path, "stream", self._format, lambda tensors: restored(tensors, rows)))

    def _states(self) -> Carried:
        with self._lock.reading():
            return tuple(array.copy() for array in self._carries)

    def _set_state(self, states: Carried) -> None:
        self._carries, self._is_open = tuple(np.array(array, order="C") for array in states), True

    def _replace(self, states: Carried) -> None:
        with self._lock:
            self._set_state(states)


class SequenceStream(GraphStream):
    """A sequence, or a batch of them, that runs through a whole model block by block: y = stream(x).

    x is one step or a block of steps, in the layout of the model's input; with `batch=None`, the batch axis
    may be left out, and then y has none, either. y holds the steps that are complete, bitwise those of one
    call on the whole sequence: step k is complete after k * stride + latency + 1 steps. One step returns one
    step if each step completes one, and a block otherwise. An output without a time axis, such as the last
    step or a maximum, is the result for the steps so far.

    A model of several sequences takes a block of each, in order or by name: y = stream(far, near). The blocks
    have as many steps, or numbers of steps in the ratio that the model has between their rates.

    >>> import numpy as np, onward
    >>> lstm, x = onward.LSTM(3, 4, rng=0), np.ones((5, 3), np.float32)
    >>> stream = lstm.stream()
    >>> y = [stream(x_t) for x_t in x]
    >>> bool((np.stack(y) == lstm(x)[0]).all())
    True
    """

    def finish(self) -> Any:
        """End the sequence and return the remaining steps, as a block.

        `reset` starts another one, and `load` or an assignment of `state` continues one. Raises ArgumentError
        if the sequence has ended.
        """

        def compute() -> Change[Any]:
            self._check_open()
            planner, first = self._model.last_planner, self._model.sequences[0]
            assert planner is not None
            none = self._model.blocks(0, self.batch or 1)
            layout = self._layouts.get(self._axes)  # outputs lack the batch axis if the last block did
            lacks_rows = (
                self.batch is None and first.axes.batch is not None if layout is None else layout.lacks_rows
            )
            results = self._layouts[none[0].ndim - lacks_rows].squeezed(planner(*self._carries, *none))
            is_open = self._model.layers is not None
            change, undo = (partial(setattr, self, "_is_open", each) for each in (is_open, True))
            return results[0] if len(results) == 1 else results, change, undo, ()

        return self._lock.run(compute)

    def block(
        self, args: Sequence[ArrayLike], inputs: dict[str, ArrayLike]
    ) -> tuple[list[AnyArray], _BlockAxes | None]:
        values = self._model.in_order(args, inputs)
        names = self._model.names
        given = [
            as_declared(Input(name, d.dtype, None, d.converts), arrays.as_array(x, name))
            for name, d, x in zip(names, self._declared, values, strict=True)
        ]
        layout = self._layouts.get(given[0].ndim)
        if layout is None:
            raise self._wrong_shape(0, given[0])
        for i, (x, sequence) in enumerate(zip(given, self._model.sequences, strict=True)):
            if x.ndim + len(layout.added[i]) != len(sequence.shape):
                raise ShapeError(
                    f"{names[i]} has shape {x.shape}, and {names[0]} has shape {given[0].shape}: "
                    "pass both with or both without the axes of time and of the batch"
                )
        blocks = layout.expanded(given)
        for i, (declared, x) in enumerate(zip(self._declared, blocks, strict=True)):
            try:
                blocks[i] = as_declared(declared, x)
            except ShapeError:
                raise self._wrong_shape(i, given[i]) from None
        self._model.check_steps(blocks)
        return blocks, layout

    def _wrong_shape(self, i: int, x: AnyArray) -> ShapeError:
        (_, (time, rows), _, rate), declared = self._model.sequences[i], self._declared[i]
        names = [str(size) for size in declared.axes or ()]
        names[time or 0] = "T" if rate == 1 else f"{rate} T"
        step, block = (
            [name for axis, name in enumerate(names) if axis not in without]
            for without in (
                (time, rows if self.batch is None else None),
                (rows if self.batch is None else None,),
            )
        )
        expected = f"a block {_written(block)}"
        if all(layout.rate == 1 for layout in self._model.sequences):
            expected = f"one step {_written(step)} or {expected}"
        return ShapeError(f"{self._model.names[i]} has shape {x.shape}, but must be {expected}")


def _layouts_of(streamed: Streamed, batch: int | None) -> dict[int, _BlockAxes]:
    """Return how the blocks of sequences run, by their numbers of axes.

    They may lack the time axis and, if `batch` is None, the batch axis.
    """
    if not streamed.sequences:
        return {}
    first, *_ = streamed.sequences
    rank, rows = len(first.shape), batch is None and first.axes.batch is not None
    lacking = [(False, False), (rows, False)]
    if all(layout.rate == 1 for layout in streamed.sequences):
        lacking.append((rows, True))
    return {rank - sum(each): _layout_of(streamed, *each) for each in lacking}


def _layout_of(streamed: Streamed, lacks_rows: bool, lacks_time: bool) -> _BlockAxes:
    """Return the layout of blocks that lack the batch axis, the time axis, or both."""

    def lacking(axes: TimeAndBatch, lacks_time: bool) -> tuple[int, ...]:
        found = [axes.batch] * lacks_rows + [axes.time] * lacks_time
        return tuple(sorted(axis for axis in found if axis is not None))

    added = [lacking(layout.axes, lacks_time) for layout in streamed.sequences]
    dropped = [lacking(axes, lacks_time and streamed.every_step) for axes in streamed.outputs]
    return _BlockAxes(added, dropped, lacks_rows)


def _check_out(out: Any, y: AnyArray) -> None:
    """Raise ShapeError, DtypeError or ArgumentError unless an output can be written into `out`."""
    if not isinstance(out, np.ndarray) or out.dtype != y.dtype:
        actual = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        raise DtypeError(f"out is {actual}, but must be an array of {y.dtype}")
    if out.shape != y.shape:
        raise ShapeError(f"out has shape {out.shape}, but y has shape {y.shape}")
    if not out.flags.writeable:
        raise ArgumentError("out is read-only: pass an array that can be written to")


def _written(sizes: Sequence[str]) -> str:
    """Return a shape of sizes and names as text."""
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def stream_of(make: Callable[[int], Streamed], batch: int | None) -> GraphStream:
    """Return the stream of `batch` sequences, which runs what `make` returns for so many rows.

    Raises ArgumentError for the number, and MemoryLimitError.
    """
    rows = None if batch is None else integer("batch", batch, 1, MOST_ROWS)
    with enough_memory(f"the states of batch={rows}"):
        streamed = make(rows or 1)
        return GraphStream(streamed) if streamed.last is None else SequenceStream(streamed, rows)
