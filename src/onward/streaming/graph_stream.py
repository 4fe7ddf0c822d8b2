"""`GraphStream`: a sequence that runs through a whole model, continued from call to call."""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays, storage
from ..core.checks import integer
from ..errors import ArgumentError, DtypeError, FileError, ShapeError, SignatureError
from ..graph.declared import as_declared, check_names
from ..graph.node import AnyArray
from ..graph.over_time.named_carries import candidates_in_errors, streamed_with
from ..graph.over_time.sequences import streamed_over_time
from ..graph.over_time.streamed import Carry, Streamed

ALL = slice(None)
Carried = tuple[AnyArray, ...]
FILE_TYPE = "stream of a whole model of Onward"


class GraphStream:
    """A sequence that runs through a whole model, continued from call to call: y = stream(x).

    The carries are what one call passes to the next: states, the last steps of convolutions, running sums. A
    call takes the other inputs, in order or by name, and returns the other outputs: one array, or a tuple.
    These are new arrays, or `out`: an array of the same shape and dtype, or a tuple of them.

    A call that raises leaves the carries unchanged; calls from several threads take effect one after the
    other. Raises SignatureError, ShapeError and DtypeError, and ArgumentError, which names the node, for
    values that a node does not accept.
    """

    def __init__(self, streamed: Streamed) -> None:
        self._streamed, self._planner = streamed, streamed.planner
        self._count = len(streamed.carries)
        # the carries, and arrays for the next ones, all of which only this stream holds
        self._buffers: tuple[Carried, Carried] = _copies(streamed.initial), ()
        self._lock = threading.Lock()

    @property
    def _carried(self) -> Carried:
        return self._buffers[0]

    def __call__(self, /, *args: ArrayLike, out: Any = None, **inputs: ArrayLike) -> Any:
        with self._lock:
            targets = self._targets(out)
            if targets:
                args = _copied_if_shared(args, targets)
                if inputs:
                    inputs = dict(zip(inputs, _copied_if_shared(inputs.values(), targets), strict=True))
            results = self._start(args, inputs, targets)
            if results is None:
                results = self._run(args, inputs)
            return self._finish(results, targets)

    def _targets(self, out: Any) -> tuple[Any, ...]:
        """Return the arrays that take the outputs, if there are any. Raises ArgumentError."""
        if out is None:
            return ()
        targets, n = out if isinstance(out, tuple) else (out,), len(self._streamed.outputs)
        if type(out) is np.ndarray and n == 1:
            return targets
        if len(targets) != n or not all(isinstance(target, np.ndarray) for target in targets):
            what = "an array" if n == 1 else f"a tuple of {n} arrays"
            raise ArgumentError(f"out is {type(out).__name__}, but must be {what}")
        return targets

    def _start(self, args: Sequence[Any], inputs: dict[str, Any], targets: tuple[Any, ...]) -> Any:
        """Return the next carries and the outputs of a call for which there is a plan, or None."""
        carried, spare = self._buffers
        return self._planner.run((*carried, *args), inputs, (*(spare or (None,) * self._count), *targets))

    def _finish(self, results: Sequence[AnyArray], targets: tuple[Any, ...]) -> Any:
        """Keep the next carries and return the outputs. Raises ShapeError, DtypeError, ArgumentError."""
        returned = results[self._count :]
        if targets:
            for y, target in zip(returned, targets, strict=True):
                if y is not target:
                    _write(y, target)
            returned = targets
        self._buffers = tuple(results[: self._count]), self._carried
        return returned[0] if len(returned) == 1 else returned

    def _run(self, args: Sequence[ArrayLike], inputs: dict[str, ArrayLike]) -> tuple[Any, ...]:
        """Check the inputs of a call and run it; the next call with these shapes runs in the core."""
        results = self._planner(*self._carried, *self._block(args, inputs))
        for carry, before, after in zip(self._streamed.carries, self._carried, results, strict=False):
            check_carry(carry, before, after, "after this call")
        return results

    def _block(self, args: Sequence[ArrayLike], inputs: dict[str, ArrayLike]) -> list[AnyArray]:
        """Return the inputs of a call in order, as the plans take them."""
        named = named_inputs(self._streamed, args, inputs, "the stream")
        declared = {d.name: d for d in self._streamed.graph.inputs}
        return [as_declared(declared[name], named[name]) for name in named]

    @property
    def latency(self) -> int:
        """The number of steps after step k * stride of the input that step k of the output needs."""
        return self._streamed.latency

    @property
    def state(self) -> dict[str, AnyArray]:
        """Copies of the carries by name; assign a dict to set them."""
        with self._lock:
            carried = _copies(self._carried)
        return {c.name: a for c, a in zip(self._streamed.carries, carried, strict=True)}

    @state.setter
    def state(self, state: Mapping[str, ArrayLike]) -> None:
        carried = carried_in(state, self._streamed)
        with self._lock:
            self._buffers = carried, ()

    def reset(self) -> None:
        """Set the carries to their initial values."""
        with self._lock:
            self._buffers = _copies(self._streamed.initial), ()

    def copy(self) -> Self:
        """Return a new stream with a copy of the carries."""
        branch = object.__new__(type(self))
        with self._lock:
            branch.__dict__.update(self.__dict__)
            branch._buffers = _copies(self._carried), ()
        branch._lock = threading.Lock()
        return branch

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the carries to a safetensors file. Raises FileError."""
        storage.write(path, self.state, {"type": FILE_TYPE, "model": fingerprint(self._streamed)})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the carries with those that a stream of the same model saved.

        Raises FileError, and leaves the carries unchanged, if the file is damaged or is of another model.
        """
        tensors, metadata = storage.read(path)
        check_file(path, metadata, FILE_TYPE, self._streamed)
        try:
            self.state = tensors
        except (ArgumentError, ShapeError, DtypeError) as error:
            raise FileError(f"{path}: {error}") from error


