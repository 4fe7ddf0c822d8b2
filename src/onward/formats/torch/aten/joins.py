"""ATen's operators that join, stack, repeat, reverse and pad tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .expressions import floating, promoted
from .registry import BOOL, INT64, Number, Symbol, Tensor, aten, define
from .shapes import WHOLE, regrouped, reshaped, sliced
from .translator import Translator

Sizes = Sequence[int | Symbol]
MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _of_one_dtype(t: Translator, tensors: Sequence[Tensor]) -> list[str]:
    dtype = promoted(*tensors)
    return [t.cast(x, dtype) for x in tensors]


@aten("cat", takes_complex=True)
def cat(t: Translator, tensors: Sequence[Tensor], dim: int = 0) -> str:
    parts = [x for x in tensors if not (x.shape == (0,) and any(y.rank > 1 for y in tensors))]
    return t.add("Concat", *_of_one_dtype(t, parts), axis=parts[0].axis(dim))


@aten("stack", "_stack", takes_complex=True)
def stack(t: Translator, tensors: Sequence[Tensor], dim: int = 0) -> str:
    axis = dim % (tensors[0].rank + 1)
    parts = [t.add("Unsqueeze", x, [axis]) for x in _of_one_dtype(t, tensors)]
    return t.add("Concat", *parts, axis=axis)


def _at_least(t: Translator, x: Tensor, rank: int, has_columns: bool = False) -> Tensor:
    """Add axes of size 1: a vector becomes a row (or a column), and a matrix has one plane."""
    if x.rank >= rank:
        return x
    front = int(x.rank == 1 and rank > 1 and not has_columns)
    name = t.add("Unsqueeze", x, [*range(front), *range(x.rank + front, rank)])
    return Tensor(name, x.dtype, (*[1] * front, *x.shape, *[1] * (rank - x.rank - front)))


def _ranked(rank: int) -> Any:
    def at_least(t: Translator, self: Any = None, tensors: Any = None) -> Any:
        found = [t.add("Identity", _at_least(t, x, rank)) for x in ([self] if tensors is None else tensors)]
        return found if tensors is not None else found[0]

    return at_least


def _stacked(rank: int, axis: int, has_columns: bool = False) -> Any:
    def stacked(t: Translator, tensors: Sequence[Tensor]) -> str:
        parts = [_at_least(t, x, rank, has_columns) for x in tensors]
        return cat(t, parts, min(axis, parts[0].rank - 1))

    return stacked


@aten("pad_sequence")
def pad_sequence(
    t: Translator, sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0,
    padding_side: str = "right",
) -> str:  # fmt: skip
    lengths = [x.shape[0] for x in sequences]
    if None in lengths:
        raise ArgumentError("pad_sequence of sequences of unknown length is not supported")
    longest = max(length or 0 for length in lengths)
    parts, axis = [], 0 if batch_first else 1
    for x, length in zip(sequences, lengths, strict=True):
        widths = [0, longest - (length or 0)][:: 1 if padding_side == "right" else -1]
        part = padded(t, x, [0] * 2 * (x.rank - 1) + widths, "constant", padding_value)
        parts.append(t.add("Unsqueeze", part, [axis]))
    return t.add("Concat", *parts, axis=axis)


@aten("broadcast_tensors")
def broadcast_tensors(t: Translator, tensors: Sequence[Tensor]) -> list[str]:
    zeros = [t.add("ConstantOfShape", t.shape(x), value=np.zeros(1, np.int32)) for x in tensors]
    shape = t.add("Shape", t.add("Sum", *zeros))
    return [t.add("Expand", x, shape) for x in tensors]


@aten("meshgrid", "meshgrid.indexing")
def meshgrid(t: Translator, tensors: Sequence[Tensor], indexing: str = "ij") -> list[str]:
    n = len(tensors)
    places = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    lengths = [t.size(x, 0) if x.rank else 1 for x in tensors]
    sizes = [lengths[place] for place in places]  # the order is its own inverse
    axes = [[-1 if axis == place else 1 for axis in range(n)] for place in places]
    return [t.add("Expand", reshaped(t, x, each), sizes) for x, each in zip(tensors, axes, strict=True)]


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
    widths = [[sum(columns[:place]), sum(columns[place + 1 :])] for place in range(len(blocks))]
    rows = [padded(t, x, each, "constant") for x, each in zip(blocks, widths, strict=True)]
    return t.add("Concat", *rows, axis=0)


@aten("repeat")
def repeat(t: Translator, self: Tensor, repeats: Sizes) -> str:
    added = len(repeats) - self.rank
    return t.add("Tile", reshaped(t, self, [*[1] * added, *t.sizes(self)]) if added else self, repeats)


@aten("repeat_interleave.self_int")
def repeat_interleave(
    t: Translator, self: Tensor, repeats: Any, dim: int | None = None, output_size: Any = None
) -> str:
    axis, rank = (0, 1) if dim is None else (self.axis(dim), self.rank)
    x = t.add("Reshape", self, [-1]) if dim is None else self
    times = [1] * (axis + 1) + [repeats] + [1] * (rank - axis - 1)
    repeated = t.add("Tile", t.add("Unsqueeze", x, [axis + 1]), times)
    if dim is None:
        return t.add("Reshape", repeated, [-1])
    count = repeats if isinstance(repeats, int) else None
    shape = (*self.shape[: axis + 1], count, *self.shape[axis + 1 :])
    return regrouped(t, Tensor(repeated, self.dtype, shape), axis, axis + 1, [-1])


@aten("repeat_interleave.self_Tensor repeat_interleave.Tensor")
def repeat_each(
    t: Translator, repeats: Tensor, self: Tensor | None = None, dim: int | None = None,
    output_size: Any = None,
) -> str:  # fmt: skip
    """Repeat each element a number of times; without a tensor, repeat the index of each element."""
    message = "repeat_interleave takes no negative numbers of repeats"
    if self is not None and repeats.shape in ((), (1,)):  # the same number for all elements
        count = t.add("Reshape", t.cast(repeats, INT64), [])
        t.check(t.add("LessOrEqual", 0, count), message)
        return repeat_interleave(t, self, Symbol(count), dim)
    if repeats.rank != 1:
        raise ArgumentError(f"repeat_interleave needs a vector of repeats, not {repeats.rank} axes")
    if self is not None and dim is not None:
        unequal = "repeat_interleave needs one number of repeats for each element"
        t.require("Equal", t.size(repeats, 0), t.size(self, dim), unequal)
    least = t.add("ReduceMin", t.cast(repeats, INT64), [0], keepdims=0)
    t.check(t.add("LessOrEqual", 0, least), message)
    ends = t.add("CumSum", t.cast(repeats, INT64), 0)
    total = t.add("ReduceSum", t.cast(repeats, INT64), [0], keepdims=0)
    steps = t.add("Unsqueeze", t.add("Range", 0, total, 1), [1])
    passed = t.add("Cast", t.add("GreaterOrEqual", steps, ends), to=INT64)
    places = t.add("ReduceSum", passed, [1], keepdims=0)
    if self is None:
        return places
    x = reshaped(t, self, [-1]) if dim is None else self
    return t.add("Gather", x, places, axis=0 if dim is None else self.axis(dim))


def _reversed(t: Translator, x: Any, axes: Sequence[int]) -> str:
    last, whole = [-1] * len(axes), [-WHOLE] * len(axes)
    return t.add("Slice", x, last, whole, axes, last) if axes else t.add("Identity", x)


@aten("rot90")
def rot90(t: Translator, self: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> str:
    a, b = (self.axis(dim) for dim in dims)
    order = list(range(self.rank))
    order[a], order[b] = b, a
    x = t.add("Transpose", self, perm=order) if k % 2 else self
    return _reversed(t, x, ((), (a,), (a, b), (b,))[k % 4])


def rolled(t: Translator, x: Any, axis: int, shift: int | Symbol, size: int | Symbol) -> str:
    """Return x with the elements of an axis moved, the last ones to the front."""
    if isinstance(size, int) and isinstance(shift, int):
        start: Any = -shift % max(size, 1)
    else:
        start = Symbol(t.add("Mod", t.add("Neg", t.cast(shift, INT64)), t.cast(size, INT64)))
    parts = sliced(t, x, axis, start, WHOLE), sliced(t, x, axis, 0, start)
    return t.add("Concat", *parts, axis=axis)


@aten("roll", takes_complex=True)
def roll(t: Translator, self: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> str:
    dims = dims or range(self.rank)[: self.rank == 1]
    if not dims and self.dtype.kind == "c":
        raise ArgumentError("rolling complex numbers over all axes is not supported")
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
    if n == 0:  # without what is prepended and appended
        return t.add("Identity", self)
    axis, difference = self.axis(dim), "Xor" if self.dtype == BOOL else "Sub"
    parts = [part for part in (prepend, self, append) if part is not None]
    x = cat(t, parts, axis)
    for _ in range(n):
        x = t.add(difference, sliced(t, x, axis, 1, WHOLE), sliced(t, x, axis, 0, -1))
    return x


def areas(t: Translator, y: Tensor, x: Tensor | None = None, dx: Number = 1, dim: int = -1) -> str:
    """The areas below y between the places x by the trapezoidal rule."""
    if y.dtype.kind != "f" or not (x is None or x.dtype.kind == "f"):
        raise ArgumentError(f"the integral of {y.dtype}, whose sums torch may wrap, is not supported")
    axis, dtype = y.axis(dim), floating(y) if x is None else floating(y, x)
    sums = t.add("Add", sliced(t, y, axis, 1, WHOLE), sliced(t, y, axis, 0, -1))
    means = t.add("Mul", t.cast(Tensor(sums, y.dtype, y.shape), dtype), t.cast(0.5, dtype))
    widths: Any = dx if x is None else Tensor(diff(t, x, 1, dim), x.dtype, (None,))
    return t.add("Mul", means, t.cast(widths, dtype))


def _require_elements(t: Translator, x: Tensor, axis: int, widths: Sequence[int | Symbol], mode: str) -> None:
    """Require as many elements of an axis as its padding repeats or removes."""
    least = 0
    for width in widths:
        if isinstance(width, int) and width < 0:
            least -= width
        elif isinstance(width, int) and mode in ("reflect", "wrap"):
            least = max(least, width + (mode == "reflect"))
    if least > 0:
        message = f"padding by {widths} in the mode {mode} takes at least {least} elements along axis {axis}"
        t.require("LessOrEqual", least, t.size(x, axis), message)


def padded(t: Translator, x: Tensor, pad: Sizes, mode: str, value: Number = 0) -> str:
    """Pad the last axes; `pad` holds the widths before and after each, from the last axis on."""
    before, after = list(pad[::2])[::-1], list(pad[1::2])[::-1]
    axes = range(x.rank - len(before), x.rank)
    if x.dtype.kind == "c" and value != 0:
        raise ArgumentError("pad of complex numbers with other numbers than 0 is not supported")
    for axis, *widths in zip(axes, before, after, strict=True):
        _require_elements(t, x, axis, widths, mode)
    number = t.cast(value, np.zeros(0, x.dtype).real.dtype)
    return t.add("Pad", x, before + after, number, axes, mode=mode)


define({
    **{f"atleast_{n}d atleast_{n}d.Sequence": _ranked(n) for n in (1, 2, 3)},
    "hstack": _stacked(1, 1),
    "vstack row_stack": _stacked(2, 0),
    "dstack": _stacked(3, 2),
    "column_stack": _stacked(2, 1, has_columns=True),
    "trapezoid.x trapezoid.dx trapz.x trapz.dx": lambda t, y, x=None, dx=1, dim=-1: (
        t.add("ReduceSum", areas(t, y, x, dx, dim), [y.axis(dim)], keepdims=0)),
    "cumulative_trapezoid.x cumulative_trapezoid.dx": lambda t, y, x=None, dx=1, dim=-1: (
        t.add("CumSum", areas(t, y, x, dx, dim), y.axis(dim))),
    "tile": lambda t, self, dims: repeat(t, self, [*[1] * (self.rank - len(dims)), *dims]),
})  # fmt: skip
define({
    "flip": lambda t, self, dims: _reversed(t, self, [self.axis(dim) for dim in dims]),
    "fliplr": lambda t, self: _reversed(t, self, [1]),
    "flipud": lambda t, self: _reversed(t, self, [0]),
    "constant_pad_nd": lambda t, self, pad, value=0: padded(t, self, pad, "constant", value),
    "pad": lambda t, self, pad, mode="constant", value=None: padded(t, self, pad, MODES[mode], value or 0),
    "_pad_circular": lambda t, self, pad: padded(t, self, pad, "wrap"),
    "reflection_pad1d reflection_pad2d reflection_pad3d": lambda t, self, padding: (
        padded(t, self, padding, "reflect")),
    "replication_pad1d replication_pad2d replication_pad3d": lambda t, self, padding: (
        padded(t, self, padding, "edge")),
}, takes_complex=True)  # fmt: skip
