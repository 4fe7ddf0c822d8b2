"""`GraphStream`: a sequence that runs through a whole model, continued from call to call."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays
from ..core.calls import CallLock
from ..core.checks import MOST_ROWS, enough_memory, integer
from ..errors import ArgumentError, ShapeError
from ..graph.declared import as_declared
from ..graph.node import AnyArray
from ..graph.over_time.streamed import Streamed
from .stream import check_out, read_state, write_state

ALL = slice(None)
Carried = tuple[AnyArray, ...]
FILE_TYPE = "stream of a whole model of Onward"


class _Layout(NamedTuple):
    """The indices that add the axes that a block lacks, and remove them from outputs, or add them there."""

    x: tuple[slice | None, ...]
    outputs: list[tuple[slice | int, ...]]
    targets: list[Any]
    lacks_rows: bool

    def reduced(self, outputs: Sequence[AnyArray]) -> tuple[AnyArray, ...]:
        """Return outputs without the axes that the block lacks."""
        return tuple([y[index] if index else y for y, index in zip(outputs, self.outputs, strict=True)])


class GraphStream:
    """A sequence that runs through a whole model, continued from call to call: y = stream(x).

    The carries are what one call passes to the next: states, the last steps of convolutions, running sums. A
    call takes the other inputs, in order or by name, and returns the other outputs: one array, or a tuple.
    These are new arrays, or `out`: an array of the same shape and dtype, or a tuple of them, which share no
    memory with one another or with the inputs.

    A call that raises leaves the carries unchanged; calls from several threads take effect one after the
    other. Raises SignatureError, ShapeError and DtypeError, and ArgumentError, which names the node, for
    values that a node does not accept.
    """

    def __init__(self, streamed: Streamed) -> None:
        self._streamed, self._planner = streamed, streamed.planner
        self._count = len(streamed.carries)
        # the carries, and arrays for the next ones, all of which only this stream holds
        self._buffers: tuple[Carried, Carried] = _copies(streamed.initial), ()
        outputs = len(streamed.outputs)
        self._whole = _Layout((), [()] * outputs, [], False)
        self._is_finished = False  # a sequence ends with `finish`, and another one begins with its carries
        self._lock = CallLock()

    def __call__(self, /, *args: ArrayLike, out: Any = None, **inputs: ArrayLike) -> Any:
        with self._lock:
            return self._advance(args, inputs, out, self._whole)

    def _advance(self, args: Sequence[Any], inputs: dict[str, ArrayLike], out: Any, layout: _Layout) -> Any:
        """Run a block, keep the next carries and return the outputs."""
        targets, (carried, spare) = self._targets(out), self._buffers
        blocks = (args[0][layout.x],) if layout.x else args
        views = targets
        if targets:
            arrays.check_separate(targets, (*args, *inputs.values()))
            if layout.targets:
                pairs = zip(targets, layout.targets, strict=True)
                views = tuple([y[index] if y.ndim >= index.count(ALL) else y for y, index in pairs])
        results = self._planner.run((*carried, *blocks), inputs, (*(spare or (None,) * self._count), *views))
        if results is None:  # the next call with these shapes runs in the core
            results = self._planner(*carried, *self._block(args, inputs))
            for carry, before, after in zip(self._streamed.carries, carried, results, strict=False):
                carry.check(before, after, "after this call")
        returned = results[self._count :]
        if targets:
            for y, view, index, target in zip(returned, views, layout.outputs, targets, strict=True):
                if y is not view:
                    check_out(target, (), y[index].shape, y.dtype)
                    target[...] = y[index]
            returned = targets
        elif layout is not self._whole:
            returned = layout.reduced(returned)
        returned, after = returned[0] if len(returned) == 1 else returned, results[: self._count]
        self._buffers = after, carried  # last, so that an error in a signal handler loses no output
        return returned

    def _targets(self, out: Any) -> tuple[Any, ...]:
        """Return the arrays that take the outputs, if there are any. Raises ArgumentError."""
        if out is None:
            return ()
        targets, n = out if isinstance(out, tuple) else (out,), len(self._streamed.outputs)
        if type(out) is np.ndarray and n == 1:  # the check below takes long
            return targets
        if len(targets) != n or not all([isinstance(target, np.ndarray) for target in targets]):
            what = "an array" if n == 1 else f"a tuple of {n} arrays"
            raise ArgumentError(f"out is {type(out).__name__}, but must be {what}")
        return targets

    def _block(self, args: Sequence[ArrayLike], inputs: dict[str, ArrayLike]) -> list[AnyArray]:
        """Return the inputs of a call in order, as the plans take them."""
        values = self._streamed.in_order(args, inputs)
        return [as_declared(d, value) for d, value in zip(self._streamed.inputs, values, strict=True)]

    @property
    def latency(self) -> int:
        """The number of steps after step k * stride of the input that step k of the output needs."""
        return self._streamed.latency

    @property
    def state(self) -> dict[str, AnyArray]:
        """Copies of the carries by name; assign a dict to set them."""
        with self._lock.reading():
            carried = _copies(self._buffers[0])
        return {c.name: a for c, a in zip(self._streamed.carries, carried, strict=True)}

    @state.setter
    def state(self, state: Mapping[str, ArrayLike]) -> None:
        self._replace(self._streamed.carried_in(state))

    def _replace(self, carried: Carried) -> None:
        with self._lock:
            self._buffers, self._is_finished = (carried, ()), False

    def reset(self) -> None:
        """Set the carries to their initial values."""
        self._replace(_copies(self._streamed.initial))

    def copy(self) -> Self:
        """Return a new stream with a copy of the carries."""
        branch = object.__new__(type(self))
        with self._lock.reading():
            branch.__dict__.update(self.__dict__)
            branch._buffers = _copies(self._buffers[0]), ()
        branch._lock = CallLock()
        return branch

    def __copy__(self, memo: Any = None) -> Self:
        return self.copy()

    __deepcopy__ = __copy__

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the carries to a safetensors file. Raises FileError."""
        write_state(path, FILE_TYPE, self._streamed, self.state)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the carries with those that a stream of the same model saved.

        Raises FileError, and leaves the carries unchanged, if the file is damaged or is of another model.
        """
        self._replace(read_state(path, FILE_TYPE, self._streamed, self._streamed.carried_in))


class SequenceStream(GraphStream):
    """A sequence, or a batch of them, that runs through a whole model block by block: y = stream(x).

    x is one step or a block of steps, in the layout of the model's input; with `batch=None`, the batch axis
    may be left out, and then y has none, either. y holds the steps that are complete, bitwise those of one
    call on the whole sequence: step k is complete after k * stride + latency + 1 steps. One step returns one
    step if each step completes one, and a block otherwise. An output without a time axis, such as the last
    step or a maximum, is the result for the steps so far.
    """

    def __init__(self, streamed: Streamed, batch: int | None) -> None:
        super().__init__(streamed)
        self._batch = batch
        time, rows = streamed.x
        assert time is not None
        self._time, self._rows, rank = time, rows, len(streamed.step_shape)
        sizes: list[int | str] = list(streamed.step_shape)
        sizes[time] = ""
        if rows is not None:
            sizes[rows] = batch or 1
        self._declared = streamed.inputs[0]._replace(axes=tuple(sizes))
        # by the axes of x: a whole block, and one that lacks the batch axis, the time axis, or both
        self._layouts = {rank: self._layout_of([])}
        if batch is None and rows is not None:
            self._layouts |= {rank - 1: self._layout_of([rows]), rank - 2: self._layout_of([rows, time])}
        else:
            self._layouts[rank - 1] = self._layout_of([time])
        self._lacks_rows = batch is None and rows is not None  # whether the last block did

    def __call__(self, x: ArrayLike, out: Any = None) -> Any:  # type: ignore[override]  # a sequence has one input
        with self._lock:
            self._check_open()
            x = arrays.as_array(x, "x")
            layout = self._layouts.get(x.ndim)
            if layout is None:
                raise self._wrong_shape(x)
            y = self._advance((x,), {}, out, layout)
            self._lacks_rows = layout.lacks_rows
            return y

    def finish(self) -> Any:
        """End the sequence and return the remaining steps, as a block.

        `reset` starts another one, and `load` or an assignment of `state` continues one. Raises ArgumentError
        if the sequence has ended.
        """
        with self._lock:
            self._check_open()
            planner, sizes = self._streamed.last_planner, self._declared.axes or ()
            assert planner is not None
            none = np.zeros([0 if isinstance(size, str) else size for size in sizes], self._declared.dtype)
            results = self._layouts[len(sizes) - self._lacks_rows].reduced(planner(*self._buffers[0], none))
            returned = results[0] if len(results) == 1 else results
            self._is_finished = True
            return returned

    def _check_open(self) -> None:
        if self._is_finished:
            raise ArgumentError("the sequence has ended: call reset() to start another one")

    def _block(self, args: Sequence[ArrayLike], inputs: dict[str, ArrayLike]) -> list[AnyArray]:
        (value,) = self._streamed.in_order(args, inputs)
        x = arrays.as_array(value, "x")
        layout = self._layouts.get(x.ndim)
        if layout is None:
            raise self._wrong_shape(x)
        try:
            return [as_declared(self._declared, x[layout.x])]
        except ShapeError:
            raise self._wrong_shape(x) from None

    def _layout_of(self, added: Sequence[int | None]) -> _Layout:
        """Return the layout of a block that lacks the batch axis, the time axis, or both."""
        lacks_time, lacks_rows = self._time in added, self._rows in added
        outputs: list[Any] = []
        for axes in self._streamed.outputs:
            dropped = [axes.batch] if lacks_rows else []
            dropped += [axes.time] if lacks_time and self._streamed.every_step else []
            last = max((axis for axis in dropped if axis is not None), default=-1)
            outputs.append(tuple(0 if axis in dropped else ALL for axis in range(last + 1)))
        targets = [(*(None if index == 0 else ALL for index in indices), ...) for indices in outputs]
        x = tuple(None if axis in added else ALL for axis in range(len(self._streamed.step_shape)) if added)
        return _Layout(x, outputs, targets, lacks_rows)

    def _wrong_shape(self, x: AnyArray) -> ShapeError:
        names = [size or "T" for size in map(str, self._declared.axes or ())]
        if self._batch is None and self._rows is not None:
            del names[self._rows]
        step = ", ".join(name for name in names if name != "T")
        return ShapeError(
            f"x has shape {x.shape}, but must be one step ({step}) or a block ({', '.join(names)})"
        )


def stream_of_graph(
    model: Any,
    batch: int | None = None,
    carry: Mapping[str, str] | None = None,
    initial: Mapping[str, ArrayLike] | None = None,
    time_axis: int | None = None,
    **fixed: ArrayLike,
) -> GraphStream:
    """Return the stream of a whole model that runs its graph; `Model.stream` documents the arguments."""
    batch = None if batch is None else integer("batch", batch, 1, MOST_ROWS)
    model, others = model._general(fixed)
    with enough_memory(f"the states of batch={batch}"):
        streamed = model._streamed(batch or 1, carry, initial, time_axis, others)
        return GraphStream(streamed) if streamed.last is None else SequenceStream(streamed, batch)


def _copies(carried: Sequence[AnyArray]) -> Carried:
    return tuple(array.copy() for array in carried)