class _BlockLayout(NamedTuple):
    """The indices that add the axes that a block lacks, and remove them from outputs, or add them there."""

    x: tuple[slice | None, ...]
    outputs: list[tuple[slice | int, ...]]
    targets: list[tuple[Any, ...]]
    lacks_rows: bool


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
        self._batch, self._is_finished = None if batch is None else integer("batch", batch, 1), False
        time, rows = streamed.x
        assert time is not None
        self._time, self._rows, rank = time, rows, len(streamed.step_shape)
        sizes: list[int | str] = list(streamed.step_shape)
        sizes[time] = ""
        if rows is not None:
            sizes[rows] = batch or 1
        self._declared = streamed.graph.inputs[self._count]._replace(axes=tuple(sizes))
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
            layout = self._layout(x)
            targets = self._targets(out)
            whole = tuple(y[index] for y, index in zip(targets, layout.targets, strict=False))
            block = _copied_if_shared([x[layout.x]], targets)
            results = self._start(block, {}, whole)
            if results is None:
                results = self._planner(*self._carried, self._as_declared(block[0], x))
            returned = []
            for place, (y, index) in enumerate(zip(results[self._count :], layout.outputs, strict=True)):
                is_written = bool(targets) and y is whole[place]
                returned.append(targets[place] if is_written else y[index] if index else y)
            y = self._finish([*results[: self._count], *returned], targets)
            self._lacks_rows = layout.lacks_rows
            return y

    def finish(self) -> Any:
        """End the sequence and return the remaining steps, as a block; `reset` starts another one."""
        with self._lock:
            self._check_open()
            shape = list(self._streamed.step_shape)
            shape[self._time] = 0
            if self._rows is not None:
                shape[self._rows] = self._batch or 1
            planner = self._streamed.last_planner
            assert planner is not None
            results = planner(*self._carried, np.zeros(shape, self._declared.dtype))
            self._is_finished = True
            layout = self._layout_of([self._rows] if self._lacks_rows else [])
            returned = [y[index] if index else y for y, index in zip(results, layout.outputs, strict=True)]
            return returned[0] if len(returned) == 1 else tuple(returned)

    def reset(self) -> None:
        """Start another sequence."""
        super().reset()
        self._is_finished = False

    def _check_open(self) -> None:
        if self._is_finished:
            raise ArgumentError("the sequence has ended: call reset() to start another one")

    def _block(self, args: Sequence[ArrayLike], inputs: dict[str, ArrayLike]) -> list[AnyArray]:
        if inputs or len(args) != 1:
            raise SignatureError(f"got {len(args) + len(inputs)} inputs, but the stream takes a block")
        x = arrays.as_array(args[0], "x")
        return [self._as_declared(x[self._layout(x).x], x)]

    def _layout(self, x: AnyArray) -> _BlockLayout:
        layout = self._layouts.get(x.ndim)
        if layout is None:
            raise self._wrong_shape(x)
        return layout

    def _as_declared(self, block: AnyArray, x: AnyArray) -> AnyArray:
        """Return a block in the dtype of the input. Raises ShapeError with the shape of x, and DtypeError."""
        try:
            return as_declared(self._declared, block)  # type: ignore[no-any-return]  # it has a dtype
        except ShapeError:
            raise self._wrong_shape(x) from None

    def _layout_of(self, added: Sequence[int | None]) -> _BlockLayout:
        """Return the layout of a block that lacks the batch axis, the time axis, or both."""
        lacks_time, lacks_rows = self._time in added, self._rows in added
        outputs: list[Any] = []
        for axes in self._streamed.outputs:
            dropped = [axes.batch] if lacks_rows else []
            dropped += [axes.time] if lacks_time and self._streamed.every_step else []
            last = max((axis for axis in dropped if axis is not None), default=-1)
            outputs.append(tuple(0 if axis in dropped else ALL for axis in range(last + 1)))
        targets = [(*(None if index == 0 else ALL for index in indices), ...) for indices in outputs]
        x = tuple(None if axis in added else ALL for axis in range(len(self._streamed.step_shape)))
        return _BlockLayout(x, outputs, targets, lacks_rows)

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
    model, others = model._general(fixed)
    carry = model._named_carries(carry, initial, time_axis)
    if carry:
        return GraphStream(streamed_with(model._graph, carry, others, initial or {}, batch or 1))
    with candidates_in_errors(model._graph):
        streamed = streamed_over_time(model._from_zeros, time_axis, others, batch or 1)
    return SequenceStream(streamed, batch)


