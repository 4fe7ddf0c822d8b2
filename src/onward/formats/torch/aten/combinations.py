"""ATen's operators that combine several others: stacks, windows, searches, losses, and grids."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .composites import weight_norm
from .elementwise import binary, floating
from .joins import cat
from .promotion import promoted
from .registry import BOOL, INT64, Operand, Tensor, Translator, aten, bounded
from .shapes import WHOLE, reshaped, sliced

Sizes = Sequence[int]


@aten("_weight_norm_interface")
def weight_norm_interface(t: Translator, v: Tensor, g: Tensor, dim: int = 0) -> tuple[str, None]:
    return weight_norm(t, v, g, dim), None


@aten("broadcast_tensors")
def broadcast_tensors(t: Translator, tensors: list[Tensor]) -> list[str]:
    zeros: Any = None
    for x in tensors:
        nothing = t.add("ConstantOfShape", t.shape(x), value=np.zeros(1, np.int32))
        zeros = nothing if zeros is None else t.add("Add", zeros, nothing)
    shape = t.add("Shape", zeros)
    return [t.add("Expand", x, shape) for x in tensors]


@aten("broadcast_to")
def broadcast_to(t: Translator, self: Tensor, size: Any) -> str:
    return t.add("Expand", self, t.vector(size))


@aten("meshgrid", "meshgrid.indexing")
def meshgrid(t: Translator, tensors: list[Tensor], indexing: str = "ij") -> list[str]:
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


def _as_rows(t: Translator, x: Tensor, rank: int) -> Tensor:
    """Add axes of size 1: in front, so that a vector becomes a row."""
    if x.rank >= rank:
        return x
    added = list(range(rank - x.rank))
    return Tensor(t.add("Unsqueeze", x, t.constant(added)), x.dtype, (*[1] * len(added), *x.shape))


@aten("hstack")
def hstack(t: Translator, tensors: list[Tensor]) -> str:
    rows = [_as_rows(t, x, 1) for x in tensors]
    return cat(t, rows, 1 if rows[0].rank > 1 else 0)


@aten("vstack")
def vstack(t: Translator, tensors: list[Tensor]) -> str:
    return cat(t, [_as_rows(t, x, 2) for x in tensors], 0)


@aten("diff")
def diff(
    t: Translator, self: Tensor, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None
) -> str:
    bounded(n * 1000)
    axis = self.axis(dim)
    parts = [part for part in (prepend, self, append) if part is not None]
    x: Any = cat(t, parts, axis) if len(parts) > 1 else self
    for _ in range(n):
        x = t.add("Sub", sliced(t, x, axis, 1, WHOLE), sliced(t, x, axis, 0, -1))
    return str(x) if n else t.add("Identity", self)


@aten("diag_embed")
def diag_embed(t: Translator, self: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> str:
    size = self.shape[-1]
    if offset or (dim1, dim2) not in ((-2, -1), (self.rank - 1, self.rank)) or size is None:
        raise ArgumentError(
            "diag_embed with other axes, with an offset, or of an unknown size is not supported"
        )
    bounded(size * size)
    return t.add("Mul", t.add("Unsqueeze", self, t.constant([-2])), t.constant(np.eye(size), self.dtype))


@aten("im2col")
def im2col(
    t: Translator, self: Tensor, kernel_size: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes
) -> str:
    """The windows of an image (B, C, H, W) as columns (B, C * kernel, windows)."""
    channels, taps = self.shape[-3], math.prod(kernel_size)
    if channels is None or self.rank != 4:
        raise ArgumentError("im2col of an image without a batch or of unknown channels is not supported")
    bounded(channels * taps * taps)
    W = np.tile(np.eye(taps).reshape(taps, 1, *kernel_size), (channels, 1, 1, 1))
    y = t.add(
        "Conv",
        self,
        t.constant(W, self.dtype),
        None,
        strides=list(stride),
        pads=list(padding) * 2,
        dilations=list(dilation),
        group=channels,
    )
    return reshaped(t, y, [t.size(self, 0), channels * taps, -1])


@aten("bucketize.Tensor", "searchsorted.Tensor")
def bucketize(
    t: Translator,
    self: Tensor,
    boundaries: Tensor | None = None,
    sorted_sequence: Tensor | None = None,
    out_int32: bool = False,
    right: bool = False,
    **options: Any,
) -> str:
    """The number of boundaries below each element, or not above it if `right`."""
    limits = boundaries if boundaries is not None else sorted_sequence
    if limits is None or limits.rank != 1 or any(value is not None for value in options.values()):
        raise ArgumentError("boundaries with several axes or a side are not supported")
    dtype = promoted(self, limits)
    x = t.add("Unsqueeze", t.cast(self, dtype), t.constant([-1]))
    below = t.add("GreaterOrEqual" if right else "Greater", x, t.cast(limits, dtype))
    counted = t.add("Cast", below, to=np.dtype(np.int32 if out_int32 else np.int64))
    return t.add("ReduceSum", counted, t.constant([self.rank]), keepdims=0)


@aten("isin.Tensor_Tensor")
def isin(
    t: Translator, elements: Tensor, test_elements: Tensor, assume_unique: bool = False, invert: bool = False
) -> str:
    tests = t.add("Reshape", test_elements, t.constant([-1]))
    found = t.add("Equal", t.add("Unsqueeze", elements, t.constant([-1])), tests)
    counts = t.add("ReduceMax", t.add("Cast", found, to=INT64), t.constant([elements.rank]), keepdims=0)
    inside = t.add("Cast", counts, to=BOOL)
    return t.add("Not", inside) if invert else inside


@aten("hypot")
def hypot(t: Translator, self: Tensor, other: Tensor) -> str:
    return t.add("Sqrt", t.add("Add", t.add("Mul", self, self), t.add("Mul", other, other)))


@aten("xlogy.Tensor", "special_xlogy")
def xlogy(t: Translator, self: Operand, other: Operand) -> str:
    dtype = floating(self, other)
    x, zero = t.cast(self, dtype), t.cast(0, dtype)
    product = t.add("Mul", x, t.add("Log", t.cast(other, dtype)))
    return t.add("Where", t.add("Equal", x, zero), zero, product)


@aten("erfc", "special_erfc")
def erfc(t: Translator, self: Tensor) -> str:
    return t.add("Sub", t.cast(1, self.dtype), t.add("Erf", self))


@aten("round.decimals")
def round_decimals(t: Translator, self: Tensor, decimals: int) -> str:
    scale = t.cast(10.0**decimals, self.dtype)
    return t.add("Div", t.add("Round", t.add("Mul", self, scale)), scale)


def _define_shift(name: str, direction: str) -> None:
    @aten(f"__{name}__.Scalar", f"__{name}__.Tensor", *(f"bitwise_{direction.lower()}_shift.{k}" for k in (
        "Tensor", "Tensor_Scalar"
    )))  # fmt: skip
    def shift(t: Translator, self: Tensor, other: Operand) -> str:
        dtype = promoted(self, other)
        return t.add("BitShift", t.cast(self, dtype), t.cast(other, dtype), direction=direction)


_define_shift("lshift", "LEFT")
_define_shift("rshift", "RIGHT")


@aten("linalg_vecdot")
def vecdot(t: Translator, x: Tensor, y: Tensor, dim: int = -1) -> str:
    rank = max(x.rank, y.rank)
    return t.add("ReduceSum", binary(t, "Mul", x, y), t.constant([dim % rank]), keepdims=0)


@aten("tensordot")
def tensordot(t: Translator, self: Tensor, other: Tensor, dims_self: Sizes, dims_other: Sizes) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    a = list(letters[: self.rank])
    b = list(letters[self.rank : self.rank + other.rank])
    for i, j in zip(dims_self, dims_other, strict=True):
        b[other.axis(j)] = a[self.axis(i)]
    summed = {a[self.axis(i)] for i in dims_self}
    kept = "".join(label for label in (*a, *b) if label not in summed)
    return t.add("Einsum", self, other, equation=f"{''.join(a)},{''.join(b)}->{kept}")


@aten("linalg_multi_dot")
def multi_dot(t: Translator, tensors: list[Tensor]) -> str:
    product: Any = tensors[0]
    for other in tensors[1:]:
        product = t.add("MatMul", product, other)
    return str(product)


@aten("pixel_unshuffle")
def pixel_unshuffle(t: Translator, self: Tensor, downscale_factor: int) -> str:
    return t.add("SpaceToDepth", self, blocksize=downscale_factor, mode="CRD")


@aten("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def grid_sampler(
    t: Translator,
    input: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> str:
    return t.add(
        "GridSample",
        input,
        grid,
        mode=("linear", "nearest", "cubic")[interpolation_mode],
        padding_mode=("zeros", "border", "reflection")[padding_mode],
        align_corners=int(align_corners),
    )


@aten("rot90")
def rot90(t: Translator, self: Tensor, k: int = 1, dims: Sizes = (0, 1)) -> str:
    a, b = (self.axis(dim) for dim in dims)
    order = list(range(self.rank))
    order[a], order[b] = b, a
    x: Any = self
    if k % 4 in (1, 3):
        x = t.add("Transpose", x, perm=order)
    for axis in {0: (), 1: (a,), 2: (a, b), 3: (b,)}[k % 4]:
        x = t.add("Slice", x, t.constant([-1]), t.constant([-WHOLE]), t.constant([axis]), t.constant([-1]))
    return str(x) if isinstance(x, str) else t.add("Identity", x)


def _define_loss(name: str, operation: str) -> None:
    @aten(name)
    def loss(t: Translator, self: Tensor, target: Tensor, reduction: int = 1) -> str:
        difference = binary(t, "Sub", self, target)
        errors = t.add("Mul", difference, difference) if operation == "Square" else t.add("Abs", difference)
        if reduction == 0:
            return errors
        axes = t.constant(list(range(max(self.rank, target.rank))), np.int64)
        return t.add("ReduceMean" if reduction == 1 else "ReduceSum", errors, axes, keepdims=0)


_define_loss("mse_loss", "Square")
_define_loss("l1_loss", "Abs")


@aten("embedding_bag.padding_idx", "embedding_bag", "_embedding_bag_forward_only", "_embedding_bag")
def embedding_bag(
    t: Translator,
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[str | None, ...]:
    """The sum, mean or maximum of the rows of each bag, which the offsets start."""
    starts = t.array(offsets)
    if starts is None or include_last_offset or padding_idx not in (None, -1) or indices.shape[0] is None:
        raise ArgumentError("bags whose sizes are not constants, or with padding, are not supported")
    ends = [*starts[1:].tolist(), indices.shape[0]]
    rows = t.add("Gather", weight, t.cast(indices, INT64), axis=0)
    if per_sample_weights is not None:
        rows = t.add("Mul", rows, t.add("Unsqueeze", per_sample_weights, t.constant([1])))
    operation = ("ReduceSum", "ReduceMean", "ReduceMax")[mode]
    bags = [
        t.add(operation, sliced(t, rows, 0, int(start), end), t.constant([0]), keepdims=1)
        for start, end in zip(starts.tolist(), ends, strict=True)
    ]
    return t.add("Concat", *bags, axis=0), None, None, None
