"""`GraphStream`: a sequence that runs through a whole model, continued from call to call."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

import onward._core as _core

from ..core import arrays
from ..core.calls import Change
from ..errors import ArgumentError, ShapeError
from ..graph.declared import as_declared
from ..graph.node import AnyArray
from ..graph.over_time.streamed import Streamed
from .state import Continuing, check_out

Carried = tuple[AnyArray, ...]


class _Layout(NamedTuple):
    """The axes that a block lacks, and those that each output loses again."""

    added: tuple[int, ...]
    dropped: list[tuple[int, ...]]
    lacks_rows: bool

    def whole(self, x: AnyArray) -> AnyArray:
        """Add the axes that a block lacks."""
        return np.expand_dims(x, self.added)

    def reduced(self, outputs: Sequence[AnyArray]) -> Carried:
        """Return outputs without the axes that the block lacks."""
        try:
            return tuple([np.squeeze(y, axes) for y, axes in zip(outputs, self.dropped, strict=True)])
        except ValueError as error:  # the programs of a file need not fit one another
            shapes = ", ".join(str(y.shape) for y in outputs)
            raise ShapeError(
                f"the outputs have shapes {shapes}, but should have one row or step on axes {self.dropped}"
            ) from error


class GraphStream(Continuing, _core.Session):
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
        self._layouts = self._layouts_of(streamed, batch)  # by the number of axes of a block
        known = [self._layouts.get(axes) for axes in range(max(self._layouts, default=-1) + 1)]
        indices = [layout and (layout.added, layout.dropped) for layout in known]
        Continuing.__init__(self, streamed, batch)
        _core.Session.__init__(self, streamed.planner.ready, self._lock, len(streamed.outputs), indices)
        self._carries = streamed.zeros(batch or 1)

    def _layouts_of(self, streamed: Streamed, batch: int | None) -> dict[int, _Layout]:
        """Return the layouts of a block with fewer axes than the input, by their number, if any may lack."""
        return {}

    if TYPE_CHECKING:  # type: ignore, because the stub of the core's method has no NumPy types

        def __call__(  # type: ignore[override]
            self, /, *args: ArrayLike, out: Any = None, **inputs: ArrayLike
        ) -> Any: ...

    def _converted(self, args: Sequence[Any], inputs: dict[str, Any]) -> Any:
        """Run a block that the core does not take as it is."""
        out, named = inputs.get("out"), {name: x for name, x in inputs.items() if name != "out"}

        def compute() -> Change[Any]:
            self._check_open()
            carried, count = self._carries, len(self._model.carries)
            blocks, layout = self.block(args, named)
            results = self._model.planner(*carried, *blocks)
            for carry, before, after in zip(self._model.carries, carried, results, strict=False):
                carry.check(before, after, "after this call")
            outputs = results[count:] if layout is None else layout.reduced(results[count:])
            if out is not None:
                outputs = self._written(outputs, out, (*args, *named.values()))
            axes = len(np.shape(args[0])) if args else -1
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
            check_out(target, (), y.shape, y.dtype)
        arrays.check_separate(targets, inputs)
        for target, y in zip(targets, outputs, strict=True):
            target[...] = y
        return targets

    @property
    def streamed(self) -> Streamed:
        """The graph over one block, which the stream runs."""
        streamed: Streamed = self._model
        return streamed

    def block(
        self, args: Sequence[ArrayLike], inputs: dict[str, ArrayLike]
    ) -> tuple[list[AnyArray], _Layout | None]:
        """Return the inputs of a call in order, as the plans take them."""
        values = self._model.in_order(args, inputs)
        return [as_declared(d, value) for d, value in zip(self._model.inputs, values, strict=True)], None

    @property
    def latency(self) -> int:
        """The number of steps after step k * stride of the input that step k of the output needs."""
        return self.streamed.latency

    def _states(self) -> Carried:
        with self._lock.reading():
            return tuple(array.copy() for array in self._carries)

    def _set_state(self, states: Carried) -> None:
        self._carries, self._is_open = states, True

    def _copy_into(self, branch: Self) -> None:
        super()._copy_into(branch)
        branch._is_open, branch._axes = self._is_open, self._axes


class SequenceStream(GraphStream):
    """A sequence, or a batch of them, that runs through a whole model block by block: y = stream(x).

    x is one step or a block of steps, in the layout of the model's input; with `batch=None`, the batch axis
    may be left out, and then y has none, either. y holds the steps that are complete, bitwise those of one
    call on the whole sequence: step k is complete after k * stride + latency + 1 steps. One step returns one
    step if each step completes one, and a block otherwise. An output without a time axis, such as the last
    step or a maximum, is the result for the steps so far.
    """

    def _layouts_of(self, streamed: Streamed, batch: int | None) -> dict[int, _Layout]:
        time, rows = streamed.x
        assert time is not None
        self.batch = batch  # the number of sequences; None: one without a batch axis
        self._time, self._rows, rank = time, rows, len(streamed.step_shape)
        sizes: list[int | str] = list(streamed.step_shape)
        sizes[time] = ""
        if rows is not None:
            sizes[rows] = batch or 1
        self._declared = streamed.inputs[0].with_axes(*sizes)
        # a whole block, and one that lacks the batch axis, the time axis, or both
        layouts = {rank: self._layout_of(streamed, [])}
        if batch is None and rows is not None:
            layouts |= {
                rank - 1: self._layout_of(streamed, [rows]),
                rank - 2: self._layout_of(streamed, [rows, time]),
            }
        else:
            layouts[rank - 1] = self._layout_of(streamed, [time])
        return layouts

    if TYPE_CHECKING:

        def __call__(self, x: ArrayLike, out: Any = None) -> Any: ...  # type: ignore[override]  # one input

    def finish(self) -> Any:
        """End the sequence and return the remaining steps, as a block.

        `reset` starts another one, and `load` or an assignment of `state` continues one. Raises ArgumentError
        if the sequence has ended.
        """

        def compute() -> Change[Any]:
            self._check_open()
            planner, sizes = self._model.last_planner, self._declared.axes or ()
            assert planner is not None
            none = np.zeros([0 if isinstance(size, str) else size for size in sizes], self._declared.dtype)
            layout = self._layouts.get(self._axes)  # outputs lack the batch axis if the last block did
            lacks_rows = (
                self.batch is None and self._rows is not None if layout is None else layout.lacks_rows
            )
            results = self._layouts[len(sizes) - lacks_rows].reduced(planner(*self._carries, none))
            is_open = not self._model.ends
            change, undo = (partial(setattr, self, "_is_open", each) for each in (is_open, True))
            return results[0] if len(results) == 1 else results, change, undo, ()

        return self._lock.run(compute)

    def block(
        self, args: Sequence[ArrayLike], inputs: dict[str, ArrayLike]
    ) -> tuple[list[AnyArray], _Layout | None]:
        (value,) = self._model.in_order(args, inputs)
        x = arrays.as_array(value, "x")
        layout = self._layouts.get(x.ndim)
        if layout is None:
            raise self._wrong_shape(x)
        try:
            return [as_declared(self._declared, layout.whole(x))], layout
        except ShapeError:
            raise self._wrong_shape(x) from None

    def _converted(self, args: Sequence[Any], inputs: dict[str, Any]) -> Any:
        def named(x: ArrayLike, out: Any = None) -> tuple[ArrayLike, Any]:
            return x, out

        x, out = named(*args, **inputs)
        return super()._converted((x,), {"out": out})

    @staticmethod
    def _layout_of(streamed: Streamed, added: Sequence[int]) -> _Layout:
        """Return the layout of a block that lacks the batch axis, the time axis, or both."""
        time, rows = streamed.x
        dropped = []
        for axes in streamed.outputs:
            lacking = [axes.batch] if rows in added else []
            lacking += [axes.time] if time in added and streamed.every_step else []
            dropped.append(tuple(sorted(axis for axis in lacking if axis is not None)))
        return _Layout(tuple(sorted(added)), dropped, rows in added)

    def _wrong_shape(self, x: AnyArray) -> ShapeError:
        names = [size or "T" for size in map(str, self._declared.axes or ())]
        if self.batch is None and self._rows is not None:
            del names[self._rows]
        step, block = (_written(each) for each in ([name for name in names if name != "T"], names))
        return ShapeError(f"x has shape {x.shape}, but must be one step {step} or a block {block}")


def _written(sizes: Sequence[str]) -> str:
    """Return a shape of sizes and names as text."""
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def stream_of(streamed: Streamed, batch: int | None) -> GraphStream:
    """Return the stream that runs a graph over one block."""
    return GraphStream(streamed) if streamed.last is None else SequenceStream(streamed, batch)
