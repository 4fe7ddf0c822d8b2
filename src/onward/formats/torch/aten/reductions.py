"""ATen's reductions over axes, cumulative operators, and softmax."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .expressions import floating
from .registry import BOOL, FLOAT32, INT64, Tensor, Translator, aten

Dims = Sequence[int] | int | None


def reduced(t: Translator, operation: str, x: str, like: Tensor, dim: Dims, keepdim: bool) -> str:
    """Reduce axes of a value with the axes of `like`; no axes stand for all."""
    dims = [] if dim is None else [dim] if isinstance(dim, int) else dim
    axes = [like.axis(d) for d in dims] or list(range(like.rank))
    if not like.rank:
        return x
    return t.add(operation, x, t.constant(axes), keepdims=int(keepdim))


@aten("sum", "sum.dim_IntList", "nansum")
def sum_(t: Translator, self: Tensor, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> str:
    dtype = dtype if dtype is not None else INT64 if self.dtype.kind in "biu" else self.dtype
    return reduced(t, "ReduceSum", t.cast(self, dtype), self, dim, keepdim)


@aten("mean", "mean.dim")
def mean(t: Translator, self: Tensor, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> str:
    return reduced(t, "ReduceMean", t.cast(self, dtype or self.dtype), self, dim, keepdim)


@aten("nanmean")
def nanmean(t: Translator, self: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> str:
    missing = t.add("IsNaN", self)
    total = t.add("Where", missing, t.cast(0, self.dtype), self)
    counted = t.add("Cast", t.add("Not", missing), to=self.dtype)
    sums = [reduced(t, "ReduceSum", each, self, dim, keepdim) for each in (total, counted)]
    return t.add("Div", *sums)


@aten("prod", "prod.dim_int")
def prod(t: Translator, self: Tensor, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> str:
    dtype = dtype if dtype is not None else INT64 if self.dtype.kind in "biu" else self.dtype
    return reduced(t, "ReduceProd", t.cast(self, dtype), self, dim, keepdim)


def _extreme(t: Translator, operation: str, x: Tensor, dim: Dims, keepdim: bool) -> str:
    if x.dtype != BOOL:
        return reduced(t, operation, t.cast(x, x.dtype), x, dim, keepdim)
    return t.add("Cast", reduced(t, operation, t.cast(x, np.int32), x, dim, keepdim), to=BOOL)


@aten("amax", "max")
def amax(t: Translator, self: Tensor, dim: Dims = None, keepdim: bool = False) -> str:
    return _extreme(t, "ReduceMax", self, dim, keepdim)


@aten("amin", "min")
def amin(t: Translator, self: Tensor, dim: Dims = None, keepdim: bool = False) -> str:
    return _extreme(t, "ReduceMin", self, dim, keepdim)


@aten("aminmax")
def aminmax(t: Translator, self: Tensor, dim: int | None = None, keepdim: bool = False) -> tuple[str, str]:
    return amin(t, self, dim, keepdim), amax(t, self, dim, keepdim)


@aten("max.dim")
def max_dim(t: Translator, self: Tensor, dim: int, keepdim: bool = False) -> tuple[str, str]:
    return amax(t, self, dim, keepdim), _argument(t, "ArgMax", self, dim, keepdim)


@aten("min.dim")
def min_dim(t: Translator, self: Tensor, dim: int, keepdim: bool = False) -> tuple[str, str]:
    return amin(t, self, dim, keepdim), _argument(t, "ArgMin", self, dim, keepdim)


def _argument(t: Translator, operation: str, x: Tensor, dim: int | None, keepdim: bool) -> str:
    if not x.rank:
        return t.constant(0)
    if dim is None:
        flat = t.add("Reshape", x, t.constant([-1]))
        place = t.add(operation, flat, axis=0, keepdims=0)
        return t.add("Reshape", place, t.constant([1] * x.rank)) if keepdim else place
    return t.add(operation, x, axis=x.axis(dim), keepdims=int(keepdim))


@aten("argmax")
def argmax(t: Translator, self: Tensor, dim: int | None = None, keepdim: bool = False) -> str:
    return _argument(t, "ArgMax", self, dim, keepdim)


@aten("argmin")
def argmin(t: Translator, self: Tensor, dim: int | None = None, keepdim: bool = False) -> str:
    return _argument(t, "ArgMin", self, dim, keepdim)


@aten("any", "any.dim", "any.dims")
def any_(t: Translator, self: Tensor, dim: Dims = None, keepdim: bool = False) -> str:
    found = t.add("Cast", t.cast(self, BOOL), to=np.dtype(np.int32))
    return t.add("Cast", reduced(t, "ReduceMax", found, self, dim, keepdim), to=BOOL)


@aten("all", "all.dim", "all.dims")
def all_(t: Translator, self: Tensor, dim: Dims = None, keepdim: bool = False) -> str:
    found = t.add("Cast", t.cast(self, BOOL), to=np.dtype(np.int32))
    return t.add("Cast", reduced(t, "ReduceMin", found, self, dim, keepdim), to=BOOL)


@aten("count_nonzero", "count_nonzero.dim_IntList")
def count_nonzero(t: Translator, self: Tensor, dim: Dims = None) -> str:
    return reduced(t, "ReduceSum", t.add("Cast", t.cast(self, BOOL), to=INT64), self, dim, False)


def variance(t: Translator, x: Tensor, dim: Dims, correction: float, keepdim: bool) -> tuple[str, str]:
    """Return the variance and the mean."""
    dims = [] if dim is None else [dim] if isinstance(dim, int) else dim
    axes = [x.axis(d) for d in dims] or list(range(x.rank))
    places = t.constant(axes)
    center = t.add("ReduceMean", x, places, keepdims=1)
    difference = t.add("Sub", x, center)
    total = t.add("ReduceSumSquare", difference, places, keepdims=int(keepdim))
    sizes = [x.shape[axis] for axis in axes]
    if all(isinstance(size, int) for size in sizes):
        size = math.prod(s or 0 for s in sizes)
        count: Any = t.cast(max(size - float(correction), 0), x.dtype)
    else:
        product = t.add("ReduceProd", t.add("Gather", t.add("Shape", x), places), t.constant([0]), keepdims=0)
        count = t.add("Sub", t.add("Cast", product, to=x.dtype), t.cast(correction, x.dtype))
    mean_ = center if keepdim else t.add("ReduceMean", x, places, keepdims=0)
    return t.add("Div", total, count), mean_


def _correction(unbiased: bool, correction: Any) -> Any:
    return correction if correction is not None else int(unbiased)


@aten("var", "var.dim", "var.correction")
def var(
    t: Translator,
    self: Tensor,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    correction: Any = None,
) -> str:
    return variance(t, self, dim, _correction(unbiased, correction), keepdim)[0]


@aten("std", "std.dim", "std.correction")
def std(
    t: Translator,
    self: Tensor,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    correction: Any = None,
) -> str:
    return t.add("Sqrt", var(t, self, dim, unbiased, keepdim, correction))


@aten("var_mean", "var_mean.dim", "var_mean.correction")
def var_mean(
    t: Translator,
    self: Tensor,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    correction: Any = None,
) -> tuple[str, str]:
    return variance(t, self, dim, _correction(unbiased, correction), keepdim)


@aten("std_mean", "std_mean.dim", "std_mean.correction")
def std_mean(t: Translator, self: Tensor, dim: Dims = None, **options: Any) -> tuple[str, str]:
    found, center = var_mean(t, self, dim, **options)
    return t.add("Sqrt", found), center


@aten("linalg_vector_norm", "norm.ScalarOpt_dim", "norm.Scalar", "norm.ScalarOpt_dim_dtype", "linalg_norm")
def vector_norm(
    t: Translator,
    self: Tensor,
    ord: Any = 2,
    dim: Dims = None,
    keepdim: bool = False,
    dtype: Any = None,
    p: Any = None,
) -> str:
    order = float(2 if p is None and ord is None else ord if p is None else p)
    x = t.cast(self, dtype or self.dtype)
    if order in (1, 2):
        return reduced(t, f"ReduceL{int(order)}", x, self, dim, keepdim)
    size = t.add("Abs", x)
    if math.isinf(order):
        return reduced(t, "ReduceMax" if order > 0 else "ReduceMin", size, self, dim, keepdim)
    total = reduced(t, "ReduceSum", t.add("Pow", size, t.cast(order, self.dtype)), self, dim, keepdim)
    return t.add("Pow", total, t.cast(1 / order, self.dtype))


@aten("logsumexp")
def logsumexp(t: Translator, self: Tensor, dim: Dims, keepdim: bool = False) -> str:
    return reduced(t, "ReduceLogSumExp", t.cast(self, floating(self)), self, dim, keepdim)


@aten("cumsum")
def cumsum(t: Translator, self: Tensor, dim: int, dtype: Any = None) -> str:
    dtype = dtype if dtype is not None else INT64 if self.dtype.kind in "biu" else self.dtype
    if not self.rank:
        return t.cast(self, dtype)
    return t.add("CumSum", t.cast(self, dtype), t.constant(self.axis(dim)))


@aten("cumprod")
def cumprod(t: Translator, self: Tensor, dim: int, dtype: Any = None) -> str:
    dtype = dtype if dtype is not None else INT64 if self.dtype.kind in "biu" else self.dtype
    return t.add("CumProd", t.cast(self, dtype), t.constant(self.axis(dim)))


@aten("softmax.int", "_softmax", "_safe_softmax")
def softmax(t: Translator, self: Tensor, dim: int, dtype: Any = None, half_to_float: bool = False) -> str:
    x = t.cast(self, self.dtype if dtype is None else dtype)
    y = t.add("Softmax", x, axis=self.axis(dim))
    if "_safe" not in t.node.target:
        return y
    lowest = t.add("ReduceMax", x, t.constant([self.axis(dim)]), keepdims=1)
    none = t.add("Equal", lowest, t.cast(-math.inf, self.dtype))
    return t.add("Where", none, t.cast(0, self.dtype), y)


@aten("log_softmax.int", "_log_softmax")
def log_softmax(t: Translator, self: Tensor, dim: int, dtype: Any = None, half_to_float: bool = False) -> str:
    return t.add("LogSoftmax", t.cast(self, self.dtype if dtype is None else dtype), axis=self.axis(dim))


@aten("cosine_similarity")
def cosine_similarity(t: Translator, x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> str:
    axes = t.constant([dim - max(x1.rank, x2.rank) if dim >= 0 else dim])
    lengths = [t.add("Max", t.add("ReduceL2", x, axes), t.cast(eps, FLOAT32)) for x in (x1, x2)]
    units = [t.add("Div", x, length) for x, length in zip((x1, x2), lengths, strict=True)]
    return t.add("ReduceSum", t.add("Mul", *units), axes, keepdims=0)