def _copies(carried: Sequence[AnyArray]) -> Carried:
    return tuple(array.copy() for array in carried)


def _copied_if_shared(inputs: Iterable[Any], targets: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the inputs, copied where they share memory with an array that takes an output."""
    return tuple([x.copy() if any([_may_overlap(x, y) for y in targets]) else x for x in inputs])


def _may_overlap(x: Any, y: AnyArray) -> bool:
    """Whether an input may share memory with an array; two arrays that own their memory do not."""
    if type(x) is np.ndarray and x.base is None and y.base is None:
        return x is y
    return isinstance(x, np.ndarray) and np.may_share_memory(x, y)


def _write(y: AnyArray, out: AnyArray) -> None:
    """Write an output into an array. Raises ShapeError, DtypeError, ArgumentError."""
    if y.shape != out.shape:
        raise ShapeError(f"out has shape {out.shape}, but the output has shape {y.shape}")
    if y.dtype != out.dtype:
        raise DtypeError(f"out has dtype {out.dtype}, but the output has dtype {y.dtype}")
    if not out.flags.writeable:
        raise ArgumentError("out is read-only: pass an array that can be written to")
    out[...] = y


def named_inputs(
    streamed: Streamed, args: Sequence[ArrayLike], inputs: dict[str, ArrayLike], what: str
) -> dict[str, ArrayLike]:
    """Return the inputs of a call by name, in order. Raises SignatureError."""
    names = streamed.names
    if len(args) + len(inputs) != len(names):
        raise SignatureError(f"got {len(args) + len(inputs)} inputs, but {what} takes ({', '.join(names)})")
    named = dict(zip(names, args, strict=False)) | inputs
    check_names(named, names, "inputs")
    return {name: named[name] for name in names}


def check_carry(carry: Carry, before: AnyArray, after: AnyArray, when: str) -> None:
    """Raise ShapeError or DtypeError unless an array can be the value of a carry."""
    shapes = [list(a.shape) for a in (before, after)]
    if carry.axes.time is not None and len(shapes[0]) == len(shapes[1]):
        shapes[1][carry.axes.time] = shapes[0][carry.axes.time]
    if shapes[0] != shapes[1] and not carry.any_shape:
        raise ShapeError(f"{carry.name} has shape {after.shape} {when}, but {before.shape} before")
    if before.dtype != after.dtype:
        raise DtypeError(f"{carry.name} has dtype {after.dtype} {when}, but {before.dtype} before")


def carried_in(state: Mapping[str, ArrayLike], streamed: Streamed) -> Carried:
    """Return copies of the carries in a state. Raises ArgumentError, ShapeError, DtypeError."""
    names = [carry.name for carry in streamed.carries]
    if not isinstance(state, Mapping) or set(state) != set(names):
        raise ArgumentError(f"the state must be a dict with the keys {', '.join(names)}")
    carried = []
    for carry in streamed.carries:
        array = arrays.as_array(state[carry.name], carry.name)
        check_carry(carry, carry.initial, array, "in this state")
        carried.append(np.array(array, order="C"))
    return tuple(carried)


def check_file(path: Any, metadata: Mapping[str, Any] | None, file_type: str, streamed: Streamed) -> None:
    """Raise FileError unless a file holds carries of this type and of this model."""
    if metadata is None or metadata.get("type") != file_type:
        raise FileError(f"{path} is not a {file_type.removesuffix(' of Onward')}")
    if metadata.get("model") != fingerprint(streamed):
        raise FileError(f"{path} is the state of another model")


def fingerprint(streamed: Streamed) -> str:
    """Return a hash of the operations and constants of a graph."""
    import hashlib  # deferred: hashlib loads OpenSSL, which takes as much memory as all of Onward

    digest = hashlib.sha256()
    for node in streamed.graph.nodes:
        digest.update(repr((node.operation, node.inputs, node.outputs)).encode())
        if layer := node.attributes.get("layer"):
            for name, weight in layer._weights_by_name().items():
                digest.update(name.encode() + weight.tobytes())
    for name, array in streamed.graph.constants.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
