"""ATen's operators that are short combinations of others."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .elementwise import binary, floating
from .indexing import sort
from .joins import cat
from .reductions import reduced
from .registry import Operand, Tensor, Translator, aten
from .shapes import WHOLE, permuted, reshaped, sliced, split_with_sizes


def tensor(name: str, like: Tensor, shape: Sequence[int | None], dtype: Any = None) -> Tensor:
    """Return a value as a tensor."""
    return Tensor(name, like.dtype if dtype is None else np.dtype(dtype), tuple(shape))


# Orders.


def _kth(t: Translator, x: Tensor, k: Any, dim: int, keepdim: bool) -> tuple[str, str]:
    """The element at a place of the sorted axis, and its index."""
    axis = t.constant([x.axis(dim)])
    found = [sliced(t, y, x.axis(dim), k, k + 1) for y in sort(t, x, None, dim)]
    return tuple(y if keepdim else t.add("Squeeze", y, axis) for y in found)  # type: ignore[return-value]  # two


@aten("kthvalue")
def kthvalue(t: Translator, self: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    return _kth(t, self, k - 1, dim, keepdim)


@aten("median.dim")
def median_dim(t: Translator, self: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    size = self.shape[self.axis(dim)]
    if size is None:
        raise ArgumentError("the median of an axis of unknown size is not supported")
    return _kth(t, self, (size - 1) // 2, dim, keepdim)


@aten("median")
def median(t: Translator, self: Tensor) -> str:
    if None in self.shape:
        raise ArgumentError("the median of a tensor of unknown size is not supported")
    flat = tensor(t.add("Reshape", self, t.constant([-1])), self, [math.prod(self.shape)])  # type: ignore[arg-type]
    return str(median_dim(t, flat, 0)[0])


@aten("msort")
def msort(t: Translator, self: Tensor) -> str:
    return str(sort(t, self, None, 0)[0])


# Reductions.


@aten("nanmean")
def nanmean(t: Translator, self: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> str:
    missing = t.add("IsNaN", self)
    total = t.add("Where", missing, t.cast(0, self.dtype), self)
    counted = t.add("Cast", t.add("Not", missing), to=self.dtype)
    sums = [reduced(t, "ReduceSum", each, self, dim, keepdim) for each in (total, counted)]
    return t.add("Div", *sums)


@aten("trace")
def trace(t: Translator, self: Tensor) -> str:
    return t.add("Einsum", self, equation="ii->")


@aten("dist")
def dist(t: Translator, self: Tensor, other: Tensor, p: float = 2) -> str:
    return _norm(
        t, binary(t, "Sub", self, other), p, list(range(max(self.rank, other.rank))), False, self.dtype
    )


def _norm(t: Translator, x: str, p: float, axes: Sequence[int], keepdim: bool, dtype: Any) -> str:
    """The p-norm over axes."""
    places = t.constant(list(axes), np.int64)
    if p == 2:
        return t.add("ReduceL2", x, places, keepdims=int(keepdim))
    size = t.add("Abs", x)
    if p == math.inf:
        return t.add("ReduceMax", size, places, keepdims=int(keepdim))
    powers = size if p == 1 else t.add("Pow", size, t.cast(p, dtype))
    total = t.add("ReduceSum", powers, places, keepdims=int(keepdim))
    return total if p == 1 else t.add("Pow", total, t.cast(1 / p, dtype))


@aten("pairwise_distance")
def pairwise_distance(
    t: Translator, x1: Tensor, x2: Tensor, p: float = 2, eps: float = 1e-6, keepdim: bool = False
) -> str:
    difference = t.add("Add", binary(t, "Sub", x1, x2), t.cast(eps, x1.dtype))
    return _norm(t, difference, p, [-1], keepdim, x1.dtype)


@aten("cdist", "_cdist_forward")
def cdist(t: Translator, x1: Tensor, x2: Tensor, p: float = 2, compute_mode: Any = None) -> str:
    """The distance of each row of x1 from each row of x2."""
    rows, columns = t.add("Unsqueeze", x1, t.constant([-2])), t.add("Unsqueeze", x2, t.constant([-3]))
    return _norm(t, t.add("Sub", rows, columns), p, [-1], False, x1.dtype)


# Elementwise.


def _define_scale(name: str, factor: float) -> None:
    @aten(name)
    def scaled(t: Translator, self: Tensor) -> str:
        return t.add("Mul", t.cast(self, floating(self)), t.cast(factor, floating(self)))


_define_scale("rad2deg", 180 / math.pi)
_define_scale("deg2rad", math.pi / 180)


def _define_infinite(name: str, ignored: str) -> None:
    @aten(name)
    def infinite(t: Translator, self: Tensor) -> str:
        return t.add("IsInf", t.cast(self, floating(self)), **{ignored: 0})


_define_infinite("isneginf", "detect_positive")
_define_infinite("isposinf", "detect_negative")


@aten("isclose")
def isclose(
    t: Translator,
    self: Tensor,
    other: Tensor,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> str:
    dtype = floating(self, other)
    a, b = t.cast(self, dtype), t.cast(other, dtype)
    allowed = t.add("Add", t.cast(atol, dtype), t.add("Mul", t.cast(rtol, dtype), t.add("Abs", b)))
    close = t.add("LessOrEqual", t.add("Abs", t.add("Sub", a, b)), allowed)
    close = t.add("And", close, t.add("Not", t.add("IsInf", t.add("Sub", a, b))))
    close = t.add("Or", close, t.add("Equal", a, b))
    return t.add("Or", close, t.add("And", t.add("IsNaN", a), t.add("IsNaN", b))) if equal_nan else close


@aten(*(f"float_power.{kind}" for kind in ("Tensor_Scalar", "Tensor_Tensor", "Scalar")))
def float_power(t: Translator, self: Operand, exponent: Operand) -> str:
    return t.add("Pow", t.cast(self, np.float64), t.cast(exponent, np.float64))


@aten("ldexp.Tensor")
def ldexp(t: Translator, self: Tensor, other: Tensor) -> str:
    dtype = floating(self, other)
    return t.add("Mul", t.cast(self, dtype), t.add("Pow", t.cast(2, dtype), t.cast(other, dtype)))


@aten("special_ndtr")
def ndtr(t: Translator, self: Tensor) -> str:
    erf = t.add("Erf", t.add("Mul", self, t.cast(math.sqrt(0.5), self.dtype)))
    return t.add("Mul", t.add("Add", erf, t.cast(1, self.dtype)), t.cast(0.5, self.dtype))


@aten("special_entr")
def entr(t: Translator, self: Tensor) -> str:
    zero = t.cast(0, self.dtype)
    y = t.add("Where", t.add("Equal", self, zero), zero, t.add("Neg", t.add("Mul", self, t.add("Log", self))))
    return t.add("Where", t.add("Less", self, zero), t.cast(-math.inf, self.dtype), y)


def _define_loss(name: str, argument: str) -> None:
    @aten(name)
    def loss(t: Translator, self: Tensor, target: Tensor, reduction: int = 1, **options: float) -> str:
        limit = options.get(argument, 1.0)
        size = t.add("Abs", binary(t, "Sub", self, target))
        half = t.add("Mul", t.add("Mul", size, size), t.cast(0.5, self.dtype))
        beyond = t.add("Mul", t.add("Sub", size, t.cast(0.5 * limit, self.dtype)), t.cast(limit, self.dtype))
        y = t.add("Where", t.add("Less", size, t.cast(limit, self.dtype)), half, beyond)
        if argument == "beta":
            y = t.add("Div", y, t.cast(limit, self.dtype))
        if reduction == 0:
            return y
        axes = t.constant(list(range(max(self.rank, target.rank))), np.int64)
        return t.add("ReduceMean" if reduction == 1 else "ReduceSum", y, axes, keepdims=0)


_define_loss("huber_loss", "delta")
_define_loss("smooth_l1_loss", "beta")


# Shapes.


def _define_flip(name: str, axis: int) -> None:
    @aten(name)
    def flip(t: Translator, self: Tensor) -> str:
        ends = [t.constant([value]) for value in (-1, -WHOLE, axis, -1)]
        return t.add("Slice", self, *ends)


_define_flip("fliplr", 1)
_define_flip("flipud", 0)


@aten("diag")
def diag(t: Translator, self: Tensor, diagonal: int = 0) -> str:
    size = self.shape[0]
    if diagonal or size is None:
        raise ArgumentError("diag with an offset or of an unknown size is not supported")
    if self.rank == 2:
        return t.add("Einsum", self, equation="ii->i")
    return t.add("Mul", t.add("Unsqueeze", self, t.constant([0])), t.constant(np.eye(size), self.dtype))


@aten("kron")
def kron(t: Translator, self: Tensor, other: Tensor) -> str:
    rank = max(self.rank, other.rank)
    a, b = ([*[1] * (rank - x.rank), *t.sizes(x)] for x in (self, other))
    first = reshaped(t, self, [n for size in a for n in (size, 1)])
    second = reshaped(t, other, [n for size in b for n in (1, size)])
    product = t.add("Mul", first, second)
    if not all(isinstance(n, int) for n in (*a, *b)):
        raise ArgumentError("kron of unknown sizes is not supported")
    return reshaped(t, product, [n * m for n, m in zip(a, b, strict=True)])  # type: ignore[operator]  # integers


@aten("tensor_split.sections", "hsplit.int", "vsplit.int", "dsplit.int")
def tensor_split(t: Translator, self: Tensor, sections: int, dim: int = 0) -> Any:
    if "tensor_split" not in t.node.target:
        dim = {"hsplit": min(1, self.rank - 1), "vsplit": 0, "dsplit": 2}[t.node.target.split(".")[-2]]
    size = self.shape[self.axis(dim)]
    if size is None:
        raise ArgumentError("tensor_split of an axis of unknown size is not supported")
    sizes = [size // sections + (part < size % sections) for part in range(sections)]
    return split_with_sizes(t, self, sizes, dim)


def _define_stack(name: str, rank: int) -> None:
    @aten(name)
    def stack(t: Translator, tensors: list[Tensor]) -> str:
        """Vectors become columns, and with a third axis planes."""
        parts = []
        for x in tensors:
            shape: list[Any] = t.sizes(x)
            if rank == 3 and len(shape) < 2:
                shape = [1, *shape, *[1] * (1 - len(shape))]
            shape += [1] * (rank - len(shape))
            known = [n if isinstance(n, int) else None for n in shape]
            parts.append(tensor(reshaped(t, x, shape), x, known))
        return cat(t, parts, rank - 1)


_define_stack("column_stack", 2)
_define_stack("dstack", 3)


@aten("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(t: Translator, self: Tensor, groups: int) -> str:
    sizes = t.sizes(self)
    grouped = reshaped(t, self, [sizes[0], groups, -1, *sizes[2:]])
    order = [0, 2, 1, *range(3, self.rank + 1)]
    return reshaped(t, permuted(t, tensor(grouped, self, [None] * (self.rank + 1)), order), sizes)


@aten("affine_grid_generator")
def affine_grid(t: Translator, theta: Tensor, size: Sequence[Any], align_corners: bool) -> str:
    return t.add("AffineGrid", theta, t.vector(size), align_corners=int(align_corners))
