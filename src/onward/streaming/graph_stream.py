"""`GraphStream`: a sequence that runs through a whole model, continued from call to call."""

import os
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays, storage
from ..core.checks import integer
from ..errors import ArgumentError, DtypeError, FileError, ShapeError, SignatureError
from ..graph.declared import as_declared, check_names
from ..graph.node import AnyArray
from ..graph.over_time.streamed import MAX_PLANS, Carry, Streamed

ALL = slice(None)
FILE_TYPE = "stream of a whole model of Onward"


class GraphStream:
    """A sequence that runs through a whole model, continued from call to call: y = stream(x).

    The carries are what one call passes to the next: states, the last steps of convolutions, running sums. A
    call takes the other inputs, in order or by name, and returns the other outputs: one array, or a tuple.

    A call that raises leaves the carries unchanged; calls from several threads take effect one after the
    other. Raises SignatureError, ShapeError and DtypeError, and ArgumentError, which names the node, for
    values that a node does not accept.
    """

    def __init__(self, streamed: Streamed) -> None:
        self._streamed, self._planner = streamed, streamed.planner
        self._count = len(streamed.carries)
        self._carried: tuple[AnyArray, ...] = streamed.initial  # never changed in place
        self._lock = threading.Lock()

    def __call__(self, /, *args: ArrayLike, **inputs: ArrayLike) -> Any:
        with self._lock:
            results = self._planner.run((*self._carried, *args), inputs) or self._run(args, inputs)
            self._carried = results[: self._count]
        returned = results[self._count :]
        return returned[0] if len(returned) == 1 else returned

    def _run(self, args: tuple[ArrayLike, ...], inputs: dict[str, ArrayLike]) -> tuple[Any, ...]:
        """Check the inputs of a call and run it; the next call with these shapes runs in the core."""
        names = self._streamed.names
        declared = {d.name: d for d in self._streamed.graph.inputs}
        if len(args) > len(names) or (len(args) + len(inputs) != len(names)):
            raise SignatureError(
                f"got {len(args) + len(inputs)} inputs, but the stream takes ({', '.join(names)})"
            )
        named = dict(zip(names, args, strict=False)) | inputs
        check_names(named, names, "inputs")
        results = self._planner(*self._carried, *(as_declared(declared[name], named[name]) for name in names))
        for carry, before, after in zip(self._streamed.carries, self._carried, results, strict=False):
            check_carry(carry, before, after, "after this call")
        return results

    @property
    def latency(self) -> int:
        """The number of steps after step k * stride of the input that step k of the output needs."""
        return self._streamed.latency

    @property
    def state(self) -> dict[str, AnyArray]:
        """Copies of the carries by name; assign a dict to set them."""
        carried = self._carried
        return {c.name: a.copy() for c, a in zip(self._streamed.carries, carried, strict=True)}

    @state.setter
    def state(self, state: Mapping[str, ArrayLike]) -> None:
        names = [carry.name for carry in self._streamed.carries]
        if not isinstance(state, Mapping) or set(state) != set(names):
            raise ArgumentError(f"the state must be a dict with the keys {', '.join(names)}")
        carried = []
        for carry in self._streamed.carries:
            array = arrays.as_array(state[carry.name], carry.name)
            check_carry(carry, carry.initial, array, "in this state")
            carried.append(np.array(array, order="C"))
        with self._lock:
            self._carried = tuple(carried)

    def reset(self) -> None:
        """Set the carries to their initial values."""
        with self._lock:
            self._carried = self._streamed.initial

    def copy(self) -> Self:
        """Return a new stream with the same carries."""
        branch = type(self)(self._streamed)
        branch._carried = self._carried
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
    """The indices that add the axes that a block lacks, and remove those axes from each output."""

    x: tuple[slice | None, ...]
    outputs: list[tuple[slice | int, ...]]


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
        self._layouts: dict[tuple[int, ...], _BlockLayout] = {}  # by the shape of x
        self._batch, self._is_finished = None if batch is None else integer("batch", batch, 1), False
        time, rows = streamed.x
        assert time is not None
        self._time, self._rows, self._rank = time, rows, len(streamed.step_shape)
        self._step_rank = self._rank - 1
        declared = streamed.graph.inputs[self._count]
        self._declared = declared._replace(
            axes=tuple(
                "" if axis == time else (batch or 1) if axis == rows else size
                for axis, size in enumerate(streamed.step_shape)
            )
        )
        self._last = self._layout_of(batch is not None or rows is None, True)  # of the last block

    def __call__(self, x: ArrayLike) -> Any:  # type: ignore[override]  # a sequence has one input
        with self._lock:
            self._check_open()
            fits = type(x) is np.ndarray and x.dtype == self._declared.dtype
            layout = self._layouts.get(x.shape) if fits else None  # type: ignore[union-attr]  # x is an array
            if layout is None:
                x, layout = self._checked(arrays.as_array(x, "x"))
            block = x[layout.x]  # type: ignore[index, call-overload]  # as above
            results = self._planner.run((*self._carried, block), {}) or self._planner(*self._carried, block)
            self._carried, self._last = results[: self._count], layout
            return self._returned(results[self._count :], layout)

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
            has_rows = None not in self._last.x[self._rows :][:1] if self._rows is not None else True
            return self._returned(results, self._layout_of(has_rows, True))

    def reset(self) -> None:
        """Start another sequence."""
        super().reset()
        self._is_finished = False

    def copy(self) -> Self:
        """Return a new stream with the same carries."""
        branch = type(self)(self._streamed, self._batch)
        branch._carried, branch._is_finished = self._carried, self._is_finished
        branch._last = self._last
        return branch

    def _check_open(self) -> None:
        if self._is_finished:
            raise ArgumentError("the sequence has ended: call reset() to start another one")

    def _checked(self, x: AnyArray) -> tuple[AnyArray, _BlockLayout]:
        """Return x in the dtype of the model's input, and its layout. Raises ShapeError, DtypeError."""
        missing = self._rank - x.ndim
        can_lack_rows = self._batch is None and self._rows is not None
        has_rows = self._rows is None or missing == 0 or not can_lack_rows
        has_time = missing == (0 if has_rows else 1)
        added = ([] if has_rows else [self._rows]) + ([] if has_time else [self._time])
        if len(added) != missing:
            raise ShapeError(f"x has shape {x.shape}, but {self._expected()}")
        layout = self._layout_of(has_rows, has_time)
        try:
            block = as_declared(self._declared, x[layout.x])
        except ShapeError:
            raise ShapeError(f"x has shape {x.shape}, but {self._expected()}") from None
        if len(self._layouts) == MAX_PLANS:
            self._layouts.clear()
        self._layouts[x.shape] = layout
        return np.squeeze(block, tuple(axis for axis in added if axis is not None)), layout

    def _layout_of(self, has_rows: bool, has_time: bool) -> _BlockLayout:
        """Return the layout of a block with or without a batch axis and a time axis."""
        added = ([] if has_rows else [self._rows]) + ([] if has_time else [self._time])
        outputs: list[Any] = []
        for axes in self._streamed.outputs:
            dropped = [] if has_rows or axes.batch is None else [axes.batch]
            if not has_time and axes.time is not None and self._streamed.every_step:
                dropped.append(axes.time)
            outputs.append(
                tuple(0 if axis in dropped else ALL for axis in range(max(dropped, default=-1) + 1))
            )
        return _BlockLayout(tuple(None if axis in added else ALL for axis in range(self._rank)), outputs)

    def _expected(self) -> str:
        sizes = self._declared.axes or ()
        names = ["T" if axis == self._time else str(size) for axis, size in enumerate(sizes)]
        if self._batch is None and self._rows is not None:
            del names[self._rows]
        step = ", ".join(name for name in names if name != "T")
        return f"must be one step ({step}) or a block ({', '.join(names)})"

    def _returned(self, results: Any, layout: _BlockLayout) -> Any:
        """Return the outputs in the layout of a block."""
        returned = [y[index] if index else y for y, index in zip(results, layout.outputs, strict=True)]
        return returned[0] if len(returned) == 1 else tuple(returned)


def check_carry(carry: Carry, before: AnyArray, after: AnyArray, when: str) -> None:
    """Raise ShapeError or DtypeError unless an array can be the value of a carry."""
    shapes = [list(a.shape) for a in (before, after)]
    if carry.axes.time is not None and len(shapes[0]) == len(shapes[1]):
        shapes[1][carry.axes.time] = shapes[0][carry.axes.time]
    if shapes[0] != shapes[1] and not carry.any_shape:
        raise ShapeError(f"{carry.name} has shape {after.shape} {when}, but {before.shape} before")
    if before.dtype != after.dtype:
        raise DtypeError(f"{carry.name} has dtype {after.dtype} {when}, but {before.dtype} before")


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
