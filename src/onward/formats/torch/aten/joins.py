"""ATen's operators that join, stack, repeat, reverse and pad tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .registry import INT64, Number, Symbol, Tensor, Translator, aten, bounded
from .shapes import WHOLE, reshaped, sliced

Sizes = Sequence[int | Symbol]


def _of_one_dtype(t: Translator, tensors: Sequence[Tensor]) -> list[str]:
    dtype = max((x.dtype for x in tensors), key=lambda d: ("biufc".index(d.kind), d.itemsize))
    return [t.cast(x, dtype) for x in tensors]


@aten("cat")
def cat(t: Translator, tensors: Sequence[Tensor], dim: int = 0) -> str:
    parts = [x for x in tensors if not (x.shape == (0,) and any(y.rank > 1 for y in tensors))]
    return t.add("Concat", *_of_one_dtype(t, parts), axis=parts[0].axis(dim))


@aten("stack", "_stack")
def stack(t: Translator, tensors: Sequence[Tensor], dim: int = 0) -> str:
    axis = dim % (tensors[0].rank + 1)
    parts = [t.add("Unsqueeze", x, t.constant([axis])) for x in _of_one_dtype(t, tensors)]
    return t.add("Concat", *parts, axis=axis)


def _at_least(t: Translator, x: Tensor, rank: int, has_columns: bool = False) -> Tensor:
    """Add axes of size 1: a vector becomes a row (or a column), and a matrix has one plane."""
    if x.rank >= rank:
        return x
    front = 1 if x.rank == 1 and rank > 1 and not has_columns else 0
    added = [*range(front), *range(x.rank + front, rank)]
    return Tensor(
        t.add("Unsqueeze", x, t.constant(added)),
        x.dtype,
        (*[1] * front, *x.shape, *[1] * (rank - x.rank - front)),
    )


def _define_rank(rank: int) -> None:
    @aten(f"atleast_{rank}d", f"atleast_{rank}d.Sequence")
    def at_least(t: Translator, self: Any = None, tensors: Any = None) -> Any:
        found = [t.add("Identity", _at_least(t, x, rank)) for x in ([self] if tensors is None else tensors)]
        return found if tensors is not None else found[0]


for _rank in (1, 2, 3):
    _define_rank(_rank)


def _define_stack(names: Sequence[str], rank: int, axis: int, has_columns: bool = False) -> None:
    @aten(*names)
    def stacked(t: Translator, tensors: Sequence[Tensor]) -> str:
        parts = [_at_least(t, x, rank, has_columns) for x in tensors]
        return cat(t, parts, min(axis, parts[0].rank - 1))


_define_stack(["hstack"], 1, 1)
_define_stack(["vstack", "row_stack"], 2, 0)
_define_stack(["dstack"], 3, 2)
_define_stack(["column_stack"], 2, 1, has_columns=True)


@aten("pad_sequence")
def pad_sequence(
    t: Translator,
    sequences: Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> str:
    lengths = [x.shape[0] for x in sequences]
    if None in lengths:
        raise ArgumentError("pad_sequence of sequences of unknown length is not supported")
    longest = max(length or 0 for length in lengths)
    parts = []
    for x, length in zip(sequences, lengths, strict=True):
        missing = longest - (length or 0)
        widths = [0, missing] if padding_side == "right" else [missing, 0]
        parts.append(padded(t, x, [0] * 2 * (x.rank - 1) + widths, "constant", padding_value))
    axis = 0 if batch_first else 1
    return t.add("Concat", *(t.add("Unsqueeze", x, t.constant([axis])) for x in parts), axis=axis)


@aten("broadcast_tensors")
def broadcast_tensors(t: Translator, tensors: Sequence[Tensor]) -> list[str]:
    zeros = [t.add("ConstantOfShape", t.shape(x), value=np.zeros(1, np.int32)) for x in tensors]
    shape = t.add("Shape", t.add("Sum", *zeros))
    return [t.add("Expand", x, shape) for x in tensors]


@aten("meshgrid", "meshgrid.indexing")
def meshgrid(t: Translator, tensors: Sequence[Tensor], indexing: str = "ij") -> list[str]:
    n = len(tensors)
    places = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    sizes: list[Any] = [0] * n
    for x, place in zip(tensors, places, strict=True):
        sizes[place] = t.size(x, 0) if x.rank else 1
    parts = [
        reshaped(t, x, [-1 if axis == place else 1 for axis in range(n)])
        for x, place in zip(tensors, places, strict=True)
    ]
    return [t.add("Expand", part, t.vector(sizes)) for part in parts]


@aten("cartesian_prod")
def cartesian_product(t: Translator, tensors: Sequence[Tensor]) -> str:
    columns = [reshaped(t, x, [-1, 1]) for x in map(str, meshgrid(t, tensors))]
    return t.add("Concat", *columns, axis=1) if len(columns) > 1 else t.add("Identity", tensors[0])


@aten("block_diag")
def block_diagonal(t: Translator, tensors: Sequence[Tensor]) -> str:
    blocks = [_at_least(t, x, 2) for x in tensors]
    if any(None in x.shape for x in blocks):
        raise ArgumentError("block_diag of matrices of unknown size is not supported")
    columns = [x.shape[1] or 0 for x in blocks]
    rows = []
    for place, x in enumerate(blocks):
        rows.append(padded(t, x, [sum(columns[:place]), sum(columns[place + 1 :])], "constant"))
    return t.add("Concat", *rows, axis=0)


@aten("repeat")
def repeat(t: Translator, self: Tensor, repeats: Sizes) -> str:
    added = len(repeats) - self.rank
    x = reshaped(t, self, [*[1] * added, *t.sizes(self)]) if added else self
    return t.add("Tile", x, t.vector(repeats))


@aten("tile")
def tile(t: Translator, self: Tensor, dims: Sizes) -> str:
    return repeat(t, self, [*[1] * (self.rank - len(dims)), *dims])


@aten("repeat_interleave.self_int")
def repeat_interleave(
    t: Translator, self: Tensor, repeats: Any, dim: int | None = None, output_size: Any = None
) -> str:
    axis = 0 if dim is None else self.axis(dim)
    x = t.add("Reshape", self, t.constant([-1])) if dim is None else self
    rank = 1 if dim is None else self.rank
    parts = t.add("Unsqueeze", x, t.constant([axis + 1]))
    times = [1] * (axis + 1) + [repeats] + [1] * (rank - axis - 1)
    repeated = t.add("Tile", parts, t.vector(times))
    if dim is None:
        return t.add("Reshape", repeated, t.constant([-1]))
    sizes = t.sizes(self)
    return reshaped(t, repeated, [*sizes[:axis], -1, *sizes[axis + 1 :]])


@aten("repeat_interleave.self_Tensor", "repeat_interleave.Tensor")
def repeat_each(
    t: Translator,
    repeats: Tensor,
    self: Tensor | None = None,
    dim: int | None = None,
    output_size: Any = None,
) -> str:
    """Repeat each element a number of times; without a tensor, repeat the index of each element."""
    ends = t.add("CumSum", t.cast(repeats, INT64), t.constant(0))
    total = t.add("ReduceSum", t.cast(repeats, INT64), t.constant([0]), keepdims=0)
    steps = t.add("Unsqueeze", t.add("Range", t.constant(0), total, t.constant(1)), t.constant([1]))
    passed = t.add("Cast", t.add("GreaterOrEqual", steps, ends), to=INT64)
    places = t.add("ReduceSum", passed, t.constant([1]), keepdims=0)
    if self is None:
        return places
    x = reshaped(t, self, [-1]) if dim is None else self
    return t.add("Gather", x, places, axis=0 if dim is None else self.axis(dim))


def _reversed(t: Translator, x: Any, axes: Sequence[int]) -> str:
    ends = [t.constant([value] * len(axes)) for value in (-1, -WHOLE)]
    return t.add("Slice", x, *ends, t.constant(list(axes), np.int64), t.constant([-1] * len(axes)))


@aten("flip")
def flip(t: Translator, self: Tensor, dims: Sequence[int]) -> str:
    return _reversed(t, self, [self.axis(dim) for dim in dims]) if dims else t.add("Identity", self)


aten("fliplr")(lambda t, self: _reversed(t, self, [1]))
aten("flipud")(lambda t, self: _reversed(t, self, [0]))


@aten("rot90")
def rot90(t: Translator, self: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> str:
    a, b = (self.axis(dim) for dim in dims)
    order = list(range(self.rank))
    order[a], order[b] = b, a
    x = t.add("Transpose", self, perm=order) if k % 2 else t.add("Identity", self)
    axes: Sequence[int] = ((), (a,), (a, b), (b,))[k % 4]
    return _reversed(t, x, axes) if axes else x


def rolled(t: Translator, x: Any, axis: int, shift: int | Symbol, size: int | Symbol) -> str:
    """Return x with the elements of an axis moved, the last ones to the front."""
    if isinstance(size, int) and isinstance(shift, int):
        start: Any = -shift % max(size, 1)
    else:
        start = Symbol(t.add("Mod", t.add("Neg", t.cast(shift, INT64)), t.cast(size, INT64)))
    parts = sliced(t, x, axis, start, WHOLE), sliced(t, x, axis, 0, start)
    return t.add("Concat", *parts, axis=axis)


@aten("roll")
def roll(t: Translator, self: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> str:
    if not dims:
        whole = rolled(t, reshaped(t, self, [-1]), 0, shifts[0], Symbol(t.add("Size", self)))
        return reshaped(t, whole, t.sizes(self))
    x: Any = self
    for shift, dim in zip(shifts, dims, strict=True):
        x = rolled(t, x, self.axis(dim), shift, t.size(self, dim))
    return str(x)


@aten("diff")
def diff(
    t: Translator, self: Tensor, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None
) -> str:
    bounded(n * 1000)
    axis = self.axis(dim)
    parts = [part for part in (prepend, self, append) if part is not None]
    x = cat(t, parts, axis)
    for _ in range(n):
        x = t.add("Sub", sliced(t, x, axis, 1, WHOLE), sliced(t, x, axis, 0, -1))
    return x


@aten(
    "trapezoid.x", "trapezoid.dx", "trapz.x", "trapz.dx", "cumulative_trapezoid.x", "cumulative_trapezoid.dx"
)
def trapezoid(t: Translator, y: Tensor, x: Tensor | None = None, dx: Number = 1, dim: int = -1) -> str:
    """The integral of y over x by the trapezoidal rule."""
    axis = y.axis(dim)
    means = t.add("Add", sliced(t, y, axis, 1, WHOLE), sliced(t, y, axis, 0, -1))
    means = t.add("Mul", means, t.cast(0.5, y.dtype))
    widths = (
        t.cast(dx, y.dtype) if x is None else t.cast(Tensor(diff(t, x, 1, dim), x.dtype, (None,)), y.dtype)
    )
    areas = t.add("Mul", means, widths)
    if "cumulative" in t.node.target:
        return t.add("CumSum", areas, t.constant(axis))
    return t.add("ReduceSum", areas, t.constant([axis]), keepdims=0)


def padded(t: Translator, x: Tensor, pad: Sizes, mode: str, value: Number = 0) -> str:
    """Pad the last axes; `pad` holds the widths before and after each, from the last axis on."""
    pairs = [pad[i : i + 2] for i in range(0, len(pad), 2)][::-1]
    axes = range(x.rank - len(pairs), x.rank)
    widths = t.vector([before for before, _ in pairs] + [after for _, after in pairs])
    return t.add("Pad", x, widths, t.cast(value, x.dtype), t.constant(list(axes)), mode=mode)


@aten("constant_pad_nd")
def constant_pad(t: Translator, self: Tensor, pad: Sizes, value: Number = 0) -> str:
    return padded(t, self, pad, "constant", value)


@aten("pad")
def pad_(t: Translator, self: Tensor, pad: Sizes, mode: str = "constant", value: Any = None) -> str:
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return padded(t, self, pad, modes[mode], value or 0)


MODES = {f"{name}{n}d": mode for n in (1, 2, 3) for name, mode in (
    ("reflection_pad", "reflect"), ("replication_pad", "edge"))}  # fmt: skip


@aten(*MODES)
def pad_by_mode(t: Translator, self: Tensor, padding: Sizes) -> str:
    return padded(t, self, padding, MODES[t.node.target.split(".")[-2]])


@aten("_pad_circular")
def circular_pad(t: Translator, self: Tensor, pad: Sizes) -> str:
    return padded(t, self, pad, "wrap")
