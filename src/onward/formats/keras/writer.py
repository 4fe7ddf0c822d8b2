"""Values of a graph under construction, and what writes nodes into it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ...errors import FileError
from ...graph import Graph

ANY: Any = object()  # the rank of the first input
BOOL: np.dtype[Any] = np.dtype(bool)


class Value(NamedTuple):
    """A value of the graph: its name, its number of axes (None if unknown), its dtype and its mask.

    The mask is a boolean value, False where a step does not count, or None if all steps count.
    """

    name: str
    rank: int | None
    dtype: np.dtype[Any]
    mask: "Value | None" = None


@dataclass
class Target:
    """The graph that all layers of a file write, and the names of its constants by id.

    The arrays are kept, because an id is unique only as long as its array lives.
    """

    graph: Graph = field(default_factory=Graph)
    constants: dict[int, tuple[str, Any]] = field(default_factory=dict)


class Writer:
    """Writes the nodes of one layer, named after it."""

    path: str
    kind: str
    target: Target

    def error(self, problem: str) -> FileError:
        """Return an error that names the layer."""
        raise NotImplementedError

    def add(
        self, operation: str, *inputs: Any, rank: int | None = ANY, dtype: Any = None, **attributes: Any
    ) -> Value:
        """Add a node with one output, by default of the rank and dtype of its first input.

        Inputs are values, constant arrays, numbers in the dtype of the first input, or None.
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
        first = next(x for x in given if isinstance(x, Value))
        names = [self._named(x, first.dtype) for x in given]
        while names and not names[-1]:
            names.pop()
        outputs = self.target.graph.add_all(
            operation, names, len(ranks), name=self.path, source=self.kind, **attributes
        )
        dtype = first.dtype if dtype is None else np.dtype(dtype)
        sizes = [first.rank if rank is ANY else rank for rank in ranks]
        return [Value(name, rank, dtype) for name, rank in zip(outputs, sizes, strict=True)]

    @contextmanager
    def body(self) -> Iterator[Graph]:
        """Write nodes into a new graph, the body of a loop, and yield it."""
        outer = self.target.graph, self.target.constants
        self.target.graph, self.target.constants = Graph(), {}
        try:
            yield self.target.graph
        finally:
            self.target.graph, self.target.constants = outer

    def _named(self, x: Any, dtype: np.dtype[Any]) -> str:
        if x is None:
            return ""
        if isinstance(x, Value):
            return x.name
        return self.constant(np.asarray(x, dtype) if isinstance(x, int | float) else x).name

    def constant(self, array: Any, name: str = "") -> Value:
        """Add a constant; a weight has a name."""
        if id(array) not in self.target.constants:
            stored = np.ascontiguousarray(array) if array.ndim else array
            added = self.target.graph.add_constant(stored, name and f"{self.path}/{name}")
            self.target.constants[id(array)] = added, array
        return Value(self.target.constants[id(array)][0], array.ndim, array.dtype)

    def cast(self, x: Value, dtype: Any) -> Value:
        """Convert a value to a dtype."""
        if x.dtype == dtype:
            return x
        return self.add("Cast", x, to=np.dtype(dtype), dtype=dtype)._replace(mask=x.mask)

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
        sizes = self.add("Shape", x, rank=1, dtype=np.int64)
        if not axes:
            return sizes
        return self.add("Gather", sizes, np.array(axes), rank=1)

    def reshaped(self, x: Value, *sizes: "int | Value", rank: int | None) -> Value:
        """Reshape a value; sizes are numbers, or values of several sizes."""
        if all(isinstance(size, int) for size in sizes):
            return self.add("Reshape", x, np.array(sizes, np.int64), rank=rank)
        parts = [np.array([size], np.int64) if isinstance(size, int) else size for size in sizes]
        shape = parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0, rank=1, dtype=np.int64)
        return self.add("Reshape", x, shape, rank=rank)

    def sliced(self, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
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

    def reduced(self, operation: str, x: Value, axes: Sequence[int] | None, keepdims: bool = False) -> Value:
        """Reduce axes, or all of them."""
        rank = x.rank if keepdims else 0 if axes is None else None if x.rank is None else x.rank - len(axes)
        places = [] if axes is None else [np.array(axes, np.int64)]
        return self.add(operation, x, *places, keepdims=int(keepdims), rank=rank)

    def zeros_where(self, mask: Value, x: Value) -> Value:
        """Return x with zeros where a mask (B, T) is False."""
        return self.add("Where", self.over(mask, x), x, self.zero(x), rank=x.rank, dtype=x.dtype)

    def over(self, mask: Value, x: Value) -> Value:
        """Return a mask with axes of size 1 for those of x that it lacks."""
        missing = self.rank(x) - self.rank(mask)
        return self.unsqueezed(mask, *range(-missing, 0)) if missing > 0 else mask

    def zero(self, x: Value) -> Value:
        """Return the number 0 in the dtype of x."""
        return self.number(0, x)

    def number(self, number: float, x: Value) -> Value:
        """Return a number in the dtype of x."""
        return self.constant(np.asarray(number, x.dtype))
