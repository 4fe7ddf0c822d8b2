"""ATen's operators on the diagonals and triangles of matrices."""

import functools

import numpy as np

from .registry import BOOL, INT64, Tensor, aten, define
from .shapes import axes_first, reshaped
from .translator import Translator


def _diagonal_places(t: Translator, x: Tensor, offset: int, a: int, b: int) -> str:
    """Return the places (count, 2) of a diagonal."""
    shifts = max(-offset, 0), max(offset, 0)
    lengths = [
        t.add("Sub", t.cast(t.size(x, axis), INT64), n) for axis, n in zip((a, b), shifts, strict=True)
    ]
    count = t.add("Max", t.add("Min", *lengths), 0)
    return t.add("Add", t.add("Unsqueeze", t.add("Range", 0, count, 1), [1]), shifts)


def _put_diagonal(
    t: Translator, base: Tensor, value: str, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> str:
    axes = base.axis(dim1), base.axis(dim2)
    places, (order, back) = _diagonal_places(t, base, offset, *axes), axes_first(base, *axes)
    first = t.add("Transpose", value, perm=[base.rank - 2, *range(base.rank - 2)])
    updated = t.add("ScatterND", t.add("Transpose", base, perm=order), places, first)
    return t.add("Transpose", updated, perm=back)


@aten("diagonal", put=_put_diagonal)
def diagonal_(t: Translator, self: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> str:
    axes = self.axis(dim1), self.axis(dim2)
    places = _diagonal_places(t, self, offset, *axes)
    found = t.add("GatherND", t.add("Transpose", self, perm=axes_first(self, *axes)[0]), places)
    return t.add("Transpose", found, perm=[*range(1, self.rank - 1), 0])


@aten("diag_embed")
def diag_embed(t: Translator, self: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> str:
    """Matrices whose diagonals are the last axis."""
    rank, steps = self.rank + 1, t.add("Range", 0, t.cast(t.size(self, -1), INT64), 1)
    on_diagonal = t.add("Equal", t.add("Unsqueeze", steps, [1]), steps)
    y = t.add("Where", on_diagonal, t.add("Unsqueeze", self, [-1]), t.cast(0, self.dtype))
    down, right = max(-offset, 0), max(offset, 0)
    y = t.add("Pad", y, [down, right, right, down], t.cast(0, self.dtype), [rank - 2, rank - 1])
    order = list(range(rank - 2))
    for axis, place in sorted([(dim1 % rank, rank - 2), (dim2 % rank, rank - 1)]):
        order.insert(axis, place)
    return t.add("Transpose", y, perm=order)


@aten("diagflat")
def diagflat(t: Translator, self: Tensor, offset: int = 0) -> str:
    """The matrix whose diagonal has all elements."""
    flat = Tensor(reshaped(t, self, [-1]), self.dtype, (self.shape[0] if self.rank == 1 else None,))
    return diag_embed(t, flat, offset)


def triangle(t: Translator, self: Tensor, diagonal: int = 0, *, upper: int) -> str:
    """The upper or lower triangle of matrices."""
    x = t.cast(self, np.int32 if self.dtype == BOOL else self.dtype)
    y = t.add("Trilu", x, diagonal, upper=upper)
    return t.add("Cast", y, to=BOOL) if self.dtype == BOOL else y


define({
    "diagonal_scatter": lambda t, self, src, offset=0, dim1=0, dim2=1: (
        _put_diagonal(t, self, t.add("Identity", src), offset, dim1, dim2)),
    "linalg_diagonal": lambda t, A, offset, dim1, dim2: diagonal_(t, A, offset, dim1, dim2),
    "diag": lambda t, self, diagonal: (
        diagonal_(t, self, diagonal) if self.rank == 2 else diagflat(t, self, diagonal)),
    "tril": functools.partial(triangle, upper=0),
    "triu": functools.partial(triangle, upper=1),
})  # fmt: skip
