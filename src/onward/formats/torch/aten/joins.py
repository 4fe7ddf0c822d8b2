"""ATen's operators that join, repeat, reverse and pad tensors."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .registry import BOOL, Number, Symbol, Tensor, Translator, aten
from .shapes import WHOLE, reshaped, sliced

Sizes = Sequence[int | Symbol]


@aten("cat", "concat", "concatenate")
def cat(t: Translator, tensors: list[Tensor], dim: int = 0) -> str:
    parts = [x for x in tensors if not (x.shape == (0,) and any(y.rank > 1 for y in tensors))]
    dtype = max((x.dtype for x in tensors), key=lambda d: ("biufc".index(d.kind), d.itemsize))
    return t.add("Concat", *(t.cast(x, dtype) for x in parts), axis=parts[0].axis(dim))


@aten("stack")
def stack(t: Translator, tensors: list[Tensor], dim: int = 0) -> str:
    axis = dim % (tensors[0].rank + 1)
    dtype = max((x.dtype for x in tensors), key=lambda d: ("biufc".index(d.kind), d.itemsize))
    parts = [t.add("Unsqueeze", t.cast(x, dtype), t.constant([axis])) for x in tensors]
    return t.add("Concat", *parts, axis=axis)


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


@aten("flip")
def flip(t: Translator, self: Tensor, dims: Sequence[int]) -> str:
    axes = [self.axis(dim) for dim in dims]
    n = len(axes)
    return t.add(
        "Slice", self, t.constant([-1] * n), t.constant([-WHOLE] * n), t.constant(axes), t.constant([-1] * n)
    )


@aten("roll")
def roll(t: Translator, self: Tensor, shifts: Any, dims: Any = ()) -> str:
    x: Any = self if dims else t.add("Reshape", self, t.constant([-1]))
    for shift, axis in zip(shifts, [self.axis(d) for d in dims] or [0], strict=True):
        size = t.size(self, axis) if dims else math.prod(s or 0 for s in self.shape)
        if not isinstance(size, int):
            raise ArgumentError("rolling an axis of unknown size is not supported")
        start = -shift % max(size, 1)
        x = t.add("Concat", sliced(t, x, axis, start, WHOLE), sliced(t, x, axis, 0, start), axis=axis)
    return str(x) if dims else reshaped(t, x, t.sizes(self))


@aten("tril", "triu")
def triangle(t: Translator, self: Tensor, diagonal: int = 0) -> str:
    upper = int(".triu" in t.node.target)
    if self.dtype == BOOL:
        return t.add(
            "Cast", t.add("Trilu", t.cast(self, np.int32), t.constant(diagonal), upper=upper), to=BOOL
        )
    return t.add("Trilu", self, t.constant(diagonal), upper=upper)


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


@aten(*(f"reflection_pad{n}d" for n in (1, 2, 3)))
def reflection_pad(t: Translator, self: Tensor, padding: Sizes) -> str:
    return padded(t, self, padding, "reflect")


@aten(*(f"replication_pad{n}d" for n in (1, 2, 3)))
def replication_pad(t: Translator, self: Tensor, padding: Sizes) -> str:
    return padded(t, self, padding, "edge")


@aten("_pad_circular")
def circular_pad(t: Translator, self: Tensor, pad: Sizes) -> str:
    return padded(t, self, pad, "wrap")
