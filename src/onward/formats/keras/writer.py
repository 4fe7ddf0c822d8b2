"""Values of a graph under construction, and what writes nodes into it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ...core.identity import Identity
from ...errors import FileError
from ...graph import Graph
from ...graph.operations.expressions import Expression
from ...graph.writer import Recorder

DERIVED: Any = object()  # the largest rank of the inputs
BOOL: np.dtype[Any] = np.dtype(bool)
INT32: np.dtype[Any] = np.dtype(np.int32)
INT64: np.dtype[Any] = np.dtype(np.int64)
MAX = np.iinfo(np.int64).max
# The dtype of the output where it is not that of the first input.
DTYPES = dict.fromkeys(
    ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsNaN", "IsInf"), BOOL
) | {"Shape": INT64}


class Value(NamedTuple):
    """A value of the graph: its name, its number of axes (None if unknown), its dtype and its mask.

    The mask is a boolean value, False where a step does not count, or None if all steps count. `number` is
    the number of Python that a constant is: its dtype depends on the values that it meets.
    """

    name: str
    rank: int | None
    dtype: np.dtype[Any]
    mask: "Value | None" = None
    number: float | None = None

    def with_mask(self, mask: "Value | None") -> "Value":
        """Return the value with another mask."""
        return Value(self.name, self.rank, self.dtype, mask, self.number)


def common_dtype(values: Sequence[Value], floats: bool = False) -> np.dtype[Any]:
    """Return the dtype in which Keras 3 computes with values, as JAX does; with `floats`, one of floats.

    A number of Python changes the dtype only where it is of a higher kind: a float among integers, or an
    integer among booleans. Half precision is computed in float32.
    """
    dtypes = [x.dtype for x in values if x.number is None]
    if any(each.kind == "f" for each in dtypes):
        return np.dtype(np.float64 if np.dtype(np.float64) in dtypes else np.float32)
    numbers = {type(x.number) for x in values}
    if floats or float in numbers:
        return np.dtype(np.float32)
    if integers := [each for each in dtypes if each.kind != "b"]:
        found = np.result_type(*integers)
        return found if found.kind != "f" else np.dtype(np.float32)
    return INT32 if int in numbers else BOOL


class Writer:
    """Writes the nodes of one layer, named after it.

    `constants` are the names of the constants of the graph.
    """

    name: str
    path: str
    kind: str
    graph: Graph
    constants: dict[Identity, str]

    def error(self, problem: str) -> FileError:
        """Return an error that names the layer."""
        return FileError(f"layer {self.name} ({self.kind}) {problem}")

    def add(
        self, operation: str, *inputs: Any, rank: int | None = DERIVED, dtype: Any = None, **attributes: Any
    ) -> Value:
        """Add a node with one output, by default of its inputs' largest rank and the dtype of the first.

        Inputs are values, constant arrays, numbers in the dtype of the first input, or None. The condition of
        a Where does not count as the first.
        """
        return self.add_all(operation, inputs, [rank], dtype, **attributes)[0]

    def add_all(
        self,
        operation: str,
        inputs: Iterable[Any],
        ranks: Sequence[Any],
        dtype: Any = None,
        **attributes: Any,
    ) -> list[Value]:
        """Add a node with several outputs of the given ranks."""
        given = list(inputs)
        values = [x for x in given if isinstance(x, Value)]
        first = values[operation == "Where"]
        while given and given[-1] is None:
            given.pop()
        arrays = (np.asarray(x, first.dtype) if isinstance(x, int | float) else x for x in given)
        found = (x if x is None or isinstance(x, Value) else self.constant(x) for x in arrays)
        names = [x.name if x else "" for x in found]
        outputs = self.graph.add_all(
            operation, names, len(ranks), name=self.path, source=self.kind, **attributes
        )
        dtype = np.dtype(dtype or DTYPES.get(operation, first.dtype))
        derived = None if any(x.rank is None for x in values) else max(x.rank or 0 for x in values)
        ranks = [derived if rank is DERIVED else rank for rank in ranks]
        return [Value(name, rank, dtype) for name, rank in zip(outputs, ranks, strict=True)]

    @contextmanager
    def body(self) -> Iterator[Graph]:
        """Write nodes into a new graph, the body of a loop, and yield it."""
        outer = self.graph, self.constants
        self.graph, self.constants = Graph(), {}
        yield self.graph
        self.graph, self.constants = outer

    def formula(self, function: Callable[[Expression], Expression], x: Value) -> Value:
        """Add a formula of an expression, whose result has the rank and the dtype of x."""
        y = function(Expression(Recorder(self.graph, label=(self.path, self.kind)), x.name, x.dtype))
        return Value(y.name, x.rank, y.dtype)

    def constant(self, array: Any, name: str = "", number: float | None = None) -> Value:
        """Add a constant; a weight has a name, and a number of Python is `number`."""
        key = Identity(array)
        if key not in self.constants:
            stored = np.ascontiguousarray(array) if array.ndim else array
            added = self.graph.add_constant(stored, name and f"{self.path}/{name}")
            self.constants[key] = added
        return Value(self.constants[key], array.ndim, array.dtype, number=number)

    def number(self, number: float, x: Value) -> Value:
        """Return a number in the dtype of x."""
        return self.constant(np.asarray(number, x.dtype))

    def cast(self, x: Value, dtype: Any) -> Value:
        """Convert a value to a dtype."""
        if x.dtype == dtype:
            return x
        return self.add("Cast", x, to=np.dtype(dtype), dtype=dtype).with_mask(x.mask)

    def promoted(self, *inputs: Value, floats: bool = False) -> list[Value]:
        """Convert values to the dtype in which Keras computes with them."""
        dtype = common_dtype(inputs, floats)
        typed = [x if x.number is None else self.constant(np.asarray(x.number).astype(dtype)) for x in inputs]
        return [self.cast(x, dtype) for x in typed]

    def rank(self, x: Value, expected: int | None = None) -> int:
        """Return the rank of a value; `expected` is that of all values that the layer accepts."""
        rank = x.rank or expected
        if rank is None:
            raise self.error("takes a value of unknown rank: the file does not record the shape")
        if expected not in (None, rank):
            raise self.error(f"takes a value with {rank} axes; expected {expected}")
        return rank

    def transposed(self, x: Value, *order: int) -> Value:
        """Permute the axes of a value."""
        if list(order) == sorted(order):
            return x
        return self.add("Transpose", x, perm=list(order), rank=len(order))

    def shape_of(self, x: Value, *axes: int) -> Value:
        """Return the sizes of some axes, or of all."""
        sizes = self.add("Shape", x, rank=1)
        return self.add("Gather", sizes, np.array(axes), rank=1) if axes else sizes

    def reshaped(self, x: Value, *sizes: "int | Value", rank: int | None) -> Value:
        """Reshape a value; sizes are numbers, or values of several sizes."""
        if all(isinstance(size, int) for size in sizes):
            return self.add("Reshape", x, np.array(sizes, np.int64), rank=rank)
        parts = [np.array([size], np.int64) if isinstance(size, int) else size for size in sizes]
        shape = parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0, rank=1)
        return self.add("Reshape", x, shape, rank=rank)

    def sliced(self, x: Value, axis: int, start: int, stop: int = MAX, step: int = 1) -> Value:
        """Return x[start:stop:step] along an axis."""
        numbers = ([start], [stop], [axis], [step])
        return self.add("Slice", x, *(np.array(n, np.int64) for n in numbers[: 3 + (step != 1)]))

    def reversed(self, x: Value, axis: int) -> Value:
        """Return x from the last to the first element of an axis."""
        return self.sliced(x, axis, -1, np.iinfo(np.int64).min, -1)

    def unsqueezed(self, x: Value, *axes: int) -> Value:
        """Add axes of size 1."""
        return self.add("Unsqueeze", x, np.array(axes), rank=None if x.rank is None else x.rank + len(axes))

    def squeezed(self, x: Value, *axes: int) -> Value:
        """Remove axes of size 1."""
        return self.add("Squeeze", x, np.array(axes), rank=None if x.rank is None else x.rank - len(axes))

    def taken(self, x: Value, index: int, axis: int) -> Value:
        """Return x at one index of an axis, which disappears."""
        return self.add("Gather", x, np.array(index), axis=axis, rank=None if x.rank is None else x.rank - 1)

    def split(self, x: Value, count: int, axis: int) -> list[Value]:
        """Return equal parts of x along an axis."""
        return self.add_all("Split", [x], [x.rank] * count, axis=axis, num_outputs=count)

    def filled(self, number: float, x: Value, shape: Value, rank: int | None) -> Value:
        """Return an array of some shape, each element of which is a number in the dtype of x."""
        return self.add("Expand", self.number(number, x), shape, rank=rank)

    def reduced(self, operation: str, x: Value, axes: Sequence[int] | None, keepdims: bool = False) -> Value:
        """Reduce axes, or all of them."""
        rank = x.rank if keepdims else 0 if axes is None else None if x.rank is None else x.rank - len(axes)
        places = [] if axes is None else [np.array(axes, np.int64)]
        return self.add(operation, x, *places, keepdims=int(keepdims), rank=rank)

    def where(self, mask: Value, x: Value, other: Any = 0) -> Value:
        """Return x where a mask, which may lack its last axes, is True, and something else elsewhere."""
        return self.add("Where", self.over(mask, x), x, other)

    def over(self, mask: Value, x: Value) -> Value:
        """Return a mask with axes of size 1 for those of x that it lacks."""
        missing = self.rank(x) - self.rank(mask)
        return self.unsqueezed(mask, *range(-missing, 0)) if missing > 0 else mask
