"""Build a plan: record steps over views and allocate the memory that they use."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import onward._core as _core

from ...core import budget
from ...core.arrays import contiguous
from ...core.budget import Limit
from ...core.cell import Cell
from ...core.identity import Identity
from ..size import Axes, Size, hint, is_symbolic
from ..sized import broadcast_shape, dtype_of, has_sizes, have_same_sizes
from .bodies import improved
from .joined import joined_arrays
from .passes import optimized
from .steps import INTEGER_PRODUCTS, NODE, Body, views_of
from .view import CONSTANTS, DTYPES, FIRST_ARGUMENT, FIRST_OF_LOOPS, View, name_of
from .words import CONDITIONS, RecordedWeights, WordWriter

Bytes = NDArray[np.uint8]

Packed = TypeVar("Packed")

ALIGNMENT = 64  # bytes in a cache line
MOST_LOOPS = 16  # inside each other


class Weights:
    """The packed weights and planners that all plans of one graph share."""

    def __init__(self, lasting: frozenset[Identity], core: Any = _core) -> None:
        self.lasting = lasting  # the arrays that live as long as the graph
        self.core = core  # what makes the plans and packs the weights
        self.packed: dict[Any, Any] = {}  # matrices
        self.planners: dict[Identity, Any] = {}  # planners of the nodes' bodies
        self.runs: dict[Identity, int] = {}  # nodes in one run of a body
        self.limit = Limit()


class Builder:
    """Records steps and allocates arrays; `build` turns them into a plan of the core."""

    def __init__(self, weights: Weights) -> None:
        self.steps: list[tuple[str, tuple[Any, ...]]] = []
        self.core = weights.core
        self.lanes = self.core.lanes()
        self._sizes: dict[int, Any] = {}  # of the arrays in the arena, in bytes, by their spaces
        # once optimized: the size of each array of the arena, and the first and the last step that use it
        self.arrays: dict[int, tuple[Any, int, int]] = {}
        self.joined: dict[int, int] = {}  # likewise: as `joined_arrays` returns them
        self.segment_start = 0  # the first step that does not precede a node that runs in NumPy
        self.has_integer_products = False
        self._argument_sizes: list[Any] = []
        self._weights, self._budget = weights, budget.current()
        self._constants: list[Bytes] = []
        self._constants_size = 0
        self._views: dict[Identity, View] = {}  # of the constants
        self._dense: dict[Any, tuple[Any, ...]] = {}  # the strides of arrays like others, by their axes
        self._arrays: dict[Any, NDArray[Any]] = {}  # by their spaces, offsets and dtypes
        self._scalars: dict[tuple[str, bytes], View] = {}  # by their dtypes and bytes
        self._depth = 0  # the number of loops around the next step
        self._loop_spaces = 0  # of these loops
        self._most_loop_spaces = 0  # of the loops around any step
        # add the nodes of a graph as steps, for given inputs, and count elementary operations, of steps that
        # stand for others; the compiler sets both
        self.add_nodes: Callable[..., Any]
        self.count: Callable[[Any], None]

    def new(self, *shape: Any, dtype: str = "float32") -> View:
        """Allocate a contiguous array in the arena."""
        return View.contiguous(self._new_space(shape, dtype), 0, shape, dtype)

    def _new_space(self, shape: tuple[Any, ...], dtype: str) -> int:
        """Allocate memory in the arena for as many elements as a shape has."""
        space = -1 - len(self._sizes)
        size = self._sizes[space] = math.prod(shape) * DTYPES[dtype]
        memory = hint(size)
        if memory > self._budget.memory:
            self._budget.check(memory=memory)
        return space

    def new_argument(self, *shape: Any, dtype: str = "float32") -> View:
        """Return the view of the next array of a call: its inputs first, then its outputs."""
        view = View.contiguous(FIRST_ARGUMENT + len(self._argument_sizes), 0, shape, dtype)
        self._argument_sizes.append(math.prod(shape) * DTYPES[dtype])
        return view

    def body(self, slices: int, states: int, add: Callable[[int], bool]) -> Body | None:
        """Return the steps that `add` adds as the body of a loop with so many arrays of slices and states.

        `add` takes the number of the first space of the loop, and returns whether the steps are complete.
        Returns None if they are not, or if too many loops are inside each other.
        """
        if self._depth == MOST_LOOPS:
            return None
        around, number, arrays = self.steps, self._loop_spaces, len(self._sizes)
        self.steps, self._loop_spaces, self._depth = [], number + slices + 2 * states, self._depth + 1
        self._most_loop_spaces = max(self._most_loop_spaces, self._loop_spaces)
        try:
            is_complete = add(FIRST_OF_LOOPS + number)
            body = Body(self.steps, -1 - arrays, -len(self._sizes))
        finally:
            self.steps, self._loop_spaces, self._depth = around, number, self._depth - 1
        first = FIRST_OF_LOOPS + number + slices
        targets = range(first + 1, first + 2 * states, 2)
        return improved(body, targets, self._sizes, self.lanes) if is_complete else None

    def mark(self) -> tuple[int, int]:
        """Return what `undo` needs to take back the steps and arrays that are added from now on."""
        return len(self.steps), len(self._sizes)

    def undo(self, mark: tuple[int, int]) -> None:
        """Take back the steps and arrays that were added since a mark."""
        steps, arrays = mark
        del self.steps[steps:]
        for space in [*self._sizes][arrays:]:
            del self._sizes[space]

    def new_rows(self, rows: Any, units: int) -> View:
        """Allocate the output rows of a product; the row stride is a multiple of the vector length."""
        stride = -(-units // self.lanes) * self.lanes
        padded = self.new(rows, stride)
        return padded if stride == units else padded.sliced(1, 0, units)

    def like(self, view: View, dtype: str | None = None) -> View:
        """Allocate a dense array with the shape and dtype of a view and the same memory order of axes."""
        axes, dtype = view[2:4], dtype or view.dtype
        strides = self._dense.get(axes)
        if strides is None:
            strides = self._dense[axes] = _dense_strides(view)
        return View(self._new_space(view.shape, dtype), 0, view.shape, strides, dtype)

    def constant(self, array: NDArray[Any]) -> View:
        """Return a view of an array that never changes, stored once, or of sizes that a call decides."""
        key = Identity(array)
        view = self._views.get(key)
        if view is None and array.dtype.hasobject and has_sizes(array):
            y = self.new(*array.shape, dtype="int64")
            self.add("numbers", list(array.flat), y)
            return self.cast(y, name_of(dtype_of(array)))
        if view is None:
            offset = self._constants_size // array.itemsize
            view = View.contiguous(CONSTANTS, offset, array.shape, name_of(array.dtype))
            numbers = array.tobytes().ljust(-(-array.nbytes // ALIGNMENT) * ALIGNMENT, b"\0")
            self._constants.append(np.frombuffer(numbers, np.uint8))
            self._constants_size += len(numbers)
            self._views[key] = view
            if array.size:
                self._arrays[*view[:2], view.dtype] = array
        return view

    def locate(self, array: NDArray[Any], view: View) -> None:
        """Let `constant` return a view that has the elements of an array in each call."""
        self._views[Identity(array)] = view

    def numbers(self, view: View) -> NDArray[Any] | None:
        """Return the constant that a view shows, with size 1 for each axis that repeats it, or None."""
        shape = tuple(size if stride else 1 for size, stride in zip(view.shape, view.strides, strict=True))
        array = None if is_symbolic((view.offset, *shape)) else self._arrays.get((*view[:2], view.dtype))
        if array is None:
            return None
        flat = np.ascontiguousarray(array).reshape(-1).view()
        flat.flags.writeable = False
        return np.ndarray(shape, flat.dtype, flat, 0, [flat.itemsize * stride for stride in view.strides])

    def is_zero(self, view: View) -> bool:
        """Whether a view repeats a constant 0."""
        found = None if any(view.strides) else self.numbers(view)
        return found is not None and not found.item()

    def packed(
        self,
        source: tuple[NDArray[Any] | None, ...],
        variant: Any,
        make: Callable[[], tuple[NDArray[Any] | None, ...]],
    ) -> _core.Dense:
        """Return the arguments of `Dense` that `make` returns, packed once for all plans of the graph."""

        def pack() -> _core.Dense:
            W, *others = make()
            if W is not None and W.ndim == 3 and self.core is not _core:  # records matrices
                W = W.transpose(0, 2, 1).reshape(len(W), -1)
            if W is not None and not W.flags.c_contiguous:  # it need not be aligned
                W = contiguous(W)
            dense: _core.Dense = self.core.Dense(W, *(None if a is None else contiguous(a) for a in others))
            return dense

        return self.shared(source, variant, pack)

    def computes(self, dtype: np.dtype[Any]) -> bool:
        """Whether steps may have weights of a dtype of floats; in files, all are in float32."""
        return dtype == np.float32 or (dtype == np.float64 and self.core is _core)

    def stack(self, cell: Cell) -> _core.Stack:
        """Return the packed weights of a cell."""
        stack: _core.Stack = cell.stack if self.core is _core else cell.packed_in(self.core)
        return stack

    def shared(
        self, source: tuple[NDArray[Any] | None, ...], variant: Any, make: Callable[[], Packed]
    ) -> Packed:
        """Return what `make` makes of the source arrays, once for all plans of the graph."""
        key = (_core.isa(), variant, *map(Identity, source))
        made: Packed | None = self._weights.packed.get(key)
        if made is None:
            made = make()
            if all(each.value is None or each in self._weights.lasting for each in key[2:]):
                self._weights.packed[key] = made
        return made

    def add(self, step: str, *arguments: Any) -> None:
        """Append a step, named after the method of the core's Plan."""
        self.steps.append((step, arguments))
        if step in INTEGER_PRODUCTS:
            self.has_integer_products = True

    def contiguous(self, view: View) -> View:
        """Return the view if it is contiguous, otherwise a contiguous copy."""
        if view.is_contiguous():
            return view
        copy = self.new(*view.shape, dtype=view.dtype)
        self.add("copy", view, copy)
        return copy

    def reshaped(self, view: View, *shape: int) -> View:
        """Reshape in C order; copies only if no strides describe the result."""
        return view.reshaped(*shape) or self.contiguous(view).reshaped(*shape)  # type: ignore[return-value]

    def combined(self, step: str, *arguments: Any, dtype: str | None = None) -> View:
        """Add an elementwise step with broadcasting; the result has the dtype of the last operand.

        It is allocated in the memory order of an operand of its shape.
        """
        operands = [argument for argument in arguments if type(argument) is View]
        y = self.new_result(operands, dtype or operands[-1].dtype)
        self.add(step, *arguments, y)
        return y

    def new_result(self, operands: Sequence[View], dtype: str = "float32") -> View:
        """Allocate the result of an elementwise function of operands, with broadcasting.

        It has the memory order of an operand of its shape.
        """
        shape = broadcast_shape(*[view.shape for view in operands])
        like: View | None = None
        for x in operands:
            # sizes that are equal in the first call alone must not become equal in all
            if x.shape is shape or have_same_sizes(x.shape, shape):
                if x.space != CONSTANTS:
                    like = x
                    break
                like = like or x
        return self.like(like, dtype) if like else self.new(*shape, dtype=dtype)

    def binary(self, operation: str, a: View, b: View) -> View:
        """Apply a binary operation to a and b, with broadcasting."""
        return self.combined("binary", operation, a, b, dtype=a.dtype)

    def cast(self, x: View, dtype: str) -> View:
        """Convert x to another dtype."""
        if x.dtype == dtype:
            return x
        y = self.like(x, dtype)
        self.add("cast", x, y)
        return y

    def scalar(self, value: Any, dtype: str = "float32") -> View:
        """Return a view of a constant number, or of a size that a call decides."""
        if type(value) is Size:
            y = self.new(dtype="int64")
            self.add("numbers", [value], y)
            return self.cast(y, dtype)
        number = np.asarray(value).astype(dtype)
        key = dtype, number.tobytes()
        if key not in self._scalars:
            self._scalars[key] = self.constant(number)
        return self._scalars[key]

    def map(self, step: str, function: Any, x: View) -> View:
        """Apply a function elementwise; `step` is "unary" or "activate"."""
        y = self.like(x)
        self.add(step, function, x, y)
        return y

    def fuse(self, function: Any, x: View) -> bool:
        """Fuse an activation into the last step if it is a product with output x; return whether it is.

        The caller ensures that nothing else reads x.
        """
        if not self.steps or self.steps[-1][0] not in ("filter", "product"):
            return False
        step, (*arguments, fused, y) = self.steps[-1]
        is_output = y.space == x.space and y.offset == x.offset and math.prod(y.shape) == math.prod(x.shape)
        if not is_output or fused is not None:
            return False
        self.steps[-1] = step, (*arguments, function, y)
        return True

    def take_product(self, y: View) -> tuple[Any, ...] | None:
        """Take back the last step if it is a product with output y, and its rows have the axes of those of y.

        Returns its other arguments, or None. The caller ensures that nothing else reads y.
        """
        if not self.steps or self.steps[-1][0] != "product":
            return None
        weights, x, row_axes, function, own = self.steps[-1][1]
        axes = own.space, own.offset, *own.shape, *own.strides, *x.shape[:row_axes]
        expected = y.space, y.offset, *y.shape, *y.strides, *y.shape[:-1]
        if not have_same_sizes(axes, expected):
            return None
        self.steps.pop()
        return weights, x, row_axes, function

    def rows(self, step: str, parameter: Any, x: View, axes: Sequence[int]) -> View:
        """Apply "softmax" or "standardize" over some axes jointly."""
        rest = [axis for axis in range(len(x.shape)) if axis not in axes]
        order = [*rest, *axes]
        ordered = self.contiguous(x.permuted(*order))
        kept = ordered.shape[: len(rest)]
        y = self.new(*ordered.shape)
        flat = (*kept, math.prod(ordered.shape[len(rest) :]))
        self.add(step, parameter, ordered.reshaped(*flat), y.reshaped(*flat))
        return y.permuted(*inverse(order))

    def add_node(self, node: Any, views: Sequence[View]) -> None:
        """Add a node that runs in NumPy, and the views that it reads and writes."""
        self.add(NODE, node, *views)
        self.segment_start = len(self.steps)

    def optimize(self, carries: Mapping[int, int]) -> None:
        """Make fewer steps compute the same; arrays of the arena share memory if no step needs both.

        What nodes in NumPy use stays until the end: they may return a part of an input. `carries` holds the
        space of the output that a stream passes to an input of the next call.
        """
        used = [view for step in self.steps if step[0] == NODE for view in views_of(step)]
        steps = optimized([*self.steps, (NODE, (None, *used))], self._sizes, self.lanes)
        for space, lifetime in _core.lifetimes(steps, View).items():
            self.arrays[space] = self._sizes[space], *lifetime
        self.steps = steps[:-1]
        if self.core is _core:  # a file tells nothing of these arrays
            sizes = self._sizes | dict(enumerate(self._argument_sizes, FIRST_ARGUMENT))
            self.joined = joined_arrays(self.steps, sizes, carries)
            for space in self.joined:
                del self.arrays[space]

    def build(
        self, axes: Axes, outputs: Sequence[View], locations: Sequence[View], work: Any = 0
    ) -> tuple[Any, list[Bytes]]:
        """Return the core's program and the bytes of its constants, which follow each other in memory.

        `locations` are the views that the caller asks for, `work` is the number of elementary operations. The
        joined arrays follow the outputs as if they were some.
        """
        arrays, weights = self.arrays, dict[Identity, int]()

        def place_of(found: Any) -> int:
            """Return the number of a core's weights."""
            if isinstance(found, RecordedWeights):
                return found.number
            return weights.setdefault(Identity(found), len(weights))

        places = {space: -1 - place for place, space in enumerate(arrays)}
        after = FIRST_ARGUMENT + len(self._argument_sizes)
        joined = [self._sizes[space] for space in self.joined]
        places |= {space: after + number for number, space in enumerate(self.joined)}
        after += len(joined)
        places |= {FIRST_OF_LOOPS + number: after + number for number in range(self._most_loop_spaces)}
        writer = WordWriter(place_of, places)
        spaces = [self._constants_size, *self._argument_sizes, *joined]
        writer.write([(CONDITIONS.index(guard.condition), guard.size) for guard in axes.guards.values()])
        writer.write(spaces)
        writer.write(list(arrays.values()))
        writer.write([*(list(view.shape) for view in outputs), *([size] for size in joined)])
        writer.write(list(locations))
        writer.steps(self.steps)
        writer.write(work)
        arguments = writer.program, [key.value for key in weights]
        program = self.core.Program(*arguments, len(joined)) if joined else self.core.Program(*arguments)
        return program, self._constants


def inverse(order: Sequence[int]) -> list[int]:
    """Return the order of axes that undoes another one."""
    return sorted(range(len(order)), key=order.__getitem__)


def _dense_strides(view: View) -> tuple[Any, ...]:
    """Return the strides of a dense array with the shape and the memory order of a view."""
    if view.is_contiguous():
        return View.contiguous(0, 0, view.shape).strides
    strides = [abs(hint(stride)) for stride in view.strides]
    order = sorted(range(len(strides)), key=strides.__getitem__, reverse=True)
    return View.contiguous(0, 0, view.permuted(*order).shape).permuted(*inverse(order)).strides


def aligned(constants: Sequence[Bytes]) -> Bytes:
    """Return constants one behind the other, from the start of a cache line."""
    joined = aligned_zeros(sum(map(len, constants)))
    return np.concatenate(constants, out=joined) if constants else joined


def aligned_zeros(size: int) -> Bytes:
    """Return zeros that start at a cache line."""
    zeros = np.zeros(size + ALIGNMENT, np.uint8)
    start = -zeros.ctypes.data % ALIGNMENT
    return zeros[start : start + size]
