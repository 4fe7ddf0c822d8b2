"""ATen's operators on the diagonals and triangles of matrices."""

import numpy as np

from .registry import BOOL, INT64, PUTS, Tensor, Translator, aten
from .shapes import reshaped


def _diagonal_places(t: Translator, x: Tensor, offset: int, a: int, b: int) -> tuple[str, list[int]]:
    """Return the places (count, 2) of a diagonal, and the order of axes that starts with its two."""
    order = [a, b, *(axis for axis in range(x.rank) if axis not in (a, b))]
    down, right = max(-offset, 0), max(offset, 0)
    lengths = [
        t.add("Sub", t.cast(t.size(x, axis), INT64), t.constant(n)) for axis, n in ((a, down), (b, right))
    ]
    count = t.add("Max", t.add("Min", *lengths), t.constant(0))
    steps = t.add("Unsqueeze", t.add("Range", t.constant(0), count, t.constant(1)), t.constant([1]))
    return t.add("Add", steps, t.constant([down, right])), order


@aten("diagonal", view=True)
def diagonal_(t: Translator, self: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> str:
    places, order = _diagonal_places(t, self, offset, self.axis(dim1), self.axis(dim2))
    found = t.add("GatherND", t.add("Transpose", self, perm=order), places)
    return t.add("Transpose", found, perm=[*range(1, self.rank - 1), 0])


def _put_diagonal(
    t: Translator, base: Tensor, value: str, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> str:
    places, order = _diagonal_places(t, base, offset, base.axis(dim1), base.axis(dim2))
    first = t.add("Transpose", value, perm=[base.rank - 2, *range(base.rank - 2)])
    updated = t.add("ScatterND", t.add("Transpose", base, perm=order), places, first)
    return t.add("Transpose", updated, perm=[order.index(axis) for axis in range(base.rank)])


PUTS["diagonal.default"] = _put_diagonal


@aten("diagonal_scatter")
def diagonal_scatter(
    t: Translator, self: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> str:
    return _put_diagonal(t, self, t.add("Identity", src), offset, dim1, dim2)


@aten("diag_embed")
def diag_embed(t: Translator, self: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> str:
    """Matrices whose diagonals are the last axis."""
    rank, size = self.rank + 1, t.cast(t.size(self, -1), INT64)
    steps = t.add("Range", t.constant(0), size, t.constant(1))
    on_diagonal = t.add("Equal", t.add("Unsqueeze", steps, t.constant([1])), steps)
    y = t.add("Where", on_diagonal, t.add("Unsqueeze", self, t.constant([-1])), t.cast(0, self.dtype))
    down, right = max(-offset, 0), max(offset, 0)
    y = t.add(
        "Pad",
        y,
        t.constant([down, right, right, down]),
        t.cast(0, self.dtype),
        t.constant([rank - 2, rank - 1]),
    )
    order = list(range(rank - 2))
    for axis, place in sorted([(dim1 % rank, rank - 2), (dim2 % rank, rank - 1)]):
        order.insert(axis, place)
    return t.add("Transpose", y, perm=order)


@aten("diag", "diagflat")
def diag(t: Translator, self: Tensor, diagonal: int = 0, offset: int = 0) -> str:
    """The diagonal of a matrix, or the matrix with a diagonal."""
    if self.rank == 2 and "diagflat" not in t.node.target:
        return str(diagonal_(t, self, diagonal))
    flat = Tensor(reshaped(t, self, [-1]), self.dtype, (self.shape[0] if self.rank == 1 else None,))
    return diag_embed(t, flat, diagonal or offset)


@aten("linalg_diagonal")
def linalg_diagonal(t: Translator, A: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> str:
    return str(diagonal_(t, A, offset, dim1, dim2))


@aten("tril", "triu")
def triangle(t: Translator, self: Tensor, diagonal: int = 0) -> str:
    upper = int(".triu" in t.node.target)
    if self.dtype == BOOL:
        return t.add(
            "Cast", t.add("Trilu", t.cast(self, np.int32), t.constant(diagonal), upper=upper), to=BOOL
        )
    return t.add("Trilu", self, t.constant(diagonal), upper=upper)
